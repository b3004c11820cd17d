"""OpenBao (or Vault) transit: a root is an AES-256-GCM key that never leaves the server (vault.md section 4).

Version 1 of a transit key is the root; every call names it, so that turning the key over changes nothing. Wrapped:

    salt 16 | HMAC-SHA256 32 | what the server made: nonce 12 | key 32 | tag 16

The HMAC, of root, name and salt under the wrapped key, is kept on our side: a server that returns another key than the
one it was given is found out at once.
Destroying is rotate, forbid version 1, trim: trimming takes version 1 out of what the server knows, for good, and what
is left of the key keeps its name from being used again (decision 0022). A second rotation after it lets the server's
own clock say when. A lower bound on versions alone (`min_decryption_version`) is undone by whoever may set it and
counts as locked, never as destroyed. Older copies of the server's storage bring a root back; the certificate says so.

One mount belongs to one deployment; `docs/runbooks/openbao-policy.hcl` is all that its token has to be allowed.
The time limit is for each silence of the server, not for a whole answer. Answers pass through the HTTP library as
immutable strings, which cannot be wiped. Leaves out renewing the token (give a function that reads it from where the
server's agent keeps it), namespaces, and finding a new leader: a redirect is an answer that does not help.
"""

from __future__ import annotations

import hmac
import json
import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from http import HTTPStatus
from pathlib import Path
from typing import Final

import requests
from hvac.adapters import RawAdapter
from hvac.api.secrets_engines import Transit

from app.vault.errors import KeyDamaged, ProviderUnavailable, RootDestroyed, RootExposed, UnknownRoot
from app.vault.keys import KeyClass
from app.vault.ports import Clock, Json, RootDescription, RootName, RootState
from app.vault.wrapping import KEY_BYTES, WRAPPED_BYTES, Random, named, wipe

ASSURANCE: Final = (
    "B: trimmed from the key server, which cannot bring it back; older copies of the server's encrypted storage "
    "(its own log, a snapshot, a backup) still would, for whoever can unseal them"
)
_ROOT: Final = re.compile(rf"openbao:(regard-(?:{'|'.join(KeyClass)})-[0-9]+-[0-9]+)")
_TYPE: Final = "aes256-gcm96"
_MADE: Final = "vault:v1:"
_NO_TYPE: Final = "none-such"
_SALT: Final = 16
_PROOF: Final = sha256().digest_size
_DONE: Final = (HTTPStatus.OK, HTTPStatus.NO_CONTENT)

Token = str | Callable[[], str]


@dataclass(frozen=True, slots=True)
class _Answer:
    """What the server said: the status, and what was under `data` and `errors` when it spoke JSON."""

    status: int
    data: Mapping[str, object] = field(repr=False)
    errors: object = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Key:
    """A transit key as read from the server. `made`: when each version it still uses was, in Unix seconds."""

    latest: int
    available: int
    decrypting: int
    encrypting: int
    made: Mapping[int, int]
    exposed: bool
    soft_deleted: bool

    @property
    def trimmed(self) -> bool:
        """Version 1 is gone."""
        return self.available > 1

    @property
    def begun(self) -> bool:
        """Its destruction has begun, and may have been broken off: it takes no more keys."""
        return self.trimmed or self.encrypting > 1

    @property
    def usable(self) -> bool:
        """Version 1 wraps and unwraps."""
        return not (self.trimmed or self.soft_deleted) and self.decrypting <= 1 and self.encrypting <= 1

    @property
    def stamp(self) -> int | None:
        """When the first version after those that were trimmed up to was made; none before there is one."""
        return self.made.get(self.available + 1) if self.trimmed else None

    @property
    def standing(self) -> str:
        """`active`, `destroyed`, or `locked`: shut, and whoever shut it can open it."""
        if self.trimmed:
            return RootState.DESTROYED.value
        return RootState.ACTIVE.value if self.usable else "locked"


