"""The receipt carries every mandatory field of TS 27560 and the whole record (consent rules 56, 57, 60)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

from consent import events as ev
from consent.events import Actor, ActorKind, Authorisers, Channel, EndReason
from consent.receipt import RECEIPT_SCHEMA, RECORD_SCHEMA, STATES_27560, Links, receipt
from consent.record import fold
from consent.vocabulary import Locale
from tests.law.consent_desk import ANNA, BALANCES, BRUNO, HEALTH, NOW, POLICY, STAFF, SUBJECT
from tests.law.test_consent_record import ACTIVE, CONSENT, PAGE, REQUESTED, TERMS, given_by

LINKS = Links("https://r.test/fr/me/consents", "https://r.test/fr/stop", "https://r.test/fr/privacy")
MANDATORY = {
    "header": {"schema_version", "record_id", "pii_principal_id"},
    "processing": {
        "privacy_notice",
        "language",
        "purpose",
        "lawful_basis",
        "pii_information",
        "pii_controllers",
        "collection_method",
        "processing_methods",
        "storage_locations",
        "retention_period",
        "processing_locations",
        "geographic_restrictions",
        "jurisdiction",
        "recipient_third_parties",
        "withdrawal_method",
        "privacy_rights",
        "authority",
    },
}


def issue(*history: ev.Event) -> Mapping[str, object]:
    made = receipt(
        fold(CONSENT, history),
        history,
        POLICY,
        receipt_id="rcp_1",
        at=NOW,
        subject_handle="pw_1",
        head="h",
        links=LINKS,
    )
    return json.loads(json.dumps(made))


def test_every_mandatory_field_is_there_and_filled() -> None:
    made = issue(*ACTIVE)
    assert (made["receipt_id"], made["schema_version"]) == ("rcp_1", RECEIPT_SCHEMA)
    record = made["record"]
    assert record["header"] == {"schema_version": RECORD_SCHEMA, "record_id": CONSENT, "pii_principal_id": "pw_1"}
    for part, names in MANDATORY.items():
        for name in names:
            assert record[part][name] not in (None, "", [], {}), name
    for item in record["processing"]["pii_information"]:
        assert {"pii_type", "pii_optional", "sensitive_pii_category", "special_pii_category"} <= item.keys()
    for party in record["parties"]:
        for name in ("party_id", "party_name", "party_address", "party_contact", "party_type", "party_role"):
            assert party[name]
    for event in record["events"]:
        assert event["event_time"]
        assert event["event_state"] in STATES_27560.values()
    assert record["events"][-1] | {"event_time": ""} == {
        "event_time": "",
        "validity_until": given_by().valid_until.isoformat(timespec="microseconds"),
        "entity_id": "subject",
        "event_type": "explicit",
        "event_state": "given",
        "kind": "consent.given",
        "channel": "page",
    }


def test_it_says_who_what_and_how_to_stop() -> None:  # consent rule 57
    record = issue(*ACTIVE)["record"]
    processing = record["processing"]
    assert processing["withdrawal_method"]["page"] == LINKS.withdraw
    assert processing["language"] == Locale.FR
    agreed = {item["pii_type"]: item["agreed"] for item in processing["pii_information"]}
    assert agreed == {"accounts.balances": True, "transactions.recent": True, "transactions.older": False}
    assert [party["party_id"] for party in record["parties"]] == ["here", "holder", "partner"]
    assert [party["data_user"] for party in record["parties"][1:]] == [False, True]
    assert processing["retention_period"][0]["pii_type"] == BALANCES
    assert HEALTH not in agreed


def test_our_own_fields_and_the_proffered_terms_are_kept() -> None:  # consent rules 58, 59, 60
    ours = issue(*ACTIVE)["record"]["regard"]
    assert ours["gpc"] is True
    assert ours["template_digest"] == PAGE.template_digest
    assert ours["proffered_terms"]["roster"] == "roster"
    assert ours["chain_head"] == "h"
    without = replace(REQUESTED, terms=replace(TERMS, proffered_terms=None))
    assert issue(without, *ACTIVE[1:])["record"]["regard"]["proffered_terms"] is None
    assert len(ours["history"]) == len(ACTIVE)


OTHER = replace(PAGE, notice_digest="n2", template_digest="t2", policy_digest="pd2", locale=Locale.EN, gpc=False)


def test_it_is_of_the_page_the_subject_agreed_on_whatever_was_shown_since() -> None:  # consent rules 56, 58
    later = ev.PageShown(NOW, SUBJECT, Channel.PAGE, OTHER)
    assert _page_of(issue(*ACTIVE, later)) == _page_of(issue(*ACTIVE))
    two = replace(REQUESTED, terms=replace(TERMS, authorisers=Authorisers((ANNA, BRUNO))))
    bruno = ev.PageShown(NOW, Actor(ActorKind.SUBJECT, BRUNO), Channel.PAGE, OTHER)
    assert _page_of(issue(two, *ACTIVE[1:], bruno, given_by(BRUNO))) == _page_of(issue(*ACTIVE))
    assert _page_of(issue(REQUESTED, ACTIVE[1], later)) != _page_of(issue(REQUESTED, ACTIVE[1])), "nothing agreed yet"


def _page_of(made: Mapping[str, object]) -> tuple[object, ...]:
    processing, ours = made["record"]["processing"], made["record"]["regard"]
    digests = tuple(ours[name] for name in ("template_digest", "catalogue_digest", "policy_digest", "gpc"))
    return processing["language"], processing["privacy_notice"], processing["purpose"], digests


def test_no_internal_handle_and_no_member_of_staff_leaves() -> None:
    people = replace(REQUESTED, terms=replace(TERMS, authorisers=Authorisers((ANNA, BRUNO))))
    ended = ev.EndedByController(NOW, STAFF, Channel.PAGE, EndReason.SERVICE_ENDED)
    words = json.dumps(issue(people, ACTIVE[1], given_by(ANNA), given_by(BRUNO), ended))
    for secret in (ANNA, BRUNO, STAFF.ref):
        assert f'"{secret}"' not in words
    assert '"pw_1"' in words
    assert '"authoriser-1"' in words


def test_each_end_has_its_state_in_the_standards_words() -> None:
    def last(event: ev.Event) -> str:
        return issue(*ACTIVE, event)["record"]["events"][-1]["event_state"]

    assert last(ev.Withdrawn(NOW, SUBJECT, Channel.PAGE, None, delete_data=False)) == "withdrawn"
    assert last(ev.EndedByController(NOW, STAFF, Channel.PAGE, EndReason.PARTY_ENDED)) == "terminated by controller"
    assert last(ev.EndedAtHolder(NOW, Actor(ActorKind.HOLDER, "big"), Channel.HOLDER)) == "withdrawn"
    until = given_by().valid_until
    assert last(ev.Expired(until, Actor(ActorKind.SYSTEM, "clock"), Channel.SCHEDULE)) == "expired"
