"""AWS KMS for tests: a server on loopback that keeps true key states and refuses what the real one refuses.

moto serves for the wire shape alone: it decrypts with keys that are disabled or pending deletion. What this server does
not know (an operation, a field) it refuses. Each folder has a world of its own: one account in one region.
"""

from __future__ import annotations

import base64
import json
import os
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from app.vault.providers.aws import AwsKms
from tests.mechanism.vaults import SetClock

REGION, ACCOUNT = "eu-west-3", "111122223333"
PASSING = {"ThrottlingException": 400, "KMSInternalException": 500, "DependencyTimeoutException": 503}
FIELDS: dict[str, tuple[set[str], set[str]]] = {
    "CreateKey": (set(), {"Description", "Tags"}),
    "CreateAlias": ({"AliasName", "TargetKeyId"}, set()),
    "DescribeKey": ({"KeyId"}, set()),
    "Encrypt": ({"KeyId", "Plaintext"}, {"EncryptionContext"}),
    "Decrypt": ({"CiphertextBlob"}, {"KeyId", "EncryptionContext"}),
    "DisableKey": ({"KeyId"}, set()),
    "EnableKey": ({"KeyId"}, set()),
    "ScheduleKeyDeletion": ({"KeyId"}, {"PendingWindowInDays"}),
    "CancelKeyDeletion": ({"KeyId"}, set()),
    "TagResource": ({"KeyId", "Tags"}, set()),
    "ListResourceTags": ({"KeyId"}, {"Limit", "Marker"}),
}
_BLOB = b"\x01\x02\x02\x00\x78"


class Refusal(Exception):
    """What KMS answers instead."""

    def __init__(self, code: str, message: str = "", status: int = 400) -> None:
        super().__init__(code)
        self.code, self.message, self.status = code, message, status


@dataclass
class CloudKey:
    """One KMS key."""

    id: str
    made: datetime
    description: str
    tags: dict[str, str]
    material: bytes = field(default_factory=lambda: os.urandom(32))
    state: str = "Enabled"
    deletion: datetime | None = None
    unseen: int = 0

    @property
    def arn(self) -> str:
        return f"arn:aws:kms:{REGION}:{ACCOUNT}:key/{self.id}"