class OpenBaoTransit:
    """A key provider on one transit mount of an OpenBao server. Making one asks the server nothing."""

    kind = "openbao"

    def __init__(
        self,
        url: str,
        token: Token,
        *,
        mount: str = "transit",
        timeout: float = 5.0,
        ca: Path | None = None,
        clock: Clock,
        random: Random,
    ) -> None:
        """`url`: scheme, host, port. `timeout`: seconds. `ca`: PEM file of the authority to trust."""
        self._token = token
        self._mount = mount
        self._clock = clock
        self._random = random
        session = requests.Session()
        # Neither a proxy nor a password nor an authority out of the environment: keys pass here.
        session.trust_env = False
        session.verify = True if ca is None else str(ca)
        # Not hvac's own client, which looks for a token, an address and a certificate in the environment.
        self._adapter = RawAdapter(
            base_uri=url, session=session, timeout=timeout, allow_redirects=False, ignore_exceptions=True
        )
        self._transit = Transit(self._adapter)

    def __repr__(self) -> str:
        return "OpenBaoTransit(...)"

    def create_root(self, name: RootName) -> str:
        """Return `openbao:<key name>`; raises `RootDestroyed`, `RootExposed`, `ProviderUnavailable`."""
        key_name = "regard-" + name.text().replace("/", "-")
        found = self._find(key_name)
        if found is None:
            self._change("create_key", key_name, key_type=_TYPE, exportable=False, allow_plaintext_backup=False)
            found = self._find(key_name)
        if found is None:
            raise ProviderUnavailable("openbao: a key that was made is not there")
        _check_new(found)
        return f"openbao:{key_name}"

    def wrap(self, root: str, key: bytearray, name: bytes) -> bytes:
        """Return the 108-byte wrapped form; raises `UnknownRoot`, `RootDestroyed`, `ProviderUnavailable`."""
        key_name, salt = _key_name(root), self._random(_SALT)
        # The type is read only where the server would make a missing key by itself: it knows none of this name.
        answer = self._ask(
            "encrypt_data",
            name=key_name,
            plaintext=_text(key),
            associated_data=_text(name),
            key_version=1,
            type=_NO_TYPE,
        )
        if answer.status != HTTPStatus.OK:
            raise self._refusal(root, answer, wrapping=True)
        made = _bytes(answer.data.get("ciphertext"), _MADE)
        if len(made) != WRAPPED_BYTES:
            raise ProviderUnavailable("openbao: what it made is no wrapped key")
        return salt + _proof(key, root, name, salt) + made

    def unwrap(self, root: str, wrapped: bytes, name: bytes) -> bytearray:
        """Return the key; raises `UnknownRoot`, `RootDestroyed`, `KeyDamaged`, `ProviderUnavailable`."""
        salt, proof, made = wrapped[:_SALT], wrapped[_SALT : _SALT + _PROOF], wrapped[_SALT + _PROOF :]
        answer = self._ask(
            "decrypt_data",
            name=_key_name(root),
            ciphertext=_MADE + _text(made),
            associated_data=_text(name),
        )
        if answer.status != HTTPStatus.OK:
            raise self._refusal(root, answer, wrapping=False)
        key = bytearray(_bytes(answer.data.get("plaintext")))
        if len(key) != KEY_BYTES or not hmac.compare_digest(proof, _proof(key, root, name, salt)):
            wipe(key)
            raise KeyDamaged
        return key

    def destroy(self, root: str) -> None:
        """Have the root trimmed away for good, and that stamped; begun and broken off, it is finished.

        Raises `UnknownRoot`, `ProviderUnavailable`.
        """
        key_name, key = _key_name(root), self._key(root)
        if not key.trimmed:
            self._trim(root, key_name, key)
            key = self._key(root)
        if key.stamp is None:
            self._change("rotate_key", key_name)

    def describe(self, root: str) -> RootDescription:
        """Return where the root stands, read from the server; a locked one is not destroyed, it can come back."""
        key = self._key(root)
        state = RootState.DESTROYED if key.trimmed else RootState.ACTIVE
        at = None if key.stamp is None else datetime.fromtimestamp(key.stamp, UTC)
        return RootDescription(state, at, ASSURANCE, self._evidence(root, key))

    def _evidence(self, root: str, key: _Key) -> dict[str, Json]:
        return {
            "provider": self.kind,
            "root": root,
            "read_back": key.standing,
            "read_at": self._clock.now().isoformat(timespec="seconds"),
            "latest_version": key.latest,
            "min_available_version": key.available,
            "min_decryption_version": key.decrypting,
            "versions": sorted(key.made),
            "exportable": key.exposed,
        }

    def _trim(self, root: str, key_name: str, key: _Key) -> None:
        if key.latest == 1:
            self._change("rotate_key", key_name)
            key = self._key(root)
        last = key.latest
        # One after the other: hvac refuses the two bounds in one call unless they differ.
        self._change("update_key_configuration", key_name, min_encryption_version=last)
        self._change("update_key_configuration", key_name, min_decryption_version=last)
        self._change("trim_key", key_name, min_version=last)

    def _key(self, root: str) -> _Key:
        found = self._find(_key_name(root))
        if found is None:
            raise UnknownRoot
        return found

    def _find(self, key_name: str) -> _Key | None:
        answer = self._ask("read_key", name=key_name)
        # Without a sentence: no key of this name. With one: no such mount, which is a fault of the settings.
        if answer.status == HTTPStatus.NOT_FOUND and answer.errors == []:
            return None
        if answer.status != HTTPStatus.OK:
            raise _unavailable(answer)
        return _read(answer.data)

    def _refusal(self, root: str, answer: _Answer, *, wrapping: bool) -> Exception:
        """Why the server refused: what it says of the key decides, not the words of its refusal."""
        if answer.status not in (HTTPStatus.BAD_REQUEST, HTTPStatus.FORBIDDEN):
            return _unavailable(answer)
        key = self._key(root)
        if key.trimmed or (wrapping and key.begun):
            return RootDestroyed()
        if not key.usable:
            return ProviderUnavailable("openbao: the key is locked, and can be unlocked")
        if wrapping or answer.status == HTTPStatus.FORBIDDEN:
            return _unavailable(answer)
        return KeyDamaged()

    def _change(self, work: str, key_name: str, **asked: object) -> None:
        answer = self._ask(work, name=key_name, **asked)
        if answer.status not in _DONE:
            raise _unavailable(answer)

    def _ask(self, work: str, **asked: object) -> _Answer:
        """Ask once. The libraries' exceptions stay inside, as causes too: they hold the request and its token."""
        response, told = None, "the token is not one"
        try:
            if self._token_fits():
                response = getattr(self._transit, work)(mount_point=self._mount, **asked)
        except OSError as fault:
            told = f"no answer ({type(fault).__name__})"
        asked.clear()
        if response is None:
            raise ProviderUnavailable(f"openbao: {told}")
        return _answer(response.status_code, response.content)

    def _token_fits(self) -> bool:
        """Take the present token; what cannot stand in a header would be quoted by the library's error."""
        token = self._token if isinstance(self._token, str) else self._token()
        self._adapter.token = token
        return re.fullmatch(r"[!-~]+", token) is not None


