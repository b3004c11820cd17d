"""Signed receipts of consents, sealed under the subject's own key: nobody reads one once that key is destroyed.

Consent rules 56, 57; vault.md section 1. A receipt is a compact JWS (RFC 7515) over exactly the plain data of
`consent.receipt`. Leaves out making, storing and showing them.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, Protocol

from app.profiles import HOUSE
from app.sdk.sealed import key_id_of
from app.vault.core import Vault
from app.vault.errors import Erased, UnknownKey, UnknownSubject
from app.vault.keys import Scope
from consent.vocabulary import ConsentId, ControllerId, Shredded, SubjectRef

CATEGORY: Final = "consent.receipts"
TYPE: Final = "receipt+jws"
"""The `typ` of a receipt's header: no token of ours can be taken for one (RFC 8725 section 3.11)."""


class SealedReceipt(Protocol):
    """A receipt as stored."""

    @property
    def id(self) -> str: ...
    @property
    def controller(self) -> ControllerId: ...
    @property
    def subject(self) -> SubjectRef: ...
    @property
    def consent(self) -> ConsentId: ...
    @property
    def version(self) -> int: ...
    @property
    def sealed(self) -> bytes: ...
    @property
    def made_at(self) -> datetime: ...


class Receipts:
    """Seals receipts and opens them."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    def seal(self, controller: ControllerId, subject: SubjectRef, receipt: str, signed: str) -> bytes:
        """Return the sealed record. Raises what the vault raises, `Erased` once the keys are destroyed."""
        return self._vault.seal(_scope(controller, subject), receipt, signed.encode("ascii"))

    def open(self, receipt: SealedReceipt) -> str | Shredded:
        """Return the compact JWS, or the mark of a destroyed key."""
        try:
            return self._vault.open(_scope(receipt.controller, receipt.subject), receipt.id, receipt.sealed).decode()
        except Erased as gone:
            return Shredded(key_id_of(receipt.sealed).hex(), gone.at)
        except (UnknownKey, UnknownSubject):
            return Shredded(key_id_of(receipt.sealed).hex())


def said_in(signed: str) -> Mapping[str, Any]:
    """Return what a receipt of ours says; for its own house, which kept it sealed: checks no signature."""
    body = signed.split(".")[1]
    said: Mapping[str, Any] = json.loads(urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    return said


def _scope(controller: ControllerId, subject: SubjectRef) -> Scope:
    return Scope(controller, subject, HOUSE, CATEGORY)
