"""What the rooms of requests take from the house: the desk over a door's unit, copies, certificates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from app.http.doors import DoorUnit
from app.http.erasures import reason_of
from app.http.errors import NotHere
from app.outbound.certificate import certificate_pdf
from app.outbound.package import Copies
from app.outbound.uploads import Whose
from app.outbound.wording import Kept, certificate_words
from app.store.sealedfiles import UnknownFile
from app.store.unit import RecordsUnit
from app.vault.errors import ErasureUnknown
from app.vault.ports import Json
from app.wiring.house import House
from consent.vocabulary import ControllerId, Locale, SubjectRef
from dsar.ports import Desk, StoredRetention
from dsar.vocabulary import LineId


def door_desk(house: House) -> Callable[[DoorUnit], Desk]:
    """Return what lays the desk of cases over a unit of the doors. Raises TypeError for a unit of another house."""

    def desk(unit: DoorUnit) -> Desk:
        if not isinstance(unit, RecordsUnit):
            raise TypeError("the pages were handed a unit of another house")
        return house.casework.desk(unit)

    return desk


class DoorCopies:
    """Finished copies as the doors read them (`app.http.doors.Copies`)."""

    def __init__(self, house: House) -> None:
        self._copies = Copies(house.vault, house.casework.files)
        self._files = house.casework.files

    def read(self, controller: ControllerId, subject: SubjectRef, line: LineId) -> bytes:
        """Return the archive. Raises NotHere without one, Erased once the keys are destroyed (dsar rule 53)."""
        try:
            return self._copies.read(Whose(controller, subject), line)
        except UnknownFile as missing:
            raise NotHere from missing

    def destroy(self, line: LineId) -> None:
        """Remove the sealed bytes; nothing happens when they are gone already."""
        self._files.remove(line)


def certificates_of(house: House) -> Callable[[str], Sequence[Mapping[str, Json]]]:
    """Return what reads the signed certificates of an erasure; none for one nobody asked for."""

    def certificates(erasure: str) -> Sequence[Mapping[str, Json]]:
        try:
            return house.vault.erasures.certificates(erasure)
        except ErasureUnknown:
            return ()

    return certificates


def certificate_pdfs(house: House) -> Callable[[Mapping[str, Json], Sequence[StoredRetention], Locale], bytes]:
    """Return what lays a certificate out, with the retentions of its case in words."""
    policy = house.policy

    def pdf(certificate: Mapping[str, Json], retentions: Sequence[StoredRetention], locale: Locale) -> bytes:
        kept = [
            Kept(one.category, one.until.isoformat(), one.legal_ref, reason_of(policy, one, locale))
            for one in retentions
        ]
        words = certificate_words(policy, ControllerId(str(certificate["controller"])), locale, kept)
        return certificate_pdf(certificate, words)

    return pdf
