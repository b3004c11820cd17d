"""What is handed to an auditor: bundles with payloads opened where that is asked for, and the keys to check them with.

Opening reads what people did, so it is recorded like any other look (ledger.md): who, about what, which fields stayed
shut. The record is written before anything is opened and, being about the same thing, is in the bundle itself.
"""

from __future__ import annotations

import base64
import inspect
import json
from collections.abc import Collection, Mapping, Sequence
from typing import ClassVar, Final

from app.http.guard import StaffRole
from app.ledger.bundle import About, Selection
from app.ledger.errors import WitnessRefused
from app.outbound.evidence import EvidenceUnprintable, EvidenceWords, evidence_pdf
from app.outbound.wording import speech_of
from app.profiles import HOUSE
from app.sdk.notes import NoteError, Verifier, parse_signature_line
from app.sdk.witness import UNKNOWN_WITNESS
from app.servicekeys import kept_service_key, public_key
from app.settings import Settings
from app.store.leaves import LeafStore, Open, Opening
from app.store.passkeys import StoredStaff
from app.store.unit import RecordsUnit
from app.vault.errors import Erased, UnknownKey, UnknownSubject
from app.vault.keys import KeyClass, Scope
from app.vault.ports import Json
from app.wiring.casework import CaseJournal
from app.wiring.founding import CERTIFICATE_KEY
from app.wiring.house import House
from consent.vocabulary import ControllerId, Locale, SubjectRef

OPENING: Final = frozenset({StaffRole.DPO.value, StaffRole.AUDITOR.value})
"""Roles of those who may have payloads opened."""
_OWN = SubjectRef("house")
"""Under whose audit key entries about nobody are sealed (`house.OwnSeals`)."""


class EvidenceRefused(Exception):
    """What keeps evidence from being handed out, beside what the ledger and the vault say."""

    code: ClassVar[str] = "evidence_refused"


class ReaderUnfit(EvidenceRefused):
    """Whoever opens payloads is a present colleague (regard staff list), DPO or auditor, and serves the controller."""

    code = "reader_unfit"


class NothingNamed(EvidenceRefused):
    """No entry names what was asked for."""

    code = "nothing_named"


def evidence(house: House, selection: Selection, *, witnessed: bool = False) -> bytes:
    """Return the bundle that answers a question, every payload sealed; what waits is integrated first.

    `witnessed`: under the newest checkpoint that a witness cosigned, so without what came later. Raises PositionUnknown
    when there is none, LedgerCorrupted, and NothingNamed when ids were asked about and no entry names any.
    """
    house.ledger.integrate()
    bundle = house.ledger.bundle(selection, checkpoint=_head(house, witnessed=witnessed))
    if selection.refs and not entries_in(bundle):
        within = " within --from, --until and --controller" if _narrowed(selection) else ""
        raise NothingNamed(f"0 entries; no entry names {' or '.join(selection.refs)}{within}")
    return bundle


def _narrowed(selection: Selection) -> bool:
    return any((selection.start, selection.until, selection.controller))


def entries_in(bundle: bytes) -> int:
    """Return how many entries a bundle of ours holds."""
    return len(json.loads(bundle)["entries"])


def opened_evidence(
    house: House,
    selection: Selection,
    *,
    by: str,
    hide: Collection[str] = (),
    without: Collection[str] = (),
    witnessed: bool = False,
) -> bytes:
    """Return the bundle with every payload opened whose audit key lives; `witnessed` as for `evidence`.

    `by`: the staff id of whoever opens. Fields named in `hide`, and those in which one of the ids `without` stands,
    stay digests; an envelope names who acted all the same. Raises ReaderUnfit for one who may not open, what `evidence`
    raises, VaultError when the keys cannot be reached, LedgerCorrupted when what opens is not what was recorded.
    """
    shut = [*sorted(hide), *sorted(without)]
    if selection.refs:
        # the record below names the ids itself: whether anything else does is known before it only
        evidence(house, selection, witnessed=witnessed)
    with house.units.writing() as unit:
        controller = ControllerId(selection.controller or house.controller)
        served = _served(unit.staff.find(by), controller)
        for ref in dict.fromkeys(selection.refs):
            whose, subject = _whose(unit, selection.about, ref, served, controller)
            _note(unit, by, whose, subject, {"about": selection.about.value, "refs": [ref], "hidden": shut})
        if not selection.refs:
            _note(unit, by, controller, None, {"about": selection.about.value, "refs": [], "hidden": shut})
        unit.commit()
    house.ledger.integrate()
    opening = Opening(_opener(house, served), frozenset(hide), frozenset(without))
    return house.ledger.bundle(selection, opening, _head(house, witnessed=witnessed))


