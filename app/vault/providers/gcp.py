"""Root keys in Google Cloud KMS: one CryptoKey a root, all in one key ring (vault.md section 4, assurance C).

A root is version 1 of the CryptoKey `<class>-<partition>-<generation>`; encrypting names that version, so that a
rotation by somebody else changes nothing. Names of CryptoKeys are never free again: a destroyed root's name stays
refused by itself. Destroying is two-fold: unusable at once, irrevocable after the key's destroy window; until then
whoever may call RestoreCryptoKeyVersion can bring it back, and `describe` then says ACTIVE. The version is disabled
first, as an organisation's policy may ask. Before that the CryptoKey gets a label: a version that is shut *without* it
was shut by somebody else, an outage to be mended in the cloud, and no survivor is given up for it (decision 0023).

CRC32C is sent and checked both ways; a mismatch means that bytes changed on the way: `ProviderUnavailable`, ask again.
A wrapped key is our mark 32 | Cloud KMS's ciphertext. REST only: a gRPC channel would not survive a fork.
Leaves out making the key ring (it can never be deleted, so that is the operator's deed) and Google's DeleteCryptoKey.
The library hands out keys as `bytes`, which cannot be wiped; its writing of bodies to logs is shut off at import.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from threading import Lock
from typing import Any, Final

from google.api_core.client_options import ClientOptions
from google.api_core.exceptions import GoogleAPICallError, RetryError
from google.api_core.retry import Retry
from google.auth.credentials import Credentials
from google.auth.exceptions import GoogleAuthError
from google.cloud import kms_v1
from google.protobuf.json_format import ParseError
from requests.exceptions import ConnectionError as NoConnection
from requests.exceptions import RequestException

from app.vault.errors import KeyDamaged, ProviderUnavailable, RootDestroyed, UnknownRoot
from app.vault.keys import KeyClass
from app.vault.ports import RootDescription, RootName, RootState
from app.vault.providers.hush import hush
from app.vault.providers.proof import blob_of, marked, proven
from app.vault.providers.settling import settled
from app.vault.wrapping import named

_LONGEST_BLOB: Final = 4_096
_SHORTEST, _LONGEST = timedelta(days=1), timedelta(days=120)
_RING: Final = re.compile(r"projects/[a-z0-9:.-]{1,100}/locations/[a-z0-9-]{1,40}/keyRings/[A-Za-z0-9_-]{1,63}")
_ROOT: Final = re.compile(rf"({'|'.join(KeyClass)})-([0-9]{{1,9}})-([0-9]{{1,9}})")
_ASKED: Final = "regard-destroyed"
_PASSING: Final = frozenset({429, 500, 502, 503, 504})
_TELLING: Final = frozenset({"ALREADY_EXISTS", "NOT_FOUND", "FAILED_PRECONDITION", "INVALID_ARGUMENT"})
_State = kms_v1.CryptoKeyVersion.CryptoKeyVersionState
_GOING: Final = (_State.DESTROY_SCHEDULED, _State.DESTROYED)
_SPEAKING: Final = "google.cloud.kms_v1.services.key_management_service"

hush(
    f"{_SPEAKING}.client",
    f"{_SPEAKING}.transports.rest",
    f"{_SPEAKING}.transports.rest_base",
    "google.api_core.retry",
    "google.auth.transport.requests",
)


class _Refused(ProviderUnavailable):
    """A status of Google's that a caller here may understand better."""

    def __init__(self, operation: str, reason: str, *, of_checksum: bool) -> None:
        super().__init__(f"{operation}: {reason}")
        self.reason = reason
        self.of_checksum = of_checksum


