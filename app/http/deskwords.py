"""The words of the console: states, events, answers and outcomes, said to colleagues (dsar rules 5, 21, 40, 56, 60).

Facts only. Names of rights, categories and parties come from the policy pack, everything else from the catalogue.
Leaves out what is said to the person: `casewords`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date
from typing import TypeVar, cast

from babel.numbers import format_percent
from flask_babel import format_decimal, get_locale, gettext, ngettext

from app.http import casewords
from app.http.console import File
from app.http.doors import doors
from app.http.locale import day, told
from consent.vocabulary import PartyId
from dsar import events as e
from dsar.case import Case, State
from dsar.vocabulary import (
    SYSTEM,
    CaseKind,
    Channel,
    FateKind,
    HolderStatus,
    LineId,
    MessageId,
    Outcome,
    RecipientOutcome,
    TaskKind,
)

right = casewords.right_name
ground = casewords.ground
message = casewords.message


def state(value: State) -> tuple[str, str]:
    """Return where a case stands, as a word, and what it waits for."""
    words: Mapping[State, tuple[str, str]] = {
        State.RECEIVED: (gettext("received"), gettext("The receipt is about to be confirmed.")),
        State.ACKNOWLEDGED: (gettext("confirmed"), gettext("Identity is not sure enough yet.")),
        State.IDENTITY_PENDING: (gettext("identity asked"), gettext("The person has to answer.")),
        State.PAUSED: (gettext("paused"), gettext("The person has to answer; the strict clock runs on.")),
        State.VERIFIED: (gettext("identified"), gettext("The search is about to begin.")),
        State.CLARIFYING: (gettext("being clarified"), gettext("The person has to answer; the strict clock runs on.")),
        State.SEARCHING: (gettext("searching"), gettext("Holders have to answer.")),
        State.REVIEW: (gettext("in review"), gettext("The lines have to be decided.")),
        State.APPROVAL: (gettext("waiting for approval"), gettext("A data protection officer has to approve it.")),
        State.DISPATCHING: (gettext("being carried out"), gettext("Replies leave and what was decided is done.")),
        State.DISPATCHED: (gettext("replied"), gettext("Recipients have to be told.")),
        State.RECIPIENTS_NOTIFIED: (gettext("recipients told"), gettext("It is about to be closed.")),
        State.CLOSED: (gettext("closed"), ""),
        State.REFUSED: (gettext("refused"), ""),
        State.NO_DATA: (gettext("closed: no data held"), ""),
        State.WITHDRAWN_BY_SUBJECT: (gettext("taken back by the person"), ""),
        State.CANNOT_IDENTIFY: (gettext("closed: not identified"), ""),
    }
    return words[value]


def waits_because(code: str) -> str:
    """Return why a case no longer goes by itself; an unknown code is shown as it is."""
    words: Mapping[str, str] = {
        "returned": gettext("It was sent back by whoever had to approve it."),
        "proof_needed": gettext("It is not proved enough who asks: a colleague has to see to it."),
        "decision_needed": gettext("A colleague has to decide: the service may not."),
        "deed_needed": gettext("A colleague has to do what was decided and note it."),
        "reply_bounced": gettext("A reply came back: a colleague has to find another way."),
        "letter_refused": gettext("No mail service took a letter of this case: a colleague has to find another way."),
        "holder_suspended": gettext("A holder is suspended, and no answer goes without it. A colleague has to act."),
        "holder_silent": gettext("A holder has been silent for too long: a colleague has to find out why."),
        "erasure_held": gettext("Very many people are being erased: two colleagues have to agree to this erasure."),
        "copy_expired": gettext("The copy ran out before the answer left: a colleague has to see to a new one."),
        "person_erased": gettext(
            "The copy was destroyed with the person's erasure: a colleague has to see how this request ends."
        ),
        "no_space": gettext("The person has no space here any more: a colleague has to reach them another way."),
        "package_incomplete": gettext("The copy is not whole: a colleague has to see what is missing."),
    }
    return str(words.get(code) or gettext("Reason: %(code)s", code=code))


def days_left(number: int) -> str:
    """Return how long there is until the strict date, in words (dsar rule 21)."""
    if number == 0:
        return str(gettext("due today"))
    if number < 0:
        return str(ngettext("%(num)s day overdue", "%(num)s days overdue", -number))
    return str(ngettext("%(num)s day left", "%(num)s days left", number))


def outcome(value: Outcome) -> str:
    """Return how a line was decided."""
    words: Mapping[Outcome, str] = {
        Outcome.GRANTED: gettext("granted"),
        Outcome.PARTLY_GRANTED: gettext("granted in part"),
        Outcome.REFUSED: gettext("refused"),
        Outcome.NO_DATA: gettext("no data held"),
        Outcome.CORRECTED: gettext("corrected"),
        Outcome.COMPLETED: gettext("completed"),
        Outcome.STATEMENT_ADDED: gettext("statement added"),
        Outcome.UNPROVEN: gettext("not proven"),
        Outcome.WITHDRAWN_BY_SUBJECT: gettext("taken back by the person"),
        Outcome.CANNOT_IDENTIFY: gettext("not identified"),
    }
    return words[value]


def channel(value: Channel) -> str:
    """Return how a request came in."""
    words: Mapping[Channel, str] = {
        Channel.SPACE: gettext("in the space"),
        Channel.FORM: gettext("by the public form"),
        Channel.EMAIL: gettext("by e-mail"),
        Channel.PHONE: gettext("by phone"),
        Channel.LETTER: gettext("by letter"),
        Channel.COUNTER: gettext("at the counter"),
        Channel.FORWARDED: gettext("passed on by a processor"),
        Channel.API: gettext("by another system"),
    }
    return words[value]


def kind(value: CaseKind) -> str:
    """Return who speaks."""
    words: Mapping[CaseKind, str] = {
        CaseKind.SUBJECT: gettext("the person"),
        CaseKind.REPRESENTATIVE: gettext("a representative"),
        CaseKind.PARENTAL: gettext("a parent or guardian"),
        CaseKind.POST_MORTEM: gettext("somebody for a person who died"),
    }
    return words[value]


def task_kind(value: TaskKind) -> str:
    """Return what a holder was asked to do."""
    words: Mapping[TaskKind, str] = {
        TaskKind.SEARCH: gettext("search"),
        TaskKind.ERASE: gettext("erase"),
        TaskKind.VERIFY: gettext("search again"),
    }
    return words[value]


def holder_status(value: HolderStatus) -> str:
    """Return what a holder said."""
    words: Mapping[HolderStatus, str] = {
        HolderStatus.FOUND: gettext("found"),
        HolderStatus.NONE: gettext("nothing found"),
        HolderStatus.RETAINED: gettext("kept by law"),
        HolderStatus.PARTIAL: gettext("in part"),
        HolderStatus.EXCLUDED: gettext("left out"),
        HolderStatus.ERASED: gettext("erased"),
        HolderStatus.ANONYMISED: gettext("anonymised"),
        HolderStatus.ERROR: gettext("failed"),
    }
    return words[value]


def fate(value: FateKind) -> str:
    """Return what a holder is told to do with a category."""
    words: Mapping[FateKind, str] = {
        FateKind.ERASE: gettext("to be erased"),
        FateKind.RETAIN: gettext("to be kept"),
        FateKind.ANONYMISE: gettext("to be anonymised"),
    }
    return words[value]


def recipient_outcome(value: RecipientOutcome) -> str:
    """Return where an art. 19 notice stands (dsar rule 56)."""
    words: Mapping[RecipientOutcome, str] = {
        RecipientOutcome.PENDING: gettext("to be told"),
        RecipientOutcome.SENT: gettext("told, no answer yet"),
        RecipientOutcome.ACKED: gettext("told and confirmed"),
        RecipientOutcome.IMPOSSIBLE: gettext("cannot be told"),
        RecipientOutcome.DISPROPORTIONATE: gettext("out of proportion"),
    }
    return words[value]


def settlements(*, dpo: bool) -> list[tuple[str, str]]:
    """Return what can be answered about a notice: value of the form, words."""
    words = [
        ("acked", gettext("It confirmed")),
        ("sent", gettext("It was told; the answer is awaited")),
        ("ceased", gettext("It cannot be told: it no longer exists")),
        ("unreachable", gettext("It cannot be told: there is no way to reach it")),
    ]
    return [*words, ("effort", gettext("Telling it is out of proportion"))] if dpo else words


def recipient_reason(code: str | None) -> str:
    """Return why a recipient is not told; an unknown code is shown as it is."""
    words: Mapping[str, str] = {
        "ceased": gettext("it no longer exists"),
        "unreachable": gettext("there is no way to reach it"),
        "effort": gettext("the effort is out of proportion"),
        "letter_refused": gettext("no mail service took our letter"),
    }
    return words.get(code, code) if code else ""


def category(value: str) -> str:
    """Return what the pack calls a category."""
    known = {str(each.id): each for each in doors().policy.categories.values()}
    return told(known[value].names) if value in known else value


def purpose(value: str) -> str:
    """Return what the pack calls a purpose."""
    known = {str(each.id): each for each in doors().policy.purposes.values()}
    return told(known[value].names) if value in known else value


def party(value: str) -> str:
    """Return the name of a party of the pack; the id of any other."""
    known = doors().policy.parties.get(PartyId(value))
    return known.brand_name if known is not None else value


def controller(value: str) -> str:
    """Return the name of a controller."""
    known = {str(each.id): each for each in doors().policy.controllers.values()}
    return known[value].brand_name if value in known else value


def who(case: Case, handle: str, names: Mapping[str, str]) -> str:
    """Return who acted: a colleague by name, the person as such, the service, or else the opaque handle."""
    if handle == SYSTEM.handle:
        return str(gettext("the service"))
    if case.subject is not None and handle == case.subject:
        return str(gettext("the person"))
    return names.get(handle, handle)


def named(what: str, said: str) -> str:
    """Return a thing and what is said of it, with the colon of the language."""
    return str(gettext("%(what)s: %(said)s", what=what, said=said))


def percent(value: float) -> str:
    """Return a share as the language writes it, one decimal at most, e.g. 3.4%, 3,4 %."""
    return format_percent(round(value, 3), locale=get_locale(), decimal_quantization=False)


def number(value: float) -> str:
    """Return a number as the language writes it, two decimals at most."""
    return str(format_decimal(value, "#,##0.##"))


# What asks to be released


def verdict(value: str) -> str:
    """Return what the attacks showed of one criterion."""
    words: Mapping[str, str] = {
        "withstood": gettext("withstood"),
        "failed": gettext("failed"),
        "not_shown": gettext("not shown"),
    }
    return words.get(value, value)


CRITERIA = ("singling_out", "linkability", "inference")


def criterion(value: str) -> str:
    """Return the name of one of the three criteria (opinion 05/2014)."""
    words: Mapping[str, str] = {
        "singling_out": gettext("Singling somebody out"),
        "linkability": gettext("Linking a row to a person"),
        "inference": gettext("Guessing a value of somebody"),
    }
    return words.get(value, value)


def cause(value: str) -> str:
    """Return why rows were suppressed."""
    words: Mapping[str, str] = {
        "missing_value": gettext("a value is missing"),
        "outside_scale": gettext("a value does not fit the scale"),
        "too_few_alike": gettext("too few people are alike"),
    }
    return words.get(value, value)


# What happened

E_ = TypeVar("E_", bound=e.Event)
Told = Callable[[File, e.Event], tuple[str, str]]


def _when(shape: type[E_], words: Callable[[File, E_], tuple[str, str]]) -> tuple[type[e.Event], Told]:
    return shape, cast("Told", words)


def _plain(shape: type[e.Event], words: str) -> tuple[type[e.Event], Told]:
    return shape, lambda _file, _event: (words, "")


def event(file: File, what: e.Event) -> tuple[str, str]:
    """Return what happened, as a sentence, and its particulars (perhaps empty)."""
    return steps()[type(what)](file, what)


def steps() -> Mapping[type[e.Event], Told]:
    """Return the words of every event there is."""
    return {**_intake(), **_clock(), **_search(), **_decision(), **_ending()}


def _intake() -> Mapping[type[e.Event], Told]:
    return dict(
        (
            _when(e.CaseReceived, lambda _, it: (gettext("The request came in"), channel(it.channel))),
            _when(
                e.ReminderLinked, lambda _, it: (gettext("The same was asked again; the date stays"), right(it.right))
            ),
            _when(e.MessagePrepared, lambda _, it: (gettext("A message was prepared"), message(it.kind))),
            _when(e.MessageDispatched, lambda file, it: (gettext("A message left"), _message(file, it.message))),
            _when(e.MessageBounced, lambda file, it: (gettext("A message came back"), _message(file, it.message))),
            _plain(e.Acknowledged, gettext("The receipt was confirmed to the person")),
            _plain(e.IdentityAsked, gettext("A proof of identity was asked for")),
            _plain(e.IdentityProved, gettext("A proof of identity was given")),
            _when(e.IdentityVerified, lambda _, it: (gettext("The identity is sure enough"), _level(it.level))),
            _plain(e.ClarificationAsked, gettext("The person was asked which part they mean")),
        )
    )


def _clock() -> Mapping[type[e.Event], Told]:
    return dict(
        (
            _plain(e.Paused, gettext("The effective clock stands; the strict one runs on")),
            _plain(e.Resumed, gettext("The person answered; the effective clock runs again")),
            _when(e.ExtensionAnnounced, lambda _, it: (gettext("An extension was decided"), _months(it.months))),
            _when(e.ExtensionEffective, lambda _, it: (gettext("The extension is in force"), _months(it.months))),
            _plain(e.ExtensionLapsed, gettext("The extension has no effect: its notice left too late")),
        )
    )


def _search() -> Mapping[type[e.Event], Told]:
    return dict(
        (
            _when(e.SearchStarted, lambda _, it: (gettext("Holders were asked"), ", ".join(map(str, it.holders)))),
            _when(e.HolderAnswered, lambda _, it: (gettext("%(name)s answered", name=it.holder), _answer(it))),
            _plain(e.SearchCompleted, gettext("Every holder has answered")),
            _plain(e.ReviewStarted, gettext("The review began")),
            _when(
                e.PackageSealed, lambda file, it: (gettext("A copy was put together and sealed"), _line(file, it.line))
            ),
            _plain(e.PackageRevoked, gettext("A copy was destroyed")),
            _plain(e.CopyFetched, gettext("The person opened the copy")),
        )
    )


def _decision() -> Mapping[type[e.Event], Told]:
    return dict(
        (
            _when(e.LeftToStaff, lambda _, it: (gettext("Left to colleagues"), waits_because(it.reason))),
            _when(
                e.LineDecided, lambda file, it: (gettext("Decided: %(what)s", what=_line(file, it.line)), _decided(it))
            ),
            _plain(e.Submitted, gettext("Handed to approval")),
            _plain(e.Approved, gettext("Approved")),
            _plain(e.Returned, gettext("Sent back to review")),
            _plain(e.Stopped, gettext("The case goes straight to its letter")),
        )
    )


def _ending() -> Mapping[type[e.Event], Told]:
    return dict(
        (
            _when(e.ErasureStarted, lambda file, it: (gettext("The erasure began"), _line(file, it.line))),
            _plain(e.VerificationStarted, gettext("Every holder is searched again")),
            _when(
                e.CarriedOut,
                lambda file, it: (gettext("Carried out: %(what)s", what=_line(file, it.line)), it.evidence),
            ),
            _when(
                e.RecipientNamed,
                lambda _, it: (gettext("%(name)s has to be told.", name=party(it.recipient)), _due(it.due)),
            ),
            _when(e.RecipientAnswered, _settled),
            _plain(e.Dispatched, gettext("Every line has its reply")),
            _plain(e.RecipientsNotified, gettext("No recipient is left to be told")),
            _plain(e.DeliveryReopened, gettext("A reply came back: it has to leave again")),
            _when(e.Closed, lambda _, it: (gettext("Closed"), state(State(it.ending.value))[0])),
            _plain(e.Reopened, gettext("Opened again, on its old clock")),
        )
    )


def _message(file: File, known: MessageId) -> str:
    return message(file.case.messages[known].kind) if known in file.case.messages else ""


def _level(level: int) -> str:
    return str(gettext("level %(level)s", level=level))


def _months(months: int) -> str:
    return str(ngettext("%(num)s month", "%(num)s months", months))


def _answer(event: e.HolderAnswered) -> str:
    return named(task_kind(event.task_kind), holder_status(event.status))


def _line(file: File, line: LineId) -> str:
    return right(file.case.lines[line].right) if line in file.case.lines else ""


def _decided(event: e.LineDecided) -> str:
    said = [outcome(event.outcome), *(ground(each) for each in event.grounds), *(category(c) for c in event.categories)]
    if event.late_refusal:
        said.append(str(gettext("after month one, by decision of the data protection officer")))
    return " · ".join(said)


def _due(on: date) -> str:
    return str(gettext("by %(date)s", date=day(on)))


def _settled(file: File, event: e.RecipientAnswered) -> tuple[str, str]:
    told_of = next((party(each.recipient) for each in file.recipients if each.id == event.task), event.task)
    stands, reason = recipient_outcome(event.outcome), recipient_reason(event.reason)
    return told_of, named(stands, reason) if reason else stands