def _served(reader: StoredStaff | None, controller: ControllerId) -> Collection[str]:
    """Return the controllers whose payloads a reader may have opened, the given one among them."""
    if reader is None or not reader.may_act(OPENING, [controller]):
        raise ReaderUnfit(inspect.getdoc(ReaderUnfit))
    return frozenset(reader.controllers)


def _whose(
    unit: RecordsUnit, about: About, ref: str, served: Collection[str], controller: ControllerId
) -> tuple[ControllerId, SubjectRef | None]:
    """Return under whom a look at one id is found again: the person asked about, at the controller that knows them."""
    known = unit.subjects.get(SubjectRef(ref)) if about is About.SUBJECT else None
    if known is None or known.controller not in served:
        return controller, None
    return known.controller, known.ref


def _note(
    unit: RecordsUnit, by: str, controller: ControllerId, subject: SubjectRef | None, payload: Mapping[str, Json]
) -> None:
    """Record one look, about nobody where the person's audit keys are gone."""
    journal = CaseJournal(unit.journal)
    journal.record("evidence.opened", actor=by, controller=controller, subject=subject, payload=payload)


def _head(house: House, *, witnessed: bool) -> str | None:
    return house.ledger.witnessed(witnesses_of(house.settings)) if witnessed else None


def _opener(house: House, served: Collection[str]) -> Open:
    """Return what opens a payload of the controllers served; those of others stay sealed."""

    def opened(controller: str, subject: str | None, kind: str, record: bytes) -> bytes | None:
        if controller not in served:
            return None
        scope = Scope(controller, subject or _OWN, HOUSE, "ledger", key_class=KeyClass.AUDIT)
        try:
            return house.vault.open(scope, kind, record)
        except (Erased, UnknownKey, UnknownSubject):
            return None

    return opened


class PublicLedger:
    """The ledger as its doors see it: with the witnesses whose cosignatures it takes."""

    def __init__(self, ledger: LeafStore, witnesses: Sequence[Verifier]) -> None:
        self._ledger = ledger
        self._witnesses = witnesses
        self.checkpoint = ledger.checkpoint
        self.checkpoint_of = ledger.checkpoint_of
        self.inclusion = ledger.inclusion
        self.consistency = ledger.consistency

    def witnessed(self) -> str:
        """Return the newest cosigned checkpoint. Raises PositionUnknown without one."""
        return self._ledger.witnessed(self._witnesses)

    def cosign(self, size: int, line: str) -> str:
        """Take in a signature line and return the checkpoint with it. Raises WitnessRefused, PositionUnknown."""
        try:
            signature = parse_signature_line(line)
        except NoteError as fault:
            raise WitnessRefused("not a signature line") from fault
        for witness in self._witnesses:
            if (witness.name, witness.key_id) == (signature.name, signature.key_id):
                return self._ledger.cosign(size, signature, witness)
        raise WitnessRefused(UNKNOWN_WITNESS)


def witnesses_of(settings: Settings) -> tuple[Verifier, ...]:
    """Return the witnesses the settings name."""
    return tuple(map(Verifier.parse, settings.ledger_witnesses.split()))


def public_ledger(house: House) -> PublicLedger:
    """Return what the ledger's doors stand on."""
    return PublicLedger(house.ledger, witnesses_of(house.settings))


def printed_evidence(house: House, bundle: bytes, locale: Locale) -> bytes:
    """Return the PDF that goes with a bundle, which is attached to it. Raises EvidenceUnprintable."""
    speech = speech_of(house.policy, house.controller, locale)
    words = EvidenceWords(speech, house.policy.controllers[house.controller].legal_name)
    return evidence_pdf(bundle, house.ledger.verifier_key, words)


def certificate_key(settings: Settings) -> str:
    """Return the public key that erasure certificates verify with, base64 of its 32 bytes."""
    return base64.b64encode(public_key(kept_service_key(settings.data_dir / CERTIFICATE_KEY))).decode("ascii")


__all__ = [
    "EvidenceRefused",
    "EvidenceUnprintable",
    "NothingNamed",
    "PublicLedger",
    "ReaderUnfit",
    "certificate_key",
    "entries_in",
    "evidence",
    "opened_evidence",
    "printed_evidence",
    "public_ledger",
    "witnesses_of",
]
