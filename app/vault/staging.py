"""Moving subject keys from one epoch key to the next, and looking at each survivor (vault.md section 5).

REWRAPPED and VERIFIED: a key is opened under the old, wrapped under the new, and later both are opened and compared.
Leaves out where the keys are kept (the key store) and when a partition moves (`app.vault.erasure`).
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass, replace

from app.vault.errors import KeyDamaged, SurvivorUnverified
from app.vault.ports import DataKey, ErasureSite, IndexKey, Partition, SubjectKey
from app.vault.wrapping import Wrapper, data_key_name, index_key_name, subject_key_name, wipe


@dataclass(frozen=True, slots=True)
class Staging:
    """Re-wraps subject keys from one epoch key to the next."""

    under_old: Wrapper
    under_new: Wrapper
    generation: int

    def all(self, keys: Sequence[SubjectKey]) -> list[tuple[bytes, bytes]]:
        """Return (id, wrapped under the next epoch key) of each."""
        return [(key.id, self._moved(key)) for key in keys]

    def missing(self, keys: Sequence[SubjectKey]) -> list[tuple[bytes, bytes]]:
        """Return the same of keys made since the re-wrap: moved, and verified at once."""
        late = [key for key in keys if key.staged_generation != self.generation]
        staged = self.all(late)
        for key, (_, wrapped) in zip(late, staged, strict=True):
            check_survivor(replace(key, staged=wrapped), self.under_old, self.under_new)
        return staged

    def index_key(self, key: IndexKey) -> bytes:
        """Return a blind index's key under the next epoch key; they are few, so each is verified as it is moved."""
        name = index_key_name(key.id)
        opened = self.under_old.unwrap(key.wrapped, name)
        wrapped = self.under_new.wrap(opened, name)
        again = self.under_new.unwrap(wrapped, name)
        same = hmac.compare_digest(opened, again)
        wipe(opened, again)
        if not same:
            raise SurvivorUnverified
        return wrapped

    def _moved(self, key: SubjectKey) -> bytes:
        name = subject_key_name(key)
        opened = self.under_old.unwrap(key.wrapped, name)
        wrapped = self.under_new.wrap(opened, name)
        wipe(opened)
        return wrapped


def check_survivor(key: SubjectKey, under_old: Wrapper, under_new: Wrapper) -> None:
    """Open what is staged beside what is in force; raises `SurvivorUnverified` unless it is the same key."""
    name = subject_key_name(key)
    try:
        before, after = under_old.unwrap(key.wrapped, name), under_new.unwrap(key.staged or b"", name)
    except KeyDamaged:
        raise SurvivorUnverified from None
    same = hmac.compare_digest(before, after)
    wipe(before, after)
    if not same:
        raise SurvivorUnverified


def rebound(key: DataKey, old_id: bytes, new_id: bytes, under_old: Wrapper, under_new: Wrapper) -> bytes:
    """Return a data key wrapped under another subject key, whose id is in what is wrapped."""
    opened = under_old.unwrap(key.wrapped, data_key_name(key, old_id))
    wrapped = under_new.wrap(opened, data_key_name(key, new_id))
    wipe(opened)
    return wrapped


def planned(site: ErasureSite, old: Partition, new: Partition) -> ErasureSite:
    """Return a site with the generation it leaves and the one it goes to."""
    return replace(
        site,
        old_generation=old.generation,
        old_root=old.root,
        new_generation=new.generation,
        new_root=new.root,
        new_epoch_wrapped=new.epoch_wrapped,
    )


def coming(site: ErasureSite) -> Partition:
    """Return the partition as it will be; raises `KeyDamaged` before that is planned."""
    if site.new_generation is None or site.new_root is None or site.new_epoch_wrapped is None:
        raise KeyDamaged
    return Partition(site.key_class, site.partition, site.new_generation, site.new_root, site.new_epoch_wrapped)
