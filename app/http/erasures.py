"""A signed erasure certificate as people read it: what was destroyed, when, what is kept until when and why.

GDPR arts 12(1), 17; dsar rules 48, 49, 54. Read from the vault's certificate alone, so that it says the same to its
bearer as to the person signed in. It says "keys destroyed", which is not making anything anonymous.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime

from flask_babel import gettext

from app.http.doors import doors
from app.http.locale import told
from consent.ports import Json
from consent.vocabulary import CategoryId, ControllerId


@dataclass(frozen=True, slots=True)
class Kept:
    """One kind of data that outlived the erasure."""

    name: str
    until: date | None
    reason: str
    legal_ref: str


@dataclass(frozen=True, slots=True)
class ErasureView:
    """A certificate in the language of this request."""

    erasure: str
    controller: ControllerId
    committed_at: datetime
    irrevocable_at: datetime | None
    """None while it is not known of every root key."""
    destroyed: tuple[str, ...]
    retained: tuple[Kept, ...]


def view_of(certificate: Mapping[str, Json]) -> ErasureView:
    """Return what a certificate of version 1 says."""
    gone = [key for target in _many(certificate["destroyed"]) for key in _many(target["data_keys"])]
    return ErasureView(
        erasure=str(certificate["erasure"]),
        controller=ControllerId(str(certificate["controller"])),
        committed_at=datetime.fromisoformat(str(certificate["committed_at"])),
        irrevocable_at=_moment(certificate["irrevocable_at"]),
        destroyed=tuple(dict.fromkeys(_name(key) for key in gone)),
        retained=tuple(dict.fromkeys(_kept(key) for key in _many(certificate["retained"]))),
    )


def _many(value: Json) -> Sequence[Mapping[str, Json]]:
    listed = value if isinstance(value, Sequence) and not isinstance(value, str) else ()
    return [each for each in listed if isinstance(each, Mapping)]


def _moment(value: Json) -> datetime | None:
    return datetime.fromisoformat(value) if isinstance(value, str) else None


def _name(key: Mapping[str, Json]) -> str:
    """Return the pack's name of a kind of data; what only we ourselves keep has no name there."""
    known = doors().policy.categories.get(CategoryId(str(key["category"])))
    return told(known.names) if known is not None else str(gettext("What we kept about you ourselves"))


def _kept(key: Mapping[str, Json]) -> Kept:
    until = key.get("retained_until")
    legal_ref = str(key.get("reason") or "")
    return Kept(
        name=_name(key),
        until=date.fromisoformat(until) if isinstance(until, str) else None,
        reason=_reason(str(key["category"]), legal_ref),
        legal_ref=legal_ref,
    )


def _reason(category: str, legal_ref: str) -> str:
    """Return the sentence the pack gives for this text; a newer pack may have dropped it."""
    rules = [rule for rule in doors().policy.retentions if rule.legal_ref == legal_ref]
    exact = [rule for rule in rules if rule.category == category]
    found = next(iter(exact or rules), None)
    return told(found.reason) if found is not None else ""
