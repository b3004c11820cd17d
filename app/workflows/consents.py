"""The follow-up work of consents: receipts, telling people, reminders, and deleting what a withdrawal lets go.

Consent rules 45, 46, 48, 50, 57; operations.md section 3. A reference is `consent/version` (a reminder's
`consent/day`), from the second attempt on `/attempt` behind it. Everything a step does commits at once together with a
row that says it was done, so that a repeated run does nothing twice. When the key provider is away, the next attempt is
enqueued with a delay.

Parties are told by pull: their next introspection, lease or decision is refused from the commit of the end on. Who may
read is told nothing by mail, because a mail proves nothing to a machine. Leaves out what each move means (`consent`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from typing import Final, Protocol

from app import letters
from app.receipts import TYPE, Receipts, SealedReceipt
from app.tokens.records import SigningKeyRows
from app.tokens.signing import SigningKeys
from app.vault.certificate import canonical
from app.vault.errors import (
    Erased,
    ErasureUnknown,
    KeyStoreUnavailable,
    PartitionBusy,
    ProviderUnavailable,
    SurvivorUnverified,
    UnknownSubject,
)
from app.vault.keys import Basis, Selector, Target
from app.vault.ports import ErasureState, Json
from app.workflows.cases import Waits
from app.workflows.durable import Handler, Steps
from consent import usecases
from consent.decision import stored_only
from consent.events import ActorKind, Event, Resumed, Suspended, chain_head
from consent.policy import Controller, FigureName, Policy
from consent.ports import Clock, Consents, Ids, Unit
from consent.receipt import Links, receipt
from consent.record import FINAL, Consent, State, fold
from consent.vocabulary import CategoryId, ConsentId, ControllerId, Locale, PairwiseHandle, PartyId, SubjectRef

_DONE: Final = "done"
_BEFORE: Final = "done before"
_ERASED: Final = "erased"
_WAITING: Final = "waiting"
_NOTHING: Final = "nothing to do"


class UnknownConsent(LookupError):
    """Work names a consent, or a version of one, that is not there."""

    code = "consent_work_unknown"


class SubjectFacts(Protocol):
    """A subject as stored."""

    @property
    def erased_at(self) -> datetime | None: ...
    @property
    def locale(self) -> Locale: ...


class People(Protocol):
    """The subjects' rows."""

    def get(self, ref: SubjectRef) -> SubjectFacts | None: ...
    def handle(
        self, ref: SubjectRef, controller: ControllerId, party: PartyId, fresh: PairwiseHandle
    ) -> PairwiseHandle: ...


class ReceiptRows(Protocol):
    """Stored receipts, one for each version of a consent."""

    def add(
        self,
        receipt: str,
        *,
        controller: ControllerId,
        subject: SubjectRef,
        consent: ConsentId,
        version: int,
        sealed: bytes,
        at: datetime,
    ) -> bool: ...
    def of_version(self, controller: ControllerId, consent: ConsentId, version: int) -> SealedReceipt | None: ...


class Notices(Protocol):
    """What was done about consents."""

    def add(
        self, controller: ControllerId, consent: ConsentId, occasion: str, *, subject: SubjectRef, at: datetime
    ) -> bool: ...


class MailQueue(Protocol):
    """Mail, queued with the unit."""

    def send(
        self,
        controller: ControllerId,
        *,
        to: str,
        subject: str,
        text: str,
        html: str,
        kind: str,
        locale: str = ...,
    ) -> str: ...


class KnownConsents(Consents, Protocol):
    """Consents, and whose each is."""

    def controller_of(self, consent: ConsentId) -> ControllerId | None: ...


class ConsentUnit(Unit, Protocol):
    """A unit of work as this room needs it."""

    @property
    def consents(self) -> KnownConsents: ...
    @property
    def subjects(self) -> People: ...
    @property
    def receipts(self) -> ReceiptRows: ...
    @property
    def notices(self) -> Notices: ...
    @property
    def mail_queue(self) -> MailQueue: ...
    @property
    def signing_key_rows(self) -> SigningKeyRows: ...


class ProfileFacts(Protocol):
    """Where a person is written to."""

    @property
    def email(self) -> str: ...


class Profiles(Protocol):
    """Who people are; None once their keys are destroyed."""

    def profile(self, subject: SubjectRef) -> ProfileFacts | None: ...


class Places(Protocol):
    """Addresses of pages; none holds personal data."""

    def agreement(self, consent: ConsentId, locale: Locale) -> str: ...
    def receipt(self, consent: ConsentId, receipt: str, locale: Locale) -> str: ...
    def withdraw(self, consent: ConsentId, locale: Locale) -> str: ...
    def stop(self, controller: ControllerId, consent: ConsentId, locale: Locale) -> str:
        """The page that stops without signing in; its address is a key and goes to the person alone."""
        ...

    def privacy(self, locale: Locale) -> str: ...


