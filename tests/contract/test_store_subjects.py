"""Subjects and disclosures on both databases."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from app.store.disclosures import Disclosure, SqlDisclosures
from app.store.subjects import SqlSubjects, StoredSubject
from consent.vocabulary import CategoryId, ControllerId, Locale, PairwiseHandle, PartyId, PurposeId, SubjectRef

AT = datetime(2026, 3, 5, 9, tzinfo=UTC)
ONE, OTHER = ControllerId("one"), ControllerId("other")
ANA = SubjectRef("sub_a")


def _subject(ref: SubjectRef, controller: ControllerId) -> StoredSubject:
    return StoredSubject(ref, controller, AT, None, Locale.FR, b"sealed")


def test_a_person_known_to_two_controllers_is_two_subjects(records_engine: Engine) -> None:
    with Session(records_engine) as session:
        subjects = SqlSubjects(session)
        for ref, controller in ((ANA, ONE), (SubjectRef("sub_b"), OTHER)):
            subjects.add(_subject(ref, controller))
            subjects.add_contact(ref, controller, "email", b"index", AT)
        assert subjects.find(ONE, "email", [b"older epoch", b"index"]) == ANA
        assert subjects.find(OTHER, "email", [b"index"]) == "sub_b"
        assert subjects.find(ONE, "email", [b"unknown"]) is None
        assert subjects.listed(ONE) == [ANA]


def test_a_handle_is_one_for_each_party_and_dies_with_the_subject(records_engine: Engine) -> None:
    with Session(records_engine) as session:
        subjects = SqlSubjects(session)
        subjects.add(_subject(ANA, ONE))
        subjects.add_contact(ANA, ONE, "email", b"index", AT)
        bank, broker = PartyId("bank"), PartyId("broker")
        assert subjects.handle(ANA, ONE, bank, PairwiseHandle("pw_1")) == "pw_1"
        assert subjects.handle(ANA, ONE, bank, PairwiseHandle("pw_2")) == "pw_1"
        assert subjects.handle(ANA, ONE, broker, PairwiseHandle("pw_3")) == "pw_3"
        assert subjects.named(PairwiseHandle("pw_1"), bank) == ANA
        assert subjects.named(PairwiseHandle("pw_1"), broker) is None
        subjects.forget(ANA, AT)
        session.expire_all()
        assert subjects.named(PairwiseHandle("pw_1"), bank) is None
        assert subjects.find(ONE, "email", [b"index"]) is None
        kept = subjects.get(ANA)
        assert kept is not None
        assert (kept.profile, kept.erased_at) == (None, AT)
        assert subjects.listed(ONE) == []


def _read(number: int, party: str, subject: SubjectRef = ANA) -> Disclosure:
    return Disclosure(
        id=f"dis_{number}",
        controller=ONE,
        subject=subject,
        party=PartyId(party),
        component="reader",
        actor_role=None,
        categories=(CategoryId("accounts.balances"), CategoryId("accounts")),
        records=3,
        purpose=PurposeId("overview"),
        consent="con_1",
        attended=False,
        action="read",
        at=AT + timedelta(minutes=number),
    )


def test_a_read_reported_twice_is_written_once_and_shown_newest_first(records_engine: Engine) -> None:
    """Consent rule 51."""
    with Session(records_engine) as session:
        log = SqlDisclosures(session)
        assert [log.add(_read(n, p)) for n, p in ((1, "bank"), (2, "broker"), (1, "bank"))] == [True, True, False]
        log.add(_read(3, "stranger", SubjectRef("sub_b")))
        assert [d.id for d in log.of_subject(ANA)] == ["dis_2", "dis_1"]
        assert log.of_subject(ANA)[0].categories == ("accounts", "accounts.balances")
        assert log.recipients(ANA) == {"bank", "broker"}


def test_looks_at_what_is_left_out_are_left_out_before_the_list_is_cut(records_engine: Engine) -> None:
    """Dsar rule 42: a person must not find out by a shorter list, nor by who is on it."""
    secret, open_ = CategoryId("aml.file"), CategoryId("aml.file.no")
    with Session(records_engine) as session:
        log = SqlDisclosures(session)
        for number, party, categories in (
            (1, "bank", (open_,)),
            (2, "bank", (open_, secret, CategoryId("aml"))),
            (3, "watch", (CategoryId("aml"), secret)),
            (4, "broker", ()),
            (5, "watch", (secret,)),
        ):
            log.add(replace(_read(number, party), categories=categories))
        without = frozenset({secret, CategoryId("aml")})
        told = log.of_subject(ANA, without=without, limit=2)
        assert [(one.id, one.categories) for one in told] == [("dis_4", ()), ("dis_2", (open_,))]
        assert log.recipients(ANA, without=without) == {"bank", "broker"}
        assert len(log.of_subject(ANA)) == 5
        assert log.recipients(ANA) == {"bank", "broker", "watch"}
