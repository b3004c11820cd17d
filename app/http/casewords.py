"""What a request looks like to a person: rights, states, events, outcomes and grounds in plain words.

GDPR art. 12(1), 12(4); dsar rules 5, 7, 8, 42, 57. Names of rights and retentions come from the policy pack, everything
else from the catalogue. What staff have not sent yet (decisions under review, prepared messages) has no words here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar, cast

from flask_babel import gettext, ngettext

from app.http.doors import doors
from app.http.locale import told
from consent.vocabulary import CategoryId, PartyId
from dsar import events as e
from dsar.case import Case, State
from dsar.clock import ExtensionReason
from dsar.ports import Recorded
from dsar.vocabulary import Ground, MessageKind, Outcome, RecipientOutcome, Right, TaskId

_TAG = re.compile(r"\s*\(tag [TCGNP]\)")


def right_name(right: Right) -> str:
    """Return what the pack calls the right; its code where a pack left it out."""
    rule = doors().policy.rights.get(right.value)
    return told(rule.names) if rule is not None else right.value


def right_meaning(right: Right) -> tuple[str, str]:
    """Return what a right does and what it does not do, one sentence each."""
    words: Mapping[Right, tuple[str, str]] = {
        Right.ACCESS: (
            gettext("You get everything that we, and those who work for us, hold about you."),
            gettext("Nothing is changed or deleted."),
        ),
        Right.ERASURE: (
            gettext("We destroy the keys to your data. After that nobody can open it, and there is no way back."),
            gettext("What the law makes us keep stays locked until its date."),
        ),
        Right.RECTIFICATION: (
            gettext("We put wrong or missing data right, and tell those who received it."),
            gettext("Your other data stays as it is."),
        ),
        Right.PORTABILITY: (
            gettext("You get the data you gave us as files that another company can read."),
            gettext("What we concluded ourselves is not in it: for that, ask for a copy."),
        ),
        Right.RESTRICTION: (
            gettext("Your data stays where it is, and nobody uses it until the question is settled."),
            gettext("Nothing is deleted."),
        ),
        Right.OBJECTION: (
            gettext("We stop a use that rests on our own interest while we weigh it against yours."),
            gettext("It does not end what you agreed to yourself: stop that under My agreements."),
        ),
        Right.MARKETING_OBJECTION: (
            gettext("We send you no more offers. We cannot say no to this."),
            gettext("Letters about your contracts still reach you."),
        ),
        Right.WITHDRAWAL: (
            gettext("We stop what you agreed to. The quickest way is My agreements: there it stops at once."),
            gettext("What was done before stays lawful."),
        ),
        Right.AUTOMATED_DECISION: (
            gettext("A person looks again at what a machine decided about you, and answers you."),
            gettext("Until then the decision stands."),
        ),
    }
    return words[right]


def state(value: State) -> tuple[str, str]:
    """Return where a case stands, as a word, and what happens next."""
    words: Mapping[State, tuple[str, str]] = {
        State.RECEIVED: (gettext("received"), gettext("We confirm that we have it, with its date.")),
        State.ACKNOWLEDGED: (gettext("received"), gettext("We make sure that it is you, then we begin.")),
        State.IDENTITY_PENDING: (gettext("waiting for you"), gettext("We asked you to show that it is you.")),
        State.PAUSED: (gettext("waiting for you"), gettext("We asked you to show that it is you.")),
        State.VERIFIED: (gettext("under way"), gettext("We are sure that it is you, and begin.")),
        State.CLARIFYING: (gettext("waiting for you"), gettext("We asked you which part you mean.")),
        State.SEARCHING: (gettext("under way"), gettext("Everyone who stores data about you is looking for it.")),
        State.REVIEW: (gettext("under way"), gettext("We put the answer together and check that it is whole.")),
        State.APPROVAL: (gettext("under way"), gettext("Our data protection officer reads the answer.")),
        State.DISPATCHING: (gettext("decided"), gettext("The answer is decided. We carry it out and tell you here.")),
        State.DISPATCHED: (gettext("answered"), gettext("We tell everyone who received the data.")),
        State.RECIPIENTS_NOTIFIED: (gettext("answered"), gettext("Nothing more to do. We close it.")),
        State.CLOSED: (gettext("done"), gettext("Nothing more will happen.")),
        State.REFUSED: (gettext("refused"), gettext("The reasons and what you can do are below.")),
        State.NO_DATA: (gettext("nothing found"), gettext("We hold nothing of what you asked for.")),
        State.WITHDRAWN_BY_SUBJECT: (gettext("taken back"), gettext("You took it back. You can ask again.")),
        State.CANNOT_IDENTIFY: (gettext("ended"), gettext("We had no answer from you. You can ask again.")),
    }
    return words[value]


def outcome(value: Outcome) -> str:
    """Return how a line ended."""
    words: Mapping[Outcome, str] = {
        Outcome.GRANTED: gettext("Granted."),
        Outcome.PARTLY_GRANTED: gettext("Granted in part."),
        Outcome.REFUSED: gettext("Refused."),
        Outcome.NO_DATA: gettext("We hold nothing of this."),  # a reply, not a closure reason (dsar rule 5)
        Outcome.CORRECTED: gettext("Corrected."),
        Outcome.COMPLETED: gettext("Completed."),
        Outcome.STATEMENT_ADDED: gettext("Your statement was added."),
        Outcome.UNPROVEN: gettext("Not changed: we could not see that it is wrong."),
        Outcome.WITHDRAWN_BY_SUBJECT: gettext("You took it back."),
        Outcome.CANNOT_IDENTIFY: gettext("Not answered: we could not be sure that it is you."),
    }
    return words[value]


def ground(value: Ground) -> str:
    """Return why something was refused, for the person (GDPR art. 12(4); dsar rule 57)."""
    words: Mapping[Ground, str] = {
        Ground.THIRD_PARTY_RIGHTS: gettext("It would show data about other people."),
        Ground.AML_CARVE_OUT: gettext("The law keeps some data for the authorities alone."),
        Ground.UNFOUNDED_OR_EXCESSIVE: gettext("The request goes clearly beyond what the right is for."),
        Ground.ARTICLE_11: gettext("We cannot tell which data is yours."),
        Ground.ARTICLE_23_LAW: gettext("A law limits this right here."),
        Ground.NOT_IDENTIFIED: gettext("We could not be sure that it is you."),
        Ground.NOT_PROVEN: gettext("We could not see that the data is wrong."),
        Ground.EXPRESSION: gettext("Freedom of expression protects it."),
        Ground.LEGAL_OBLIGATION: gettext("A law makes us keep it for a time."),
        Ground.PUBLIC_HEALTH: gettext("Public health needs it."),
        Ground.ARCHIVES: gettext("Archives or research need it."),
        Ground.LEGAL_CLAIMS: gettext("It is needed to settle a dispute."),
        Ground.NO_ERASURE_GROUND: gettext("None of the reasons the law gives for erasing applies."),
        Ground.NO_RESTRICTION_GROUND: gettext("None of the reasons the law gives for freezing applies."),
        Ground.WRONG_BASIS: gettext("We do not hold it on your agreement or a contract with you."),
        Ground.NOT_AUTOMATED: gettext("It is not kept in an automated way."),
        Ground.NOT_PROVIDED_BY_SUBJECT: gettext("It did not come from you."),
        Ground.PUBLIC_TASK: gettext("It serves a task in the public interest."),
        Ground.OTHERS_FREEDOMS: gettext("It would harm the rights of other people."),
        Ground.COMPELLING_GROUNDS: gettext("We have compelling reasons, which we set out to you."),
        Ground.BASIS_NOT_OBJECTABLE: gettext("The use does not rest on our own interest."),
        Ground.NOT_SOLELY_AUTOMATED: gettext("A person took part in the decision."),
        Ground.NO_SIGNIFICANT_EFFECT: gettext("The decision did not affect you significantly."),
    }
    return words[value]


def message(kind: MessageKind) -> str:
    """Return what a message of ours is called."""
    words: Mapping[MessageKind, str] = {
        MessageKind.ACKNOWLEDGEMENT: gettext("We have your request"),
        MessageKind.IDENTITY_QUESTION: gettext("A question: is it you?"),
        MessageKind.CLARIFICATION: gettext("A question about your request"),
        MessageKind.EXTENSION_NOTICE: gettext("We need more time"),
        MessageKind.REPLY: gettext("Our answer"),
        MessageKind.REFUSAL: gettext("Our answer, and what we cannot do"),
        MessageKind.END_NOTICE: gettext("Your request is taken back"),
    }
    return words[kind]


def extension(reason: ExtensionReason) -> str:
    """Return why an answer takes longer (GDPR art. 12(3); dsar rule 17)."""
    words: Mapping[ExtensionReason, str] = {
        ExtensionReason.VOLUME: gettext("There is a great deal of data."),
        ExtensionReason.DISPERSION: gettext("The data is spread over many places."),
        ExtensionReason.REDACTION: gettext("Data about other people has to be taken out first."),
        ExtensionReason.INTELLIGIBILITY: gettext("The data has to be made readable first."),
        ExtensionReason.EXCEPTIONAL_SURGE: gettext("Unusually many people asked at the same time."),
    }
    return words[reason]


def categories(ids: Iterable[CategoryId]) -> list[str]:
    """Return the names of categories; what is held solely against money laundering has none here (dsar rule 42)."""
    known = doors().policy.categories
    return [told(known[each].names) for each in ids if each in known and not known[each].aml_only]


def source(legal_ref: str) -> str:
    """Return a text of law without the pack's mark of who has to confirm it (dsar rules: T, C, G, N, P)."""
    return _TAG.sub("", legal_ref)


