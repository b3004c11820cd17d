"""Root keys in a PKCS#11 token (OASIS PKCS#11 2.40; vault.md section 4): made, used and destroyed inside it.

A root is an AES-256 key the token generates: sensitive, never extractable, not to be copied. It wraps by C_Encrypt
with AES-GCM, nonce 12 | ciphertext 32 | tag 16 as elsewhere in the vault; the associated data name the root and what
it wraps. A root's label is `regard data/12/3`, its reference `pkcs11:data/12/3`: one token serves one deployment.

One name, perhaps several keys. PKCS#11 has no unique label and no lock that two hosts share, so two processes that
make a root at once may each generate a key. Both stay: a name means every key that carries it, unwrapping tries each,
destroying destroys all. Nothing wrapped in such a race is lost (docs/decisions/0021).

Destroying writes a tombstone first, a private data object of the same label with the time, then destroys every key,
then looks. Whoever makes a root looks for the tombstone after generating, too.

What SoftHSM proves: that this speaks PKCS#11 to a token of another maker, across processes, forks and lost sessions.
What it does not: that a key is gone. Its token is a directory of files sealed under the PIN; a restored copy of them
revives every key, and a file that was unlinked may be found on the disk. Hence assurance B; D is said only of a slot
that declares itself hardware.

Left out: tokens that insist on making the nonce themselves (some in FIPS mode), PIN pads, and a time limit on a call:
PKCS#11 has none, the module's own settings do. `DurabilityLost` does not apply: a token never says whether it synced.
Best effort only: python-pkcs11 takes and gives immutable bytes, so a copy of a key stays in memory until it is reused.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Final, Protocol, TypeVar, cast

import pkcs11
from pkcs11 import Attribute, KeyType, Mechanism, MechanismFlag, ObjectClass, SlotFlag
from pkcs11 import exceptions as fault
from pkcs11.mechanisms import GCMParams

from app.vault.errors import KeyDamaged, NotHardware, ProviderUnavailable, RootDestroyed, UnknownRoot
from app.vault.keys import KeyClass
from app.vault.ports import Clock, RootDescription, RootName, RootState
from app.vault.wrapping import KEY_BYTES, NONCE_BYTES, WRAPPED_BYTES, Random, named

SOFTWARE: Final = "B: destroyed in a software token; a restored copy of the token's directory brings it back"
HARDWARE: Final = "D: destroyed in hardware"
PATIENCE_SECONDS: Final = 10.0
"""How long a thread waits for the others' calls before it says that the token does not answer."""

_PREFIX: Final = "pkcs11:"
_NAME: Final = re.compile(r"([a-z]+)/(0|[1-9][0-9]*)/(0|[1-9][0-9]*)", re.ASCII)
_TAG_BITS: Final = 128
_T = TypeVar("_T")

_LOST: Final = (
    fault.SessionHandleInvalid,
    fault.SessionClosed,
    fault.UserNotLoggedIn,
    fault.DeviceRemoved,
    fault.TokenNotPresent,
    fault.ObjectHandleInvalid,
    fault.KeyHandleInvalid,
)
"""The session, the login or what it showed is out of date: a new session may do better, once."""
_REFUSED: Final = (
    fault.PinIncorrect,
    fault.PinInvalid,
    fault.PinLenRange,
    fault.PinExpired,
    fault.PinLocked,
    fault.UserPinNotInitialized,
)

# python-pkcs11 initialises a module as one that no two threads enter; so no two do, whatever provider they came by.
_TURN: Final = threading.Lock()
# A fork in the middle of a call would leave the child a module in no known state. The one effect of this import.
os.register_at_fork(before=_TURN.acquire, after_in_parent=_TURN.release, after_in_child=_TURN.release)