class GcpKms:
    """A key provider on one key ring of Google Cloud KMS; safe to share between threads."""

    kind = "gcp"

    def __init__(
        self,
        key_ring: str,
        *,
        hardware: bool = False,
        destroy_window: timedelta = timedelta(days=30),
        endpoint: str | None = None,
        credentials: Credentials | None = None,
        patience: float = 3.0,
        deadline: float = 8.0,
    ) -> None:
        """Nothing is asked yet. `key_ring`: its full name; `hardware`: new roots in an HSM.

        `patience`: seconds for one attempt; `deadline`: seconds for all attempts of one call. `credentials`: Google's
        own default ones when `None`. Raises `ValueError` for a name or a window that Google does not take.
        """
        if _RING.fullmatch(key_ring) is None or not _SHORTEST <= destroy_window <= _LONGEST:
            raise ValueError("key_ring is projects/P/locations/L/keyRings/R; destroy_window is 1 to 120 days")
        self._ring = key_ring
        self._window = destroy_window
        level = kms_v1.ProtectionLevel.HSM if hardware else kms_v1.ProtectionLevel.SOFTWARE
        self._template = {"protection_level": level, "algorithm": _Algorithm.GOOGLE_SYMMETRIC_ENCRYPTION}
        self._endpoint = endpoint
        self._credentials = credentials
        self._patience = patience
        self._retry = Retry(predicate=_passes, initial=0.1, maximum=1.0, timeout=deadline) if deadline else None
        self._made: Any = None
        self._making = Lock()

    def create_root(self, name: RootName) -> str:
        """Return the reference of the root of this name, made when there is none; raises `RootDestroyed`."""
        key = f"{self._ring}/cryptoKeys/{name.key_class}-{name.partition}-{name.generation}"
        if self._version(key) is None:
            self._make(key)
        version = settled(lambda: self._generated(key))
        if version.state != _State.ENABLED:
            raise self._why(key)
        return f"gcp:{key}"

    def wrap(self, root: str, key: bytearray, name: bytes) -> bytes:
        """Return `key` wrapped by Cloud KMS; raises `UnknownRoot`, `RootDestroyed`."""
        of, about, plain = self._parse(root), named(root, name), bytes(key)
        asked = {"name": _first(of), "plaintext": plain, "plaintext_crc32c": crc32c(plain)}
        told = self._use(of, "encrypt", asked, about)
        whole = told.verified_plaintext_crc32c and told.verified_additional_authenticated_data_crc32c
        if told.name != _first(of) or not whole or told.ciphertext_crc32c != crc32c(told.ciphertext):
            raise ProviderUnavailable("encrypt: the answer is for another key, or bytes changed on the way")
        return marked(key, root, name, told.ciphertext)

    def unwrap(self, root: str, wrapped: bytes, name: bytes) -> bytearray:
        """Return the key; raises `UnknownRoot`, `RootDestroyed`, `KeyDamaged`."""
        of, about = self._parse(root), named(root, name)
        blob = blob_of(wrapped, _LONGEST_BLOB)
        told = self._use(of, "decrypt", {"name": of, "ciphertext": blob, "ciphertext_crc32c": crc32c(blob)}, about)
        if told.plaintext_crc32c != crc32c(told.plaintext):
            raise ProviderUnavailable("decrypt: bytes changed on the way")
        return proven(bytearray(told.plaintext), root, name, wrapped)

    def destroy(self, root: str) -> None:
        """Label the key, disable its version and schedule its destruction; raises `UnknownRoot`."""
        key = self._parse(root)
        version = self._version(key)
        if version is None:
            raise UnknownRoot
        if version.state not in _GOING:
            self._label(key)
            self._schedule(key)
        settled(lambda: self._refuses(key))

    def describe(self, root: str) -> RootDescription:
        """Return the state read back from Cloud KMS; raises `UnknownRoot`."""
        version = self._version(self._parse(root))
        if version is None:
            raise UnknownRoot
        seen = {
            "provider": self.kind,
            "root": root,
            "read_back": _State(version.state).name,
            "protection_level": kms_v1.ProtectionLevel(version.protection_level).name,
        }
        if version.state == _State.DESTROY_SCHEDULED:
            at = _moment(version.destroy_time)
            seen["destroy_time"] = at.isoformat()
            return RootDescription(RootState.SCHEDULED, at, f"C: unusable now, irrevocable on {at:%Y-%m-%d}", seen)
        if version.state == _State.DESTROYED:
            at = _moment(version.destroy_event_time)
            return RootDescription(RootState.DESTROYED, at, f"C: irrevocable since {at:%Y-%m-%d}", seen)
        later = f"C: in use; once destroyed, unusable at once and irrevocable {self._window.days} days later"
        return RootDescription(RootState.ACTIVE, None, later, seen)

    def _parse(self, root: str) -> str:
        """The CryptoKey of a reference; a root in another ring is unknown here, never destroyed."""
        start = f"gcp:{self._ring}/cryptoKeys/"
        if not root.startswith(start) or _ROOT.fullmatch(root.removeprefix(start)) is None:
            raise UnknownRoot
        return root.removeprefix("gcp:")

    # Making

    def _make(self, key: str) -> None:
        """Make the key; of two who do so at once, the name keeps one."""
        identifier = key.rpartition("/")[2]
        made = {
            "purpose": kms_v1.CryptoKey.CryptoKeyPurpose.ENCRYPT_DECRYPT,
            "version_template": self._template,
            "destroy_scheduled_duration": self._window,
            "labels": {"regard-root": identifier},
        }
        asked = {"parent": self._ring, "crypto_key_id": identifier, "crypto_key": made}
        try:
            self._call("create_crypto_key", asked)
        except _Refused as refusal:
            if refusal.reason != "ALREADY_EXISTS":
                raise

    def _generated(self, key: str) -> Any:
        """The version once it is made: an HSM takes its time."""
        version = self._version(key)
        return None if version is None or version.state == _State.PENDING_GENERATION else version

    # Destroying

    def _label(self, key: str) -> None:
        labels = self._labels(key)
        if _ASKED not in labels:
            changed = {"name": key, "labels": {**labels, _ASKED: "asked"}}
            self._call("update_crypto_key", {"crypto_key": changed, "update_mask": {"paths": ["labels"]}})

    def _schedule(self, key: str) -> None:
        try:
            off = {"name": _first(key), "state": _State.DISABLED}
            self._call("update_crypto_key_version", {"crypto_key_version": off, "update_mask": {"paths": ["state"]}})
            self._call("destroy_crypto_key_version", {"name": _first(key)})
        except _Refused as refusal:
            # Somebody else scheduled it meanwhile: the state that is read back decides.
            version = self._version(key) if refusal.reason == "FAILED_PRECONDITION" else None
            if version is None or version.state not in _GOING:
                raise

    def _refuses(self, key: str) -> bool:
        """Whether the key is shut in fact: a change of state takes its time to be everywhere."""
        try:
            self._call("encrypt", {"name": _first(key), "plaintext": b"regard: is this key shut?"})
        except _Refused as refusal:
            if refusal.reason != "FAILED_PRECONDITION":
                raise
            return True
        return False

    # Asking

    def _labels(self, key: str) -> dict[str, str]:
        return dict(self._call("get_crypto_key", {"name": key}).labels)

    def _version(self, key: str) -> Any:
        try:
            return self._call("get_crypto_key_version", {"name": _first(key)})
        except _Refused as refusal:
            if refusal.reason == "NOT_FOUND":
                return None
            raise

    def _why(self, key: str) -> ProviderUnavailable | RootDestroyed | UnknownRoot:
        """Why Cloud KMS would not use a key: destroyed by us, gone, or shut by somebody else."""
        version = self._version(key)
        if version is None:
            return UnknownRoot()
        if version.state == _State.ENABLED:
            return ProviderUnavailable("not consistent yet")
        if _ASKED in self._labels(key):
            return RootDestroyed()
        if version.state == _State.DESTROYED:
            return UnknownRoot()
        return ProviderUnavailable(f"the root's key is {_State(version.state).name}, and not by an erasure")

    def _use(self, key: str, operation: str, asked: dict[str, Any], about: bytes) -> Any:
        bound = {"additional_authenticated_data": about, "additional_authenticated_data_crc32c": crc32c(about)}
        try:
            return self._call(operation, asked | bound)
        except _Refused as refusal:
            if refusal.of_checksum:
                raise
            reason = refusal.reason
        if reason == "INVALID_ARGUMENT" and operation == "decrypt":
            raise KeyDamaged
        raise self._why(key)

    def _call(self, operation: str, asked: dict[str, Any]) -> Any:
        """Ask once or a few times; every failure becomes `ProviderUnavailable`, with nothing of what was sent."""
        try:
            method: Callable[..., Any] = getattr(self._client(), operation)
            return method(request=asked, retry=self._retry, timeout=self._patience)
        except (GoogleAPICallError, RetryError) as fault:
            cause = fault.cause if isinstance(fault, RetryError) and fault.cause is not None else fault
            reason, said = _status(cause), str(cause)
        except (RequestException, GoogleAuthError, ParseError, ValueError) as fault:
            raise ProviderUnavailable(f"{operation}: {type(fault).__name__}") from None
        if reason in _TELLING:
            raise _Refused(operation, reason, of_checksum="crc32c" in said)
        raise ProviderUnavailable(f"{operation}: {reason}")

    def _client(self) -> Any:
        """The client, made at first use: looking for credentials may take a while."""
        with self._making:
            if self._made is None:
                self._made = kms_v1.KeyManagementServiceClient(
                    credentials=self._credentials,
                    transport="rest",
                    client_options=ClientOptions(api_endpoint=self._endpoint) if self._endpoint else None,
                )
            return self._made


