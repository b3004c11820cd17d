"""`regard staff` and `regard enrol`: who may open the console, and the printed codes that permit a first passkey.

A code is shown once, here, to be handed over on paper; the service keeps its hash (consent.md section 6).
"""

from __future__ import annotations

import json
import sys
from datetime import timedelta
from typing import NoReturn

import click

from app.cli.configured import MISUSED
from app.cli.opening import opened
from app.http.passkeys import Kind
from app.wiring import EnrolmentError, add_staff, dismiss_staff, issue_code, present_staff

JSON = click.option("--json", "as_json", is_flag=True, help="print one JSON object, for scripts")


@click.group()
def staff() -> None:
    """The firm's people at the console (/dpo)."""


@staff.command("add")
@click.argument("name")
@click.option("--role", "roles", multiple=True, required=True, help="agent, dpo, auditor, ...; repeatable")
@click.option("--controller", "controllers", multiple=True, required=True, help="whose cases they see; repeatable")
@JSON
def add(name: str, roles: tuple[str, ...], controllers: tuple[str, ...], as_json: bool) -> None:  # noqa: FBT001 - click passes flags so
    """Bring in a colleague and print the code of their first passkey: it is shown this once.

    Example: regard staff add "Claire Petit" --role dpo --controller ormelune
    """
    with opened() as house:
        try:
            ident, code = add_staff(house, name, roles, controllers)
        except EnrolmentError as refused:
            _refuse(refused)
    if as_json:
        click.echo(json.dumps({"staff": ident, "code": code}))
        return
    door = f"{house.settings.issuer}/en/staff/enrol"
    click.echo(f"{ident}\nprinted code: {code}\nto be typed within 60 days at {door}; it works once")


@staff.command("list")
@JSON
def listed(as_json: bool) -> None:  # noqa: FBT001 - click passes flags so
    """List the colleagues who have not left."""
    with opened() as house:
        people = [
            {
                "staff": each.id,
                "name": each.name,
                "roles": sorted(each.roles),
                "controllers": sorted(each.controllers),
            }
            for each in present_staff(house)
        ]
    if as_json:
        click.echo(json.dumps(people))
        return
    for person in people:
        click.echo(f"{person['staff']}  {person['name']}: {_words(person['roles'])}; {_words(person['controllers'])}")


@staff.command("code")
@click.argument("staff_id")
def code(staff_id: str) -> None:
    """Print a new code for a colleague who lost their passkey; an unused older code ends."""
    _print_code("staff", staff_id, timedelta(0))


@staff.command("dismiss")
@click.argument("staff_id")
@click.option("--yes", is_flag=True, help="do not ask")
def dismiss(staff_id: str, yes: bool) -> None:  # noqa: FBT001 - click passes flags so
    """Close the console for a colleague at once: sessions and passkeys end."""
    if not yes:
        click.confirm(f"Close the console for {staff_id}?", abort=True)
    with opened() as house:
        try:
            dismiss_staff(house, staff_id)
        except EnrolmentError as refused:
            _refuse(refused)
    click.echo("the console is closed for them")


@click.command("enrol")
@click.argument("subject")
@click.option("--cooling-days", type=click.IntRange(0, 30), default=0, show_default=True)
def enrol(subject: str, cooling_days: int) -> None:
    """Print the code that permits a first passkey to SUBJECT (sub_...), as onboarding does.

    With --cooling-days the passkey works after that many days: for a code sent after a loss.
    """
    _print_code("subject", subject, timedelta(days=cooling_days))


def _print_code(kind: Kind, person: str, cooling: timedelta) -> None:
    with opened() as house:
        try:
            click.echo(issue_code(house, kind, person, cooling))
        except EnrolmentError as refused:
            _refuse(refused)


def _refuse(refused: EnrolmentError) -> NoReturn:
    click.echo(str(refused), err=True)
    sys.exit(MISUSED)


def _words(said: object) -> str:
    return ", ".join(said) if isinstance(said, list) else ""