class _Library:
    """One PKCS#11 module as this process has it. `age` grows whenever every session made before is void."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._pid = os.getpid()
        self.age = 0

    def check(self) -> None:
        """Initialise anew after a fork: sessions do not survive one."""
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self.renew()

    def renew(self) -> None:
        self.age += 1
        module = pkcs11.lib(self._path)
        with suppress(fault.PKCS11Error):  # Some modules notice a fork by themselves and have nothing to finalize.
            module.finalize()
        module.initialize()

    def token(self, label: str) -> pkcs11.Token:
        """Return the token; a module lists tokens once, so one that came later is looked for again."""
        try:
            return pkcs11.lib(self._path).get_token(token_label=label)
        except fault.PKCS11Error:
            self.renew()
            return pkcs11.lib(self._path).get_token(token_label=label)


_LIBRARIES: Final[dict[str, _Library]] = {}
"""By path: a module is loaded once in a process, so its sessions die together."""


class _Key(Protocol):
    """A secret key as python-pkcs11 makes it: a class put together by what the token says the key may do."""

    def encrypt(self, data: bytes, *, mechanism: Mechanism, mechanism_param: GCMParams) -> bytes: ...
    def decrypt(self, data: bytes, *, mechanism: Mechanism, mechanism_param: GCMParams) -> bytes: ...
    def destroy(self) -> None: ...


@dataclass(frozen=True, slots=True)
class _Found:
    """What the token holds of one name."""

    keys: tuple[_Key, ...]
    stones: tuple[pkcs11.Object, ...]

    def buried_at(self) -> datetime | None:
        times = [int.from_bytes(stone[Attribute.VALUE], "big") for stone in self.stones]
        return datetime.fromtimestamp(max(times), UTC) if times else None


class Pkcs11Tokens:
    """A key provider on one token. The token is initialised by its own tool, never from here."""

    kind = "pkcs11"

    def __init__(self, module: Path, token: str, pin: str, *, hardware: bool, clock: Clock, random: Random) -> None:
        """Open the token labelled `token`; raises `ProviderUnavailable`, `NotHardware`.

        `hardware` prints assurance D on certificates; refused where the slot does not declare itself hardware.
        """
        self._library = _LIBRARIES.setdefault(str(module), _Library(str(module)))
        self._token = token
        self._pin = pin
        self._hardware = hardware
        self._clock = clock
        self._random = random
        self._age = -1
        self._session: pkcs11.Session | None = None
        self._refused = False
        self._call(_nothing)

    def __repr__(self) -> str:
        return f"Pkcs11Tokens(token={self._token!r})"

    def create_root(self, name: RootName) -> str:
        """Return the reference of the root of this name, made when there is none; raises `RootDestroyed`."""
        self._call(lambda session: _create(session, name))
        return _PREFIX + name.text()

    def wrap(self, root: str, key: bytearray, name: bytes) -> bytes:
        """Return `key` wrapped under the root; raises `UnknownRoot`, `RootDestroyed`."""
        nonce, bound = self._random(NONCE_BYTES), named("regard.root", root, name)
        return nonce + self._call(lambda session: _seal(_living(session, _parsed(root))[0], nonce, bound, bytes(key)))

    def unwrap(self, root: str, wrapped: bytes, name: bytes) -> bytearray:
        """Return the key; raises `UnknownRoot`, `RootDestroyed`, `KeyDamaged`."""
        bound = named("regard.root", root, name)
        return self._call(lambda session: self._unwrapped(_living(session, _parsed(root)), wrapped, bound))

    def _unwrapped(self, keys: tuple[_Key, ...], wrapped: bytes, bound: bytes) -> bytearray:
        if len(wrapped) != WRAPPED_BYTES:
            raise KeyDamaged
        for key in keys:
            opened = _opened_by(key, wrapped, bound, self._random)
            if opened is not None:
                return opened
        raise KeyDamaged

    def destroy(self, root: str) -> None:
        """Bury the name, destroy every key it means, and look; raises `UnknownRoot`."""
        name, at = _parsed(root), self._clock.now()
        self._call(lambda session: _destroy(session, name, at))

    def describe(self, root: str) -> RootDescription:
        """Return the state read back from the token."""
        name = _parsed(root)
        return self._call(lambda session: self._description(session, root, name))

    def _description(self, session: pkcs11.Session, root: str, name: RootName) -> RootDescription:
        found = _known(session, name)
        state = RootState.ACTIVE if found.keys else RootState.DESTROYED
        evidence = {
            "provider": self.kind,
            "root": root,
            "read_back": state.value,
            "token_serial": session.token.serial.decode("ascii", "replace"),
            "token_model": session.token.model,
        }
        at = None if found.keys else found.buried_at()
        return RootDescription(state, at, HARDWARE if self._hardware else SOFTWARE, evidence)

    def _call(self, work: Callable[[pkcs11.Session], _T]) -> _T:
        """Do `work` on this process's session, alone in the module; once more when the session was lost."""
        with _turn():
            try:
                try:
                    return work(self._opened())
                except _LOST:
                    self._session = None
                    return work(self._opened())
            except fault.PKCS11Error as refusal:
                self._session = None
                raise ProviderUnavailable(str(refusal) or type(refusal).__name__) from refusal

    def _opened(self) -> pkcs11.Session:
        self._library.check()
        if self._session is None or self._age != self._library.age:
            token = self._usable()
            self._session, self._age = self._logged_in(token), self._library.age
        # A dead session is found here: a search that fails to start leaves noise behind in python-pkcs11.
        self._session.generate_random(64)
        return self._session

    def _usable(self) -> pkcs11.Token:
        token = self._library.token(self._token)
        if self._hardware and not token.slot.flags & SlotFlag.HW_SLOT:
            raise NotHardware
        if Mechanism.AES_GCM not in token.slot.get_mechanisms():
            raise ProviderUnavailable("the token has no AES-GCM")
        return token

    def _logged_in(self, token: pkcs11.Token) -> pkcs11.Session:
        """A login belongs to the whole process: another provider on this token may have done it."""
        session = token.open(rw=True)
        try:
            _confirm_login(session)
        except fault.UserNotLoggedIn:
            session.close()
            return self._login(token)
        return session

    def _login(self, token: pkcs11.Token) -> pkcs11.Session:
        # A refused PIN is not tried again: a few wrong ones lock a token for good.
        if self._refused:
            raise ProviderUnavailable("the token refused the PIN before; it is not tried again before a restart")
        try:
            return token.open(rw=True, user_pin=self._pin)
        except _REFUSED:
            self._refused = True
            raise


