"""Google Cloud KMS for tests: its REST API on loopback, with true version states; what it does not know it refuses.

Each folder has a project of its own, with one key ring.
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
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from google.auth.credentials import AnonymousCredentials

from app.vault.providers.gcp import GcpKms
from tests.mechanism.vaults import SetClock

STATUSES: Final = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "RESOURCE_EXHAUSTED": 429,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
STATES: Final = {"ENABLED": 1, "DISABLED": 2, "DESTROYED": 3, "DESTROY_SCHEDULED": 4, "PENDING_GENERATION": 5}
LEVELS: Final = {"SOFTWARE": 1, "HSM": 2}
GOOGLE_SYMMETRIC_ENCRYPTION: Final = 1
ENCRYPT_DECRYPT: Final = 1
_KEY: Final = r"projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/:]+"
_HEAD: Final = b"\x0a\x24\x00"


class Refusal(Exception):
    """What Cloud KMS answers instead."""

    def __init__(self, status: str, message: str = "as the test wants") -> None:
        super().__init__(status)
        self.status, self.message = status, message


@dataclass
class CloudVersion:
    """One CryptoKeyVersion."""

    name: str
    level: int
    made: datetime
    state: str = "ENABLED"
    material: bytes = field(default_factory=lambda: os.urandom(32))
    destroy: datetime | None = None
    gone: datetime | None = None


@dataclass
class CloudKey:
    """One CryptoKey."""

    name: str
    level: int
    window: timedelta
    labels: dict[str, str]
    made: datetime
    versions: list[CloudVersion] = field(default_factory=list)


class CloudKms:
    """One project with one key ring, at the time of `clock`."""

    def __init__(self, project: str, clock: SetClock) -> None:
        self.ring = f"projects/{project}/locations/europe-west9/keyRings/regard"
        self.clock = clock
        self.keys: dict[str, CloudKey] = {}
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.lock = threading.RLock()
        self.generating = 0
        """How often a new version of an HSM key is told to be pending."""
        self.stale = 0
        """How many uses of a version go through after it was shut."""
        self.disable_first = True
        """The organisation's policy: only a disabled version may be destroyed."""
        self.fault: Callable[[str], None] = lambda _operation: None
        self.after: Callable[[str, dict[str, Any]], dict[str, Any]] = lambda _operation, answer: answer

    def do(self, method: str, path: str, query: dict[str, str], body: dict[str, Any]) -> dict[str, Any]:
        operation, name, work = self._routed(method, path)
        self.asked.append((operation, body))
        self.fault(operation)
        with self.lock:
            self._pass()
            answer = work(name, query, body)
        return self.after(operation, answer)

    def used(self, operation: str) -> int:
        return sum(name == operation for name, _ in self.asked)

    def version(self, root: str) -> CloudVersion:
        """The first version of a reference of ours."""
        return self.keys[root.removeprefix("gcp:")].versions[0]

    def restore(self, root: str) -> None:
        self.do("POST", f"{self.version(root).name}:restore", {}, {})

    def enable(self, root: str) -> None:
        self.do("PATCH", self.version(root).name, {"updateMask": "state"}, {"state": "ENABLED"})

    def _routed(self, method: str, path: str) -> tuple[str, str, Callable[..., dict[str, Any]]]:
        for operation, wanted, pattern, work in (
            ("create", "POST", r"(projects/[^/]+/locations/[^/]+/keyRings/[^/]+)/cryptoKeys", self._create),
            ("get", "GET", rf"({_KEY})", self._get),
            ("update", "PATCH", rf"({_KEY})", self._update),
            ("getVersion", "GET", rf"({_KEY}/cryptoKeyVersions/\d+)", self._get_version),
            ("updateVersion", "PATCH", rf"({_KEY}/cryptoKeyVersions/\d+)", self._update_version),
            ("destroy", "POST", rf"({_KEY}/cryptoKeyVersions/\d+):destroy", self._destroy),
            ("restore", "POST", rf"({_KEY}/cryptoKeyVersions/\d+):restore", self._restore),
            ("rotate", "POST", rf"({_KEY})/cryptoKeyVersions", self._rotate),
            ("encrypt", "POST", rf"({_KEY}(?:/cryptoKeyVersions/\d+)?):encrypt", self._encrypt),
            ("decrypt", "POST", rf"({_KEY}):decrypt", self._decrypt),
        ):
            found = re.fullmatch(pattern, path)
            if found is not None and wanted == method:
                return operation, found[1], work
        raise Refusal("NOT_FOUND", f"no such method: {method} {path}")

    def _pass(self) -> None:
        """What its time has reached is destroyed."""
        for version in (version for key in self.keys.values() for version in key.versions):
            if version.destroy is not None and version.destroy <= self.clock.now():
                version.state, version.gone, version.destroy = "DESTROYED", version.destroy, None
                version.material = b""

    def _key(self, name: str) -> CloudKey:
        if name not in self.keys:
            raise Refusal("NOT_FOUND", f"CryptoKey {name} not found.")
        return self.keys[name]

    def _find(self, name: str) -> CloudVersion:
        key = self._key(name.partition("/cryptoKeyVersions/")[0])
        for version in key.versions:
            if version.name == name:
                return version
        raise Refusal("NOT_FOUND", f"CryptoKeyVersion {name} not found.")

    def _create(self, ring: str, query: dict[str, str], body: dict[str, Any]) -> dict[str, Any]:
        known(body, "purpose", "versionTemplate", "destroyScheduledDuration", "labels")
        known(query, "cryptoKeyId")
        if ring != self.ring:
            raise Refusal("NOT_FOUND", f"KeyRing {ring} not found.")
        identifier, template = query.get("cryptoKeyId", ""), body.get("versionTemplate", {})
        known(template, "protectionLevel", "algorithm")
        window = timedelta(seconds=float(str(body.get("destroyScheduledDuration", "2592000s")).removesuffix("s")))
        good = (
            re.fullmatch(r"[a-zA-Z0-9_-]{1,63}", identifier)
            and body.get("purpose") in (ENCRYPT_DECRYPT, "ENCRYPT_DECRYPT")
            and template.get("algorithm", 1) == GOOGLE_SYMMETRIC_ENCRYPTION
            and template.get("protectionLevel", 1) in LEVELS.values()
            and timedelta(days=1) <= window <= timedelta(days=120)
        )
        if not good:
            raise Refusal("INVALID_ARGUMENT", "create")
        name = f"{ring}/cryptoKeys/{identifier}"
        if name in self.keys:
            raise Refusal("ALREADY_EXISTS", f"CryptoKey {name} already exists.")
        key = CloudKey(name, template.get("protectionLevel", 1), window, labels_of(body), self.clock.now())
        key.versions.append(self._new_version(key))
        self.keys[name] = key
        return shown_key(key)

    def _new_version(self, key: CloudKey) -> CloudVersion:
        name = f"{key.name}/cryptoKeyVersions/{len(key.versions) + 1}"
        state = "PENDING_GENERATION" if self.generating and key.level == LEVELS["HSM"] else "ENABLED"
        return CloudVersion(name, key.level, self.clock.now(), state)

    def _rotate(self, name: str, query: dict[str, str], body: dict[str, Any]) -> dict[str, Any]:
        key = self._key(name)
        key.versions.append(self._new_version(key))
        return shown_version(key.versions[-1])

    def _get(self, name: str, query: dict[str, str], body: dict[str, Any]) -> dict[str, Any]:
        return shown_key(self._key(name))

    def _update(self, name: str, query: dict[str, str], body: dict[str, Any]) -> dict[str, Any]:
        known(body, "name", "labels")
        if query != {"updateMask": "labels"}:
            raise Refusal("INVALID_ARGUMENT", "updateMask")
        key = self._key(name)
        key.labels = labels_of(body)
        return shown_key(key)

    def _get_version(self, name: str, query: dict[str, str], body: dict[str, Any]) -> dict[str, Any]:
        version = self._find(name)
        if version.state == "PENDING_GENERATION":
            self.generating -= 1
            version.state = "PENDING_GENERATION" if self.generating > 0 else "ENABLED"
        return shown_version(version)

    def _update_version(self, name: str, query: dict[str, str], body: dict[str, Any]) -> dict[str, Any]:
        known(body, "name", "state")
        states = {1: "ENABLED", 2: "DISABLED", "ENABLED": "ENABLED", "DISABLED": "DISABLED"}
        if query != {"updateMask": "state"} or body.get("state") not in states:
            raise Refusal("INVALID_ARGUMENT", "state")
        version = within(self._find(name), "ENABLED", "DISABLED")
        version.state = states[body["state"]]
        return shown_version(version)

    def _destroy(self, name: str, query: dict[str, str], body: dict[str, Any]) -> dict[str, Any]:
        known(body)
        version = within(self._find(name), *(("DISABLED",) if self.disable_first else ("ENABLED", "DISABLED")))
        window = self._key(name.partition("/cryptoKeyVersions/")[0]).window
        version.state, version.destroy = "DESTROY_SCHEDULED", self.clock.now() + window
        return shown_version(version)

    def _restore(self, name: str, query: dict[str, str], body: dict[str, Any]) -> dict[str, Any]:
        version = within(self._find(name), "DESTROY_SCHEDULED")
        version.state, version.destroy = "DISABLED", None
        return shown_version(version)

    def _usable(self, version: CloudVersion) -> CloudVersion:
        if version.state in ("DISABLED", "DESTROY_SCHEDULED") and self.stale:
            self.stale -= 1
            return version
        return within(version, "ENABLED")

    def _encrypt(self, name: str, query: dict[str, str], body: dict[str, Any]) -> dict[str, Any]:
        known(
            body,
            "name",
            "plaintext",
            "additionalAuthenticatedData",
            "plaintextCrc32c",
            "additionalAuthenticatedDataCrc32c",
        )
        version = self._find(name if "/cryptoKeyVersions/" in name else f"{name}/cryptoKeyVersions/1")
        plain, plain_sum = checked(body, "plaintext")
        about, about_sum = checked(body, "additionalAuthenticatedData")
        if not 0 < len(plain) <= 8192:
            raise Refusal("INVALID_ARGUMENT", "plaintext")
        self._usable(version)
        nonce, head = os.urandom(12), _HEAD + sha256(version.name.encode()).digest()
        blob = head + nonce + AESGCM(version.material).encrypt(nonce, plain, head + about)
        return {
            "name": version.name,
            "ciphertext": text(blob),
            "ciphertextCrc32c": str(castagnoli(blob)),
            "verifiedPlaintextCrc32c": plain_sum,
            "verifiedAdditionalAuthenticatedDataCrc32c": about_sum,
            "protectionLevel": version.level,
        }

    def _decrypt(self, name: str, query: dict[str, str], body: dict[str, Any]) -> dict[str, Any]:
        known(
            body,
            "name",
            "ciphertext",
            "additionalAuthenticatedData",
            "ciphertextCrc32c",
            "additionalAuthenticatedDataCrc32c",
        )
        key = self._key(name)
        blob, _ = checked(body, "ciphertext")
        about, _ = checked(body, "additionalAuthenticatedData")
        found = [each for each in key.versions if blob.startswith(_HEAD + sha256(each.name.encode()).digest())]
        if not found:
            # The real one says so of a key that is shut as well, when the ciphertext is nobody's.
            raise Refusal("INVALID_ARGUMENT", "Decryption failed: the ciphertext is invalid.")
        version = self._usable(found[0])
        try:
            plain = AESGCM(version.material).decrypt(blob[35:47], blob[47:], blob[:35] + about)
        except InvalidTag:
            raise Refusal("INVALID_ARGUMENT", "Decryption failed: the ciphertext is invalid.") from None
        return {
            "plaintext": text(plain),
            "plaintextCrc32c": str(castagnoli(plain)),
            "usedPrimary": version is key.versions[0],
            "protectionLevel": version.level,
        }


