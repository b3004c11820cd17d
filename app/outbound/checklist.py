"""GDPR art. 15(1)(a)-(h) and 15(2) filled for one person from the policy pack and their own facts (dsar rules 37, 38).

Recipients are named (C-154/21). Each section is tailored: only purposes that touch this person, only periods of what is
held. The sentence on indirect access (CMF L.561-45) stands in every copy of the controller, so that it tells nothing
(rule 42). Leaves out judging completeness: that is `dsar.package`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from app.letters import Speech
from app.outbound.typography import cited, labelled, listed
from consent.parties import EEA, Party, PartyRole, uncovered_transfer
from consent.policy import Controller, Policy, Purpose, Retention, RightRule
from consent.vocabulary import CategoryId, ControllerId, LegalBasis, PartyId, PurposeId
from dsar.package import Checklist, Filled, NoneToReport, Section
from dsar.retention import Holding

_YEAR, _MONTH = 365.25, 30.4375
_CLOSE = 2.5
"""Days by which a period of days may miss whole years or months and still be called so."""


@dataclass(frozen=True, slots=True)
class Tailored:
    """What is particular to this person."""

    controller: ControllerId
    holdings: Collection[Holding]
    """What is held, for which purposes."""
    recipients: Collection[PartyId]
    """Everybody who received data, by name (dsar rule 38)."""
    institutions: Collection[str]
    """Ids of the banks and insurers data was read from."""


def checklist(policy: Policy, about: Tailored, speech: Speech) -> Checklist:
    """Return every section, filled or explicitly none; what is held solely against money laundering is in none."""
    open_holdings = [one for one in about.holdings if not policy.categories[one.category].aml_only]
    controller = policy.controllers[about.controller]
    held = _ordered(policy, {one.category for one in open_holdings})
    purposes = _purposes(policy, open_holdings)
    parties = [policy.parties[one] for one in sorted(about.recipients) if one in policy.parties]
    return {
        Section.PURPOSES: _filled(_purpose(one, speech) for one in purposes),
        Section.CATEGORIES: _filled(_clustered(policy, held, speech)),
        Section.RECIPIENTS: _filled(_recipient(one, speech) for one in parties),
        Section.PERIOD: _filled(_periods(policy, open_holdings, speech)),
        Section.RIGHTS: _filled(_right(rule, speech) for rule in policy.rights.values()),
        Section.COMPLAINT: _filled(_complaint(controller, speech)),
        Section.SOURCE: _filled(_sources(policy, held, about.institutions, speech)),
        Section.AUTOMATED_DECISIONS: NoneToReport(),
        Section.TRANSFERS: _filled(_transfer(one, speech) for one in parties if one.country not in EEA),
    }


def _filled(entries: Iterable[str]) -> Filled | NoneToReport:
    found = tuple(dict.fromkeys(entries))
    return Filled(found) if found else NoneToReport()


def _ordered(policy: Policy, wanted: Collection[CategoryId]) -> list[CategoryId]:
    return [category for category in policy.categories if category in wanted]


def _purposes(policy: Policy, holdings: Iterable[Holding]) -> list[Purpose]:
    touched = {one.purpose for one in holdings}
    return [purpose for purpose in policy.purposes.values() if purpose.id in touched]


def _purpose(purpose: Purpose, speech: Speech) -> str:
    return speech.gettext(
        "%(name)s: %(why)s Legal basis: %(basis)s.",
        name=purpose.names[speech.locale],
        why=purpose.why[speech.locale],
        basis=_bases(speech)[purpose.basis],
    )


def _bases(speech: Speech) -> Mapping[LegalBasis, str]:
    return {
        LegalBasis.CONSENT: speech.gettext("your agreement, GDPR art. 6(1)(a)"),
        LegalBasis.CONTRACT: speech.gettext("the contract with you, GDPR art. 6(1)(b)"),
        LegalBasis.LEGAL_OBLIGATION: speech.gettext("a legal obligation, GDPR art. 6(1)(c)"),
        LegalBasis.VITAL_INTERESTS: speech.gettext("vital interests, GDPR art. 6(1)(d)"),
        LegalBasis.PUBLIC_TASK: speech.gettext("a public task, GDPR art. 6(1)(e)"),
        LegalBasis.LEGITIMATE_INTERESTS: speech.gettext("a legitimate interest, GDPR art. 6(1)(f)"),
    }


def _right(rule: RightRule, speech: Speech) -> str:
    return f"{rule.names[speech.locale]} ({cited(rule.article, speech.locale)})"


def _clustered(policy: Policy, held: Sequence[CategoryId], speech: Speech) -> Iterable[str]:
    """Under the headings people know (consent rule 10)."""
    for cluster in policy.clusters.values():
        names = [policy.categories[one].names[speech.locale] for one in held if _in(policy, one, cluster.id)]
        if names:
            heading = cluster.names[speech.locale]
            yield labelled(heading, listed(names, speech.locale), speech.locale)


def _in(policy: Policy, category: CategoryId, cluster: str) -> bool:
    return policy.categories[category].cluster == cluster


def _recipient(party: Party, speech: Speech) -> str:
    roles = {
        PartyRole.PROCESSOR: speech.gettext("works for us"),
        PartyRole.SUB_PROCESSOR: speech.gettext("works for one of our service providers"),
        PartyRole.JOINT_CONTROLLER: speech.gettext("responsible together with us"),
        PartyRole.RECIPIENT: speech.gettext("follows its own rules"),
        PartyRole.INTERNAL_TEAM: speech.gettext("a team of ours"),
    }
    who = f"{party.brand_name} ({party.legal_name}, {speech.country(party.country)}), {roles[party.role]}"
    return labelled(who, party.does[speech.locale], speech.locale)


def _periods(policy: Policy, holdings: Iterable[Holding], speech: Speech) -> Iterable[str]:
    """One entry per rule: what it covers of what is held, how long, after what, why, on which text."""
    held = {(one.category, one.purpose) for one in holdings}
    rules = [rule for rule in policy.retentions if (rule.category, rule.purpose) in held]
    for first in _distinct(rules):
        names = [policy.categories[rule.category].names[speech.locale] for rule in rules if _alike(rule, first)]
        yield speech.gettext(
            "%(purpose)s (%(names)s): %(period)s %(trigger)s. %(reason)s Source: %(source)s.",
            purpose=policy.purposes[first.purpose].names[speech.locale],
            names=listed(names, speech.locale),
            period=period(first.days, speech),
            trigger=_trigger(first.trigger, speech),
            reason=first.reason[speech.locale],
            source=cited(first.legal_ref, speech.locale),
        )


def _distinct(rules: Sequence[Retention]) -> list[Retention]:
    return [rule for at, rule in enumerate(rules) if not any(_alike(rule, one) for one in rules[:at])]


def _alike(one: Retention, other: Retention) -> bool:
    return _rule(one) == _rule(other)


def _rule(rule: Retention) -> tuple[PurposeId, int, str, str]:
    return rule.purpose, rule.days, rule.trigger, rule.legal_ref


def period(days: int, speech: Speech) -> str:
    """Return a period in the unit people use for it: years, months or days."""
    years, months = round(days / _YEAR), round(days / _MONTH)
    if years and abs(days - years * _YEAR) < _CLOSE:
        return speech.ngettext("%(num)s year", "%(num)s years", years)
    if months > 3 and abs(days - months * _MONTH) < _CLOSE:
        return speech.ngettext("%(num)s month", "%(num)s months", months)
    return speech.ngettext("%(num)s day", "%(num)s days", days)


def _trigger(trigger: str, speech: Speech) -> str:
    """Return after what a period runs; a trigger the catalogue does not know is the start the reason explains."""
    known = {
        "consent_ended": speech.gettext("after your agreement ends"),
        "service_ended": speech.gettext("after the service ends"),
        "brokerage_ended": speech.gettext("after the search for a loan ends"),
        "file_decided": speech.gettext("after the decision on your file"),
        "transmission_ended": speech.gettext("after the file was sent"),
        "erasure_requested": speech.gettext("after you asked for erasure"),
        "last_contact": speech.gettext("after the last contact"),
        "ticket_closed": speech.gettext("after your question was answered"),
        "relationship_ended": speech.gettext("after the end of the relationship"),
        "operation_executed": speech.gettext("after the transaction"),
        "collected": speech.gettext("after it was collected"),
        "recorded": speech.gettext("after it was recorded"),
        "case_closed": speech.gettext("after your request was closed"),
    }
    return known.get(trigger, speech.gettext("after it is no longer needed"))


def _complaint(controller: Controller, speech: Speech) -> Iterable[str]:
    yield speech.gettext(
        "You may complain to the data protection authority: %(authority)s, %(url)s",
        authority=controller.authority[speech.locale],
        url=controller.authority_url,
    )
    yield speech.gettext("You may also go to court.")
    yield speech.gettext("Questions first? Our data protection officer: %(dpo)s", dpo=controller.dpo_email)
    # Dsar rule 42: the same sentence in every copy, whether or not anything is excluded from this one.
    yield speech.gettext(
        "The law may restrict direct access to records kept solely against money laundering. "
        "For these the right of access is used through the authority (French Monetary and Financial Code, L.561-45)."
    )


def _sources(
    policy: Policy, held: Sequence[CategoryId], institutions: Collection[str], speech: Speech
) -> Iterable[str]:
    names = {
        origin: listed(
            [policy.categories[one].names[speech.locale] for one in held if policy.categories[one].origin == origin],
            speech.locale,
        )
        for origin in ("provided", "observed", "inferred")
    }
    banks = ", ".join(policy.institutions[one].name for one in sorted(institutions) if one in policy.institutions)
    if names["provided"]:
        yield speech.gettext("Given by you: %(names)s", names=names["provided"])
    if names["observed"]:
        yield speech.gettext("Read or recorded while you used the service: %(names)s", names=names["observed"])
    if names["inferred"]:
        yield speech.gettext("Worked out from other data: %(names)s", names=names["inferred"])
    if banks:
        yield speech.gettext("Institutions the data was read from: %(names)s", names=banks)


def _transfer(party: Party, speech: Speech) -> str:
    where = f"{party.brand_name}, {speech.country(party.country)}"
    if uncovered_transfer(party):
        return labelled(where, speech.gettext("no safeguard is on record"), speech.locale)
    return labelled(where, f"{party.transfer_mechanism} ({party.transfer_assessment})", speech.locale)