@contextmanager
def _turn() -> Iterator[None]:
    if not _TURN.acquire(timeout=PATIENCE_SECONDS):
        raise ProviderUnavailable("the token has been busy for too long")
    try:
        yield
    finally:
        _TURN.release()


def _nothing(_session: pkcs11.Session) -> None:
    """Opening was the work."""


# Names


def _label(name: RootName) -> str:
    return f"regard {name.text()}"


def _parsed(root: str) -> RootName:
    parts = _NAME.fullmatch(root.removeprefix(_PREFIX)) if root.startswith(_PREFIX) else None
    if parts is None or parts[1] not in frozenset(KeyClass):
        raise UnknownRoot
    return RootName(KeyClass(parts[1]), int(parts[2]), int(parts[3]))


# Looking


def _look(session: pkcs11.Session, name: RootName) -> _Found:
    """Everything of this name in one search: a search reads every object of a token, or nearly."""
    found = list(session.get_objects({Attribute.LABEL: _label(name), Attribute.TOKEN: True}))
    keys = tuple(cast("_Key", each) for each in found if isinstance(each, pkcs11.SecretKey))
    return _Found(keys, tuple(each for each in found if each[Attribute.CLASS] == ObjectClass.DATA))


def _known(session: pkcs11.Session, name: RootName) -> _Found:
    """The same; raises `UnknownRoot`, but never because the login is gone: then a token shows nothing at all."""
    found = _look(session, name)
    if not (found.keys or found.stones):
        _confirm_login(session)
        raise UnknownRoot
    return found


