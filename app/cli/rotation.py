"""`regard keys rotate`: new roots, a new key of the address index, new signing and ledger keys; the service runs on."""

from __future__ import annotations

import sys

import click

from app.cli.configured import FAULTY
from app.cli.opening import opened
from app.ledger.errors import LedgerError
from app.tokens.signing import TooSoon
from app.vault.keys import KeyClass
from app.vault.ports import ErasureState
from app.wiring import LedgerKeyTurning, finish_ledger, rotate_index, rotate_ledger, rotate_roots, rotate_signing

YES = click.option("--yes", is_flag=True, help="do not ask")
_CLASSES = [each.value for each in KeyClass]


@click.group("rotate")
def rotate() -> None:
    """Replace keys by new ones; nobody notices, and nothing is lost."""


@rotate.command("roots")
@click.option("--class", "classes", type=click.Choice(_CLASSES), multiple=True, help="repeatable; all when left out")
def roots(classes: tuple[str, ...]) -> None:
    """Give each partition a new root and epoch key, and destroy the old root.

    What is killed or held up goes on when it is asked for again. Leaves with 1 when anything is left.
    """
    left = 0
    with opened() as house:
        for one in rotate_roots(house, [KeyClass(each) for each in classes or _CLASSES]):
            done = one.state == ErasureState.CERTIFIED
            left += not done
            told = f"generation {one.generation} ended" if done else f"not ended: {one.state}; ask again"
            click.echo(f"{one.key_class}/{one.partition}: {told}")
    sys.exit(FAULTY if left else 0)


@rotate.command("index")
def index() -> None:
    """Begin a new key of the index by which people are found; the running service moves everybody over to it."""
    with opened() as house:
        epoch = rotate_index(house)
    click.echo(f"epoch {epoch} began; the service moves every address to it, then destroys the key before it")


@rotate.command("signing")
@click.option(
    "--compromised", is_flag=True, help="disown the present key at once: nothing it signed is believed any more"
)
@YES
def signing(*, compromised: bool, yes: bool) -> None:
    """Let the next key sign tokens and receipts, and publish the one after it."""
    if compromised and not yes:
        click.confirm("Disown the present key? Every token and receipt it signed stops verifying", abort=True)
    with opened() as house:
        try:
            done = rotate_signing(house, compromised=compromised)
        except TooSoon:
            click.echo("the next key was published less than ten minutes ago; ask again then", err=True)
            sys.exit(FAULTY)
    kept = f"; {done.retiring} still verifies what it signed" if done.retiring else ""
    click.echo(f"{done.activated} signs from now on, {done.published} is next{kept}")


@rotate.command("ledger")
@click.option("--finish", "ending", is_flag=True, help="let the key before it go, once everybody has the new one")
@YES
def ledger(*, ending: bool, yes: bool) -> None:
    """Let a new key sign the ledger's checkpoints; the present one signs along until --finish.

    Give auditors and witnesses the line it prints. Start the service again afterwards.
    """
    if ending and not yes:
        click.confirm("Let the ledger's old key go? Whoever has not got the new one is lost", abort=True)
    with opened() as house:
        try:
            if ending:
                finish_ledger(house)
                click.echo("the present key signs alone; start the service again")
            else:
                click.echo(rotate_ledger(house))
                click.echo("start the service again, and give this line to auditors and witnesses", err=True)
        except LedgerKeyTurning as refused:
            click.echo(str(refused), err=True)
            sys.exit(FAULTY)
        except LedgerError as stopped:
            click.echo(f"{stopped.code}: {stopped}", err=True)
            sys.exit(FAULTY)