class Eraser(Protocol):
    """The erasures of the vault."""

    def state(self, erasure_id: str) -> ErasureState: ...
    def request(self, erasure_id: str, targets: Sequence[Target]) -> ErasureState: ...
    def advance(self, erasure_id: str) -> ErasureState: ...
    def due_at(self, erasure_id: str) -> datetime | None: ...
    def certificates(self, erasure_id: str) -> Sequence[Mapping[str, Json]]: ...


@dataclass(frozen=True, slots=True)
class Then:
    """A consent as it stood after one of its events, and that event."""

    record: Consent
    history: tuple[Event, ...]

    @property
    def event(self) -> Event:
        return self.history[-1]

    @property
    def controller(self) -> ControllerId:
        return self.record.terms.controller

    @property
    def subject(self) -> SubjectRef:
        return self.record.terms.subject


@dataclass(frozen=True, slots=True)
class Addressee:
    """Somebody to write to, and in which language."""

    person: SubjectRef
    locale: Locale
    email: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ConsentWork:
    """The handlers of all work that consents ask for."""

    unit: Callable[[], AbstractContextManager[ConsentUnit]]
    policy: Policy
    clock: Clock
    ids: Ids
    profiles: Profiles
    receipts: Receipts
    signing: Callable[[SigningKeyRows], SigningKeys]
    eraser: Eraser
    places: Places
    waits: Waits = field(default_factory=Waits)

    def handlers(self) -> dict[str, Handler]:
        """Return the work this room carries out, by kind."""
        return {
            usecases.RECEIPT: self.issue_receipt,
            usecases.ENDED: self.follow_end,
            usecases.CHANGED: self.tell_change,
            usecases.REMINDER: self.remind,
        }

    # Receipts

    def issue_receipt(self, ref: str, steps: Steps) -> None:
        """Sign, seal, store and announce the receipt of one version of a consent, once (consent rules 56, 57)."""
        self._trying(usecases.RECEIPT, ref, steps, "receipt", lambda: self._issue(*_named(ref)))

    def _issue(self, consent: ConsentId, version: int) -> str:
        then = self._then(consent, version)
        told = self._addressees(then, [then.subject])
        with self.unit() as unit:
            person = unit.subjects.get(then.subject)
            if person is None or person.erased_at is not None:
                return _ERASED  # what a person was is not written down again
            if unit.receipts.of_version(then.controller, consent, version) is not None:
                return _BEFORE
            try:
                name = self._store_receipt(unit, then)
            except (Erased, UnknownSubject):
                return _ERASED
            if name is None:
                return _BEFORE
            for addressee in told:
                self._announce(unit, then, name, addressee)
            unit.commit()
        return _DONE

    def _store_receipt(self, unit: ConsentUnit, then: Then) -> str | None:
        """Return the receipt's id; None when another run has stored one meanwhile."""
        now, name = self.clock.now(), self.ids.new("rcp")
        keys = self.signing(unit.signing_key_rows)
        keys.prepare(now)
        signed = keys.sign(self._plain(unit, then, name, now), typ=TYPE)
        sealed = self.receipts.seal(then.controller, then.subject, name, signed)
        stored = unit.receipts.add(
            name,
            controller=then.controller,
            subject=then.subject,
            consent=then.record.id,
            version=then.record.version,
            sealed=sealed,
            at=now,
        )
        if not stored:
            return None
        digest = sha256(signed.encode()).hexdigest()
        told: dict[str, Json] = {
            "consent": then.record.id,
            "version": then.record.version,
            "receipt": name,
            "digest": digest,
        }
        unit.journal.record(
            "receipt.issued", actor="regard", controller=then.controller, subject=then.subject, payload=told
        )
        return name

    def _plain(self, unit: ConsentUnit, then: Then, name: str, now: datetime) -> dict[str, object]:
        record, terms = then.record, then.record.terms
        fresh = PairwiseHandle(self.ids.new("pw"))
        locale = self._locale_of_page(then)
        return receipt(
            record,
            then.history,
            self.policy,
            receipt_id=name,
            at=now,
            # the name the asking party has for the person: no other party ever reads this receipt
            subject_handle=unit.subjects.handle(terms.subject, terms.controller, terms.party, fresh),
            head=chain_head(record.id, then.history),
            links=Links(
                review=self.places.agreement(record.id, locale),
                withdraw=self.places.withdraw(record.id, locale),
                complain=self.places.privacy(locale),
            ),
        )

    def _locale_of_page(self, then: Then) -> Locale:
        if then.record.page is not None:
            return then.record.page.locale
        return self.policy.controllers[then.controller].locales[0]

    def _announce(self, unit: ConsentUnit, then: Then, name: str, addressee: Addressee) -> None:
        """A link and a reference, and while there is something to stop, the way that needs no sign-in (rule 35)."""
        record, locale = then.record, addressee.locale
        self._mail(
            unit,
            then,
            addressee,
            "receipt",
            reference=name,
            link=self.places.receipt(record.id, name, locale),
            stop=None if record.state in FINAL else self.places.stop(then.controller, record.id, locale),
        )

    # Ends and changes

    def follow_end(self, ref: str, steps: Steps) -> None:
        """Tell the others who agreed that it ended, and destroy what the subject chose to (consent rules 45, 46)."""
        consent, version = _named(ref)
        self._trying(usecases.ENDED, ref, steps, "tell", lambda: self._tell(consent, version, "agreement-ended"))
        due = steps.run("due", lambda: self._due(consent, version))
        if due == _DONE:
            self._destroy(ref, steps)
        elif due == _WAITING:
            steps.run("later", lambda: self._later(consent, version, ref))

    def tell_change(self, ref: str, steps: Steps) -> None:
        """Tell those who agreed that it rests, resumes or covers something else, unless they did it themselves."""
        consent, version = _named(ref)
        self._trying(usecases.CHANGED, ref, steps, "tell", lambda: self._tell(consent, version, None))

    def _tell(self, consent: ConsentId, version: int, kind: str | None) -> str:
        then = self._then(consent, version)
        chosen = kind or _letter_of(then.event)
        told = self._addressees(then, _concerned(then, receipt_follows=chosen in _WITH_RECEIPT))
        with self.unit() as unit:
            occasion = f"{chosen}/{version}"
            if not unit.notices.add(then.controller, consent, occasion, subject=then.subject, at=self.clock.now()):
                return _BEFORE
            for addressee in told:
                link = self.places.agreement(consent, addressee.locale)
                self._mail(unit, then, addressee, chosen, at=then.event.at, link=link, reference=consent)
            unit.commit()
        return _DONE if told else _NOTHING

    # Deleting what an end lets go: at once where the person chose to, otherwise when the pack says

    def _due(self, consent: ConsentId, version: int) -> str:
        then = self._then(consent, version)
        goes = self._goes_at(then)
        if then.record.delete_data:
            return _DONE
        if goes is None:
            return _NOTHING
        return _DONE if goes <= self.clock.now() and not self._restricted(then) else _WAITING

    def _by_itself(self, then: Then) -> Mapping[CategoryId, int]:
        return self.policy.kept_while_agreed(then.record.terms.purpose, then.record.categories)

    def _goes_at(self, then: Then) -> datetime | None:
        """Return when that is deleted; None where nothing is. All of it goes together, with what goes first."""
        days = self._by_itself(then).values()
        return then.event.at + timedelta(days=min(days)) if days else None

    def _later(self, consent: ConsentId, version: int, ref: str) -> str:
        then, tomorrow = self._then(consent, version), self.clock.now() + timedelta(days=1)
        goes = self._goes_at(then) or tomorrow
        return self._again(usecases.ENDED, ref, goes if goes > self.clock.now() else tomorrow)

    def _restricted(self, then: Then) -> bool:
        """Say whether the person asked for storage instead of deletion (GDPR art. 18(1)(b), (c))."""
        now, terms = self.clock.now(), then.record.terms
        with self.unit() as unit:
            standing = unit.standings.standing(terms.subject, terms.purpose, now)
        return standing is not None and stored_only(standing, now)

    def _destroy(self, ref: str, steps: Steps) -> None:
        """Destroy the keys of what was held on this consent alone (GDPR art. 17(1)(b); vault.md section 2).

        Every copy at every holder becomes unreadable. What another live agreement covers, what the policy has kept,
        and what rests on another basis stays: those have other keys, or are left out here.
        """
        consent, version = _named(ref)
        if steps.run("request", lambda: self._request(consent, version)) == _NOTHING:
            return
        step, before, state = 0, "", ""
        while state not in (ErasureState.CERTIFIED, _WAITING) and (state != before or not state):
            step, before = step + 1, state
            state = str(steps.run(f"advance {step}", lambda: self._advance(consent)))
        if state != ErasureState.CERTIFIED:
            steps.run("again", lambda: self._again(usecases.ENDED, ref, self.eraser.due_at(erasure_of(consent))))
            return
        steps.run("record", lambda: self._record_destroyed(consent, version))

    def _request(self, consent: ConsentId, version: int) -> str:
        try:
            return self.eraser.state(erasure_of(consent)).value
        except ErasureUnknown:
            return self._request_first(self._then(consent, version))

    def _request_first(self, then: Then) -> str:
        """What is asked for once stays asked for: a later agreement gets keys of its own."""
        with self.unit() as unit:
            person = unit.subjects.get(then.subject)
            others = unit.consents.of_subject(then.controller, then.subject)
        if person is None or person.erased_at is not None:
            return _NOTHING  # everything was destroyed with the person's own keys
        gone = self._let_go(then, others)
        if not then.record.delete_data:
            gone = [category for category in gone if category in self._by_itself(then)]
        only = tuple(Selector(category=category, basis=Basis.CONSENT) for category in gone)
        if not only:
            return _NOTHING
        erasure = erasure_of(then.record.id)
        return self.eraser.request(erasure, [Target(then.controller, then.subject, only=only)]).value

    def _let_go(self, then: Then, others: Sequence[Consent]) -> list[CategoryId]:
        """Return what nothing needs any more (consent rule 45: "what is no longer needed")."""
        now, purpose = self.clock.now(), then.record.terms.purpose
        live = (other for other in others if other.state_at(now) in (State.ACTIVE, State.SUSPENDED))
        needed = {category for other in live for category in other.categories}
        kept = {
            rule.category for rule in self.policy.retentions if rule.purpose == purpose and rule.on_erasure == "retain"
        }
        return sorted(then.record.categories - needed - kept)

    def _advance(self, consent: ConsentId) -> str:
        try:
            state = self.eraser.advance(erasure_of(consent))
        except (PartitionBusy, ProviderUnavailable, KeyStoreUnavailable, SurvivorUnverified):
            return _WAITING  # nothing was destroyed by this step; the same step is taken again later
        return _WAITING if state is ErasureState.REQUESTED else state.value

    def _record_destroyed(self, consent: ConsentId, version: int) -> str:
        then, erasure = self._then(consent, version), erasure_of(consent)
        (certificate,) = self.eraser.certificates(erasure)
        digest = sha256(canonical(certificate)).hexdigest()
        with self.unit() as unit:
            at = self.clock.now()
            if not unit.notices.add(then.controller, consent, "destroyed", subject=then.subject, at=at):
                return _BEFORE
            unit.journal.record(
                "consent.data_destroyed",
                actor="regard",
                controller=then.controller,
                subject=then.subject,
                payload={"consent": consent, "erasure": erasure, "certificate": digest},
            )
            unit.commit()
        return _DONE

    # Reminders

    def remind(self, ref: str, steps: Steps) -> None:
        """Remind of what holds, or that it ends soon, and set the next reminder (consent rules 48, 50).

        Silence ends, it never renews: a reminder changes nothing.
        """
        consent, day, *_attempt = ref.split("/")
        due = date.fromisoformat(day)
        self._trying(usecases.REMINDER, ref, steps, "remind", lambda: self._remind(ConsentId(consent), due))

    def _remind(self, consent: ConsentId, day: date) -> str:
        record, now = self._now(consent), self.clock.now()
        then = Then(record, ())
        if record.state_at(now) in FINAL:
            return _NOTHING
        told = self._addressees(then, _people(record)) if record.state is State.ACTIVE else []
        with self.unit() as unit:
            occasion = f"reminder/{day.isoformat()}"
            if not unit.notices.add(then.controller, consent, occasion, subject=then.subject, at=now):
                return _BEFORE
            for addressee in told:
                self._remind_one(unit, then, addressee, now)
            # the day that was due, not the moment it is carried out: a late worker skips what has passed meanwhile
            usecases.set_reminder(unit, self.policy, record, max(now, _end_of(day)))
            unit.commit()
        return _DONE if told else _NOTHING

    def _remind_one(self, unit: ConsentUnit, then: Then, addressee: Addressee, now: datetime) -> None:
        """Who, purpose, provider, end date, link: what consent rule 50 has a reminder say; nothing of the data."""
        record, terms = then.record, then.record.terms
        party, bank = self.policy.parties.get(terms.party), self.policy.institutions.get(record.institution or "")
        named = self.policy.purposes.get(terms.purpose)
        self._mail(
            unit,
            then,
            addressee,
            "ends-soon" if self._ends_soon(record, now) else "reminder",
            party=party.brand_name if party is not None else terms.party,
            purpose=named.names[addressee.locale] if named is not None else terms.purpose,
            bank=bank.name if bank is not None else None,
            until=record.valid_until,
            link=self.places.agreement(record.id, addressee.locale),
            stop=self.places.stop(then.controller, record.id, addressee.locale),
        )

    def _ends_soon(self, record: Consent, now: datetime) -> bool:
        earliest = max(self.policy.figures[FigureName.RENEWAL_NOTICE_DAYS].values)
        return record.valid_until is not None and record.valid_until - now <= timedelta(days=earliest)

    # What all of them use

    def _trying(self, kind: str, ref: str, steps: Steps, name: str, effect: Callable[[], str]) -> None:
        """Run one step; when the keys are out of reach nothing was done, and it is tried again later."""

        def tried() -> str:
            try:
                return effect()
            except (ProviderUnavailable, KeyStoreUnavailable):
                return _WAITING

        if steps.run(name, tried) == _WAITING:
            steps.run(f"{name} again", lambda: self._again(kind, ref, None))

    def _again(self, kind: str, ref: str, earliest: datetime | None) -> str:
        consent, which, *number = ref.split("/")
        attempt = int(number[0]) + 1 if number else 2
        due = self.clock.now() + self.waits.before(attempt)
        with self.unit() as unit:
            later = max(due, earliest) if earliest is not None else due
            unit.work.enqueue(kind, f"{consent}/{which}/{attempt}", due=later)
            unit.commit()
        return _WAITING

    def _then(self, consent: ConsentId, version: int) -> Then:
        """Return the consent as it stood then, however late this runs. Raises UnknownConsent."""
        with self.unit() as unit:
            controller = unit.consents.controller_of(consent)
            history = unit.consents.events(controller, consent)[:version] if controller is not None else ()
        if len(history) != version or not history:
            raise UnknownConsent("no such version of a consent")
        return Then(fold(consent, history), history)

    def _now(self, consent: ConsentId) -> Consent:
        with self.unit() as unit:
            controller = unit.consents.controller_of(consent)
            record = unit.consents.find(controller, consent) if controller is not None else None
        if record is None:
            raise UnknownConsent("no such consent")
        return record

    def _addressees(self, then: Then, people: Sequence[SubjectRef]) -> list[Addressee]:
        """Return who of these can be written to. Read before a unit of change begins: profiles open their own."""
        found = []
        for person in people:
            with self.unit() as unit:
                known = unit.subjects.get(person)
            profile = self.profiles.profile(person) if known is not None and known.erased_at is None else None
            if known is not None and profile is not None:
                found.append(Addressee(person, self._language(then, person, known.locale), profile.email))
        return found

    @staticmethod
    def _language(then: Then, person: SubjectRef, enrolled: Locale) -> Locale:
        """The language the person was last asked in, else the one they were enrolled with (consent rule 24)."""
        pages = {part.authoriser: part.page for part in then.record.parts}
        page = pages.get(person) or (then.record.page if person == then.subject else None)
        return page.locale if page is not None else enrolled

    def _mail(self, unit: ConsentUnit, then: Then, addressee: Addressee, kind: str, **values: object) -> None:
        firm: Controller = self.policy.controllers[then.controller]
        letter = letters.write(kind, firm, addressee.locale, **values)
        unit.mail_queue.send(
            then.controller,
            to=addressee.email,
            subject=letter.subject,
            text=letter.text,
            html=letter.html,
            kind=kind,
            locale=addressee.locale.value,
        )


