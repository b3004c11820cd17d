"""The receipt of a consent as plain data: a profile of ISO/IEC TS 27560:2023, version pinned.

Consent rules 56, 57 and 60: header, processing, parties, events, every mandatory field and those GDPR makes mandatory,
our extra fields under `regard`, and the full record. Names a subject only by the handle it is given; staff by function.
Leaves out signing (JWS), the PDF and the mail: `app` does those over exactly this dict.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from consent.events import (
    ActorKind,
    EndedAtHolder,
    EndedByController,
    Event,
    Expired,
    Given,
    Invalidated,
    Narrowed,
    Refused,
    Replaced,
    Requested,
    Shown,
    Withdrawn,
    to_plain,
)
from consent.parties import Party
from consent.plain import encode
from consent.policy import Policy
from consent.record import Consent
from consent.vocabulary import CategoryId, Locale, PartyId

RECORD_SCHEMA = "regard/iso-27560-record/1"
RECEIPT_SCHEMA = "regard/iso-27560-receipt/1"
"""Our own pinned names: DPV's profile addresses are of draft pages, and are not claimed here."""

STATES_27560: Mapping[type[Event], str] = {
    Requested: "requested",
    Given: "given",
    Refused: "refused",
    Withdrawn: "withdrawn",
    Replaced: "re-confirmed",
    Narrowed: "re-confirmed",
    Expired: "expired",
    EndedByController: "terminated by controller",
    EndedAtHolder: "withdrawn",
    Invalidated: "invalidated",
}
"""Our events in the states of TS 27560; those it has no state for (shown, suspended, resumed) are in `history` only."""


@dataclass(frozen=True, slots=True)
class Links:
    """Where the person goes from the receipt; addresses without personal data (consent rule 57)."""

    review: str
    withdraw: str
    """The page that stops it. The link that does so without signing in (consent rule 35) goes to the person by mail
    alone: a party reads the receipt too, and must not be able to stop in the person's name."""
    complain: str


Plain = dict[str, object]


def receipt(
    record: Consent,
    history: Sequence[Event],
    policy: Policy,
    *,
    receipt_id: str,
    at: datetime,
    subject_handle: str,
    head: str,
    links: Links,
) -> Plain:
    """Return the receipt; `head` is the digest of the last event of the record's chain.

    Raises KeyError when the pack no longer knows the controller; what else left it is named by its id, without words.
    """
    locale = _locale(record, policy)
    return {
        "schema_version": RECEIPT_SCHEMA,
        "receipt_id": receipt_id,
        "issued_at": encode(at),
        "record": {
            "header": _header(record, subject_handle),
            "processing": _processing(record, policy, links, locale),
            "parties": _parties(record, policy, locale),
            "events": [_event(record, event) for event in history if type(event) in STATES_27560],
            "regard": _ours(record, history, subject_handle, head),
        },
    }


def _locale(record: Consent, policy: Policy) -> Locale:
    """Return the language the person was shown; before that, the controller's first."""
    page = _page(record)
    return page.locale if page is not None else policy.controllers[record.terms.controller].locales[0]


def _page(record: Consent) -> Shown | None:
    """Return what the subject agreed on; before that, what was shown last (consent rule 58)."""
    own = (part.page for part in record.parts if part.authoriser == record.terms.subject)
    return next(own, record.page)


def _header(record: Consent, subject_handle: str) -> Plain:
    return {
        "schema_version": RECORD_SCHEMA,
        "record_id": record.id,
        "pii_principal_id": subject_handle,
    }


def _processing(record: Consent, policy: Policy, links: Links, locale: Locale) -> Plain:
    terms = record.terms
    purpose, controller = policy.purposes.get(terms.purpose), policy.controllers[terms.controller]
    return {
        "privacy_notice": _notice(record),
        "language": locale.value,
        "purpose": {
            "id": terms.purpose,
            "name": purpose.names[locale] if purpose is not None else terms.purpose,
            "why": purpose.why[locale] if purpose is not None else None,
        },
        "lawful_basis": terms.basis.value,
        "pii_information": [_data_item(record, policy, category, locale) for category in _asked(record)],
        "pii_controllers": [controller.id],
        "collection_method": terms.access_path.value if terms.access_path is not None else "given_by_subject",
        "processing_methods": sorted(_actions(record, policy)),
        "storage_locations": list(controller.regions),
        "retention_period": _retention(record, policy, locale),
        "processing_locations": sorted({party.country for party in _named(record, policy)} | {controller.country}),
        "geographic_restrictions": list(controller.regions),
        "jurisdiction": controller.country,
        "recipient_third_parties": sorted(record.readers),
        "withdrawal_method": {
            "page": links.withdraw,
            "review": links.review,
            "consequence": purpose.consequence[locale] if purpose is not None else None,
        },
        "privacy_rights": [
            {"right": name, "article": rule.article, "name": rule.names[locale]}
            for name, rule in sorted(policy.rights.items())
        ],
        "authority": {
            "name": controller.authority[locale],
            "url": controller.authority_url,
            "complain": links.complain,
        },
        "period": {
            "from": encode(record.given_at),
            "until": encode(record.valid_until),
            "history_from": encode(terms.history_from),
        },
    }


def _notice(record: Consent) -> Plain:
    page = _page(record)
    return {
        "version": record.terms.notice_version,
        "digest": page.notice_digest if page is not None else None,
    }


def _asked(record: Consent) -> list[CategoryId]:
    return sorted(record.terms.needed | record.terms.optional)


