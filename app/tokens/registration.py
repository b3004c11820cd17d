"""What a client has to be before it is registered: names, addresses, keys; every fault at once (RFC 7591's checks).

Addresses are https, or plain http on the loopback for development; a redirect address has no fragment (RFC 6749 section
3.1.2) and no wildcard, a resource neither fragment nor query (RFC 8707 section 2). One public P-256 key, `kid` its
thumbprint (RFC 7638); a private key is refused. Leaves out the processor list: which party, which controller.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Final
from urllib.parse import urlsplit

import jwt

from app.sdk.dpop import thumbprint
from app.sdk.scopes import Scope
from app.tokens.records import Client, GrantType

KEEPING: Final = ("nothing", "call", "until")
"""The ways of keeping data that a component can say it enforces."""
_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_COUNTRY = re.compile(r"[A-Z]{2}")
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_LONGEST_NAME: Final = 200
_LONGEST_ADDRESS: Final = 500


class RegistrationError(Exception):
    """The family."""

    code: ClassVar[str] = "registration_error"


class RegistrationRefused(RegistrationError):
    """A client that cannot be registered; `faults` says everything that is wrong with it."""

    code = "registration_refused"

    def __init__(self, faults: Collection[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(self.faults))


@dataclass(frozen=True, slots=True)
class Registration:
    """A client as somebody asks for it, in words; nothing is checked yet."""

    id: str
    party: str
    name: str
    jwk: Mapping[str, Any]
    scopes: tuple[str, ...] = ()
    grants: tuple[str, ...] = ()
    redirect_uris: tuple[str, ...] = ()
    resource: str | None = None
    country: str = ""
    honours: tuple[str, ...] = ()


def registered(asked: Registration, *, controller: str, at: datetime, outside: Collection[str] = ()) -> Client:
    """Return the client of a registration. Raises `RegistrationRefused`; `outside` are faults found elsewhere."""
    faults = [*outside, *_faults(asked)]
    if faults:
        raise RegistrationRefused(faults)
    public = {name: str(asked.jwk[name]) for name in ("kty", "crv", "x", "y")}
    return Client(
        id=asked.id,
        controller=controller,
        party=asked.party,
        name=asked.name,
        jwks={"keys": [{**public, "kid": thumbprint(public)}]},
        scopes=frozenset(Scope(word) for word in asked.scopes),
        grants=frozenset(GrantType(word) for word in asked.grants),
        redirect_uris=asked.redirect_uris,
        resource=asked.resource,
        created_at=at,
        country=asked.country,
        honours=frozenset(asked.honours),
    )


def _faults(asked: Registration) -> Iterator[str]:
    if not _ID.fullmatch(asked.id):
        yield "the id is 1 to 64 lower-case letters, digits, - and _, a letter or digit first"
    if not 1 <= len(asked.name.strip()) <= _LONGEST_NAME or not asked.name.isprintable():
        yield f"the name is 1 to {_LONGEST_NAME} printable characters"
    if asked.country and not _COUNTRY.fullmatch(asked.country):
        yield f"country {asked.country!r}: two capital letters of ISO 3166-1"
    yield from _unknown("scope", asked.scopes, [scope.value for scope in Scope])
    yield from _unknown("grant", asked.grants, [grant.value for grant in GrantType])
    yield from _unknown("way of keeping", asked.honours, KEEPING)
    yield from _address_faults(asked)
    yield from _key_faults(asked.jwk)


def _unknown(what: str, said: Collection[str], known: Collection[str]) -> Iterator[str]:
    for word in said:
        if word not in known:
            yield f"there is no {what} {word!r}; there are: {', '.join(known)}"


def _address_faults(asked: Registration) -> Iterator[str]:
    code = GrantType.AUTHORIZATION_CODE.value in asked.grants
    if not asked.grants:
        yield "a client without a grant can get no token: name at least one"
    if code and not asked.redirect_uris:
        yield "the grant authorization_code needs a redirect URI"
    if asked.redirect_uris and not code:
        yield "a redirect URI is of use with the grant authorization_code alone"
    if GrantType.REFRESH_TOKEN.value in asked.grants and not code:
        yield "refresh tokens come with the grant authorization_code alone"
    for address in asked.redirect_uris:
        if not _sound(address) or "*" in address:
            yield f"redirect URI {address!r}: an https address (or http on the loopback), whole, without fragment"
    resource = asked.resource
    if resource is not None and (not _sound(resource) or "?" in resource or resource.endswith("/")):
        yield f"resource {resource!r}: an https address (or http on the loopback) without query, fragment, last slash"


def _sound(address: str) -> bool:
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return False
    secure = parts.scheme == "https" or (parts.scheme == "http" and host in _LOOPBACK)
    plain = address.isascii() and address.isprintable() and not set(address) & set(" #\"'<>\\")
    return bool(secure and host and plain and "@" not in parts.netloc and len(address) <= _LONGEST_ADDRESS)


def _key_faults(jwk: Mapping[str, Any]) -> Iterator[str]:
    if "d" in jwk or "k" in jwk:
        yield "the key is a private one: only its public half is registered, and this one should be replaced"
        return
    try:
        fits = jwk.get("kty") == "EC" and jwk.get("crv") == "P-256" and jwt.PyJWK(dict(jwk), "ES256").key is not None
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        fits = False
    if not fits:
        yield "the key is not a public P-256 key (JWK with kty EC, crv P-256, x, y)"
