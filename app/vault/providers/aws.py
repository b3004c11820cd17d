"""Root keys in AWS KMS: one symmetric KMS key a root (vault.md section 4, assurance C; decision 0023).

A root is found by the alias `alias/<prefix>/<class>-<partition>-<generation>`; a reference holds the root's name and
the key's ARN, which AWS gives to one key only. Deleting is two-fold: unusable at once, irrevocable after 7 to 30 days;
until then whoever may call CancelKeyDeletion can bring the key back, and `describe` then says ACTIVE.
A deleted key takes its alias along, so what was destroyed is written down elsewhere: on a *marker*, a key that seals
nothing and carries, for each of 40 partitions, a tag with the last generation destroyed and its date. Generations only
grow: one tag is enough. The mark is written before the key is touched. A key that is pending deletion *without* it was
taken by somebody else: an outage to be mended in AWS, not an erasure, and no survivor is given up for it.

A wrapped key is our mark 32 | KMS's blob. Leaves out multi-Region keys, key policies and grants (the account's default
policy and IAM decide), keys that an interrupted `create_root` left without alias (they seal nothing; decision 0023 says
how to find them). `boto3` hands out keys as `bytes`, which cannot be wiped; its writing of bodies to logs is shut off
when this module is imported.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from threading import Lock
from typing import Any, Final

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from app.vault.errors import KeyDamaged, ProviderUnavailable, RootDestroyed, UnknownRoot
from app.vault.keys import KeyClass
from app.vault.ports import Clock, RootDescription, RootName, RootState
from app.vault.providers.hush import hush
from app.vault.providers.proof import blob_of, marked, proven
from app.vault.providers.settling import settled

_TAGS_PER_MARKER: Final = 40
"""Of the 50 tags a KMS key may have; the rest is the operator's."""
_LONGEST_BLOB: Final = 6_144
_WINDOWS: Final = range(7, 31)
_PREFIX: Final = re.compile(r"(?!aws)[A-Za-z0-9_-]{1,64}(/[A-Za-z0-9_-]{1,64})*")
_REFERENCE: Final = re.compile(
    r"aws:([a-z]+)/([0-9]{1,9})/([0-9]{1,9}):(arn:[a-z-]+:kms:([a-z0-9-]+):[0-9]{12}:key/[A-Za-z0-9-]+)"
)
_CLASSES: Final = frozenset(each.value for each in KeyClass)
_SHUT: Final = frozenset({"DisabledException", "KMSInvalidStateException", "NotFoundException"})
_DAMAGED: Final = frozenset({"InvalidCiphertextException", "IncorrectKeyException"})

hush(*(f"botocore.{name}" for name in ("auth", "awsrequest", "client", "endpoint", "handlers", "hooks", "parsers")))


class _Refused(ProviderUnavailable):
    """An error code of AWS that a caller here may understand better."""

    def __init__(self, operation: str, reason: str) -> None:
        super().__init__(f"{operation}: {reason}")
        self.reason = reason


@dataclass(frozen=True, slots=True)
class _Mark:
    """The last generation of a partition that was destroyed, and when it is, or became, irrevocable."""

    generation: int
    at: datetime

    def covers(self, name: RootName) -> bool:
        return name.generation <= self.generation