def _data_item(record: Consent, policy: Policy, category: CategoryId, locale: Locale) -> Plain:
    known = policy.categories.get(category)
    cluster = policy.clusters.get(known.cluster) if known is not None else None
    return {
        "pii_type": category,
        "name": known.names[locale] if known is not None else category,
        "cluster": cluster.names[locale] if cluster is not None else None,
        "pii_optional": category not in record.terms.needed,
        "agreed": category in record.categories,
        "sensitive_pii_category": known.sensitivity >= 3 if known is not None else None,
        "special_pii_category": known.special if known is not None else None,
    }


def _actions(record: Consent, policy: Policy) -> set[str]:
    return {
        grant.action.value
        for party in _named(record, policy)
        for grant in party.grants
        if grant.purpose == record.terms.purpose
    }


def _retention(record: Consent, policy: Policy, locale: Locale) -> list[Plain]:
    covered = record.terms.needed | record.terms.optional
    return [
        {
            "pii_type": rule.category,
            "days": rule.days,
            "trigger": rule.trigger,
            "reference": rule.legal_ref,
            "reason": rule.reason[locale],
        }
        for rule in policy.retentions
        if rule.purpose == record.terms.purpose and rule.category in covered
    ]


def _named(record: Consent, policy: Policy) -> list[Party]:
    return [policy.parties[party] for party in sorted(record.readers) if party in policy.parties]


def _parties(record: Consent, policy: Policy, locale: Locale) -> list[Plain]:
    controller = policy.controllers[record.terms.controller]
    first: Plain = {
        "party_id": controller.id,
        "party_name": controller.legal_name,
        "party_brand": controller.brand_name,
        "party_address": controller.address,
        "party_country": controller.country,
        "party_contact": controller.dpo_email,
        "party_type": "organisation",
        "party_role": "controller",
        "register_numbers": dict(controller.register_numbers),
    }
    return [first, *(_party(party, record.terms.party, locale) for party in _named(record, policy))]


def _party(party: Party, data_user: PartyId, locale: Locale) -> Plain:
    return {
        "party_id": party.id,
        "party_name": party.legal_name,
        "party_brand": party.brand_name,
        "party_address": party.country,
        "party_country": party.country,
        "party_contact": party.contact,
        "party_type": "organisation",
        "party_role": party.role.value,
        "party_does": party.does[locale],
        "party_notice": party.notice_url,
        "data_user": party.id == data_user,
        "register_numbers": dict(party.register_numbers),
    }


def _event(record: Consent, event: Event) -> Plain:
    return {
        "event_time": encode(event.at),
        "validity_until": encode(event.valid_until) if isinstance(event, Given) else None,
        "entity_id": _entity(record, event),
        "event_type": _expression(event),
        "event_state": STATES_27560[type(event)],
        "kind": event.kind,
        "channel": event.channel.value,
    }


def _entity(record: Consent, event: Event) -> str:
    """Return who acted, as the receipt may name them: no member of staff and no other person by their handle."""
    if event.by.kind is ActorKind.PARTY:
        return event.by.ref
    if event.by.kind is ActorKind.SUBJECT:
        return "subject" if event.by.ref == record.terms.subject else "authoriser"
    return event.by.kind.value


def _expression(event: Event) -> str | None:
    """Return the type of expression: explicit, as given on a page made for it with nothing preselected (rule 5)."""
    return "explicit" if isinstance(event, Given) else None


def _ours(record: Consent, history: Sequence[Event], subject_handle: str, head: str) -> Plain:
    """Return the fields beyond TS 27560, and the record in full (consent rule 56: content is free, give all of it)."""
    terms, page = record.terms, _page(record)
    return {
        "state": record.state.value,
        "version": record.version,
        "party": terms.party,
        "given_categories": sorted(record.categories),
        "template_digest": page.template_digest if page is not None else None,
        "catalogue_digest": page.catalogue_digest if page is not None else None,
        "processors_digest": page.processors_digest if page is not None else None,
        "policy_digest": page.policy_digest if page is not None else None,
        "gpc": page.gpc if page is not None else None,
        "evidence": [encode(part.given.evidence) for part in record.parts],
        "institution": record.institution,
        "frequency_per_day": record.unattended_per_day,
        "attended_only": record.attended_only,
        "data_life_days": terms.data_life_days,
        "supersedes": terms.supersedes,
        "superseded_by": record.superseded_by,
        "mandate": terms.mandate,
        "proffered_terms": encode(terms.proffered_terms),
        "history": [_hidden(to_plain(event), _aliases(record, history, subject_handle)) for event in history],
        "chain_head": head,
    }


def _aliases(record: Consent, history: Sequence[Event], subject_handle: str) -> Mapping[str, str]:
    """Return what stands on the receipt for each internal handle: those are never shown outside."""
    others = [person for person in record.terms.authorisers.people if person != record.terms.subject]
    people: dict[str, str] = {person: f"authoriser-{place}" for place, person in enumerate(others, start=1)}
    staff = {event.by.ref: "staff" for event in history if event.by.kind is ActorKind.STAFF}
    return {**staff, **people, record.terms.subject: subject_handle}


def _hidden(value: object, aliases: Mapping[str, str]) -> object:
    if isinstance(value, Mapping):
        return {key: _hidden(item, aliases) for key, item in value.items()}
    if isinstance(value, list):
        return [_hidden(item, aliases) for item in value]
    return aliases.get(value, value) if isinstance(value, str) else value
