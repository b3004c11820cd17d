"""What is handed to an auditor: bundles with payloads opened where that is asked for, and the keys to check them with.

Opening reads what people did, so it is recorded like any other look (ledger.md): who, about what, which fields stayed
shut. The record is written before anything is opened and, being about the same thing, is in the bundle itself.
"""

from __future__ import annotations

import base64
from collections.abc import Collection

from app.ledger.bundle import Selection
from app.profiles import HOUSE
from app.servicekeys import kept_service_key, public_key
from app.settings import Settings
from app.store.leaves import Open, Opening
from app.vault.errors import Erased, UnknownKey, UnknownSubject
from app.vault.keys import KeyClass, Scope
from app.wiring.founding import CERTIFICATE_KEY
from app.wiring.house import House
from consent.vocabulary import SubjectRef

_OWN = SubjectRef("house")
"""Under whose audit key entries about nobody are sealed (`house.OwnSeals`)."""


def evidence(house: House, selection: Selection) -> bytes:
    """Return the bundle that answers a question, every payload sealed; what waits is integrated first."""
    house.ledger.integrate()
    return house.ledger.bundle(selection)


def opened_evidence(
    house: House, selection: Selection, *, by: str, hide: Collection[str] = (), without: Collection[str] = ()
) -> bytes:
    """Return the bundle with every payload opened whose audit key lives.

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
    return house.ledger.bundle(selection, Opening(_opener(house), frozenset(hide), frozenset(without)))


def _opener(house: House) -> Open:
    def opened(controller: str, subject: str | None, kind: str, record: bytes) -> bytes | None:
        scope = Scope(controller, subject or _OWN, HOUSE, "ledger", key_class=KeyClass.AUDIT)
        try:
            return house.vault.open(scope, kind, record)
        except (Erased, UnknownKey, UnknownSubject):
            return None

    return opened


def certificate_key(settings: Settings) -> str:
    """Return the public key that erasure certificates verify with, base64 of its 32 bytes."""
    return base64.b64encode(public_key(kept_service_key(settings.data_dir / CERTIFICATE_KEY))).decode("ascii")