def known(given: dict[str, Any], *names: str) -> None:
    for name in set(given) - set(names):
        raise Refusal("INVALID_ARGUMENT", f'Unknown name "{name}": Cannot find field.')


def within(version: CloudVersion, *states: str) -> CloudVersion:
    if version.state not in states:
        raise Refusal("FAILED_PRECONDITION", f"{version.name} is not enabled, current state is: {version.state}.")
    return version


def checked(body: dict[str, Any], name: str) -> tuple[bytes, bool]:
    """The bytes of a field, and whether a checksum came with them; a wrong one is refused."""
    raw = base64.b64decode(body.get(name, ""), validate=True)
    told = body.get(f"{name}Crc32c")
    if told is not None and int(told) != castagnoli(raw):
        field_name = re.sub(r"(?=[A-Z])", "_", name).lower()
        raise Refusal("INVALID_ARGUMENT", f"The checksum in field {field_name}_crc32c did not match the data.")
    return raw, told is not None


def labels_of(body: dict[str, Any]) -> dict[str, str]:
    labels = dict(body.get("labels", {}))
    pairs = [f"{key}={value}" for key, value in labels.items()]
    if len(labels) > 64 or not all(re.fullmatch(r"[a-z][a-z0-9_-]{0,62}=[a-z0-9_-]{0,63}", pair) for pair in pairs):
        raise Refusal("INVALID_ARGUMENT", "labels")
    return labels


