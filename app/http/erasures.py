"""A signed erasure certificate as people read it: what was destroyed, when, what is kept until when and why.

GDPR arts 12(1), 17; dsar rules 42, 48, 49, 54. The same for its bearer as for the person signed in. It says "keys
destroyed", which is not making anything anonymous. What is held solely against money laundering has no line here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime

from flask import Response
from flask_babel import gettext

from app.http.casewords import source
from app.http.doors import doors
from app.http.errors import NotHere
from app.http.locale import current_locale, told
from app.vault.certificate import canonical
from consent.policy import Policy
from consent.ports import Json
from consent.vocabulary import CategoryId, ControllerId, Locale
from dsar.ports import StoredRetention

Certificate = Mapping[str, Json]
KINDS = ("json", "pdf")


@dataclass(frozen=True, slots=True)
class Kept:
    """One kind of data that outlived the erasure; `gone` once its day has come."""

    name: str
    until: date
    reason: str
    legal_ref: str
    gone: datetime | None


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


def view_of(certificate: Certificate, retentions: Sequence[StoredRetention]) -> ErasureView:
    """Return what a certificate of version 1 says, with the retentions its case has on record (dsar rule 49)."""
    gone = [key for target in _many(certificate["destroyed"]) for key in _many(target["data_keys"])]
    return ErasureView(
        erasure=str(certificate["erasure"]),
        controller=ControllerId(str(certificate["controller"])),
        committed_at=datetime.fromisoformat(str(certificate["committed_at"])),
        irrevocable_at=_moment(certificate["irrevocable_at"]),
        destroyed=tuple(dict.fromkeys(_name(CategoryId(str(key["category"]))) for key in gone)),
        retained=tuple(dict.fromkeys(_kept(one) for one in retentions if not _hidden(one.category))),
    )


def reason_of(policy: Policy, retention: StoredRetention, locale: Locale) -> str:
    """Return the pack's sentence for a retention; empty when a newer pack dropped it."""
    about = (retention.category, retention.purpose)
    rule = next((rule for rule in policy.retentions if (rule.category, rule.purpose) == about), None)
    return rule.reason[locale] if rule is not None else ""


def served(certificate: Certificate, retentions: Sequence[StoredRetention], kind: str) -> Response:
    """Return the certificate as a file: the signed data as they are, or the page that says them. Raises NotHere."""
    if kind == "json":
        return _file(canonical(certificate), "application/json", "certificate.json")
    if kind == "pdf":
        made = doors().certificate_pdf(certificate, retentions, current_locale())
        return _file(made, "application/pdf", "certificate.pdf")
    raise NotHere


def _file(content: bytes, mimetype: str, name: str) -> Response:
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
    return Response(content, mimetype=mimetype, headers=headers)


def _many(value: Json) -> Sequence[Mapping[str, Json]]:
    listed = value if isinstance(value, Sequence) and not isinstance(value, str) else ()
    return [each for each in listed if isinstance(each, Mapping)]


def _moment(value: Json) -> datetime | None:
    return datetime.fromisoformat(value) if isinstance(value, str) else None


def _name(category: CategoryId) -> str:
    """Return the pack's name of a kind of data; what only we ourselves keep has no name there."""
    known = doors().policy.categories.get(category)
    if known is None or known.aml_only:
        return str(gettext("What we kept about you ourselves"))
    return told(known.names)


def _hidden(category: CategoryId) -> bool:
    """Say whether a kind of data serves solely against money laundering (dsar rule 42)."""
    known = doors().policy.categories.get(category)
    return known is not None and known.aml_only


def _kept(retention: StoredRetention) -> Kept:
    return Kept(
        name=_name(retention.category),
        until=retention.until,
        reason=reason_of(doors().policy, retention, current_locale()),
        legal_ref=source(retention.legal_ref),
        gone=retention.erased_at,
    )
