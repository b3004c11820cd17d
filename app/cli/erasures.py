"""`regard keys erasures`: what waits for what, driving it now, and the two colleagues whom a mass erasure needs."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Sequence

import click

from app.cli.configured import FAULTY, MISUSED
from app.cli.opening import opened, refuse
from app.vault.erasure import Driven
from app.vault.errors import ErasureUnknown, VaultError
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


def _line(each: Standing) -> str:
    until = f" until {each.until:%Y-%m-%d %H:%M} UTC" if each.until is not None else ""
    waits = f"waits for {each.waits_for}{until}" if each.waits_for else "goes on"
    agree = f"; {each.approvals_missing} more to agree" if each.approvals_missing else ""
    return f"{each.erasure}  {each.state}  asked for {each.requested_at:%Y-%m-%d %H:%M} UTC  {waits}{agree}"


@erasures.command("show")
@click.argument("erasure")
def show(erasure: str) -> None:
    """Print the signed certificates of ERASURE and, once old roots kept for backups are gone, what says so."""
    with opened() as house:
        try:
            found = house.vault.erasures.journal(erasure)
        except ErasureUnknown as unknown:
            click.echo(f"{unknown.code}: {inspect.getdoc(ErasureUnknown)}", err=True)
            sys.exit(MISUSED)
    click.echo(json.dumps({"certificates": found.certificates, "completions": found.completions}, ensure_ascii=False))


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