# What happened

E_ = TypeVar("E_", bound=e.Event)
Told = Callable[[e.Event], str]


def _when(shape: type[E_], words: Callable[[E_], str]) -> tuple[type[e.Event], Told]:
    return shape, cast("Told", words)


def happened(case: Case, history: Sequence[Recorded]) -> list[tuple[Recorded, str]]:
    """Return what happened to a case as far as it concerns the person, oldest first, one sentence each."""
    words = {**_steps(), **_effects(case, history)}
    found = [(each, words[type(each.event)](each.event)) for each in history if type(each.event) in words]
    return [(each, sentence) for each, sentence in found if sentence]


def _steps() -> Mapping[type[e.Event], Told]:
    return dict(
        (
            _when(e.CaseReceived, lambda _: gettext("We received your request.")),
            _when(e.ReminderLinked, lambda _: gettext("You asked again. It belongs to this request; its date stays.")),
            _when(e.IdentityVerified, lambda _: gettext("We are sure that it is you.")),
            _when(e.Acknowledged, lambda _: gettext("We confirmed your request and its date.")),
            _when(e.Paused, lambda _: gettext("We wait for your answer to our question.")),
            _when(e.Resumed, lambda _: gettext("Your answer came. We go on.")),
            _when(e.SearchStarted, _asked),
            _when(e.SearchCompleted, lambda _: gettext("Everyone has answered.")),
            _when(e.PackageSealed, lambda _: gettext("Your copy was put together and locked.")),
            _when(e.CopyFetched, lambda _: gettext("You downloaded the copy.")),
            _when(e.PackageRevoked, lambda _: gettext("A copy was destroyed.")),
            _when(e.Approved, lambda _: gettext("The answer was approved.")),
            _when(e.Dispatched, lambda _: gettext("Every part of your request has its answer.")),
            _when(e.DeliveryReopened, lambda _: gettext("Our answer came back to us. We send it again.")),
            _when(e.Closed, lambda _: gettext("The request is closed.")),
            _when(e.Reopened, lambda _: gettext("The request was opened again, with its old date.")),
        )
    )


