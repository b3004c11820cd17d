"""`regard exports`: plan a release, see what waits for a DPO, let an approved table leave (exports.md rules 4, 6).

The live base comes from whoever holds it, as a file of JSON lines: {"subject": "...", "age": 41, ...}, one row each.
It is read and compared with, never kept. Without it the gate stays shut.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import Final, NoReturn

import click

from app.cli.configured import FAULTY, MISUSED
from app.cli.opening import opened, refuse
from app.exports.cells import Row
from app.exports.errors import ExportError
from app.ledger.errors import LedgerError
from app.vault.errors import VaultError
from app.wiring import Departed, House, plan_release, planned_releases, release, shred_pool_keys
from app.wiring.releases import AlreadyReleased, departed

FILES: Final = ("table.csv", "table.parquet", "manifest.json")
LIVE = click.option(
    "--live",
    "live",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    required=True,
    help="the live base: JSON lines with subject and the columns of the profile",
)
JSON = click.option("--json", "as_json", is_flag=True, help="print one JSON object, for scripts")


@click.group()
def exports() -> None:
    """Anonymous tables: planned here, approved by a DPO at /dpo/exports, released here."""


@exports.command("plan")
@click.argument("profile")
@LIVE
@JSON
def plan(profile: str, live: Path, as_json: bool) -> None:  # noqa: FBT001 - click passes flags so
    """Make a candidate of what waits in the pool of PROFILE; a DPO then reads its report and approves.

    Example: regard exports plan portfolio_statistics --live live.ndjson
    """
    with opened() as house:
        try:
            planned = plan_release(house, profile, list(rows(live)))
        except ExportError as refused:
            _refuse(refused)
        except VaultError as away:
            refuse(away)
    if as_json:
        click.echo(json.dumps({"candidate": planned.id, "digest": planned.digest}))
        return
    click.echo(f"{planned.id}\ndigest {planned.digest}\nwaits for a DPO at /dpo/exports/{planned.id}")


@exports.command("list")
def listed() -> None:
    """List what was planned, newest first."""
    with opened() as house:
        for each in planned_releases(house):
            state = each.cohort or (f"approved by {each.approved_by}" if each.approved_by else "waits for a DPO")
            click.echo(f"{each.id}  {each.profile}  {each.planned_at:%Y-%m-%d %H:%M} UTC  {state}")


@exports.command("release")
@click.argument("candidate")
@LIVE
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="the folder to write to")
@JSON
def let_go(candidate: str, live: Path, out: Path, as_json: bool) -> None:  # noqa: FBT001 - click passes flags so
    """Judge CANDIDATE again with its approval, seal the cohort, write table.csv, table.parquet, manifest.json.

    Once sealed it is sealed for good: the same command writes the same files again, wherever they were lost.
    """
    with opened() as house, _landing(out) as place:
        try:
            gone = _gone(house, candidate, live)
        except ExportError as refused:
            _refuse(refused)
        except VaultError as away:
            refuse(away)
        keys = _shredded(house, gone.cohort)
        _land(place, out, gone)
        leaf = _leaf(house, gone)
    told = {
        "cohort": gone.cohort,
        "subjects": gone.subjects,
        "approved_by": gone.approved_by,
        "entry": gone.entry,
        "leaf": leaf,
        "pool_keys": keys,
        "files": [str(out / name) for name in FILES],
    }
    if as_json:
        click.echo(json.dumps(told))
        return
    click.echo(f"{gone.cohort}: {gone.subjects} subjects, approved by {gone.approved_by}")
    click.echo(f"ledger entry {gone.entry}, leaf {leaf}\nwrote {', '.join(FILES)} to {out}\npool keys: {keys}")


@exports.command("shred")
@click.argument("cohort")
def shred(cohort: str) -> None:
    """Finish destroying the pool keys of a sealed COHORT now; the running service does so by itself each minute."""
    with opened() as house:
        try:
            click.echo(f"pool keys: {shred_pool_keys(house, cohort).value}")
        except ExportError as refused:
            _refuse(refused)
        except VaultError as waiting:
            refuse(waiting)


@contextmanager
def _landing(out: Path) -> Iterator[Path]:
    """A folder inside `out` to write to first; leaves, before anything is sealed, where nothing can be written."""
    fresh = not out.exists()
    try:
        place = _place(out)
    except OSError as fault:
        click.echo(f"nothing released: {fault.filename or out} cannot be written: {fault.strerror}", err=True)
        sys.exit(FAULTY)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
        if fresh:
            with suppress(OSError):  # what was released is in it
                out.rmdir()


def _place(out: Path) -> Path:
    out.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        if (out / name).is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(out / name))
    return Path(mkdtemp(prefix=".release-", dir=out))


def _gone(house: House, candidate: str, live: Path) -> Departed:
    try:
        return release(house, candidate, list(rows(live)))
    except AlreadyReleased as before:
        click.echo(f"{before}; the same files are written again", err=True)
        return departed(house, candidate)


def _land(place: Path, out: Path, gone: Departed) -> None:
    """Write the files whole before any takes its place; what cannot be written is not lost, and that is said."""
    output = gone.output
    try:
        for name, content in zip(FILES, (output.csv, output.parquet, output.manifest), strict=True):
            (place / name).write_bytes(content)
        for name in FILES:
            (place / name).replace(out / name)
    except OSError as fault:
        told = f"{gone.cohort} is released, and its files are not written: {fault.strerror}"
        click.echo(f"{told}; the same command writes them again, also with another --out", err=True)
        sys.exit(FAULTY)


def _shredded(house: House, cohort: str) -> str:
    """The table has left already: what keeps its pool keys alive is told, and `exports shred` goes on."""
    try:
        return shred_pool_keys(house, cohort).value
    except VaultError as waiting:
        return f"still there ({waiting.code}); the running service goes on, or: regard exports shred {cohort}"


def rows(file: Path) -> Iterator[Row]:
    """Yield the rows of a live base; leaves with a sentence at the first line that is none."""
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield _row(line, number)


def _row(line: str, number: int) -> Row:
    try:
        values = json.loads(line)
        subject = values.pop("subject")
    except (ValueError, KeyError, AttributeError, TypeError) as fault:
        # the line itself is personal data: only its number is told
        raise click.UsageError(f"line {number} of the live base is not a JSON object with a subject") from fault
    return str(subject), values


def _leaf(house: House, gone: Departed) -> int | None:
    try:
        house.ledger.integrate()
        return house.ledger.position(gone.entry)
    except LedgerError as stopped:
        click.echo(f"{gone.cohort} is released and its files are written, but: {stopped} ({stopped.code})", err=True)
        sys.exit(FAULTY)


def _refuse(refused: ExportError) -> NoReturn:
    click.echo(f"{refused.code}: {refused}", err=True)
    sys.exit(FAULTY if refused.code == "release_refused" else MISUSED)
