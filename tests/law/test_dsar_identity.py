"""Dsar rules 24-28 and 33, section 1.3: is what was proved enough?"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from consent.policy import RightRule
from dsar import identity
from dsar.identity import Circumstances, Enough, Lacking, question_fault
from dsar.proofs import METHODS
from dsar.proofs.shape import Lack, Proof
from dsar.vocabulary import CaseKind, DoubtCode, Level, Method, Right
from tests.law.dsar_desk import BANK, OTHER, PRACTICE, TEXT, email, pack, paris, passkey

RECEIVED = paris(2026, 3, 5)
NOW = paris(2026, 3, 6)
LONG_AGO = paris(2025, 1, 2)
SMS = Proof(Method.SMS_CODE, NOW, "phone_1", LONG_AGO)
CALL = Proof(Method.CALL_BACK, NOW, "phone_2", LONG_AGO, ("staff_a",))
PAPER = Proof(Method.PRINTED_CODE, NOW, "letter_1", LONG_AGO)
REGISTERED = Proof(Method.REGISTERED_LETTER, NOW, "rl_1", None, ("staff_a", "staff_b"))
CHECKED = Proof(Method.ID_DOCUMENT, NOW, "doc_1", None, ("staff_a", "staff_b"), valid_until=paris(2030, 1, 1))


def verdict(right, proofs, *, sensitivity=3, policy=None, at=NOW, **about):
    return identity.enough(
        right,
        sensitivity,
        proofs,
        at,
        policy=policy or pack(),
        practice=PRACTICE,
        about=Circumstances(**{"kind": CaseKind.SUBJECT, "received_at": RECEIVED, **about}),
    )


@pytest.mark.parametrize(
    ("proofs", "level"),
    [
        ([], Level.L0),
        ([email(NOW)], Level.L1),
        ([SMS], Level.L1),
        ([CALL], Level.L1),
        ([PAPER], Level.L1),
        ([email(NOW), email(NOW)], Level.L1),  # the same mailbox twice
        ([email(NOW), SMS], Level.L2),
        ([email(NOW), CALL], Level.L2),
        ([passkey(NOW)], Level.L3),
        ([REGISTERED], Level.L4),
        ([CHECKED], Level.L4),
    ],
)
@pytest.mark.parametrize("right", list(Right))
@pytest.mark.parametrize("sensitivity", [1, 2, 3])
def test_the_ladder(right, sensitivity, proofs, level):
    """Section 1.3, the whole matrix."""
    needed = {
        Right.MARKETING_OBJECTION: (0, 0, 0),
        Right.WITHDRAWAL: (0, 0, 0),
        Right.RESTRICTION: (1, 1, 1),
        Right.ACCESS: (2, 2, 3),
        Right.ERASURE: (2, 2, 2),
        Right.OBJECTION: (2, 2, 2),
        Right.AUTOMATED_DECISION: (2, 2, 2),
        Right.PORTABILITY: (3, 3, 3),
        Right.RECTIFICATION: (3, 3, 3),
    }[right][sensitivity - 1]
    found = verdict(right, proofs, sensitivity=sensitivity)
    if level >= needed:
        assert found == Enough(level)
    else:
        assert isinstance(found, Lacking)
        assert (found.needed, found.has) == (needed, level)


def test_a_stolen_mailbox_yields_nothing():
    """An e-mail link alone opens neither a copy nor an erasure (dsar rule 26)."""
    for right in (Right.ACCESS, Right.ERASURE, Right.PORTABILITY, Right.RECTIFICATION):
        assert isinstance(verdict(right, [email(NOW)], sensitivity=1), Lacking)


@pytest.mark.parametrize("moment", [RECEIVED, RECEIVED + timedelta(hours=1)])
def test_what_is_enrolled_with_or_after_the_request_proves_nothing(moment):
    """Dsar rule 27."""
    found = verdict(Right.ACCESS, [passkey(NOW, moment)])
    assert found == Lacking(Lack.ENROLLED_AFTER_REQUEST, Level.L3, Level.L0)
    assert verdict(Right.RESTRICTION, [email(NOW, moment)]) == Lacking(Lack.ENROLLED_AFTER_REQUEST, Level.L1, Level.L0)


def test_a_recent_contact_point_is_worth_one_level_less():
    """Dsar rule 27: changed within thirty days."""
    recent = email(NOW, RECEIVED - timedelta(days=10))
    assert verdict(Right.RESTRICTION, [recent]) == Lacking(Lack.RECENT_CONTACT, Level.L1, Level.L0)
    assert isinstance(verdict(Right.ERASURE, [recent, SMS]), Lacking)
    assert verdict(Right.RESTRICTION, [email(NOW, RECEIVED - timedelta(days=31))]) == Enough(Level.L1)


def test_after_a_recent_contact_change_only_level_four_does():
    """Section 1.3, last row."""
    changed = {"contact_changed_at": RECEIVED - timedelta(days=3)}
    assert verdict(Right.ACCESS, [passkey(NOW)], **changed) == Lacking(Lack.LEVEL_TOO_LOW, Level.L4, Level.L3)
    assert verdict(Right.ACCESS, [REGISTERED], **changed) == Enough(Level.L4)
    assert verdict(Right.WITHDRAWAL, [], **changed) == Enough(Level.L0)
    assert verdict(Right.ACCESS, [passkey(NOW)], contact_changed_at=LONG_AGO) == Enough(Level.L3)


def test_the_pack_may_raise_the_level_but_never_lower_it():
    def with_level(right, level):
        return replace(pack(), rights={right.value: RightRule(right.value, "", 1, level, TEXT)})

    two = [email(NOW), SMS]
    assert isinstance(verdict(Right.ERASURE, two, policy=with_level(Right.ERASURE, 3)), Lacking)
    assert isinstance(verdict(Right.ACCESS, two, policy=with_level(Right.ACCESS, 0)), Lacking)


def test_a_proof_of_the_future_does_not_count():
    assert verdict(Right.ACCESS, [passkey(NOW + timedelta(minutes=1))]) == Lacking(
        Lack.PROVED_LATER, Level.L3, Level.L0
    )


def test_documents_need_two_different_people():
    """Dsar rules 28, 59."""
    for method in (Method.ID_DOCUMENT, Method.REGISTERED_LETTER):
        alone = Proof(method, NOW, "d", None, ("staff_a", "staff_a"))
        assert verdict(Right.ACCESS, [alone]) == Lacking(Lack.TWO_PEOPLE, Level.L3, Level.L0)
    expired = replace(CHECKED, valid_until=NOW)
    assert verdict(Right.ACCESS, [expired]) == Lacking(Lack.DOCUMENT_EXPIRED, Level.L3, Level.L0)


MANDATE = Proof(
    Method.MANDATE, NOW, "m_1", rights=(Right.ACCESS,), valid_from=LONG_AGO, valid_until=NOW + timedelta(days=1)
)


@pytest.mark.parametrize(
    ("proofs", "lack"),
    [
        ([], Lack.MANDATE_MISSING),
        ([replace(MANDATE, rights=(Right.ERASURE,))], Lack.MANDATE_WRONG_RIGHT),
        ([replace(MANDATE, valid_until=NOW)], Lack.MANDATE_EXPIRED),
        ([replace(MANDATE, valid_from=NOW + timedelta(days=1))], Lack.MANDATE_EXPIRED),
        ([replace(MANDATE, valid_until=None)], Lack.MANDATE_EXPIRED),
    ],
)
def test_a_representative_needs_a_live_mandate_for_this_right(proofs, lack):
    """Dsar rule 33."""
    found = verdict(Right.ACCESS, [passkey(NOW), *proofs], kind=CaseKind.REPRESENTATIVE)
    assert found == Lacking(lack, Level.L3, Level.L3)
    good = verdict(Right.ACCESS, [passkey(NOW), MANDATE], kind=CaseKind.REPRESENTATIVE)
    assert good == Enough(Level.L3)


def test_a_mandate_does_not_prove_who_speaks():
    assert isinstance(verdict(Right.ACCESS, [MANDATE], kind=CaseKind.REPRESENTATIVE), Lacking)


def ask(method=Method.SMS_CODE, doubt=DoubtCode.UNKNOWN_CONTACT, **changes):
    facts = {"needed": Level.L2, "has": Level.L0, "approvers": frozenset(), "override": False}
    return question_fault(method, doubt, **{**facts, **changes})


def test_no_doubt_no_question():
    """Dsar rule 24."""
    assert ask(doubt=None) == "no_doubt"
    assert ask() is None


def test_the_least_intrusive_method_first():
    """Dsar rule 26."""
    assert ask(Method.PASSKEY) == "above_need"
    assert ask(Method.PASSKEY, override=True) is None


@pytest.mark.parametrize("has", [Level.L2, Level.L3])
def test_whoever_is_signed_in_is_never_asked_for_a_document(has):
    """Dsar rule 25, override or not."""
    two = frozenset({"a", "b"})
    assert ask(Method.ID_DOCUMENT, needed=Level.L4, has=has, approvers=two, override=True) == "document_not_allowed"


def test_a_document_is_the_last_resort_of_two_people():
    """Dsar rule 28."""
    two = frozenset({"a", "b"})
    assert ask(Method.ID_DOCUMENT, needed=Level.L3, approvers=two, override=True) == "document_not_allowed"
    assert ask(Method.ID_DOCUMENT, needed=Level.L4, approvers=frozenset({"a"})) == "second_person_needed"
    assert ask(Method.ID_DOCUMENT, needed=Level.L4, approvers=two) is None


def test_a_document_dies_within_its_hours():
    """Dsar rule 29."""
    assert identity.document_destroyed_by(RECEIVED, PRACTICE) == RECEIVED + timedelta(hours=72)


@pytest.mark.parametrize("method", list(Method))
def test_every_method_is_registered_under_its_own_name_and_proves_nothing_alone_out_of_thin_air(method):
    """The contract of proofs: a bare proof, known since nothing and checked by nobody, never counts."""
    assert METHODS[method].method is method
    bare = Proof(method, NOW, "x")
    assert isinstance(verdict(Right.RESTRICTION, [bare]), Lacking)


def test_sensitivity_is_the_highest_the_controller_uses():
    assert identity.sensitivity(pack(), BANK) == 3
    assert identity.sensitivity(pack(), OTHER) == 3  # nothing known: the most careful