def _asked(event: e.SearchStarted) -> str:
    number = len(event.holders)
    return str(
        ngettext(
            "We asked %(num)s place that stores data about people.",
            "We asked %(num)s places that store data about people.",
            number,
        )
    )


def _effects(case: Case, history: Sequence[Recorded]) -> Mapping[type[e.Event], Told]:
    named = {each.event.task: each.event.recipient for each in history if isinstance(each.event, e.RecipientNamed)}

    def done(event: e.CarriedOut) -> str:
        if case.lines[event.line].right is Right.ERASURE:
            return str(gettext("The keys were destroyed. A new search found nothing but what has to be kept."))
        return str(gettext("What you asked for was done."))

    def recipient(event: e.RecipientAnswered) -> str:
        return _recipient(event.outcome, _party(named, event.task))

    return dict(
        (
            _when(e.Stopped, lambda _: _stopped(case)),
            _when(e.ErasureStarted, lambda _: gettext("The erasure began. Copies we had made for you were destroyed.")),
            _when(e.CarriedOut, done),
            _when(e.RecipientNamed, lambda event: gettext("%(name)s has to be told.", name=_name(event.recipient))),
            _when(e.RecipientAnswered, recipient),
        )
    )


def _stopped(case: Case) -> str:
    taken = any(line.outcome is Outcome.WITHDRAWN_BY_SUBJECT for line in case.lines.values())
    return str(gettext("You took the request back.") if taken else gettext("We ended it: no answer came."))


def _party(named: Mapping[TaskId, PartyId], task: TaskId) -> str:
    return _name(named[task]) if task in named else ""


def _name(party: PartyId) -> str:
    known = doors().policy.parties.get(party)
    return known.brand_name if known is not None else party


def _recipient(value: RecipientOutcome, name: str) -> str:
    words: Mapping[RecipientOutcome, str] = {
        RecipientOutcome.SENT: gettext("%(name)s was told.", name=name),
        RecipientOutcome.ACKED: gettext("%(name)s confirmed.", name=name),
        RecipientOutcome.IMPOSSIBLE: gettext("%(name)s could not be told.", name=name),
        RecipientOutcome.DISPROPORTIONATE: gettext("%(name)s could not be told.", name=name),
    }
    return words.get(value, "")
