"""`regard clients`: the OAuth clients of the parties on the processor list (tokens.md section 2).

No shared secret exists: a client is known by its public key. The private half is written once, to a file of the
operator's choice, or never comes here at all (`--jwk`).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import click

from app.cli.configured import MISUSED
from app.cli.opening import opened
from app.sdk.dpop import public_jwk
from app.sdk.keyfile import write_key
from app.sdk.scopes import join
from app.tokens.registration import Registration, RegistrationError, RegistrationRefused
from app.wiring import registrations
from app.wiring.operator import OPERATOR

FILE = click.Path(dir_okay=False, path_type=Path)
BY = click.option("--by", default=OPERATOR, show_default=True, help="who decides: a staff id, never a name")


@click.group()
def clients() -> None:
    """The OAuth clients of the parties on the processor list."""


@clients.command("add")
@click.argument("client")
@click.option("--party", required=True, help="its party on the processor list")
@click.option("--name", required=True, help="what it is called on pages")
@click.option("--scope", "scopes", multiple=True, help="a door it may open; repeatable")
@click.option("--grant", "grants", multiple=True, help="a way it may get tokens; repeatable")
@click.option("--redirect-uri", "redirect_uris", multiple=True, help="where people come back to; repeatable")
@click.option("--resource", help="its own address, if it holds data")
@click.option("--country", default="", help="where it runs, two letters")
@click.option("--honours", multiple=True, help="nothing, call, until: ways of keeping it enforces; repeatable")
@click.option("--key-out", type=FILE, help="make a key and write it to this new file (mode 0600)")
@click.option("--jwk", "jwk_file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="its public key")
@BY
def add(client: str, key_out: Path | None, jwk_file: Path | None, by: str, **said: Any) -> None:
    """Register CLIENT with a key made here (--key-out) or elsewhere (--jwk)."""
    if (key_out is None) == (jwk_file is None):
        raise click.UsageError("say either --key-out FILE or --jwk FILE")
    with opened() as house, _key(key_out, jwk_file) as jwk:
        try:
            kept = registrations.register(house, Registration(id=client, jwk=jwk, **said), by=by)
        except RegistrationRefused as refused:
            _leave(refused.faults)
    click.echo(f"registered {kept.id} for {kept.party}, key {kept.jwks['keys'][0]['kid']}")
    if key_out is not None:
        click.echo(f"its private key is in {key_out}, and nowhere else")


@clients.command("list")
def show() -> None:
    """List the clients: id, party, state, grants, resource, scopes."""
    with opened() as house:
        found = registrations.clients_of(house)
    for each in found:
        state = "suspended" if each.suspended_at else "live"
        said = (each.id, each.party, state, ",".join(sorted(each.grants)), each.resource or "-", join(each.scopes))
        click.echo("\t".join(said))


@clients.command("suspend")
@click.argument("client")
@BY
def suspend(client: str, by: str) -> None:
    """Suspend CLIENT: it gets nothing, and the tokens it has open nothing."""
    with opened() as house:
        try:
            registrations.suspend(house, client, by=by)
        except RegistrationError as refused:
            _leave([str(refused)])
    click.echo(f"suspended {client}")


@clients.command("resume")
@click.argument("client")
@BY
def resume(client: str, by: str) -> None:
    """End the suspension of CLIENT."""
    with opened() as house:
        try:
            registrations.resume(house, client, by=by)
        except RegistrationError as refused:
            _leave([str(refused)])
    click.echo(f"resumed {client}")


@contextmanager
def _key(key_out: Path | None, jwk_file: Path | None) -> Iterator[Mapping[str, Any]]:
    """The public key; the file of one that is made here goes again unless the block ends well."""
    if key_out is None:
        yield _read(jwk_file)
        return
    with ExitStack() as undone:
        made = _made(key_out)
        undone.callback(key_out.unlink)
        yield made
        undone.pop_all()


def _made(path: Path) -> dict[str, str]:
    try:
        return public_jwk(write_key(path))
    except OSError as fault:
        raise click.UsageError(f"{path}: {fault.strerror}; no key is ever replaced") from fault


def _read(path: Path | None) -> Mapping[str, Any]:
    try:
        jwk = json.loads(path.read_bytes()) if path is not None else None
    except ValueError:
        jwk = None
    if not isinstance(jwk, dict):
        raise click.UsageError(f"{path} holds no JWK")
    return jwk


def _leave(faults: tuple[str, ...] | list[str]) -> None:
    for fault in faults:
        click.echo(fault, err=True)
    sys.exit(MISUSED)