class CloudKms:
    """KMS in one account and region, at the time of `clock`."""

    def __init__(self, clock: SetClock) -> None:
        self.clock = clock
        self.keys: dict[str, CloudKey] = {}
        self.aliases: dict[str, str] = {}
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.lock = threading.RLock()
        self.lag = 0
        """How many questions about a new key, or a new alias, are answered as if it was not there."""
        self.late = timedelta(0)
        """How much later than asked keys are deleted; in truth it is up to a day, and DescribeKey says so."""
        self.page = 50
        self.stale = 0
        """How many uses of a key go through after it was shut."""
        self.fault: Callable[[str], None] = lambda _operation: None
        """Called before each operation; may raise `Refusal` or sleep."""
        self.after: Callable[[str, dict[str, Any]], dict[str, Any]] = lambda _operation, answer: answer
        """May change, or lose, an answer to what was done."""

    def do(self, operation: str, asked: dict[str, Any]) -> dict[str, Any]:
        self.asked.append((operation, asked))
        self.fault(operation)
        if operation not in FIELDS:
            raise Refusal("ValidationException", f"unknown operation {operation}")
        needed, known = FIELDS[operation]
        if not needed <= set(asked) <= needed | known:
            raise Refusal("ValidationException", f"fields of {operation}")
        with self.lock:
            self._pass()
            answer = getattr(self, f"_{_snake(operation)}")(**{_snake(name): value for name, value in asked.items()})
        return self.after(operation, answer)

    def key(self, reference: str) -> CloudKey:
        """The key of a reference of ours."""
        return self.keys[reference.rpartition("/")[2]]

    def used(self, operation: str) -> int:
        return sum(name == operation for name, _ in self.asked)

    def _pass(self) -> None:
        """What the deletion date has reached is gone, its aliases with it."""
        gone = {key.id for key in self.keys.values() if key.deletion is not None and key.deletion <= self.clock.now()}
        self.keys = {each: key for each, key in self.keys.items() if each not in gone}
        self.aliases = {alias: each for alias, each in self.aliases.items() if each not in gone}

    def _find(self, key_id: str, *, by_alias: bool = False) -> CloudKey:
        own = f"arn:aws:kms:{REGION}:{ACCOUNT}:"
        if key_id.startswith("arn:") and not key_id.startswith(own):
            raise Refusal("NotFoundException", "Invalid arn")
        name = key_id.removeprefix(own).removeprefix("key/")
        if name.startswith("alias/"):
            if not by_alias:
                raise Refusal("ValidationException" if not key_id.startswith("arn:") else "InvalidArnException")
            name = self.aliases.get(name, "")
        key = self.keys.get(name)
        if key is None:
            raise Refusal("NotFoundException", f"Key '{key_id}' does not exist")
        if key.unseen:
            key.unseen -= 1
            raise Refusal("NotFoundException", f"Key '{key_id}' does not exist")
        return key

    def _usable(self, key_id: str) -> CloudKey:
        key = self._find(key_id, by_alias=True)
        if key.state != "Enabled" and self.stale:
            self.stale -= 1
            return key
        if key.state == "Disabled":
            raise Refusal("DisabledException", f"{key.arn} is disabled.")
        return _in(key, "Enabled")

    def _create_key(self, description: str = "", tags: list[dict[str, str]] | None = None) -> dict[str, Any]:
        tags = _tags({}, tags or [])
        key = CloudKey(str(uuid.uuid4()), self.clock.now(), description, tags, unseen=self.lag)
        self.keys[key.id] = key
        return {"KeyMetadata": _metadata(key)}

    def _create_alias(self, alias_name: str, target_key_id: str) -> dict[str, Any]:
        if re.fullmatch(r"alias/(?!aws/)[a-zA-Z0-9/_-]{1,250}", alias_name) is None:
            raise Refusal("InvalidAliasNameException" if alias_name.startswith("alias/") else "ValidationException")
        key = _in(self._find(target_key_id), "Enabled", "Disabled")
        if alias_name in self.aliases:
            raise Refusal("AlreadyExistsException", f"An alias with the name {alias_name} already exists")
        if sum(target == key.id for target in self.aliases.values()) >= 50:
            raise Refusal("LimitExceededException")
        self.aliases[alias_name] = key.id
        key.unseen = self.lag
        return {}

    def _describe_key(self, key_id: str) -> dict[str, Any]:
        return {"KeyMetadata": _metadata(self._find(key_id, by_alias=True))}

    def _encrypt(self, key_id: str, plaintext: str, encryption_context: dict[str, str] | None = None) -> dict[str, Any]:
        key, plain = self._usable(key_id), base64.b64decode(plaintext, validate=True)
        if not 1 <= len(plain) <= 4096:
            raise Refusal("ValidationException")
        nonce = os.urandom(12)
        head = _BLOB + uuid.UUID(key.id).bytes
        blob = head + nonce + AESGCM(key.material).encrypt(nonce, plain, head + _context(encryption_context))
        return {"CiphertextBlob": _text(blob), "KeyId": key.arn, "EncryptionAlgorithm": "SYMMETRIC_DEFAULT"}

    def _decrypt(
        self, ciphertext_blob: str, key_id: str | None = None, encryption_context: dict[str, str] | None = None
    ) -> dict[str, Any]:
        blob = base64.b64decode(ciphertext_blob, validate=True)
        asked = self._usable(key_id) if key_id is not None else None
        if len(blob) < 33 or not blob.startswith(_BLOB):
            raise Refusal("InvalidCiphertextException")
        key = self._usable(str(uuid.UUID(bytes=blob[5:21])))
        if asked is not None and asked.id != key.id:
            raise Refusal("IncorrectKeyException", "The key ID in the request does not identify the right key")
        try:
            plain = AESGCM(key.material).decrypt(blob[21:33], blob[33:], blob[:21] + _context(encryption_context))
        except InvalidTag:
            raise Refusal("InvalidCiphertextException") from None
        return {"Plaintext": _text(plain), "KeyId": key.arn, "EncryptionAlgorithm": "SYMMETRIC_DEFAULT"}

    def _disable_key(self, key_id: str) -> dict[str, Any]:
        _in(self._find(key_id), "Enabled", "Disabled").state = "Disabled"
        return {}

    def _enable_key(self, key_id: str) -> dict[str, Any]:
        _in(self._find(key_id), "Enabled", "Disabled").state = "Enabled"
        return {}

    def _schedule_key_deletion(self, key_id: str, pending_window_in_days: int = 30) -> dict[str, Any]:
        if not 7 <= pending_window_in_days <= 30:
            raise Refusal("ValidationException")
        key = _in(self._find(key_id), "Enabled", "Disabled")
        asked = self.clock.now() + timedelta(days=pending_window_in_days)
        key.state, key.deletion = "PendingDeletion", asked + self.late
        told = {"KeyId": key.arn, "KeyState": key.state, "DeletionDate": asked.timestamp()}
        return told | {"PendingWindowInDays": pending_window_in_days}

    def _cancel_key_deletion(self, key_id: str) -> dict[str, Any]:
        key = _in(self._find(key_id), "PendingDeletion")
        key.state, key.deletion = "Disabled", None
        return {"KeyId": key.arn}

    def _tag_resource(self, key_id: str, tags: list[dict[str, str]]) -> dict[str, Any]:
        key = _in(self._find(key_id), "Enabled", "Disabled")
        key.tags = _tags(key.tags, tags)
        return {}

    def _list_resource_tags(self, key_id: str, limit: int = 50, marker: str = "0") -> dict[str, Any]:
        tags, first, size = sorted(self._find(key_id).tags.items()), int(marker), min(limit, self.page)
        shown = [{"TagKey": key, "TagValue": value} for key, value in tags[first : first + size]]
        more = first + size < len(tags)
        return {"Tags": shown, "Truncated": more} | ({"NextMarker": str(first + size)} if more else {})


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def _in(key: CloudKey, *states: str) -> CloudKey:
    if key.state not in states:
        raise Refusal("KMSInvalidStateException", f"{key.arn} is pending deletion.")
    return key