class AwsKms:
    """A key provider on AWS KMS in one account and region; safe to share between threads."""

    kind = "aws"

    def __init__(
        self,
        region: str,
        *,
        clock: Clock,
        waiting_days: int = 7,
        endpoint: str | None = None,
        prefix: str = "regard",
        patience: float = 3.0,
        attempts: int = 3,
        session: boto3.session.Session | None = None,
    ) -> None:
        """Nothing is asked yet. `patience`: seconds for one attempt; credentials by boto3's own chain, or `session`.

        Raises `ValueError` for a window or a prefix that AWS does not take.
        """
        if waiting_days not in _WINDOWS or _PREFIX.fullmatch(prefix) is None:
            raise ValueError("waiting_days is 7 to 30; prefix is made of letters, digits, / _ - and is not aws")
        self._region = region
        self._clock = clock
        self._days = waiting_days
        self._endpoint = endpoint
        self._prefix = prefix
        self._session = session
        self._config = Config(
            connect_timeout=patience,
            read_timeout=patience,
            retries={"mode": "standard", "total_max_attempts": attempts},
        )
        self._made: Any = None
        self._making = Lock()

    def create_root(self, name: RootName) -> str:
        """Return the reference of the root of this name, made when there is none; raises `RootDestroyed`."""
        alias = self._alias(f"{name.key_class}-{name.partition}-{name.generation}")
        key = self._key(alias)
        if key is None:
            if self._spent(name) is not None:
                raise RootDestroyed
            key = self._make(alias, f"Regard root {name.text()}", {"regard:root": name.text()})
        if key["KeyState"] != "Enabled":
            raise self._shut(name, key["KeyState"])
        return f"aws:{name.text()}:{key['Arn']}"

    def wrap(self, root: str, key: bytearray, name: bytes) -> bytes:
        """Return `key` wrapped by KMS; raises `UnknownRoot`, `RootDestroyed`."""
        arn, context = self._named(root, name)
        answer = self._use(root, "encrypt", KeyId=arn, Plaintext=bytes(key), EncryptionContext=context)
        return marked(key, root, name, self._of(answer, arn, "CiphertextBlob"))

    def unwrap(self, root: str, wrapped: bytes, name: bytes) -> bytearray:
        """Return the key; raises `UnknownRoot`, `RootDestroyed`, `KeyDamaged`."""
        arn, context = self._named(root, name)
        blob = blob_of(wrapped, _LONGEST_BLOB)
        # The key is named: without a KeyId, KMS opens what any other key of the account sealed.
        answer = self._use(root, "decrypt", KeyId=arn, CiphertextBlob=blob, EncryptionContext=context)
        return proven(bytearray(self._of(answer, arn, "Plaintext")), root, name, wrapped)

    def destroy(self, root: str) -> None:
        """Disable the key and schedule its deletion, the marker first; raises `UnknownRoot`."""
        name, arn = self._parse(root)
        key = self._key(arn)
        if key is None:
            if self._spent(name) is None:
                raise UnknownRoot
            return
        if key["KeyState"] != "PendingDeletion":
            self._note(name, self._clock.now() + timedelta(days=self._days))
            key = self._delete(arn, key["KeyId"])
        self._note(name, key["DeletionDate"])
        settled(lambda: self._refuses(arn))

    def describe(self, root: str) -> RootDescription:
        """Return the state read back from KMS: only a date of deletion makes it SCHEDULED, only its absence DESTROYED.

        DESTROYED carries the date of the partition's mark: exact for the last root destroyed, the latest possible for
        earlier ones.
        """
        name, arn = self._parse(root)
        key = self._key(arn)
        seen = {"provider": self.kind, "root": root, "read_back": "NotFound" if key is None else key["KeyState"]}
        if key is None:
            mark = self._spent(name)
            if mark is None:
                raise UnknownRoot
            gone = min(mark.at, self._clock.now())
            seen["marked_generation"] = str(mark.generation)
            return RootDescription(RootState.DESTROYED, gone, f"C: irrevocable since {gone:%Y-%m-%d}", seen)
        if key["KeyState"] != "PendingDeletion":
            later = f"C: in use; once destroyed, unusable at once and irrevocable {self._days} days later"
            return RootDescription(RootState.ACTIVE, None, later, seen)
        at: datetime = key["DeletionDate"].astimezone(UTC)
        seen["deletion_date"] = at.isoformat()
        return RootDescription(RootState.SCHEDULED, at, f"C: unusable now, irrevocable on {at:%Y-%m-%d}", seen)

    # Names

    def _alias(self, rest: str) -> str:
        return f"alias/{self._prefix}/{rest}"

    def _parse(self, root: str) -> tuple[RootName, str]:
        found = _REFERENCE.fullmatch(root)
        if found is None or found[1] not in _CLASSES or found[5] != self._region:
            raise UnknownRoot
        return RootName(KeyClass(found[1]), int(found[2]), int(found[3])), found[4]

    def _named(self, root: str, name: bytes) -> tuple[str, dict[str, str]]:
        """The key's ARN and the encryption context, which CloudTrail shows: opaque names only."""
        root_name, arn = self._parse(root)
        return arn, {"regard:root": root_name.text(), "regard:key": sha256(name).hexdigest()}

    # Making

    def _make(self, alias: str, description: str, tags: dict[str, str]) -> dict[str, Any]:
        """Make a key under an alias. Of two who do so at once the alias keeps one; the other deletes its own key."""
        listed = [{"TagKey": key, "TagValue": value} for key, value in tags.items()]
        made: str = self._call("create_key", Description=description, Tags=listed)["KeyMetadata"]["KeyId"]
        settled(lambda: self._give(alias, made))
        found = settled(lambda: self._key(alias))
        # Not by the answer to CreateAlias: after a lost answer, the second attempt meets the alias of the first.
        if found["KeyId"] != made:
            self._call("schedule_key_deletion", KeyId=made, PendingWindowInDays=_WINDOWS[0])
        return found

    def _give(self, alias: str, key_id: str) -> bool:
        """Let the alias name the key, unless it names one; false when KMS does not see the new key yet."""
        try:
            self._call("create_alias", AliasName=alias, TargetKeyId=key_id)
        except _Refused as refusal:
            if refusal.reason not in ("AlreadyExistsException", "NotFoundException"):
                raise
            return refusal.reason == "AlreadyExistsException"
        return True

    # Destroying

    def _delete(self, arn: str, key_id: str) -> dict[str, Any]:
        """Disable, schedule, and wait until KMS says so itself."""
        try:
            self._call("disable_key", KeyId=key_id)
            self._call("schedule_key_deletion", KeyId=key_id, PendingWindowInDays=self._days)
        except _Refused as refusal:
            # Somebody else scheduled it meanwhile: the state that is read back decides.
            if refusal.reason != "KMSInvalidStateException":
                raise
        return settled(lambda: self._pending(arn))

    def _pending(self, arn: str) -> dict[str, Any] | None:
        key = self._key(arn)
        return key if key is not None and key["KeyState"] == "PendingDeletion" else None

    def _refuses(self, arn: str) -> bool:
        """Whether the key is shut in fact: a change of state takes its time to be everywhere."""
        try:
            self._call("encrypt", KeyId=arn, Plaintext=b"regard: is this key shut?")
        except _Refused as refusal:
            if refusal.reason not in _SHUT:
                raise
            return True
        return False

    def _marker(self, name: RootName) -> str:
        return self._alias(f"spent-{name.key_class}-{name.partition // _TAGS_PER_MARKER}")

    def _spent(self, name: RootName) -> _Mark | None:
        """The partition's mark, when it says that the root of this name was destroyed."""
        marker = self._key(self._marker(name))
        mark = None if marker is None else self._read_mark(marker["Arn"], name)
        return mark if mark is not None and mark.covers(name) else None

    def _read_mark(self, marker: str, name: RootName) -> _Mark | None:
        asked: dict[str, Any] = {"KeyId": marker}
        while True:
            answer = self._call("list_resource_tags", **asked)
            for tag in answer["Tags"]:
                if tag["TagKey"] == _tag(name):
                    return _mark(tag["TagValue"])
            if not answer.get("Truncated"):
                return None
            asked["Marker"] = answer["NextMarker"]

    def _note(self, name: RootName, at: datetime) -> None:
        """Write the mark; never back to an earlier generation. A partition has one erasure at a time, so no race."""
        alias, at = self._marker(name), at.astimezone(UTC).replace(microsecond=0)
        marker = self._key(alias)
        if marker is None:
            marker = self._make(alias, "Regard marker of destroyed roots", {"regard:marker": alias})
        mark = self._read_mark(marker["Arn"], name)
        if mark is not None and (mark.generation > name.generation or mark == _Mark(name.generation, at)):
            return
        value = f"{name.generation} {at.isoformat()}"
        self._call("tag_resource", KeyId=marker["Arn"], Tags=[{"TagKey": _tag(name), "TagValue": value}])

    # Asking

    def _shut(self, name: RootName, state: str) -> ProviderUnavailable | RootDestroyed:
        if self._spent(name) is not None:
            return RootDestroyed()
        return ProviderUnavailable(f"the root's key is {state} in KMS, and not by an erasure")

    def _why(self, root: str) -> ProviderUnavailable | RootDestroyed | UnknownRoot:
        """Why KMS would not use a key: destroyed by us, gone, or taken away by somebody else."""
        name, arn = self._parse(root)
        key = self._key(arn)
        if key is not None:
            enabled = key["KeyState"] == "Enabled"
            return ProviderUnavailable("not consistent yet") if enabled else self._shut(name, key["KeyState"])
        return UnknownRoot() if self._spent(name) is None else RootDestroyed()

    def _use(self, root: str, operation: str, **asked: Any) -> Any:
        try:
            return self._call(operation, **asked)
        except _Refused as refusal:
            reason = refusal.reason
        if reason in _DAMAGED:
            raise KeyDamaged
        raise self._why(root)

    @staticmethod
    def _of(answer: dict[str, Any], arn: str, field: str) -> bytes:
        if answer.get("KeyId") != arn or not isinstance(answer.get(field), bytes):
            raise ProviderUnavailable("KMS answered for another key, or nothing")
        found: bytes = answer[field]
        return found

    def _key(self, key_id: str) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = self._call("describe_key", KeyId=key_id)["KeyMetadata"]
        except _Refused as refusal:
            if refusal.reason == "NotFoundException":
                return None
            raise
        return found

    def _call(self, operation: str, **asked: Any) -> Any:
        """Ask KMS; every failure becomes `ProviderUnavailable` with AWS's code, and nothing of what was sent."""
        try:
            return getattr(self._client(), operation)(**asked)
        except ClientError as fault:
            reason = str(fault.response.get("Error", {}).get("Code", "unknown"))
        except (BotoCoreError, ResponseParserError, ValueError) as fault:
            raise ProviderUnavailable(f"{operation}: {type(fault).__name__}") from None
        if reason in _SHUT | _DAMAGED | {"AlreadyExistsException"}:
            raise _Refused(operation, reason)
        raise ProviderUnavailable(f"{operation}: {reason}")

    def _client(self) -> Any:
        """The client, made at first use: that takes tenths of a second, and sessions are not for two threads."""
        with self._making:
            if self._made is None:
                session = self._session or boto3.session.Session()
                self._made = session.client(
                    "kms", region_name=self._region, endpoint_url=self._endpoint, config=self._config
                )
            return self._made


def _tag(name: RootName) -> str:
    return f"regard:partition-{name.partition}"


def _mark(value: str) -> _Mark:
    """Read a mark; one that somebody rewrote is an outage: nothing is taken for destroyed on its account."""
    generation, _, at = value.partition(" ")
    try:
        return _Mark(int(generation), datetime.fromisoformat(at).astimezone(UTC))
    except ValueError:
        raise ProviderUnavailable("a marker's tag is not one of Regard's") from None
