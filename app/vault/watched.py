"""A key provider whose calls are timed and whose faults are counted; it changes nothing of what they do.

That a root is destroyed is an answer, and the right one to whoever tries what was erased: it is no fault. Everything
else a provider raises is, a root that it does not know and a key that does not open included.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from app.vault.errors import RootDestroyed, VaultError
from app.vault.ports import KeyProvider, RootDescription, RootName

Noted = Callable[[str, float, str | None], None]
"""Told the call, its seconds, and the code of the fault it ended with."""


class WatchedProvider:
    """Hands every call on to `provider` and tells `noted` of it."""

    def __init__(self, provider: KeyProvider, noted: Noted, seconds: Callable[[], float] = time.monotonic) -> None:
        self._provider = provider
        self._noted = noted
        self._seconds = seconds

    @property
    def kind(self) -> str:
        return self._provider.kind

    def create_root(self, name: RootName) -> str:
        with self._timed("create_root"):
            return self._provider.create_root(name)

    def wrap(self, root: str, key: bytearray, name: bytes) -> bytes:
        with self._timed("wrap"):
            return self._provider.wrap(root, key, name)

    def unwrap(self, root: str, wrapped: bytes, name: bytes) -> bytearray:
        with self._timed("unwrap"):
            return self._provider.unwrap(root, wrapped, name)

    def destroy(self, root: str) -> None:
        with self._timed("destroy"):
            self._provider.destroy(root)

    def describe(self, root: str) -> RootDescription:
        with self._timed("describe"):
            return self._provider.describe(root)

    @contextmanager
    def _timed(self, call: str) -> Iterator[None]:
        began, code = self._seconds(), None
        try:
            yield
        except RootDestroyed:
            raise
        except VaultError as fault:
            code = fault.code
            raise
        finally:
            self._noted(call, self._seconds() - began, code)
