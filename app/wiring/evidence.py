"""What is handed to an auditor: bundles with payloads opened where that is asked for, and the keys to check them with.

Opening reads what people did, so it is recorded like any other look (ledger.md): who, about what, which fields stayed
shut. The record is written before anything is opened and, being about the same thing, is in the bundle itself.
"""

from __future__ import annotations

import base64
from collections.abc import Collection, Sequence

from app.ledger.bundle import Selection
from app.ledger.errors import WitnessRefused
from app.outbound.evidence import EvidenceUnprintable, EvidenceWords, evidence_pdf
from app.outbound.wording import speech_of
from app.profiles import HOUSE
from app.sdk.notes import NoteError, Verifier, parse_signature_line
from app.sdk.witness import UNKNOWN_WITNESS
from app.servicekeys import kept_service_key, public_key
from app.settings import Settings
from app.store.leaves import LeafStore, Open, Opening
from app.vault.errors import Erased, UnknownKey, UnknownSubject
from app.vault.keys import KeyClass, Scope
from app.wiring.founding import CERTIFICATE_KEY
from app.wiring.house import House
from consent.vocabulary import Locale, SubjectRef

_OWN = SubjectRef("house")
"""Under whose audit key entries about nobody are sealed (`house.OwnSeals`)."""


def evidence(house: House, selection: Selection, *, witnessed: bool = False) -> bytes:
    """Return the bundle that answers a question, every payload sealed; what waits is integrated first.

    `witnessed`: under the newest checkpoint that a witness cosigned, so without what came later. Raises PositionUnknown
    when there is none, LedgerCorrupted.
    """
    house.ledger.integrate()
    return house.ledger.bundle(selection, checkpoint=_head(house, witnessed=witnessed))


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
    stay digests; an envelope names who acted all the same. Raises VaultError when the keys cannot be reached,
    LedgerCorrupted when what opens is not what was recorded.
    """
    shut = [*sorted(hide), *sorted(without)]
    with house.units.writing() as unit:
        unit.journal.record(
            "evidence.opened",
            actor=by,
            controller=house.controller,
            subject=None,
            payload={
                "about": selection.about.value,
                "refs": list(selection.refs),
                "hidden": shut,
            },
        )
        unit.commit()
    house.ledger.integrate()
    opening = Opening(_opener(house), frozenset(hide), frozenset(without))
    return house.ledger.bundle(selection, opening, _head(house, witnessed=witnessed))


def _head(house: House, *, witnessed: bool) -> str | None:
    return house.ledger.witnessed(witnesses_of(house.settings)) if witnessed else None


def _opener(house: House) -> Open:
    def opened(controller: str, subject: str | None, kind: str, record: bytes) -> bytes | None:
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
    "EvidenceUnprintable",
    "PublicLedger",
    "certificate_key",
    "evidence",
    "opened_evidence",
    "printed_evidence",
    "public_ledger",
    "witnesses_of",
]
