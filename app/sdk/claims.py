"""What travels in a token's details and in the answer of introspection, as typed records read strictly.

RFC 9396 `authorization_details` of type `aggregation_consent` (tokens.md section 3) and RFC 7662 answers. An unknown
field of the details is refused; an answer that lacks what a gate needs is `Malformed`, never half believed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

from .errors import Malformed
from .scopes import Scope, parse

AGGREGATION_CONSENT: Final = "aggregation_consent"
MOST_READS_A_DAY: Final = 4
"""Unattended, in any 24 hours (RTS on strong customer authentication art. 36(5)(b))."""
_LONGEST_WORD: Final = 128
_MOST_ITEMS: Final = 64


@dataclass(frozen=True, slots=True)
class AggregationConsent:
    """One authorization detail: a consent named by its id, or a proposal of one (`consent_id` None)."""

    purpose: str | None = None
    categories: frozenset[str] = frozenset()
    consent_id: str | None = None
    party: str | None = None
    accounts: frozenset[str] = frozenset()
    period_from: date | None = None
    period_until: date | None = None
    history_from: date | None = None
    frequency_per_day: int | None = None
    access_path: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Write it as RFC 9396 has it: only what is said, lists in order; `actions` is always `["read"]`."""
        said: dict[str, Any] = {
            "consent_id": self.consent_id,
            "party": self.party,
            "purpose": self.purpose,
            "categories": sorted(self.categories),
            "accounts": sorted(self.accounts),
            "period": _period_json(self.period_from, self.period_until),
            "history_from": self.history_from.isoformat() if self.history_from else None,
            "frequency_per_day": self.frequency_per_day,
            "access_path": self.access_path,
        }
        kept = {name: value for name, value in said.items() if value}
        return {"type": AGGREGATION_CONSENT, "actions": ["read"], **kept}

    @classmethod
    def from_json(cls, value: object) -> AggregationConsent:
        """Read one detail; an unknown type, an unknown field or a wrong shape is `Malformed`."""
        fields = _fields(value)
        start, until = _period(fields.pop("period", None))
        frequency = fields.pop("frequency_per_day", None)
        if frequency is not None and (type(frequency) is not int or not 1 <= frequency <= MOST_READS_A_DAY):
            raise Malformed(f"frequency_per_day is 1 to {MOST_READS_A_DAY}")
        return cls(
            categories=_words(fields.pop("categories", []), "categories"),
            accounts=_words(fields.pop("accounts", []), "accounts"),
            history_from=_day(fields.pop("history_from", None), "history_from"),
            period_from=start,
            period_until=until,
            frequency_per_day=frequency,
            **{name: _word(fields[name], name) for name in fields},
        )


_KNOWN = frozenset(
    {"purpose", "categories", "consent_id", "party", "accounts", "period", "history_from", "frequency_per_day"}
    | {"access_path"}
)


def _fields(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Malformed("a detail is an object")
    fields = dict(value)
    if fields.pop("type", None) != AGGREGATION_CONSENT:
        raise Malformed("unknown type")
    if fields.pop("actions", ["read"]) != ["read"]:
        raise Malformed('actions is ["read"]')
    if not fields.keys() <= _KNOWN:
        raise Malformed("unknown field")
    return fields


def _word(value: object, name: str) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= _LONGEST_WORD or not value.isprintable():
        raise Malformed(f"{name} is a short text")
    return value


def _words(value: object, name: str) -> frozenset[str]:
    if not isinstance(value, list) or len(value) > _MOST_ITEMS:
        raise Malformed(f"{name} is a list of at most {_MOST_ITEMS}")
    return frozenset(_word(item, name) for item in value)


def _day(value: object, name: str) -> date | None:
    if value is None:
        return None
    try:
        return date.fromisoformat(_word(value, name))
    except ValueError:
        raise Malformed(f"{name} is a date, YYYY-MM-DD") from None


def _period(value: object) -> tuple[date | None, date | None]:
    if value is None:
        return None, None
    if not isinstance(value, dict) or not value.keys() <= {"from", "until"}:
        raise Malformed("period has from and until")
    start, until = _day(value.get("from"), "from"), _day(value.get("until"), "until")
    if start and until and until < start:
        raise Malformed("period ends before it starts")
    return start, until


def _period_json(start: date | None, until: date | None) -> dict[str, str]:
    days = {"from": start, "until": until}
    return {name: day.isoformat() for name, day in days.items() if day}


@dataclass(frozen=True, slots=True)
class Presented:
    """An active token as introspection describes it to its audience."""

    client_id: str
    party: str
    audience: str
    scopes: frozenset[Scope]
    jkt: str
    expires: int
    """Unix seconds."""
    subject: str | None
    """The audience's own pairwise handle of the subject; None for a token about nobody."""
    detail: AggregationConsent | None
    consent_version: int | None
    attended: bool
    obligations: Mapping[str, Any]
    """What binds the reader: `keep`, `keep_until`, `where`, `mask`, `history_from`, `reads_per_hour`."""

    @classmethod
    def from_json(cls, answer: Mapping[str, Any]) -> Presented | None:
        """Read an answer of RFC 7662; None when inactive; `Malformed` when a needed member is missing or odd."""
        if answer.get("active") is not True:
            return None
        details = answer.get("authorization_details") or []
        try:
            return cls(
                client_id=_word(answer["client_id"], "client_id"),
                party=_word(answer["party"], "party"),
                audience=str(answer["aud"]),
                scopes=parse(answer.get("scope", "")),
                jkt=_word(answer["cnf"]["jkt"], "jkt"),
                expires=int(answer["exp"]),
                subject=answer.get("sub"),
                detail=AggregationConsent.from_json(details[0]) if details else None,
                consent_version=answer.get("consent_version"),
                attended=answer.get("attended") is True,
                obligations=dict(answer.get("obligations", {})),
            )
        except (KeyError, TypeError, ValueError, AttributeError, IndexError):
            raise Malformed("an introspection answer lacks what a gate needs") from None