_Algorithm = kms_v1.CryptoKeyVersion.CryptoKeyVersionAlgorithm


def _first(key: str) -> str:
    return f"{key}/cryptoKeyVersions/1"


def _moment(at: datetime) -> datetime:
    """The same moment as a plain datetime; the library's own kind carries nanoseconds."""
    return datetime.fromtimestamp(at.timestamp(), UTC)


def _passes(fault: BaseException) -> bool:
    return isinstance(fault, NoConnection) or (isinstance(fault, GoogleAPICallError) and fault.code in _PASSING)


def _status(fault: object) -> str:
    """Google's status: over REST the class of an exception follows the HTTP status alone, and 400 means two things."""
    response = getattr(fault, "response", None)
    try:
        return str(response.json()["error"]["status"])  # type: ignore[union-attr]
    except (AttributeError, ValueError, KeyError, TypeError):
        return type(fault).__name__


def _table() -> tuple[int, ...]:
    table = list(range(256))
    for _ in range(8):
        table = [(value >> 1) ^ (0x82F63B78 if value & 1 else 0) for value in table]
    return tuple(table)


_CRC32C: Final = _table()


def crc32c(data: bytes) -> int:
    """Return the Castagnoli CRC of `data` (RFC 3720 section 12.1); against accidents on the way, not against malice."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = (crc >> 8) ^ _CRC32C[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF
