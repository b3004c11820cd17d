"""Sessions, sign-ins, counters, passkeys, printed codes, journeys: the same on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from app.store.journeys import SqlJourneys
from app.store.passkeys import SqlEnrolments, SqlPasskeys, SqlStaff, StoredStaff
from app.store.sessions import CODE_TRIES, SqlCounters, SqlSessions, SqlSignIns
from consent.vocabulary import ConsentId, ControllerId, SubjectRef

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
FIRM = ControllerId("firm")
ANA, BEA = SubjectRef("sub_ana"), SubjectRef("sub_bea")
QUARTER = timedelta(minutes=15)


@pytest.fixture
def session(records_engine: Engine) -> Iterator[Session]:
    with Session(records_engine) as opened:
        yield opened


def _open(session: Session, digest: str = "d1", **more: Any) -> None:
    SqlSessions(session).open(
        digest,
        **{
            "kind": "subject",
            "person": ANA,
            "controller": FIRM,
            "level": 1,
            "proven_at": None,
            "credential": None,
            "now": NOW,
            "idle": timedelta(minutes=30),
            "longest": timedelta(hours=12),
            **more,
        },
    )


def _start(session: Session, ref: str, subject: SubjectRef | None = ANA) -> None:
    SqlSignIns(session).start(
        ref,
        subject=subject,
        controller=FIRM,
        link_digest=f"link-{ref}",
        ticket_digest=f"ticket-{ref}",
        onward="/en/me",
        now=NOW,
        expires_at=NOW + QUARTER,
    )


def test_a_session_ends_when_idle_and_at_its_longest(session: Session) -> None:
    sessions = SqlSessions(session)
    _open(session)
    found = sessions.find("d1", NOW)
    assert found is not None
    assert (found.person, found.level, found.seen_at) == (ANA, 1, NOW)
    assert sessions.find("d1", NOW + timedelta(minutes=30)) is None
    for hour in range(24):
        sessions.touch("d1", NOW + timedelta(minutes=29 * hour), timedelta(minutes=30))
    assert sessions.find("d1", NOW + timedelta(hours=11)) is not None
    assert sessions.find("d1", NOW + timedelta(hours=12)) is None
    assert sessions.sweep(NOW + timedelta(hours=12)) == 1


def test_closing_all_leaves_other_people_alone(session: Session) -> None:
    sessions = SqlSessions(session)
    for digest, person in (("d1", ANA), ("d2", ANA), ("d3", BEA)):
        _open(session, digest, person=person)
    assert sessions.close_all("subject", ANA) == 2
    assert sessions.find("d3", NOW) is not None


def test_a_challenge_is_given_out_once_and_not_too_late(session: Session) -> None:
    sessions = SqlSessions(session)
    _open(session)
    sessions.put_challenge("d1", b"first", NOW + timedelta(minutes=5))
    assert sessions.pop_challenge("d1", NOW) == b"first"
    assert sessions.pop_challenge("d1", NOW) is None
    sessions.put_challenge("d1", b"second", NOW + timedelta(minutes=5))
    assert sessions.pop_challenge("d1", NOW + timedelta(minutes=5)) is None


def test_a_link_opens_once_looking_does_not_count(session: Session) -> None:
    """Consent rules 29 and 30."""
    sign_ins = SqlSignIns(session)
    _start(session, "s1")
    assert sign_ins.peek("link-s1", NOW)
    assert sign_ins.peek("link-s1", NOW)
    found = sign_ins.redeem_link("link-s1", NOW)
    assert found is not None
    assert (found.subject, found.onward) == (ANA, "/en/me")
    assert sign_ins.redeem_link("link-s1", NOW) is None
    assert not sign_ins.peek("link-s1", NOW)


def test_a_link_ends_after_fifteen_minutes_and_by_a_newer_one(session: Session) -> None:
    """Consent rule 30."""
    sign_ins = SqlSignIns(session)
    _start(session, "s1")
    _start(session, "other", BEA)
    _start(session, "s2")
    assert [sign_ins.pending(ref, NOW) is None for ref in ("s1", "s2")] == [True, False], "for which a mail is written"
    assert sign_ins.pending("s2", NOW + QUARTER) is None
    assert sign_ins.redeem_link("link-s1", NOW) is None
    assert sign_ins.redeem_link("link-s2", NOW + QUARTER) is None
    assert sign_ins.redeem_link("link-other", NOW) is not None


def test_nobodys_sign_ins_do_not_cancel_each_other(session: Session) -> None:
    _start(session, "s1", None)
    _start(session, "s2", None)
    assert SqlSignIns(session).peek("link-s1", NOW)


def test_a_code_has_five_tries(session: Session) -> None:
    """dsar rule 30."""
    sign_ins = SqlSignIns(session)
    _start(session, "s1")
    given = [sign_ins.pending_ref("ticket-s1", NOW) for _ in range(CODE_TRIES + 1)]
    assert given == ["s1"] * CODE_TRIES + [None]


def test_of_two_at_once_one_gets_the_link(records_engine: Engine) -> None:
    """Consent rule 30: single use holds under a race."""
    with Session(records_engine) as session:
        _start(session, "s1")
        session.commit()

    def redeem(_: int) -> bool:
        with Session(records_engine) as session:
            won = SqlSignIns(session).redeem_link("link-s1", NOW) is not None
            session.commit()
        return won

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(redeem, range(4))) == 1


def test_counters_count_across_connections_and_windows(records_engine: Engine) -> None:
    def hit(_: int) -> int:
        with Session(records_engine) as session:
            count = SqlCounters(session).hit("k", NOW, QUARTER)
            session.commit()
        return count

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(hit, range(8))) == list(range(1, 9))
    with Session(records_engine) as session:
        assert SqlCounters(session).hit("k", NOW + QUARTER, QUARTER) == 1
        assert SqlCounters(session).sweep(NOW + QUARTER) == 1


def _passkey(session: Session, credential: str = "c1", count: int = 0) -> SqlPasskeys:
    passkeys = SqlPasskeys(session)
    passkeys.add(
        credential,
        kind="subject",
        person=ANA,
        controller=FIRM,
        public_key=b"key",
        sign_count=count,
        now=NOW,
        usable_from=NOW,
    )
    return passkeys


def test_a_passkey_counter_only_rises(session: Session) -> None:
    passkeys = _passkey(session, count=3)
    assert passkeys.used("c1", 4, NOW)
    assert not passkeys.used("c1", 4, NOW)
    assert not passkeys.used("c1", 0, NOW)
    assert passkeys.used("c1", 9, NOW)


def test_a_passkey_that_always_says_zero_is_taken_as_it_is(session: Session) -> None:
    passkeys = _passkey(session)
    assert passkeys.used("c1", 0, NOW)
    assert passkeys.used("c1", 0, NOW)


def test_only_ones_own_passkey_is_removed(session: Session) -> None:
    passkeys = _passkey(session)
    assert not passkeys.remove("c1", "subject", BEA)
    assert not passkeys.remove("c1", "staff", ANA)
    assert passkeys.remove("c1", "subject", ANA)
    assert passkeys.of("subject", ANA) == []


def test_a_printed_code_serves_once_and_a_newer_one_replaces_it(session: Session) -> None:
    codes = SqlEnrolments(session)

    def issue(digest: str) -> None:
        codes.issue(
            digest,
            kind="subject",
            person=ANA,
            controller=FIRM,
            now=NOW,
            expires_at=NOW + timedelta(days=60),
            cooling=timedelta(hours=72),
        )

    issue("p1")
    issue("p2")
    assert codes.find("p1", NOW) is None
    found = codes.redeem("p2", NOW)
    assert found is not None
    assert found.cooling == timedelta(hours=72)
    assert codes.redeem("p2", NOW) is None
    issue("p3")
    assert codes.find("p3", NOW + timedelta(days=60)) is None


def test_staff_who_left_are_nobody(session: Session) -> None:
    staff = SqlStaff(session)
    staff.add(StoredStaff("stf_1", "Sam", frozenset({"dpo", "agent"}), frozenset({FIRM})))
    found = staff.find("stf_1")
    assert found is not None
    assert found.roles == {"agent", "dpo"}
    staff.leave("stf_1", NOW)
    session.expire_all()
    assert staff.find("stf_1") is None


def test_a_journey_keeps_its_first_beginning_and_its_latest_answers(session: Session) -> None:
    journeys = SqlJourneys(session)

    def begin(consent: str) -> None:
        journeys.begin(
            "jny_1",
            controller=FIRM,
            subject=ANA,
            consent=ConsentId(consent),
            script="partner_request",
            progress={"stage": "facts"},
            onward=True,
            now=NOW,
        )

    begin("con_1")
    begin("con_2")
    journeys.save("jny_1", {"stage": "check"})
    found = journeys.find("jny_1")
    assert found is not None
    assert (found.consent, found.progress, found.onward) == ("con_1", {"stage": "check"}, True)
    assert journeys.find("jny_2") is None
    assert journeys.sweep(NOW + timedelta(seconds=1)) == 1


def test_the_journey_a_consent_is_asked_in_is_the_one_a_partner_waits_for(session: Session) -> None:
    journeys, consent = SqlJourneys(session), ConsentId("con_1")
    for days, (name, onward) in enumerate((("jny_1", False), ("jny_2", True), ("jny_3", False))):
        asked = {"controller": FIRM, "subject": ANA, "consent": consent, "script": "partner_request", "progress": {}}
        journeys.begin(name, **asked, onward=onward, now=NOW + timedelta(days=days))  # type: ignore[arg-type]
    assert journeys.latest(FIRM, ANA, consent) == "jny_2"
    assert journeys.latest(FIRM, ANA, ConsentId("con_2")) is None


def test_nothing_in_these_tables_opens_anything(session: Session) -> None:
    """A stolen copy holds digests; the columns that could hold more are the public key and a spent challenge."""
    tables = ("sessions", "sign_ins", "enrolment_codes", "door_counters", "passkeys")
    for table in tables:
        columns = {row[0] for row in session.execute(text(f"SELECT * FROM {table} WHERE 1=0")).cursor.description}  # type: ignore[union-attr]
        assert not columns & {"token", "cookie", "code", "secret", "email", "address", "ip"}
