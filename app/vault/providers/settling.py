"""Waiting for a remote service to show what it has just been told: clouds are consistent in the end, not at once."""

from __future__ import annotations

from collections.abc import Callable
from time import sleep
from typing import Final, TypeVar

from app.vault.errors import ProviderUnavailable

Found = TypeVar("Found")
_PAUSES: Final = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, None)
"""Seconds between looks: three in all."""


def settled(look: Callable[[], Found | None]) -> Found:
    """Look until there is something true, and return it; raises `ProviderUnavailable` after three seconds."""
    for pause in _PAUSES:
        found = look()
        if found:
            return found
        if pause is not None:
            sleep(pause)
    raise ProviderUnavailable("the key service does not show yet what it was just told")
