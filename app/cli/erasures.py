"""`regard keys erasures`: what waits for what, driving it now, and the two colleagues whom a mass erasure needs."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from app.cli.configured import FAULTY, MISUSED
from app.cli.opening import opened, refuse
from app.cli.writing import NewFile, write
from app.vault.certificate import canonical
from app.vault.erasure import Driven
from app.vault.errors import ErasureUnknown, VaultError
from app.vault.ports import Erasure, Json
from app.wiring.erasing import ErasingError, Standing, approve, drive_now, standing

JSON = click.option("--json", "as_json", is_flag=True, help="print one JSON document, for scripts")


@click.group("erasures", invoke_without_command=True)
@click.option("--now", is_flag=True, help="drive everything that waits for nothing but the next batch")
@JSON
@click.pass_context
def erasures(context: click.Context, *, now: bool, as_json: bool) -> None:
    """List the erasures that are not over, by opaque id: what each waits for, and until when.

    With --now, drive them first. What is held, cools down or waits for leases is not hurried. Leaves with 1 when one
    was stopped by a fault.
    """
    if context.invoked_subcommand is not None:
        return
    with opened() as house:
        try:
            driven = drive_now(house) if now else Driven((), (), {})
            found = standing(house)
        except VaultError as fault:
            refuse(fault)
    if as_json:
        told = {"ended": driven.ended, "stopped": driven.stopped, "erasures": [each.told() for each in found]}
        click.echo(json.dumps(told))
    else:
        _tell(driven, found, now=now)
    sys.exit(FAULTY if driven.stopped else 0)


def _tell(driven: Driven, found: Sequence[Standing], *, now: bool) -> None:
    if now:
        click.echo(f"{len(driven.ended)} ended")
    for erasure, code in driven.stopped.items():
        click.echo(f"{erasure}: stopped, {code}", err=True)
    for each in found:
        click.echo(_line(each))
    if not found:
        click.echo("no erasure is under way")


def _line(each: Standing) -> str:
    until = f" until {each.until:%Y-%m-%d %H:%M} UTC" if each.until is not None else ""
    waits = f"waits for {each.waits_for}{until}" if each.waits_for else "goes on"
    agree = f"; {each.approvals_missing} more to agree" if each.approvals_missing else ""
    return f"{each.erasure}  {each.state}  asked for {each.requested_at:%Y-%m-%d %H:%M} UTC  {waits}{agree}"


@erasures.command("show")
@click.argument("erasure")
@click.option("--to", "file", type=NewFile(), help="write the signed certificate itself, for whoever checks it")
@click.option("--subject", help="whose certificate, by opaque handle, where several people were erased at once")
def show(erasure: str, file: Path | None, subject: str | None) -> None:
    """Print the signed certificates of ERASURE and, once old roots kept for backups are gone, what says so.

    With --to, write one certificate as the file that was signed and that the ledger names.
    """
    if subject and not file:
        raise click.UsageError("--subject goes with --to")
    with opened() as house:
        try:
            found = house.vault.erasures.journal(erasure)
        except ErasureUnknown as unknown:
            click.echo(f"{unknown.code}: {inspect.getdoc(ErasureUnknown)}", err=True)
            sys.exit(MISUSED)
    if file is not None:
        write(file, canonical(_only(found, subject)))
        click.echo(f"wrote {file}")
        return
    click.echo(json.dumps({"certificates": found.certificates, "completions": found.completions}, ensure_ascii=False))


def _only(found: Erasure, subject: str | None) -> Mapping[str, Json]:
    """Return the certificate that is meant, or leave saying why there is none, or not one."""
    meant = [each for each in found.certificates if subject in (None, each["subject"])]
    if len(meant) == 1:
        return meant[0]
    if not found.certificates:
        click.echo(f"nothing written: {found.id} has no certificate; it is {found.state.value}", err=True)
        sys.exit(FAULTY)
    told = ", ".join(sorted({str(each["subject"]) for each in found.certificates}))
    many = f"{len(meant)} certificates fit" if meant else "no certificate fits"
    click.echo(f"nothing written: {many}; say --subject, one of {told}", err=True)
    sys.exit(MISUSED)


@erasures.command("approve")
@click.argument("erasure")
@click.option("--by", required=True, help="who agrees: a staff id (regard staff list), never a name")
def agree(erasure: str, by: str) -> None:
    """Agree to a held ERASURE. Two colleagues have to, neither of them whoever decided it; it then goes by itself."""
    with opened() as house:
        try:
            left = approve(house, erasure, by)
        except (ErasingError, VaultError) as refused:
            click.echo(f"{refused.code}: {str(refused) or inspect.getdoc(type(refused))}", err=True)
            sys.exit(MISUSED if isinstance(refused, ErasingError | ErasureUnknown) else FAULTY)
    click.echo(f"noted; {left} more to agree" if left else "noted; it goes on with the next batch")
