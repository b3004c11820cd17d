"""`regard exports`: plan a release, see what waits for a DPO, let an approved table leave (exports.md rules 4, 6).

The live base comes from whoever holds it, as a file of JSON lines: {"subject": "...", "age": 41, ...}, one row each.
It is read and compared with, never kept. Without it the gate stays shut.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import click

from app.cli.configured import FAULTY, MISUSED
from app.cli.opening import opened, refuse
from app.exports.cells import Row
from app.exports.errors import ExportError
from app.vault.errors import VaultError
from app.wiring import Departed, House, plan_release, planned_releases, release, shred_pool_keys

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
    """Judge CANDIDATE again with its approval, seal the cohort, write table.csv, table.parquet, manifest.json."""
    with opened() as house:
        try:
            gone = release(house, candidate, list(rows(live)))
        except ExportError as refused:
            _refuse(refused)
        except VaultError as away:
            refuse(away)
        files = _written(out, gone)
        keys = _shredded(house, gone.cohort)
        leaf = _leaf(house, gone.entry)
    told = {
        "cohort": gone.cohort,
        "subjects": gone.subjects,
        "approved_by": gone.approved_by,
        "entry": gone.entry,
        "leaf": leaf,
        "pool_keys": keys,
        "files": [str(out / name) for name in files],
    }
    if as_json:
        click.echo(json.dumps(told))
        return
    click.echo(f"{gone.cohort}: {gone.subjects} subjects, approved by {gone.approved_by}")
    click.echo(f"ledger entry {gone.entry}, leaf {leaf}\nwrote {', '.join(files)} to {out}\npool keys: {keys}")


@exports.command("shred")
@click.argument("cohort")
def shred(cohort: str) -> None:
    """Finish destroying the pool keys of a sealed COHORT, where the key provider was away at its release."""
    with opened() as house:
        try:
            click.echo(f"pool keys: {shred_pool_keys(house, cohort).value}")
        except ExportError as refused:
            _refuse(refused)
        except VaultError as waiting:
            refuse(waiting)


def _written(out: Path, gone: Departed) -> tuple[str, ...]:
    out.mkdir(parents=True, exist_ok=True)
    files = {"table.csv": gone.output.csv, "table.parquet": gone.output.parquet, "manifest.json": gone.output.manifest}
    for name, content in files.items():
        (out / name).write_bytes(content)
    return tuple(files)


def _shredded(house: House, cohort: str) -> str:
    """The table has left already: what keeps its pool keys alive is told, and `exports shred` goes on."""
    try:
        return shred_pool_keys(house, cohort).value
    except VaultError as waiting:
        return f"still there ({waiting.code}); go on with: regard exports shred {cohort}"


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


def _leaf(house: House, entry: str) -> int | None:
    house.ledger.integrate()
    return house.ledger.position(entry)


def _refuse(refused: ExportError) -> NoReturn:
    click.echo(f"{refused.code}: {refused}", err=True)
    sys.exit(FAULTY if refused.code == "release_refused" else MISUSED)
