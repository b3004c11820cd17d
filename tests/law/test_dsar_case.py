"""Dsar rule 60: silence is impossible. The whole state table is walked; then random histories are driven through it."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consent.vocabulary import Locale
from dsar import events as e
from dsar.case import (
    BEFORE_LETTER,
    CLOSING,
    FINAL,
    HANDLERS,
    MOVES,
    Move,
    State,
    answered,
    apply,
    ending,
    fold,
    pending,
    unanswered,
)
from dsar.errors import DsarError, NotAnswered
from dsar.vocabulary import (
    CaseId,
    CaseKind,
    Channel,
    HolderStatus,
    LineId,
    MessageId,
    MessageKind,
    Outcome,
    PackageId,
    RecipientOutcome,
    Right,
    TaskId,
    TaskKind,
)
from tests.law.dsar_desk import ANNA, BANK, paris, passkey

NOW = paris(2026, 3, 6)
L1, L2 = LineId("line_1"), LineId("line_2")
BY = {"at": NOW, "by": "x"}


def reachable(moves=MOVES):
    seen, queue = {State.RECEIVED}, deque([State.RECEIVED])
    while queue:
        here = queue.popleft()
        for after in (to for (state, _), to in moves.items() if state is here):
            if after not in seen:
                seen.add(after)
                queue.append(after)
    return seen


def test_every_state_can_be_reached_and_every_open_state_can_end():
    assert reachable() == set(State)
    for start in set(State) - FINAL:
        assert any(end in _from(start) for end in FINAL)


def _from(start):
    seen, queue = {start}, deque([start])
    while queue:
        here = queue.popleft()
        for (state, _), to in MOVES.items():
            if state is here and to not in seen:
                seen.add(to)
                queue.append(to)
    return seen


def test_no_final_state_without_a_dispatch_on_the_way():
    """Dsar rule 60, over the whole table: strike DISPATCH out, and no final state is reachable any more."""
    struck = {key: to for key, to in MOVES.items() if key[1] is not Move.DISPATCH}
    assert not reachable(struck) & FINAL


def test_whatever_reopens_has_to_dispatch_again():
    """Leaving a final state leads to where only DISPATCH leads back to an end."""
    struck = {key: to for key, to in MOVES.items() if key[1] is not Move.DISPATCH}
    for (state, _), after in MOVES.items():
        if state in FINAL:
            walked, queue = {after}, deque([after])
            while queue:
                here = queue.popleft()
                for (origin, _), to in struck.items():
                    if origin is here and to not in walked:
                        walked.add(to)
                        queue.append(to)
            assert not walked & FINAL


def test_finals_are_entered_by_closing_only():
    entering = {key: to for key, to in MOVES.items() if to in FINAL}
    assert {key[1] for key in entering} == set(CLOSING.values())
    assert {key[0] for key in entering} == {State.RECIPIENTS_NOTIFIED}
    assert {ending.value for ending in e.Ending} == {state.value for state in FINAL}


def received(*lines):
    return e.CaseReceived(
        at=NOW,
        by="x",
        case=CaseId("case_1"),
        controller=BANK,
        subject=ANNA,
        kind=CaseKind.SUBJECT,
        channel=Channel.SPACE,
        received_at=NOW,
        locale=Locale.FR,
        lines=lines or (e.AskedLine(L1, Right.ACCESS), e.AskedLine(L2, Right.ERASURE)),
        note=None,
        contact_changed_at=None,
        forwarded_by=None,
    )


def decided(line, outcome=Outcome.GRANTED):
    return e.LineDecided(
        **BY,
        line=line,
        outcome=outcome,
        grounds=(),
        categories=(),
        approved_by=None,
        evidence=None,
        late_refusal=False,
    )


def reply(name, *lines):
    message = MessageId(name)
    return (
        e.MessagePrepared(**BY, message=message, kind=MessageKind.REPLY, lines=lines),
        e.MessageDispatched(**BY, message=message, channel="space", proof="p"),
    )


def test_a_reply_to_one_line_does_not_answer_the_other():
    start = [received(), decided(L1), decided(L2), e.Stopped(**BY), *reply("m1", L1)]
    case = fold(start)
    assert unanswered(case) == (L2,)
    with pytest.raises(NotAnswered):
        apply(case, e.Dispatched(**BY))
    whole = fold([*start, *reply("m2", L2), e.Dispatched(**BY), e.RecipientsNotified(**BY)])
    assert apply(whole, e.Closed(**BY, ending=e.Ending.CLOSED)).final


@pytest.mark.parametrize(
    "kind", [MessageKind.ACKNOWLEDGEMENT, MessageKind.IDENTITY_QUESTION, MessageKind.EXTENSION_NOTICE]
)
def test_an_acknowledgement_is_no_reply(kind):
    case = fold(
        [
            received(),
            e.MessagePrepared(**BY, message=MessageId("m"), kind=kind, lines=(L1, L2)),
            e.MessageDispatched(**BY, message=MessageId("m"), channel="space", proof="p"),
        ]
    )
    assert not answered(case, L1)


@pytest.mark.parametrize("state", BEFORE_LETTER)
def test_from_everywhere_a_case_can_go_to_its_letter(state):
    assert MOVES[state, Move.STOP] is State.DISPATCHING


@pytest.mark.parametrize(
    ("outcomes", "end"),
    [
        ((Outcome.GRANTED, Outcome.GRANTED), e.Ending.CLOSED),
        ((Outcome.REFUSED, Outcome.REFUSED), e.Ending.REFUSED),
        ((Outcome.REFUSED, Outcome.GRANTED), e.Ending.CLOSED),
        ((Outcome.NO_DATA, Outcome.NO_DATA), e.Ending.NO_DATA),
        ((Outcome.WITHDRAWN_BY_SUBJECT,) * 2, e.Ending.WITHDRAWN_BY_SUBJECT),
        ((Outcome.CANNOT_IDENTIFY,) * 2, e.Ending.CANNOT_IDENTIFY),
    ],
)
def test_a_case_ends_as_its_lines_did(outcomes, end):
    assert ending(fold([received(), decided(L1, outcomes[0]), decided(L2, outcomes[1])])) is end


M = [MessageId(f"m{number}") for number in range(3)]
T = [TaskId("t0"), TaskId("t1")]
lines = st.sampled_from([L1, L2])
messages = st.sampled_from(M)
RANDOM = st.one_of(
    st.builds(
        e.MessagePrepared,
        at=st.just(NOW),
        by=st.just("x"),
        message=messages,
        kind=st.sampled_from(MessageKind),
        lines=st.sampled_from([(L1,), (L2,), (L1, L2)]),
    ),
    st.builds(
        e.MessageDispatched,
        at=st.just(NOW),
        by=st.just("x"),
        message=messages,
        channel=st.just("c"),
        proof=st.just("p"),
    ),
    st.builds(e.MessageBounced, at=st.just(NOW), by=st.just("x"), message=messages),
    st.builds(decided, lines, st.sampled_from(Outcome)),
    st.builds(e.Acknowledged, at=st.just(NOW), by=st.just("x"), message=messages),
    st.builds(
        e.RecipientAnswered,
        at=st.just(NOW),
        by=st.just("x"),
        task=st.sampled_from(T),
        outcome=st.sampled_from(RecipientOutcome),
        reason=st.none(),
    ),
    st.sampled_from(
        [
            e.IdentityVerified(**BY, level=3),
            e.SearchStarted(**BY, holders=()),
            e.SearchCompleted(**BY),
            e.ReviewStarted(**BY),
            e.Submitted(**BY),
            e.Approved(**BY),
            e.Returned(**BY),
            e.Stopped(**BY),
            e.Dispatched(**BY),
            e.RecipientsNotified(**BY),
            e.DeliveryReopened(**BY),
            e.Reopened(**BY, lines=(L1, L2)),
            *(e.Closed(**BY, ending=end) for end in e.Ending),
        ]
    ),
)
SCRIPT = [
    decided(L1),
    decided(L2),
    e.Stopped(**BY),
    *reply("m0", L1, L2),
    e.Dispatched(**BY),
    e.RecipientsNotified(**BY),
    e.Closed(**BY, ending=e.Ending.CLOSED),
]


@settings(max_examples=300, deadline=None)
@given(noise=st.lists(st.tuples(st.integers(0, len(SCRIPT)), RANDOM), max_size=25))
def test_whatever_happens_a_case_that_ended_has_answered_every_line(noise):
    """Dsar rules 56, 60: a good history with random events thrown in anywhere; refused ones change nothing."""
    history = list(SCRIPT)
    for place, event in sorted(noise, key=lambda item: item[0], reverse=True):
        history.insert(place, event)
    case = fold([received()])
    for event in history:
        try:
            case = apply(case, event)
        except DsarError:
            continue
        if isinstance(event, e.Closed):
            assert case.final
            assert not unanswered(case)
            assert not pending(case)
            assert all(line.outcome is not None for line in case.lines.values())


def test_the_good_history_does_end():
    """So that the law above is not kept by never ending."""
    assert fold([received(), *SCRIPT]).final


def test_events_survive_their_own_codec():
    """Every kind, written and read again."""
    samples = [
        received(),
        decided(L1),
        *reply("m", L1),
        e.IdentityProved(**BY, proof=passkey(NOW)),
        e.HolderAnswered(**BY, task=T[0], task_kind=TaskKind.SEARCH, holder="h", status=HolderStatus.FOUND),
        e.PackageSealed(**BY, package=PackageId("p"), line=L1, digest="0" * 64),
        e.IdentityVerified(**BY, level=3),
        e.Closed(**BY, ending=e.Ending.CLOSED),
    ]
    for event in samples:
        assert e.decode(e.kind_of(event), e.VERSION, e.encode(event)) == event
    with pytest.raises(ValueError, match="no event"):
        e.decode("case.received", 99, e.encode(received()))
    with pytest.raises(ValueError, match="fields"):
        e.decode("case.received", e.VERSION, {})


def test_every_event_is_registered_and_handled():
    shapes = {shape for shape in vars(e).values() if isinstance(shape, type) and issubclass(shape, e.Event)}
    assert set(e.KINDS.values()) == shapes - {e.Event}
    assert set(HANDLERS) == shapes - {e.Event, e.CaseReceived}
