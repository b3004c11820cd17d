"""Over the whole shipped pack: every (party, purpose, category, action) that is not granted is denied (rule P1)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import pytest

from app.policyfiles import load
from consent import events as ev
from consent.decision import (
    Component,
    Deny,
    Facts,
    Keep,
    Objection,
    OtherBasis,
    Permit,
    Question,
    Restriction,
    StaffActor,
    decide,
)
from consent.events import Actor, ActorKind, Authorisers, Channel, Evidence
from consent.mandate import Mandate
from consent.policy import Policy
from consent.reasons import Reason
from consent.record import Consent, fold
from consent.vocabulary import Action, CategoryId, ComponentId, ConsentId, PartyId, PurposeId, SubjectRef

NOW = datetime(2026, 11, 20, 9, 0, tzinfo=UTC)
SUBJECT, COMPONENT = SubjectRef("sub_1"), ComponentId("cmp_1")
Asked = tuple[PartyId, PurposeId, CategoryId, Action]


@cache
def pack() -> Policy:
    return load(Path(__file__).resolve().parents[2] / "policies")


@cache
def kindest_consent(purpose_id: PurposeId) -> Consent:
    """Everything of one purpose, to every party there is: whatever is still denied, no consent could have opened."""
    purpose, person = pack().purposes[purpose_id], Actor(ActorKind.SUBJECT, SUBJECT)
    everyone = frozenset(party.id for party in pack().parties.values())
    terms = ev.Terms(
        controller=purpose.controller,
        subject=SUBJECT,
        purpose=purpose.id,
        basis=purpose.basis,
        party=next(iter(sorted(everyone))),
        needed=purpose.needed,
        optional=purpose.optional,
        recipients=everyone,
        authorisers=Authorisers((SUBJECT,)),
        notice_version=purpose.notice_version,
        longest_days=365,
        history_from=NOW.date(),
        frequency_per_day=4,
        attended_only=False,
        data_life_days=None,
        access_path=None,
        institution=None,
        connection=None,
        mandate=None,
        supersedes=None,
        offer_until=NOW + timedelta(days=30),
    )
    given = ev.Given(
        NOW,
        person,
        Channel.PAGE,
        SUBJECT,
        purpose.needed | purpose.optional,
        NOW + timedelta(days=180),
        attended_only=False,
        institution=None,
        access_path=None,
        evidence=Evidence(4, "passkey", NOW, None, gpc=False),
    )
    return fold(ConsentId("con_1"), (ev.Requested(NOW, person, Channel.PAGE, terms), given))


def kindest_facts(party: PartyId, purpose_id: PurposeId) -> Facts:
    """A known component that can do everything, a mandate for everything, nothing restricted, nothing read yet."""
    policy, purpose = pack(), pack().purposes[purpose_id]
    everything = frozenset(policy.categories)
    return Facts(
        policy=policy,
        party=policy.parties[party],
        component=Component(COMPONENT, party, suspended=False, country="NL", honours=frozenset(Keep)),
        subject_controller=purpose.controller,
        consent=kindest_consent(purpose_id),
        other_basis=OtherBasis(purpose.controller, SUBJECT, purpose.id, purpose.basis, "C-1", NOW, None),
        mandates=(
            Mandate(
                id="man_1",
                controller=purpose.controller,
                grantor=SUBJECT,
                scope=frozenset({purpose_id}),
                recipients=frozenset(entry.id for entry in policy.parties.values()),
                classes=everything,
                start=NOW,
                until=NOW + timedelta(days=30),
                signed_at=NOW,
                document_digest="d",
            ),
        ),
    )


def question(asked: Asked, facts: Facts) -> Question:
    party, purpose, category, action = asked
    outside = [p.id for p in facts.policy.parties.values() if p.controller == facts.subject_controller]
    return Question(
        party=party,
        component=COMPONENT,
        purpose=purpose,
        categories=frozenset({category}),
        action=action,
        subject=SUBJECT,
        attended=True,
        at=NOW + timedelta(hours=1),
        recipient=outside[0] if action is Action.TRANSMIT else None,
    )


def everything() -> Iterator[Asked]:
    policy = pack()
    for party in policy.parties.values():
        for purpose in policy.purposes:
            for category in policy.categories:
                for action in Action:
                    yield party.id, purpose, category, action


@cache
def granted() -> frozenset[Asked]:
    return frozenset(
        (party.id, grant.purpose, grant.category, grant.action)
        for party in pack().parties.values()
        for grant in party.grants
    )


@cache
def answers() -> dict[Asked, Permit | Deny]:
    found: dict[Asked, Permit | Deny] = {}
    facts: dict[tuple[PartyId, PurposeId], Facts] = {}
    for asked in everything():
        known = facts.setdefault(asked[:2], kindest_facts(*asked[:2]))
        found[asked] = decide(question(asked, known), known)
    return found


def test_every_access_not_granted_is_denied_with_a_reason() -> None:
    judged = answers()
    assert len(judged) == len(pack().parties) * len(pack().purposes) * len(pack().categories) * len(Action) > 10_000
    for asked, answer in judged.items():
        if asked not in granted():
            assert isinstance(answer, Deny), asked
            assert Reason.NOT_GRANTED in answer.all_reasons, asked


def test_the_denials_are_not_for_nothing_every_live_grant_is_permitted() -> None:
    """With the kindest facts each grant of a party in force opens what it names: the test above is not vacuous."""
    policy = pack()
    permitted = 0
    for asked in granted():
        standing = policy.standing(asked[0], NOW.date())
        answer = answers()[asked]
        if type(standing).__name__ == "Active":
            assert isinstance(answer, Permit), (asked, answer)
            permitted += 1
        else:
            assert isinstance(answer, Deny)
            assert answer.reason is Reason.PARTY_NOT_ACTIVE
    assert permitted > 100


def test_a_grant_without_the_subjects_agreement_opens_nothing() -> None:
    for asked in granted():
        facts = replace(kindest_facts(*asked[:2]), consent=None, other_basis=None)
        answer = decide(question(asked, facts), facts)
        if pack().purposes[asked[1]].basis.value in ("consent", "contract"):
            assert isinstance(answer, Deny), asked
            assert Reason.NO_CONSENT in answer.all_reasons


@pytest.mark.parametrize("role", [None, "expert", "invented"])
def test_no_role_opens_what_its_team_is_not_granted(role: str | None) -> None:
    teams = [party for party in pack().parties.values() if party.role.value == "internal_team"]
    for team in teams:
        for purpose in pack().purposes:
            facts = replace(kindest_facts(team.id, purpose), component=None)
            for category in pack().categories:
                asked = replace(
                    question((team.id, purpose, category, Action.READ), facts),
                    component=None,
                    actor=StaffActor(role, assigned=True) if role is not None else None,
                )
                answer = decide(asked, facts)
                allowed = role in pack().roles and category in pack().roles[role].categories
                if not allowed or (team.id, purpose, category, Action.READ) not in granted():
                    assert isinstance(answer, Deny)


def test_a_restriction_stops_every_grant_but_storage_and_its_end_restores_each() -> None:  # dsar rule 51
    since, until = NOW + timedelta(minutes=1), NOW + timedelta(minutes=59)
    stopped = 0
    for asked in granted():
        facts = kindest_facts(*asked[:2])
        before = decide(question(asked, facts), facts)
        now = decide(question(asked, facts), replace(facts, restrictions=(Restriction(since),)))
        ended = decide(question(asked, facts), replace(facts, restrictions=(Restriction(since, until=until),)))
        assert ended == before
        if asked[3] is Action.HOLD:
            assert now == before
        else:
            assert isinstance(now, Deny), asked
            assert Reason.RESTRICTED in now.all_reasons
            stopped += isinstance(before, Permit)
    assert stopped > 50


def test_a_restricted_category_stops_itself_and_leaves_the_others() -> None:  # dsar rule 51
    restricted = frozenset({CategoryId("accounts")})
    limit = Restriction(NOW + timedelta(minutes=1), categories=restricted)
    touched = set()
    for asked in granted():
        facts = kindest_facts(*asked[:2])
        before, after = (decide(question(asked, it), it) for it in (facts, replace(facts, restrictions=(limit,))))
        under = asked[2].startswith("accounts.") and asked[3] is not Action.HOLD
        touched.add(under and isinstance(before, Permit))
        assert (before == after) is not under, asked
    assert touched == {True, False}


def test_an_objection_stops_what_rests_on_a_legitimate_interest_at_once() -> None:  # dsar rule 52
    purpose = PurposeId("security_audit")
    stopped = 0
    for asked in granted():
        facts = kindest_facts(*asked[:2])
        objecting = replace(facts, objections=(Objection(purpose, NOW + timedelta(minutes=1)),))
        before, after = (decide(question(asked, it), it) for it in (facts, objecting))
        if asked[1] == purpose:
            assert Reason.OBJECTED in getattr(after, "all_reasons", ())
            stopped += isinstance(before, Permit)
        else:
            assert before == after
    assert stopped > 0


def test_the_marketing_objection_stops_marketing_whatever_the_basis_and_whoever_weighs_it() -> None:  # dsar rule 8
    limit = Objection(None, NOW + timedelta(minutes=1), refused=True)
    stopped = 0
    for asked in granted():
        facts = kindest_facts(*asked[:2])
        before, after = (decide(question(asked, it), it) for it in (facts, replace(facts, objections=(limit,))))
        if pack().purposes[asked[1]].marketing:
            assert Reason.OBJECTED in getattr(after, "all_reasons", ())
            stopped += isinstance(before, Permit)
        else:
            assert before == after
    assert stopped > 0