def _living(session: pkcs11.Session, name: RootName) -> tuple[_Key, ...]:
    found = _known(session, name)
    if found.stones:
        raise RootDestroyed
    return found.keys


def _confirm_login(session: pkcs11.Session) -> None:
    """Raises `UserNotLoggedIn` by doing what only a login may: a private key that lives as long as this line."""
    _generate(session, "regard login", b"regard login", lasting=False).destroy()


# Acting


def _generate(session: pkcs11.Session, label: str, key_id: bytes, *, lasting: bool) -> pkcs11.SecretKey:
    return session.generate_key(
        KeyType.AES,
        KEY_BYTES * 8,
        id=key_id,
        label=label,
        store=lasting,
        capabilities=MechanismFlag.ENCRYPT | MechanismFlag.DECRYPT,
        template={
            Attribute.PRIVATE: True,
            Attribute.SENSITIVE: True,
            Attribute.EXTRACTABLE: False,
            Attribute.COPYABLE: False,
            Attribute.MODIFIABLE: False,
        },
    )


def _create(session: pkcs11.Session, name: RootName) -> None:
    found = _look(session, name)
    if found.stones:
        raise RootDestroyed
    if found.keys:
        return
    key_id = sha256(named("regard.root", name.text())).digest()[:16]
    key = _generate(session, _label(name), key_id, lasting=True)
    # The name may have been buried between looking and generating; whoever buried it may not have seen this key.
    if _look(session, name).stones:
        key.destroy()
        raise RootDestroyed


def _destroy(session: pkcs11.Session, name: RootName, at: datetime) -> None:
    if _known(session, name).keys:
        _bury(session, name, at)
    for key in _look(session, name).keys:
        key.destroy()
    if _look(session, name).keys:
        raise ProviderUnavailable("the token still holds a key it was told to destroy")


def _bury(session: pkcs11.Session, name: RootName, at: datetime) -> None:
    session.create_object(
        {
            Attribute.CLASS: ObjectClass.DATA,
            Attribute.TOKEN: True,
            Attribute.PRIVATE: True,
            Attribute.MODIFIABLE: False,
            Attribute.LABEL: _label(name),
            Attribute.APPLICATION: f"regard {name.key_class}/{name.partition}",
            Attribute.VALUE: int(at.timestamp()).to_bytes(8, "big"),
        }
    )


# Wrapping


def _seal(key: _Key, nonce: bytes, bound: bytes, plain: bytes) -> bytes:
    return key.encrypt(plain, mechanism=Mechanism.AES_GCM, mechanism_param=GCMParams(nonce, bound, _TAG_BITS))


def _opened_by(key: _Key, wrapped: bytes, bound: bytes, random: Random) -> bytearray | None:
    try:
        opened = _open(key, wrapped[:NONCE_BYTES], bound, wrapped[NONCE_BYTES:])
    except _LOST:
        raise
    except fault.PKCS11Error:
        # Modules differ in what they say of a wrong tag; SoftHSM says what it also says of a broken device.
        _prove(key, random)
        return None
    return opened if len(opened) == KEY_BYTES else None


def _open(key: _Key, nonce: bytes, bound: bytes, sealed: bytes) -> bytearray:
    params = GCMParams(nonce, bound, _TAG_BITS)
    return bytearray(key.decrypt(sealed, mechanism=Mechanism.AES_GCM, mechanism_param=params))


def _prove(key: _Key, random: Random) -> None:
    """Raises the token's error unless this key opens what it seals: then the fault is not the data's."""
    nonce = random(NONCE_BYTES)
    _open(key, nonce, b"regard proof", _seal(key, nonce, b"regard proof", bytes(KEY_BYTES)))