_WITH_RECEIPT: Final = frozenset({"agreement-ended", "agreement-changed"})
"""Beside these a receipt goes to the subject: they are not told twice."""


def _letter_of(event: Event) -> str:
    if isinstance(event, Suspended):
        return "agreement-paused"
    return "agreement-resumed" if isinstance(event, Resumed) else "agreement-changed"


def _concerned(then: Then, *, receipt_follows: bool) -> list[SubjectRef]:
    """Return who does not know it yet: not who did it, and not the subject where a receipt says so."""
    told = {then.subject} if receipt_follows else set()
    if then.event.by.kind is ActorKind.SUBJECT:
        told.add(SubjectRef(then.event.by.ref))
    return [person for person in _people(then.record) if person not in told]


def _people(record: Consent) -> list[SubjectRef]:
    """Return the subject and everyone who agreed, each once."""
    return list(dict.fromkeys([record.terms.subject, *(part.authoriser for part in record.parts)]))


def _named(ref: str) -> tuple[ConsentId, int]:
    consent, version, *_attempt = ref.split("/")
    return ConsentId(consent), int(version)


def erasure_of(consent: ConsentId) -> str:
    """Return the id under which the vault journals the shred that a withdrawal asks for."""
    return f"era_{consent}"


def _end_of(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)
