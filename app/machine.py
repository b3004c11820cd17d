"""Time and chance as this machine gives them: the adapters of `consent.ports.Clock` and `Ids`."""

from __future__ import annotations

import base64
import secrets
from datetime import UTC, datetime

_RANDOM_BYTES = 16


class SystemClock:
    """The system's time, aware and in UTC."""

    def now(self) -> datetime:
        return datetime.now(UTC)


class RandomIds:
    """Identifiers of 128 random bits: a prefix, `_`, and 26 lower-case base32 characters."""

    def new(self, prefix: str) -> str:
        text = base64.b32encode(secrets.token_bytes(_RANDOM_BYTES)).decode("ascii")
        return f"{prefix}_{text.rstrip('=').lower()}"
