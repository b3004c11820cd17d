"""The words of copies and certificates in one language, from the catalogue and the policy pack.

Leaves out laying them out (`app.outbound.package`, `app.outbound.certificate`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from zoneinfo import ZoneInfo

from app.letters import Speech
from app.outbound import household
from app.outbound.package import Words
from consent.policy import Controller, Policy
from consent.record import State as Agreed
from consent.vocabulary import Action, ControllerId, Locale
from dsar.case import FINAL, State
from dsar.package import Section
from dsar.vocabulary import CaseId


@dataclass(frozen=True, slots=True, repr=False)
class Heading:
    """Whose copy this is; its `repr` shows nothing."""

    case: CaseId
    name: str | None
    made_at: datetime

    def __repr__(self) -> str:
        return "Heading(hidden)"


def speech_of(policy: Policy, controller: ControllerId, locale: Locale) -> Speech:
    """Return the catalogue of a language, with the controller's time zone."""
    return Speech(locale, ZoneInfo(policy.controllers[controller].time_zone))


def package_words(
    policy: Policy, controller: ControllerId, speech: Speech, heading: Heading, holders: Mapping[str, str]
) -> Words:
    """Return what the PDF of a copy says. `holders`: component id -> the name people know."""
    locale = speech.locale
    return Words(
        locale=locale,
        title=speech.gettext("A copy of your data"),
        found=speech.gettext("What we have found"),
        rows=lambda count: speech.ngettext("%(num)s record", "%(num)s records", count),
        rest=lambda shown, count, file: speech.gettext(
            "%(shown)s of %(count)s records are shown. All of them are in the file %(file)s.",
            shown=shown,
            count=count,
            file=file,
        ),
        sections=_sections(speech),
        nothing=speech.gettext("Nothing to report here."),
        categories={one.id: one.names[locale] for one in policy.categories.values()},
        kinds=_kinds(speech),
        fields=_fields(speech),
        holders=holders,
        about=_about(policy.controllers[controller], speech, heading),
        introduction=speech.gettext(
            "This document is for reading. The files beside it hold every record, for you or for a program to use."
        ),
        rights=speech.gettext("What you should know about it"),
        data=speech.gettext("Your data"),
        none={
            Section.AUTOMATED_DECISIONS: speech.gettext("We take no decision about you by machine alone."),
            Section.TRANSFERS: speech.gettext("Your data does not leave the European Economic Area."),
            Section.RECIPIENTS: speech.gettext("Nobody outside has received it."),
        },
        kept_by=lambda holder: speech.gettext("Kept by %(holder)s", holder=holder),
        day=speech.day,
        moment=speech.moment,
    )


def code_words(speech: Speech) -> household.Codes:
    """Return what the codes of this service's own records mean (dsar rule 39)."""
    agreement = {
        Agreed.REQUESTED: speech.gettext("waiting for you"),
        Agreed.ACTIVE: speech.gettext("active"),
        Agreed.SUSPENDED: speech.gettext("paused"),
        Agreed.REFUSED: speech.gettext("refused"),
        Agreed.WITHDRAWN: speech.gettext("withdrawn"),
        Agreed.EXPIRED: speech.gettext("ended"),
        Agreed.REPLACED: speech.gettext("replaced"),
        Agreed.ENDED_BY_CONTROLLER: speech.gettext("ended by us"),
        Agreed.ENDED_AT_HOLDER: speech.gettext("ended at your bank"),
        Agreed.INVALIDATED: speech.gettext("void"),
    }
    open_case, shut = speech.gettext("being handled"), speech.gettext("closed")
    reading = {
        Action.READ.value: speech.gettext("read"),
        Action.HOLD.value: speech.gettext("kept"),
        Action.TRANSMIT.value: speech.gettext("passed on"),
        Action.USE_CREDENTIAL.value: speech.gettext("bank login used"),
        "attended": speech.gettext("yes"),
        "unattended": speech.gettext("no"),
    }
    return {
        **{(household.AGREEMENT, state.value): words for state, words in agreement.items()},
        **{(household.REQUEST, state.value): shut if state in FINAL else open_case for state in State},
        **{(household.READING, code): words for code, words in reading.items()},
    }


