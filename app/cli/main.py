"""The `regard` command: run it, check it, examine it (operations.md section 5).

Exit codes: 0 done, 1 something is wrong with what was examined, 2 the command or the settings are at fault.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields

import click

from app import policyfiles
from app.cli.clients import clients
from app.cli.configured import FAULTY, settings
from app.cli.exports import exports
from app.cli.keys import keys
from app.cli.ledger import ledger
from app.cli.opening import UNFIT, opened, refuse
from app.cli.serving import serve
from app.cli.staff import enrol, staff
from app.settings import Secret
from app.vault.process import harden_process
from app.wiring import migrate, unreached
from consent.adoption import adopt


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def main() -> None:
    """Regard: the consent and data-subject-rights authority of an open-finance platform."""


main.add_command(keys)
main.add_command(ledger)
main.add_command(exports)
main.add_command(staff)
main.add_command(enrol)
main.add_command(clients)
main.add_command(serve)


@main.group()
def config() -> None:
    """Settings: REGARD_* variables, or a TOML file named by REGARD_CONFIG."""


@config.command("check")
@click.option("--reach", is_flag=True, help="ask databases and key provider, look at the rest too")
def config_check(*, reach: bool) -> None:
    """Read the settings and list every fault.

    With --reach, both databases and each key provider have to answer too, and schema, policy pack, controller and
    sender of mail to be fit for a start. A provider that holds no root of this deployment yet makes one and destroys
    it. Leaves with 1 when something does not answer or is unfit, with 2 for faulty settings.
    """
    read = settings()
    if not reach:
        click.echo("the settings are sound; nothing was asked of the databases or the key provider: --reach does")
        return
    harden_process()
    faults = unreached(read)
    for fault in faults:
        click.echo(fault, err=True)
    if faults:
        sys.exit(FAULTY)
    click.echo("the settings are sound; both databases and the key provider answer")


@config.command("show")
def config_show() -> None:
    """Print every setting; secrets are hidden."""
    read = settings()
    for field in fields(read):
        value = getattr(read, field.name)
        click.echo(f"{field.name} = {'(hidden)' if isinstance(value, Secret) else value}")


@main.group()
def db() -> None:
    """The two databases."""


@db.command("upgrade")
def db_upgrade() -> None:
    """Bring both databases to the newest schema; make the keyring and the service's keys of a new deployment."""
    harden_process()
    try:
        migrate(settings())
    except UNFIT as unfit:
        refuse(unfit)
    click.echo("records and key store have the newest schema")


@main.group()
def policy() -> None:
    """The policy pack."""


@policy.command("check")
def policy_check() -> None:
    """Check the pack and its released notices; list every fault."""
    try:
        pack = policyfiles.load(settings().policies_dir)
    except policyfiles.PolicyFaults as faulty:
        refuse(faulty)
    counted = f"{len(pack.categories)} categories, {len(pack.purposes)} purposes, {len(pack.parties)} parties"
    click.echo(f"pack {pack.version} is sound: {counted}\ndigest {pack.digest}")


@policy.command("lock")
def policy_lock() -> None:
    """Release the notices that are not released yet; what is released never changes."""
    released = policyfiles.lock(settings().policies_dir)
    click.echo("\n".join(released) if released else "nothing new to release")


@policy.command("adopt")
@click.option("--by", required=True, help="who decides: a staff id, never a name")
def policy_adopt(by: str) -> None:
    """Put the pack in force and record its digest in the ledger."""
    with opened() as house, house.units.writing() as unit:
        entry = adopt(unit, house.policy, controller=house.controller, by=by, at=house.units.clock.now())
    click.echo(f"adopted, ledger entry {entry}" if entry else "this pack is in force already")


@main.command()
def worker() -> None:
    """Carry out the durable work alone, until interrupted."""
    with _told_to_stop() as stop, opened() as house:
        try:
            house.start()
        except UNFIT as unfit:
            refuse(unfit)
        click.echo("carrying out durable work; Ctrl-C stops")
        stop.wait()


@contextmanager
def _told_to_stop() -> Iterator[threading.Event]:
    """Note a stop for whoever waits, whichever thread it reaches, instead of ending where it finds the process."""
    stop = threading.Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@main.command("status")
def status() -> None:
    """Print what the deployment holds, as JSON: sizes and digests, nothing about anyone."""
    with opened() as house:
        told = {
            "policy": house.policy.digest,
            "controller": house.controller,
            "ledger_waiting": house.ledger.waiting(),
            "erasures_pending": len(house.vault.erasures.pending()),
            "erasures_held": len(house.vault.erasures.held()),
        }
    click.echo(json.dumps(told))


if __name__ == "__main__":
    main()