def _tags(old: dict[str, str], new: list[dict[str, str]]) -> dict[str, str]:
    tags = old | {each["TagKey"]: each["TagValue"] for each in new}
    good = all(re.fullmatch(r"(?!aws:)[\w .:/=+\-@]{1,128}", key) for key in tags)
    if not good or not all(re.fullmatch(r"[\w .:/=+\-@]{0,256}", value) for value in tags.values()):
        raise Refusal("TagException")
    if len(tags) > 50:
        raise Refusal("LimitExceededException")
    return tags


def _metadata(key: CloudKey) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "AWSAccountId": ACCOUNT,
        "KeyId": key.id,
        "Arn": key.arn,
        "CreationDate": key.made.timestamp(),
        "Enabled": key.state == "Enabled",
        "Description": key.description,
        "KeyUsage": "ENCRYPT_DECRYPT",
        "KeyState": key.state,
        "Origin": "AWS_KMS",
        "KeyManager": "CUSTOMER",
        "KeySpec": "SYMMETRIC_DEFAULT",
        "MultiRegion": False,
    }
    return shown | ({} if key.deletion is None else {"DeletionDate": key.deletion.timestamp()})


def _context(context: dict[str, str] | None) -> bytes:
    return json.dumps(context or {}, sort_keys=True).encode()


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


class _Door(BaseHTTPRequestHandler):
    """KMS over HTTP: JSON 1.1, the operation in a header, each request signed for this region."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16

    def do_POST(self) -> None:
        asked = self.rfile.read(int(self.headers["Content-Length"]))
        try:
            status, answer = 200, self._answer(asked)
        except Refusal as refusal:
            status, answer = refusal.status, {"__type": refusal.code, "message": refusal.message}
        except ConnectionAbortedError:
            self.close_connection = True
            return
        raw = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def _answer(self, asked: bytes) -> dict[str, Any]:
        service, _, operation = self.headers["X-Amz-Target"].partition(".")
        signed = re.match(
            r"AWS4-HMAC-SHA256 Credential=[^/]+/\d{8}/([^/]+)/kms/aws4_request,", self.headers["Authorization"]
        )
        if service != "TrentService" or signed is None or signed[1] != REGION:
            raise Refusal("IncompleteSignature")
        return WORLDS[self.path.strip("/")].do(operation, json.loads(asked))

    def log_message(self, *_: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that went away while we slept is part of the tests."""


WORLDS: dict[str, CloudKms] = {}
_STARTING = threading.Lock()
_SERVER: list[_Server] = []
SESSION = boto3.session.Session(aws_access_key_id="none", aws_secret_access_key="none")
"""Credentials that are nobody's; shared, because reading the service's description takes most of a test's time."""


def _address() -> str:
    with _STARTING:
        if not _SERVER:
            _SERVER.append(_Server(("127.0.0.1", 0), _Door))
            threading.Thread(target=_SERVER[0].serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    return f"http://127.0.0.1:{_SERVER[0].server_port}"


def _name(folder: Path) -> str:
    return uuid.uuid5(uuid.NAMESPACE_URL, folder.resolve().as_uri()).hex


def cloud(folder: Path, clock: SetClock | None = None) -> CloudKms:
    """The KMS of a folder, made when there is none."""
    return WORLDS.setdefault(_name(folder), CloudKms(clock or SetClock()))


def aws_kms(folder: Path, **more: Any) -> AwsKms:
    """A provider on the KMS of a folder."""
    world = cloud(folder)
    endpoint = f"{_address()}/{_name(folder)}/"
    return AwsKms(REGION, clock=world.clock, endpoint=endpoint, session=SESSION, **more)


@contextmanager
def failing(world: CloudKms, code: str, *operations: str, times: int = 1_000) -> Iterator[None]:
    """Let operations (all, when none is named) answer with an error code for a while."""
    left = [times]

    def fail(operation: str) -> None:
        if left[0] and (not operations or operation in operations):
            left[0] -= 1
            raise Refusal(code, "as the test wants", PASSING.get(code, 400))

    world.fault = fail
    try:
        yield
    finally:
        world.fault = lambda _operation: None


@contextmanager
def slow(world: CloudKms, seconds: float, *operations: str) -> Iterator[None]:
    """Let operations take their time."""
    world.fault = lambda operation: time.sleep(seconds) if not operations or operation in operations else None
    try:
        yield
    finally:
        world.fault = lambda _operation: None
