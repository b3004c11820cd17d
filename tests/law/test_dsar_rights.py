"""Dsar rules 41, 48, 57 and section 1.2: the refusal matrix; rules 3, 40, 53, 56: plans as data."""

from __future__ import annotations

import pytest

from consent.vocabulary import ComponentId, PartyId
from dsar.plan import DESTROYING, plan, ready
from dsar.rights import RIGHTS
from dsar.rights.shape import Extent, PlanFacts, StepKind
from dsar.vocabulary import REQUIRED_PARTS, Ground, LetterPart, LineId, MessageKind, Outcome, PackageId, Right

G = Ground
ALWAYS = {G.UNFOUNDED_OR_EXCESSIVE, G.ARTICLE_11}
SECTION_1_2 = {
    Right.ACCESS: ALWAYS | {G.THIRD_PARTY_RIGHTS, G.AML_CARVE_OUT, G.ARTICLE_23_LAW, G.NOT_IDENTIFIED},
    Right.RECTIFICATION: ALWAYS | {G.NOT_PROVEN, G.NOT_IDENTIFIED},
    Right.ERASURE: ALWAYS
    | {G.EXPRESSION, G.LEGAL_OBLIGATION, G.PUBLIC_HEALTH, G.ARCHIVES, G.LEGAL_CLAIMS, G.NO_ERASURE_GROUND},
    Right.RESTRICTION: ALWAYS | {G.NO_RESTRICTION_GROUND},
    Right.PORTABILITY: ALWAYS
    | {G.WRONG_BASIS, G.NOT_AUTOMATED, G.NOT_PROVIDED_BY_SUBJECT, G.PUBLIC_TASK, G.OTHERS_FREEDOMS},
    Right.OBJECTION: {G.COMPELLING_GROUNDS, G.LEGAL_CLAIMS, G.BASIS_NOT_OBJECTABLE, G.UNFOUNDED_OR_EXCESSIVE},
    Right.MARKETING_OBJECTION: set(),
    Right.WITHDRAWAL: set(),
    Right.AUTOMATED_DECISION: {G.NOT_SOLELY_AUTOMATED, G.NO_SIGNIFICANT_EFFECT},
}


@pytest.mark.parametrize("ground", list(Ground))
@pytest.mark.parametrize("right", list(Right))
def test_the_refusal_matrix_is_closed(right, ground):
    assert (ground in RIGHTS[right].grounds) == (ground in SECTION_1_2[right])


def test_every_right_is_registered_once_under_its_own_name():
    assert set(RIGHTS) == set(Right)
    for right, law in RIGHTS.items():
        assert law.right is right
        assert law.articles


def test_what_cannot_be_refused_has_no_way_to_be():
    """Dsar rule 8."""
    for right in (Right.MARKETING_OBJECTION, Right.WITHDRAWAL):
        refusing = {Outcome.REFUSED, Outcome.PARTLY_GRANTED, Outcome.UNPROVEN, Outcome.CANNOT_IDENTIFY}
        assert not RIGHTS[right].outcomes & refusing


def test_third_parties_and_aml_never_refuse_the_whole_access():
    """Dsar rules 41, 42."""
    grounds = RIGHTS[Right.ACCESS].grounds
    assert {ground for ground, extent in grounds.items() if extent is Extent.PART} == {
        G.THIRD_PARTY_RIGHTS,
        G.AML_CARVE_OUT,
    }


def test_exceptions_of_article_17_3_are_per_category():
    """Dsar rule 48."""
    grounds = RIGHTS[Right.ERASURE].grounds
    assert {ground for ground, extent in grounds.items() if extent is Extent.PER_CATEGORY} == {
        G.EXPRESSION,
        G.LEGAL_OBLIGATION,
        G.PUBLIC_HEALTH,
        G.ARCHIVES,
        G.LEGAL_CLAIMS,
    }


def test_letters_of_refusal_name_the_remedies():
    """Dsar rules 42, 57."""
    refusal = REQUIRED_PARTS[MessageKind.REFUSAL]
    assert {LetterPart.REASONS, LetterPart.COMPLAINT, LetterPart.JUDICIAL_REMEDY} <= refusal
    assert LetterPart.AML_INDIRECT_ACCESS in refusal & REQUIRED_PARTS[MessageKind.REPLY]
    assert set(REQUIRED_PARTS) == set(MessageKind)


COPY, GONE = LineId("line_copy"), LineId("line_gone")
H1, H2 = ComponentId("h1"), ComponentId("h2")


def facts(line):
    return PlanFacts(line, (H1, H2), (PartyId("bank"), PartyId("insurer")), (PackageId("pkg_old"),))


def drawn(lines):
    return plan(lines, {line: facts(line) for line in lines})


@pytest.mark.parametrize("right", list(Right))
def test_every_plan_can_be_carried_out_and_ends_with_the_reply(right):
    """Dsar rule 60: nothing ends without a message."""
    steps = drawn({COPY: right})
    seen: set[str] = set()
    for step in steps:
        assert set(step.after) <= seen
        seen.add(step.id)
    assert len(seen) == len(steps)
    replies = [step for step in steps if step.kind is StepKind.SEND_REPLY]
    assert [steps[-1]] == replies
    assert _before(steps, replies[0].id) == seen - {replies[0].id}


def _before(steps, name):
    by_id = {step.id: step for step in steps}
    found, queue = set(), list(by_id[name].after)
    while queue:
        one = queue.pop()
        if one not in found:
            found.add(one)
            queue.extend(by_id[one].after)
    return found


def test_access_asks_every_holder_before_it_assembles():
    """Dsar rule 40."""
    steps = drawn({COPY: Right.ACCESS})
    assembled = next(step for step in steps if step.kind is StepKind.ASSEMBLE)
    assert {step.target for step in steps if step.id in assembled.after} == {H1, H2}


@pytest.mark.parametrize("order", [(COPY, GONE), (GONE, COPY)])
def test_nothing_is_destroyed_before_the_copy_is_delivered(order):
    """Dsar rules 3, 53."""
    rights = {COPY: Right.ACCESS, GONE: Right.ERASURE}
    steps = drawn({line: rights[line] for line in order})
    delivered = next(step.id for step in steps if step.kind is StepKind.DELIVER)
    destroying = [step for step in steps if step.kind in DESTROYING]
    assert len(destroying) == 4
    assert all(delivered in _before(steps, step.id) for step in destroying)


def test_erasure_certifies_after_every_holder_was_searched_again_and_tells_every_recipient():
    """Dsar rules 53, 56."""
    steps = drawn({GONE: Right.ERASURE})
    certified = next(step for step in steps if step.kind is StepKind.CERTIFY)
    before = _before(steps, certified.id)
    assert {step.target for step in steps if step.kind is StepKind.VERIFY_HOLDER and step.id in before} == {H1, H2}
    assert {step.target for step in steps if step.kind is StepKind.TELL_RECIPIENT} == {"bank", "insurer"}
    revoked = next(step for step in steps if step.kind is StepKind.REVOKE_PACKAGE)
    shredded = next(step for step in steps if step.kind is StepKind.SHRED_KEYS)
    assert revoked.id in shredded.after


def test_a_killed_plan_goes_on_where_it_stopped():
    steps, done = drawn({COPY: Right.ACCESS, GONE: Right.ERASURE}), frozenset()
    rounds = 0
    while len(done) < len(steps):
        now = ready(steps, done)
        assert now
        done |= {now[0].id}  # one step, then the worker dies
        rounds += 1
    assert rounds == len(steps)
    assert ready(steps, done) == ()
