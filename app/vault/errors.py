"""What can go wrong with keys; each leaf has a stable `code`, none names a person, a category or a key's bytes."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar


class VaultError(Exception):
    """The family."""

    code: ClassVar[str] = "vault_error"


class UnknownSubject(VaultError):
    """No keys were ever made for this subject of this controller."""

    code = "unknown_subject"


class UnknownKey(VaultError):
    """No such key for this scope; also the answer to whoever names somebody else's key."""

    code = "unknown_key"


class Erased(VaultError):
    """The key was destroyed. Only for callers that were entitled to it; the door hides it from the rest (410)."""

    code = "erased"

    def __init__(self, at: datetime) -> None:
        super().__init__(at.isoformat())
        self.at = at


class ProviderUnavailable(VaultError):
    """The key provider does not answer: nothing opens beyond the cache, erasures wait (503)."""

    code = "key_provider_unavailable"


class NotHardware(VaultError):
    """The token was said to be hardware, and its slot does not declare that: no certificate may say so."""

    code = "not_hardware"


class RootDestroyed(VaultError):
    """The root key is destroyed: what it wrapped stays shut."""

    code = "root_destroyed"


class UnknownRoot(VaultError):
    """The provider never had this root key, or lost it."""

    code = "unknown_root"


class RootExposed(VaultError):
    """The provider would hand this root key out, or was given it from outside: nothing is wrapped under it."""

    code = "root_exposed"


class KeyringDamaged(VaultError):
    """The file keyring is not one, or a slot fails its checksum; restore it from its replica, do not go on."""

    code = "keyring_damaged"


class KeyringExposed(VaultError):
    """The file keyring can be read by others than its owner, or is a link; mend its mode (0600) first."""

    code = "keyring_exposed"


class DurabilityLost(VaultError):
    """The disk refused to make a write durable; stop, do not retry, never certify (operations.md section 6)."""

    code = "durability_lost"


class KeyStoreUnavailable(VaultError):
    """The key store does not answer (503)."""

    code = "key_store_unavailable"


class KeyDamaged(VaultError):
    """A wrapped key does not open under the key that should open it."""

    code = "key_damaged"


class TooManyLookUps(VaultError):
    """This process asked who addresses belong to more often than people sign in; it waits out the minute (503)."""

    code = "too_many_look_ups"


class LeaseTooLong(VaultError):
    """A lease lasts 1 to 60 seconds (vault.md section 3)."""

    code = "lease_too_long"


class NotLeasable(VaultError):
    """Keys of this class never leave the service."""

    code = "not_leasable"


class ErasureUnknown(VaultError):
    """No erasure of this id."""

    code = "erasure_unknown"


class ErasureConflict(VaultError):
    """An erasure of this id exists and is about something else."""

    code = "erasure_conflict"


class NotHeld(VaultError):
    """This erasure does not wait for anybody's approval."""

    code = "erasure_not_held"


class SelfApproval(VaultError):
    """Whoever asked for an erasure is not one of those who agree to it."""

    code = "approver_asked_for_it"


class ApprovedBefore(VaultError):
    """The same colleague agreed already: a second one has to."""

    code = "approved_before"


class PartitionBusy(VaultError):
    """Another erasure is re-wrapping this partition, or another worker has this erasure; try again shortly."""

    code = "partition_busy"


class SurvivorUnverified(VaultError):
    """A surviving key does not open under the new root; nothing was destroyed, the re-wrap starts again."""

    code = "survivor_unverified"


class RootStillAlive(VaultError):
    """The provider says the old root still works after it was told to destroy it."""

    code = "root_still_alive"


class RootReused(VaultError):
    """The provider gave a root that another partition lives under: destroyed for one, it would take the other along."""

    code = "root_reused"


class NotMovedYet(VaultError):
    """A partition is still under a root of the provider that is moved away from; no old root was destroyed."""

    code = "not_moved_yet"


class TombstonesDamaged(VaultError):
    """A line of the tombstone file fails its checksum; do not serve before it is mended."""

    code = "tombstones_damaged"

    def __init__(self) -> None:
        super().__init__(
            "a line of the tombstone file fails its checksum, so that what was erased cannot be told: bring back its"
            " newest copy (docs/runbooks/restore.md)"
        )


class TombstonesLost(VaultError):
    """The tombstone file is missing, shorter than what a database has replayed, or another one; do not serve."""

    code = "tombstones_lost"

    def __init__(self) -> None:
        super().__init__(
            "the tombstone file is missing, older than the databases or another deployment's, so that what was erased"
            " cannot be told: bring back its newest copy (docs/runbooks/restore.md)"
        )


class PartitionsShut(VaultError):
    """Partitions do not open under the key provider: the key store is older than its roots. Says which, not whose."""

    code = "partitions_shut"
