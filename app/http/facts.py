"""What a consent looks like to a person: clusters, recipients by name, dates in words (consent rules 9-16, 41, 42).

One set of words for question, dashboard and withdrawal, read from the policy pack and the catalogue (consent rule 10).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from flask_babel import gettext, ngettext

from app.http.doors import doors
from app.http.locale import current_locale, day, told
from consent.decision import local_day
from consent.events import AccessPath
from consent.parties import Party, PartyRole
from consent.policy import Notice, Policy, Retention
from consent.record import Consent, State
from consent.vocabulary import CategoryId, PartyId, PurposeId

SCA_DAYS = 180
"""Strong authentication at the bank is due again at the latest after this (RTS art. 10a, consent rule 12)."""


@dataclass(frozen=True, slots=True)
class Group:
    """A cluster and which of its categories are meant."""

    heading: str
    names: tuple[str, ...]


def groups(categories: Iterable[CategoryId]) -> list[Group]:
    """Return categories under the headings people know (consent rule 10), both in the order of the pack."""
    policy, wanted = doors().policy, frozenset(categories)
    found: list[Group] = []
    for cluster in policy.clusters.values():
        meant = (each for each in policy.categories.values() if each.id in wanted and each.cluster == cluster.id)
        names = tuple(told(each.names) for each in meant)
        if names:
            found.append(Group(told(cluster.names), names))
    return found


def in_order(categories: Iterable[CategoryId]) -> list[CategoryId]:
    """Return categories in the order of the pack."""
    wanted = frozenset(categories)
    return [category for category in doors().policy.categories if category in wanted]


def parties(ids: Iterable[PartyId]) -> list[Party]:
    """Return parties by role, then name; each is on the list or it could not have been named (consent rule 15)."""
    listed, order = doors().policy.parties, list(PartyRole)
    found = [listed[party] for party in ids if party in listed]
    return sorted(found, key=lambda party: (order.index(party.role), party.brand_name))


def outside(record: Consent) -> list[Party]:
    """Return who receives data and then follows rules of its own (consent rule 16)."""
    return [party for party in parties(record.readers) if party.role is PartyRole.RECIPIENT]


def purpose_name(purpose: PurposeId) -> str:
    """Return a purpose's name, its id for one a newer pack no longer has: what was agreed can always be stopped."""
    known = doors().policy.purposes.get(purpose)
    return told(known.names) if known is not None else purpose


def party_name(party: PartyId) -> str:
    """Return a party's name, its id for one a newer pack no longer has."""
    known = doors().policy.parties.get(party)
    return known.brand_name if known is not None else party


def period(days: int) -> str:
    """Return a period in words (consent rule 13)."""
    if days == 1:
        return str(gettext("One time only"))
    if days in {365, 366}:
        return str(gettext("12 months"))
    return str(ngettext("%(num)s day", "%(num)s days", days))


def until(days: int) -> str:
    """Return on which day a period chosen now would end."""
    return day(doors().clock.now() + timedelta(days=days))


def next_bank_check(record: Consent) -> date | None:
    """Return by when the bank asks for its own check again, where the person's own login is used (consent rule 12)."""
    if record.institution is None and not from_bank(record):
        return None
    start = record.given_at or doors().clock.now()
    return local_day(doors().policy, record.terms.controller, start + timedelta(days=SCA_DAYS))


def from_bank(record: Consent) -> bool:
    """Return whether any of the data comes from an institution."""
    policy = doors().policy
    asked = record.terms.needed | record.terms.optional
    return any(asked & institution.categories for institution in policy.institutions.values())


def notice(record: Consent) -> Notice:
    """Return the notice of the question in the language of this request; an unlisted one is a fault of the pack."""
    return doors().policy.notices[record.terms.purpose, record.terms.notice_version, current_locale()]


def institution_name(ident: str | None) -> str:
    """Return an institution's name, or an empty string."""
    found = doors().policy.institutions.get(ident or "")
    return found.name if found is not None else ""


def path_words(path: AccessPath) -> str:
    """Return a way to reach the data, in plain words."""
    words: dict[AccessPath, str] = {
        AccessPath.POA_LOGIN: gettext("with a read-only access that the bank opens for us, on your written order"),
        AccessPath.POA_FEED: gettext("with files that the bank sends us, on your written order"),
        AccessPath.OWN_CREDENTIALS: gettext("with your own login, which you type at the bank and never here"),
    }
    return words[path]


def status(record: Consent, at: datetime) -> tuple[str, str]:
    """Return the status as a word and a one-line meaning (consent rule 42)."""
    return state_words(record.state_at(at))


def state_words(state: State) -> tuple[str, str]:
    """Return a state as a word and a one-line meaning."""
    words: dict[State, tuple[str, str]] = {
        State.REQUESTED: (gettext("waiting for you"), gettext("You have not answered yet. Nothing is read.")),
        State.ACTIVE: (gettext("active"), gettext("Data may be read, as you agreed.")),
        State.SUSPENDED: (gettext("paused"), gettext("Nothing is read until the pause ends.")),
        State.REFUSED: (gettext("refused"), gettext("You said no. Nothing was read.")),
        State.WITHDRAWN: (gettext("withdrawn"), gettext("You stopped it. Nothing is read any more.")),
        State.EXPIRED: (gettext("ended"), gettext("The period is over. Nothing is read any more.")),
        State.REPLACED: (gettext("replaced"), gettext("A newer agreement took its place.")),
        State.ENDED_BY_CONTROLLER: (gettext("ended by us"), gettext("We stopped it. Nothing is read any more.")),
        State.ENDED_AT_HOLDER: (
            gettext("ended at your bank"),
            gettext("You stopped it at your bank. Nothing is read any more."),
        ),
        State.INVALIDATED: (gettext("void"), gettext("It was never valid. Nothing may be read.")),
    }
    return words[state]


def gone_after(policy: Policy, purpose: PurposeId, categories: Collection[CategoryId]) -> int | None:
    """Return how many days after the end what was read is deleted without anybody asking; None where nothing is."""
    return min(policy.kept_while_agreed(purpose, categories).values(), default=None)


def kept(policy: Policy, purpose: PurposeId, categories: Iterable[CategoryId]) -> list[Retention]:
    """Return what has to be kept after the end, with reason and text of law (consent rule 45)."""
    wanted = frozenset(categories)
    return [
        rule
        for rule in policy.retentions
        if rule.purpose == purpose and rule.category in wanted and rule.on_erasure == "retain"
    ]