def shown_key(key: CloudKey) -> dict[str, Any]:
    return {
        "name": key.name,
        "primary": shown_version(key.versions[0]),
        "purpose": ENCRYPT_DECRYPT,
        "createTime": moment(key.made),
        "versionTemplate": {"protectionLevel": key.level, "algorithm": GOOGLE_SYMMETRIC_ENCRYPTION},
        "destroyScheduledDuration": f"{int(key.window.total_seconds())}s",
        "labels": key.labels,
    }


def shown_version(version: CloudVersion) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "name": version.name,
        "state": STATES[version.state],
        "createTime": moment(version.made),
        "protectionLevel": version.level,
        "algorithm": GOOGLE_SYMMETRIC_ENCRYPTION,
    }
    times = {"destroyTime": version.destroy, "destroyEventTime": version.gone}
    return shown | {name: moment(at) for name, at in times.items() if at is not None}


def moment(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")


def text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def castagnoli(data: bytes) -> int:
    """CRC32C bit by bit, most significant first over mirrored bits: another way than the provider's table."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= int(f"{byte:08b}"[::-1], 2) << 24
        for _ in range(8):
            crc = ((crc << 1) ^ (0x1EDC6F41 if crc >> 31 else 0)) & 0xFFFFFFFF
    return int(f"{crc ^ 0xFFFFFFFF:032b}"[::-1], 2)


class _Door(BaseHTTPRequestHandler):
    """The REST API: numbers for enums, as the client asks for them."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            status, answer = 200, self._answer(json.loads(body or b"{}"))
        except Refusal as refusal:
            status = STATUSES[refusal.status]
            answer = {"error": {"code": status, "message": refusal.message, "status": refusal.status}}
        except ConnectionAbortedError:
            self.close_connection = True
            return
        raw = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json; charset=UTF-8")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    do_GET = do_POST = do_PATCH = _serve  # noqa: N815 - the names are the library's

    def _answer(self, body: dict[str, Any]) -> dict[str, Any]:
        address = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(address.query).items()}
        if query.pop("$alt", None) != "json;enum-encoding=int" or not address.path.startswith("/v1/projects/"):
            raise Refusal("INVALID_ARGUMENT", "address")
        path = address.path.removeprefix("/v1/")
        return WORLDS[path.split("/")[1]].do(self.command, path, query, body)

    def log_message(self, *_: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that went away while we slept is part of the tests."""


WORLDS: dict[str, CloudKms] = {}
_STARTING = threading.Lock()
_SERVER: list[_Server] = []


def _address() -> str:
    with _STARTING:
        if not _SERVER:
            _SERVER.append(_Server(("127.0.0.1", 0), _Door))
            threading.Thread(target=_SERVER[0].serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    return f"http://127.0.0.1:{_SERVER[0].server_port}"


def cloud(folder: Path) -> CloudKms:
    """The project of a folder, made when there is none."""
    project = f"p{uuid.uuid5(uuid.NAMESPACE_URL, folder.resolve().as_uri()).hex[:20]}"
    return WORLDS.setdefault(project, CloudKms(project, SetClock()))


def gcp_kms(folder: Path, **more: Any) -> GcpKms:
    """A provider on the key ring of a folder, as nobody in particular."""
    return GcpKms(cloud(folder).ring, endpoint=_address(), credentials=AnonymousCredentials(), **more)


@contextmanager
def failing(world: CloudKms, status: str, *operations: str, times: int = 1_000) -> Iterator[None]:
    """Let operations (all, when none is named) answer with an error for a while."""
    left = [times]

    def fail(operation: str) -> None:
        if left[0] and (not operations or operation in operations):
            left[0] -= 1
            raise Refusal(status)

    world.fault = fail
    try:
        yield
    finally:
        world.fault = lambda _operation: None


@contextmanager
def slow(world: CloudKms, seconds: float) -> Iterator[None]:
    """Let every operation take its time."""
    world.fault = lambda _operation: time.sleep(seconds)
    try:
        yield
    finally:
        world.fault = lambda _operation: None
