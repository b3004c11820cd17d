"""`regard keys move` and `regard keys status`: where root keys live, and bringing them elsewhere (vault.md 4)."""

from __future__ import annotations

import json
import sys

import click

from app.cli.configured import FAULTY, MISUSED
from app.cli.opening import opened, refuse
from app.vault.errors import VaultError
from app.wiring import MoveRefused, NowhereFrom, key_status, move_roots


@click.command("move")
@click.option("--yes", is_flag=True, help="do not ask whether the old roots may be destroyed")
@click.option("--keep-old-roots", "keep", is_flag=True, help="move only; a later run without this destroys them")
@click.option("--wait", default=60.0, show_default=True, help="seconds to wait for erasures that have a partition")
def move(yes: bool, keep: bool, wait: float) -> None:  # noqa: FBT001 - click passes flags so
    """Bring every root key to REGARD_KEY_PROVIDER, from REGARD_KEY_PROVIDER_BEFORE; then destroy the old ones.

    The service goes on meanwhile, restarted with both settings before. Killed anywhere, the command goes on where it
    was when it is run again. Prints JSON. Until the old roots are destroyed, the physical part of erasures waits.

    Example: REGARD_KEY_PROVIDER=openbao REGARD_KEY_PROVIDER_BEFORE=file regard keys move --yes
    """
    if not (yes or keep):
        click.confirm("Destroy the old root keys once everything opens under the new ones?", abort=True, err=True)
    with opened() as house:
        try:
            done = move_roots(house, keep=keep, patience=wait, told=_tell)
        except MoveRefused as refused:
            click.echo(f"{refused.code}: {refused}", err=True)
            sys.exit(MISUSED if isinstance(refused, NowhereFrom) else FAULTY)
        except VaultError as refused:
            refuse(refused)
    until = done.irrevocable_at and done.irrevocable_at.isoformat(timespec="seconds")
    told = {"moved": done.moved, "destroyed": done.destroyed, "kept": done.kept, "irrevocable_at": until}
    click.echo(json.dumps(told))


def _tell(waiting: int) -> None:
    click.echo(f"{waiting} partition{'' if waiting == 1 else 's'} to go", err=True)


@click.command("status")
def status() -> None:
    """Print where the root keys live, partitions, generations and erasures that have not ended, as JSON.

    Names nobody: counts, kinds and ages in seconds. Leaves with 1 when a partition does not open.
    """
    with opened() as house:
        try:
            told = key_status(house)
        except VaultError as refused:
            refuse(refused)
    click.echo(json.dumps(told, indent=1))
    sys.exit(FAULTY if told["shut"] else 0)
