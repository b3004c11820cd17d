"""Root keys in a PKCS#11 token (OASIS PKCS#11 2.40; vault.md section 4): made, used and destroyed inside it.

A root is an AES-256 key the token generates: sensitive, never extractable, not to be copied. It wraps by C_Encrypt
with AES-GCM, nonce 12 | ciphertext 32 | tag 16 as elsewhere in the vault; the associated data name the root and what
it wraps. A root's label is `regard data/12/3`, its reference `pkcs11:data/12/3`: one token serves one deployment.

One name, perhaps several keys. PKCS#11 has no unique label and no lock that two hosts share, so two processes that
make a root at once may each generate a key. Both stay: a name means every key that carries it, unwrapping tries each,
destroying destroys all. Nothing wrapped in such a race is lost (docs/decisions/0021).

Destroying writes a tombstone first, a private data object of the same label with the time, then destroys every key,
then looks. Whoever makes a root looks for the tombstone after generating, too. A token has little room, so the older
tombstones of a partition are folded into one, which keeps the range of generations and the latest of their times.

What SoftHSM proves: that this speaks PKCS#11 to a token of another maker, across processes, forks and lost sessions.
What it does not: that a key is gone. Its token is a directory of files sealed under the PIN; a restored copy of them
revives every key, and a file that was unlinked may be found on the disk. Hence assurance B; D is said only of a slot
that declares itself hardware.

Left out: tokens that insist on making the nonce themselves (some in FIPS mode), PIN pads, and a time limit on a call:
PKCS#11 has none, the module's own settings do. `DurabilityLost` does not apply: a token never says whether it synced.
Best effort only: python-pkcs11 takes and gives immutable bytes, so a copy of a key stays in memory until it is reused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Final, Protocol, cast

import pkcs11
from pkcs11 import Attribute, Mechanism, ObjectClass
from pkcs11 import exceptions as fault
from pkcs11.mechanisms import GCMParams

from app.vault.errors import KeyDamaged, ProviderUnavailable, RootDestroyed, UnknownRoot
from app.vault.keys import KeyClass
from app.vault.ports import Clock, RootDescription, RootName, RootState
from app.vault.providers.pkcs11session import LOST, TokenSession, confirm_login, confirm_token, generate
from app.vault.wrapping import KEY_BYTES, NONCE_BYTES, WRAPPED_BYTES, Random, named

SOFTWARE: Final = "B: destroyed in a software token; a restored copy of the token's directory brings it back"
HARDWARE: Final = "D: destroyed in hardware"
KEPT_STONES: Final = 8
"""Of each partition this many tombstones keep their own time; a token has room for few objects, and searches all."""

_PREFIX: Final = "pkcs11:"
_NAME: Final = re.compile(r"([a-z]+)/(0|[1-9][0-9]*)/(0|[1-9][0-9]*)", re.ASCII)
_TAG_BITS: Final = 128


class _Key(Protocol):
    """A secret key as python-pkcs11 makes it: a class put together by what the token says the key may do."""

    def encrypt(self, data: bytes, *, mechanism: Mechanism, mechanism_param: GCMParams) -> bytes: ...
    def decrypt(self, data: bytes, *, mechanism: Mechanism, mechanism_param: GCMParams) -> bytes: ...
    def destroy(self) -> None: ...


@dataclass(frozen=True, slots=True)
class _Found:
    """What the token holds of one name: its keys, and when it was buried."""

    keys: tuple[_Key, ...]
    buried_at: datetime | None


@dataclass(frozen=True, slots=True)
class _Stone:
    """A tombstone of generations `first` to `last` of one partition; `at`: when the last of them was destroyed."""

    object: pkcs11.Object
    first: int
    last: int
    at: int


class Pkcs11Tokens:
    """A key provider on one token. The token is initialised by its own tool, never from here."""

    kind = "pkcs11"

    def __init__(self, module: Path, token: str, pin: str, *, hardware: bool, clock: Clock, random: Random) -> None:
        """Open the token labelled `token`; raises `ProviderUnavailable`, `NotHardware`.

        `hardware` prints assurance D on certificates; refused where the slot does not declare itself hardware.
        """
        self._token = TokenSession(module, token, pin, hardware=hardware)
        self._assurance = HARDWARE if hardware else SOFTWARE
        self._clock = clock
        self._random = random
        self._token.ask(confirm_login)

    def __repr__(self) -> str:
        return f"Pkcs11Tokens({self._token!r})"

    def create_root(self, name: RootName) -> str:
        """Return the reference of the root of this name, made when there is none; raises `RootDestroyed`."""
        found = self._token.ask(lambda session: _look(session, name))
        if not found.keys and found.buried_at is None:
            found = self._made(name)
        if found.buried_at is not None:
            raise RootDestroyed
        return _PREFIX + name.text()

    def _made(self, name: RootName) -> _Found:
        self._token.change(lambda session: _make(session, name))
        found = self._token.ask(lambda session: _look(session, name))
        if found.buried_at is not None:
            # Buried between looking and making: whoever buried it may not have seen this key.
            self._token.change(lambda session: _remove(session, name))
        return found

    def wrap(self, root: str, key: bytearray, name: bytes) -> bytes:
        """Return `key` wrapped under the root; raises `UnknownRoot`, `RootDestroyed`."""
        nonce, bound = self._random(NONCE_BYTES), named("regard.root", root, name)
        asked = _parsed(root)
        return nonce + self._token.ask(lambda session: _seal(_living(session, asked)[0], nonce, bound, bytes(key)))

    def unwrap(self, root: str, wrapped: bytes, name: bytes) -> bytearray:
        """Return the key; raises `UnknownRoot`, `RootDestroyed`, `KeyDamaged`."""
        asked, bound = _parsed(root), named("regard.root", root, name)
        return self._token.ask(lambda session: self._unwrapped(_living(session, asked), wrapped, bound))

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
        name = _parsed(root)
        if not self._token.ask(lambda session: _known(session, name)).keys:
            return
        told = name.generation, name.generation, int(self._clock.now().timestamp())
        self._token.change(lambda session: _bury(session, _label(name), name, told))
        self._token.change(lambda session: _remove(session, name))
        if self._token.ask(lambda session: _look(session, name)).keys:
            raise ProviderUnavailable("the token still holds a key it was told to destroy")
        if self._token.ask(lambda session: _settled(session, name)):
            self._token.change(lambda session: _fold(session, name))

    def describe(self, root: str) -> RootDescription:
        """Return the state read back from the token."""
        name = _parsed(root)
        return self._token.ask(lambda session: self._description(session, root, name))

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
        return RootDescription(state, None if found.keys else found.buried_at, self._assurance, evidence)


# Names


def _label(name: RootName) -> str:
    return f"regard {name.text()}"


def _grave(name: RootName) -> str:
    """What the tombstones of a partition share."""
    return f"regard {name.key_class}/{name.partition}"


def _fold_label(name: RootName) -> str:
    return f"{_grave(name)} folded"


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
    buried = [_stone(each).at for each in found if each[Attribute.CLASS] == ObjectClass.DATA]
    if not found:
        buried = [fold.at for fold in _folds(session, name) if fold.first <= name.generation <= fold.last]
    return _Found(keys, datetime.fromtimestamp(max(buried), UTC) if buried else None)


def _known(session: pkcs11.Session, name: RootName) -> _Found:
    """The same; raises `UnknownRoot`, but only of a token that is there and shows what is private."""
    found = _look(session, name)
    if not found.keys and found.buried_at is None:
        confirm_token(session)
        confirm_login(session)
        raise UnknownRoot
    return found


def _living(session: pkcs11.Session, name: RootName) -> tuple[_Key, ...]:
    found = _known(session, name)
    if found.buried_at is not None:
        raise RootDestroyed
    return found.keys


# Acting


def _make(session: pkcs11.Session, name: RootName) -> None:
    if _look(session, name).keys:
        return  # Another thread made it while this one waited for its turn.
    generate(session, _label(name), sha256(named("regard.root", name.text())).digest()[:16], lasting=True)


def _remove(session: pkcs11.Session, name: RootName) -> None:
    for key in _look(session, name).keys:
        key.destroy()


# Tombstones


def _bury(session: pkcs11.Session, label: str, name: RootName, told: tuple[int, int, int]) -> None:
    session.create_object(
        {
            Attribute.CLASS: ObjectClass.DATA,
            Attribute.TOKEN: True,
            Attribute.PRIVATE: True,
            Attribute.MODIFIABLE: False,
            Attribute.LABEL: label,
            Attribute.APPLICATION: _grave(name),
            Attribute.VALUE: b"".join(number.to_bytes(8, "big") for number in told),
        }
    )


def _stone(found: pkcs11.Object) -> _Stone:
    value = found[Attribute.VALUE]
    return _Stone(found, *(int.from_bytes(value[at : at + 8], "big") for at in (0, 8, 16)))


def _folds(session: pkcs11.Session, name: RootName) -> list[_Stone]:
    wanted = {Attribute.LABEL: _fold_label(name), Attribute.CLASS: ObjectClass.DATA, Attribute.TOKEN: True}
    return [_stone(each) for each in session.get_objects(wanted)]


def _settled(session: pkcs11.Session, name: RootName) -> list[_Stone]:
    """The tombstones of this partition that one may stand for: an unbroken run, but for its newest."""
    wanted = {Attribute.APPLICATION: _grave(name), Attribute.CLASS: ObjectClass.DATA, Attribute.TOKEN: True}
    stones = sorted((_stone(each) for each in session.get_objects(wanted)), key=lambda stone: stone.first)
    return next((run[:-KEPT_STONES] for run in _runs(stones) if len(run) >= 2 * KEPT_STONES), [])


def _fold(session: pkcs11.Session, name: RootName) -> None:
    settled = _settled(session, name)
    if not settled:
        return
    told = settled[0].first, max(stone.last for stone in settled), max(stone.at for stone in settled)
    # Written before what it stands for is taken away: killed between the two, both are true.
    _bury(session, _fold_label(name), name, told)
    for stone in settled:
        stone.object.destroy()


def _runs(stones: list[_Stone]) -> list[list[_Stone]]:
    """Tombstones without a gap between them: a name never buried is never said to be."""
    runs: list[list[_Stone]] = []
    for stone in stones:
        if runs and stone.first <= max(each.last for each in runs[-1]) + 1:
            runs[-1].append(stone)
        else:
            runs.append([stone])
    return runs


# Wrapping


def _seal(key: _Key, nonce: bytes, bound: bytes, plain: bytes) -> bytes:
    return key.encrypt(plain, mechanism=Mechanism.AES_GCM, mechanism_param=GCMParams(nonce, bound, _TAG_BITS))


def _opened_by(key: _Key, wrapped: bytes, bound: bytes, random: Random) -> bytearray | None:
    try:
        opened = _open(key, wrapped[:NONCE_BYTES], bound, wrapped[NONCE_BYTES:])
    except LOST:
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