def _key_name(root: str) -> str:
    found = _ROOT.fullmatch(root)
    if found is None:
        raise UnknownRoot
    return found[1]


def _check_new(key: _Key) -> None:
    if key.begun:
        raise RootDestroyed
    if key.exposed:
        raise RootExposed
    if not key.usable:
        raise ProviderUnavailable("openbao: the key is locked, and can be unlocked")


def _proof(key: bytearray, root: str, name: bytes, salt: bytes) -> bytes:
    return hmac.digest(key, named("regard.openbao", root, name, salt), "sha256")


def _text(raw: bytes | bytearray) -> str:
    return b64encode(raw).decode()


def _bytes(said: object, prefix: str = "") -> bytes:
    """Return what base64 in an answer stands for; raises `ProviderUnavailable` when it is none."""
    if not isinstance(said, str) or not said.startswith(prefix):
        raise _strange()
    try:
        return b64decode(said.removeprefix(prefix), validate=True)
    except ValueError:
        pass
    raise _strange()


def _answer(status: int, body: bytes) -> _Answer:
    """Take an answer apart. One without sense is refused when success is claimed; its status says enough otherwise."""
    try:
        said = json.loads(body) if body else {}
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        if status in _DONE:
            raise _strange()
        return _Answer(status, {}, None)
    data = said.get("data")
    return _Answer(status, data if isinstance(data, dict) else {}, said.get("errors"))


def _read(data: Mapping[str, object]) -> _Key:
    versions = data.get("keys")
    if data.get("type") != _TYPE or not isinstance(versions, dict):
        raise _strange()
    flags = [data.get(each, False) for each in ("exportable", "allow_plaintext_backup", "imported_key", "derived")]
    return _Key(
        _count(data.get("latest_version")),
        _count(data.get("min_available_version")),
        _count(data.get("min_decryption_version")),
        _count(data.get("min_encryption_version")),
        {_count(version): _count(made) for version, made in versions.items()},
        any(flag is not False for flag in flags),
        data.get("soft_deleted", False) is not False,
    )


def _count(said: object) -> int:
    if isinstance(said, int) and not isinstance(said, bool) and said >= 0:
        return said
    if isinstance(said, str) and said.isascii() and said.isdecimal():
        return int(said)
    raise _strange()


def _strange() -> ProviderUnavailable:
    return ProviderUnavailable("openbao: an answer that makes no sense")


def _unavailable(answer: _Answer) -> ProviderUnavailable:
    """The server's own sentence stays out: it may quote what it was asked."""
    return ProviderUnavailable(f"openbao: it answers {answer.status}")