def _about(controller: Controller, speech: Speech, heading: Heading) -> Sequence[tuple[str, str]]:
    named = [(speech.gettext("For"), heading.name)] if heading.name else []
    return (
        *named,
        (speech.gettext("From"), f"{controller.legal_name}, {controller.address}"),
        (speech.gettext("Your request"), heading.case),
        (speech.gettext("As of"), speech.moment(heading.made_at)),
    )


def _sections(speech: Speech) -> Mapping[Section, str]:
    return {
        Section.PURPOSES: speech.gettext("Why we use it"),
        Section.CATEGORIES: speech.gettext("What kinds of data"),
        Section.RECIPIENTS: speech.gettext("Who has received it"),
        Section.PERIOD: speech.gettext("How long we keep it"),
        Section.RIGHTS: speech.gettext("What you can ask for"),
        Section.COMPLAINT: speech.gettext("Where you can complain"),
        Section.SOURCE: speech.gettext("Where it comes from"),
        Section.AUTOMATED_DECISIONS: speech.gettext("Decisions taken by a machine alone"),
        Section.TRANSFERS: speech.gettext("Transfers outside the European Economic Area"),
    }


def _kinds(speech: Speech) -> Mapping[str, str]:
    return {
        household.AGREEMENT: speech.gettext("What you agreed to"),
        household.READING: speech.gettext("Who looked at your data"),
        household.REQUEST: speech.gettext("What you asked us for"),
    }


def _fields(speech: Speech) -> Mapping[str, str]:
    """Headings of the fields this service writes itself; those of others are theirs (dsar rule 39)."""
    return {
        "holder": speech.gettext("Kept by"),
        "name": speech.gettext("Name"),
        "email": speech.gettext("E-mail"),
        "language": speech.gettext("Language"),
        "since": speech.gettext("Since"),
        "reference": speech.gettext("Reference"),
        "purpose_in_words": speech.gettext("Purpose"),
        "asked_by": speech.gettext("Asked by"),
        "state_in_words": speech.gettext("State"),
        "asked_at": speech.gettext("Asked on"),
        "given_at": speech.gettext("Agreed on"),
        "valid_until": speech.gettext("Valid until"),
        "ended_at": speech.gettext("Ended on"),
        "categories_in_words": speech.gettext("Data"),
        "readers": speech.gettext("May be read by"),
        "at": speech.gettext("When"),
        "reader": speech.gettext("Who"),
        "records": speech.gettext("Records"),
        "action_in_words": speech.gettext("What was done"),
        "attended_in_words": speech.gettext("With you there"),
        "rights_in_words": speech.gettext("Asked for"),
        "received_at": speech.gettext("Received on"),
        "due": speech.gettext("Answer due by"),
        "file": speech.gettext("File"),
        "record_id": speech.gettext("Record"),
    }


@dataclass(frozen=True, slots=True)
class Kept:
    """One thing that outlived an erasure, as the case has it on record (dsar rule 49)."""

    category: str
    until: str
    """ISO day."""
    legal_ref: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class CertificateWords:
    """What a certificate says in words, beside its ids."""

    speech: Speech
    controller: str
    categories: Mapping[str, str]
    kept: Sequence[Kept] = field(default=())


def certificate_words(
    policy: Policy, controller: ControllerId, locale: Locale, kept: Sequence[Kept] = ()
) -> CertificateWords:
    """Return the words of a certificate. What is held solely against money laundering is not named (dsar rule 42)."""
    shown = tuple(one for one in kept if one.category not in policy.categories or not _hidden(policy, one.category))
    return CertificateWords(
        speech=speech_of(policy, controller, locale),
        controller=policy.controllers[controller].legal_name,
        categories={one.id: one.names[locale] for one in policy.categories.values() if not one.aml_only},
        kept=shown,
    )


def _hidden(policy: Policy, category: str) -> bool:
    return any(one.id == category and one.aml_only for one in policy.categories.values())
