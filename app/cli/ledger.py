"""`regard ledger`: the checkpoint, evidence for an auditor, checking it, witnesses (ledger.md).

`verify` and `witness` are the SDK's own commands and need no database; the others work on the house of the settings.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import click

from app.cli.configured import FAULTY, MISUSED, settings
from app.cli.opening import opened
from app.cli.writing import NewFile, write
from app.ledger.bundle import About, Selection
from app.ledger.errors import LedgerError
from app.sdk import verify as offline
from app.sdk import witness as outside
from app.vault.errors import VaultError
from app.wiring import House
from app.wiring.evidence import (
    EvidenceRefused,
    EvidenceUnprintable,
    certificate_key,
    entries_in,
    evidence,
    opened_evidence,
    printed_evidence,
    public_ledger,
)
from consent.vocabulary import Locale

MOMENT = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S%z"])
_WHOLE = frozenset({About.ALL, About.PERIOD})
_TOPICS = {"case": About.CASE, "con": About.CONSENT, "era": About.ERASURE, "sub": About.SUBJECT}
"""What the ids begin with that name one thing only."""
_PASSED_ON = {"ignore_unknown_options": True, "help_option_names": []}


@click.group()
def ledger() -> None:
    """The verifiable record."""


@ledger.command("checkpoint")
def checkpoint() -> None:
    """Integrate what waits and print the signed checkpoint."""
    with opened() as house:
        try:
            house.ledger.integrate()
            click.echo(house.ledger.checkpoint(), nl=False)
        except LedgerError as stopped:
            click.echo(f"{stopped.code}: {stopped}", err=True)
            sys.exit(FAULTY)


@ledger.command("key")
@click.option("--certificates", is_flag=True, help="the key of erasure certificates instead")
def key(certificates: bool) -> None:  # noqa: FBT001 - click passes flags so
    """Print the key that verifies checkpoints and evidence, to be handed out by another way than the evidence."""
    with opened() as house:
        click.echo(certificate_key(house.settings) if certificates else house.ledger.verifier_key)


@ledger.command("export")
@click.argument("file", type=NewFile())
@click.option("--about", type=click.Choice([each.value for each in About]), default="all", show_default=True)
@click.option("--ref", "refs", multiple=True, help="the id it is about; repeatable")
@click.option("--from", "start", type=MOMENT, help="the first moment that counts (UTC unless it says otherwise)")
@click.option("--until", type=MOMENT, help="the first moment that does not count any more")
@click.option("--controller", help="only what concerns this controller")
@click.option("--open", "show", is_flag=True, help="open every payload whose audit key lives; is recorded, needs --by")
@click.option("--by", help="who opens: the staff id of a DPO or auditor (regard staff list), never a name")
@click.option("--hide", multiple=True, help="keep this field shut, e.g. subject or payload.reason; repeatable")
@click.option("--without", multiple=True, help="keep every field shut in which this id stands; repeatable")
@click.option("--witnessed", is_flag=True, help="under the newest checkpoint that a witness has cosigned")
@click.option("--pdf", type=NewFile(), help="write a page to read and print as well, with the evidence attached")
@click.option("--language", type=click.Choice([each.value for each in Locale]), default="en", show_default=True)
def export(file: Path, pdf: Path | None, language: str, **asked: Any) -> None:
    """Write an evidence bundle that anyone can verify offline.

    Example: regard ledger export case.json --about case --ref case_... --open --by stf_... --pdf case.pdf
    """
    selection = _selection(asked)
    if asked["show"] != bool(asked["by"]) or ((asked["hide"] or asked["without"]) and not asked["show"]):
        raise click.UsageError("--open and --by go together; --hide and --without only with them")
    with opened() as house:
        try:
            bundle = _bundle(house, selection, asked)
            printed = printed_evidence(house, bundle, Locale(language)) if pdf else None
        except (LedgerError, VaultError, EvidenceUnprintable, EvidenceRefused) as refused:
            _refuse(refused)
    write(file, bundle)
    count = entries_in(bundle)
    click.echo(f"wrote {file}: {count} {'entry' if count == 1 else 'entries'}")
    if pdf and printed:
        write(pdf, printed)
        click.echo(f"wrote {pdf}")


def _selection(asked: dict[str, Any]) -> Selection:
    moments = {name: _in_utc(asked[name]) for name in ("start", "until")}
    about, refs = About(asked["about"]), tuple(asked["refs"])
    if about is About.ALL and (asked["controller"] or any(moments.values())):
        raise click.UsageError("add --about period: --from, --until and --controller say which part of all")
    if about in _WHOLE and refs:
        raise click.UsageError("--ref needs --about case, or what else the id is of")
    if about not in _WHOLE and not refs:
        raise click.UsageError(f"--about {about.value} needs --ref ID")
    for ref in refs:
        _check_topic(about, ref)
    return Selection(about, refs, controller=asked["controller"], **moments)


def _check_topic(about: About, ref: str) -> None:
    """Refuse an id that says itself that it is of something else: no entry would be found, or not all."""
    topic = _TOPICS.get(ref.partition("_")[0])
    if topic not in (None, about):
        raise click.UsageError(f"--ref {ref} is an id that belongs to --about {topic}, not to --about {about}")


def _in_utc(moment: datetime | None) -> datetime | None:
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment


def _bundle(house: House, selection: Selection, asked: dict[str, Any]) -> bytes:
    if not asked["show"]:
        return evidence(house, selection, witnessed=asked["witnessed"])
    shut = {name: asked[name] for name in ("hide", "without", "witnessed")}
    return opened_evidence(house, selection, by=asked["by"], **shut)


def _refuse(refused: Exception) -> NoReturn:
    click.echo(f"nothing written: {refused} ({getattr(refused, 'code', 'refused')})", err=True)
    sys.exit(FAULTY)


@ledger.command("verify", context_settings=_PASSED_ON)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def verify(arguments: tuple[str, ...]) -> None:
    """Verify an evidence bundle offline: FILE [--key KEY] [--witness KEY] [--json]. Needs no database."""
    sys.exit(offline.main(arguments))


@ledger.command("witness", context_settings=_PASSED_ON)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def witness(arguments: tuple[str, ...]) -> None:
    """Watch somebody's ledger and cosign its checkpoint: URL --name NAME --key FILE --ledger-key KEY. No database."""
    sys.exit(outside.main(arguments))


@ledger.command("cosign")
@click.argument("size", type=click.IntRange(0))
@click.argument("line", type=click.File())
def cosign(size: int, line: Any) -> None:
    """Take in a witness' signature line for the checkpoint of SIZE, from the file LINE (- for standard input)."""
    with opened() as house:
        try:
            told = public_ledger(house).cosign(size, line.read())
        except LedgerError as refused:
            _refuse(refused)
    click.echo(told, nl=False)


@ledger.command("witnesses")
def witnesses() -> None:
    """Print the witnesses the settings name."""
    names = settings().ledger_witnesses.split()
    if not names:
        click.echo("no witness is named: REGARD_LEDGER_WITNESSES", err=True)
        sys.exit(MISUSED)
    click.echo("\n".join(names))
