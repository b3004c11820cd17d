"""`regard keys drill`: shows an operator that a restored backup brings nobody back, and says so when it would.

Works in a folder of its own that is removed afterwards; neither database of the deployment is opened, save to say why
the key provider refuses.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import NoReturn

import click

from app.cli.configured import FAULTY, settings
from app.cli.opening import refuse
from app.settings import Settings
from app.vault.errors import VaultError
from app.vault.process import harden_process
from app.wiring import UnfitDeployment, look_whole
from app.wiring.drilling import FEWEST, MOST, PEOPLE, Report
from app.wiring.drilling import drill as carried_out


@click.command("drill")
@click.option("--people", type=click.IntRange(FEWEST, MOST), default=PEOPLE, show_default=True, help="how many to make")
@click.option("--json", "as_json", is_flag=True, help="print the report as JSON")
def drill(*, people: int, as_json: bool) -> None:
    """Make people in scratch databases, back up, erase, restore, and try everything again.

    Uses the deployment's key provider, with roots of its own that are destroyed at the end; live data is not touched.
    Leaves with 0 when every check holds, with 1 when one does not.
    """
    harden_process()
    read = settings()
    with tempfile.TemporaryDirectory(prefix="regard-drill-") as folder:
        try:
            found = carried_out(read, Path(folder), people=people, told=lambda step: click.echo(step, err=True))
        except (UnfitDeployment, VaultError) as unfit:
            _refuse(read, unfit)
    click.echo(json.dumps(found.told()) if as_json else _in_words(found))
    sys.exit(0 if found.ok else FAULTY)


def _refuse(read: Settings, unfit: UnfitDeployment | VaultError) -> NoReturn:
    """Say what the deployment itself lacks, a lost keyring say, rather than that its provider does not answer."""
    try:
        look_whole(read)
    except UnfitDeployment as deeper:
        refuse(deeper)
    refuse(unfit)


def _in_words(found: Report) -> str:
    lines = [f"{'holds' if check.ok else 'FAILS'}  {check.name}: {check.told}" for check in found.checks]
    lines.append(f"provider {found.provider}, {found.assurance}; {found.people} people, {found.seconds} s")
    if found.key_backup_window_hours:
        hours = found.key_backup_window_hours
        lines.append(f"this deployment keeps old roots for {hours} h: until then a restored key store still opens")
    lines.append("a restored backup brings nobody back" if found.ok else "NOT PROVEN: a check fails, see above")
    return "\n".join(lines)
