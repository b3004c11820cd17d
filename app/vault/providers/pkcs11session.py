"""One process's way into a PKCS#11 token: the module, the turn, the login, and what to do when they are lost.

Four things python-pkcs11 leaves to its user, and one SoftHSM does:

- It initialises a module as one that no two threads enter (C_Initialize without arguments), so no two do: a lock of the
  whole process, whichever provider a call comes by.
- Sessions do not survive a fork. The child initialises the module anew; no fork happens in the middle of a call.
- A login is the whole process's, per token; a refused PIN tried again and again locks a token for good.
- Logged out, a token shows no private object: "not found" is worth something only of a session that is logged in.
- SoftHSM notices other processes' objects by a counter that its own writes also move: what another process did since
  the last look is missed for good. So whoever has written looks at a module initialised anew, which reads everything.

It leaves out a time limit on a call: PKCS#11 has none, the module's own settings do.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, TypeVar

import pkcs11
from pkcs11 import Attribute, KeyType, Mechanism, MechanismFlag, SlotFlag
from pkcs11 import exceptions as fault

from app.vault.errors import NotHardware, ProviderUnavailable
from app.vault.wrapping import KEY_BYTES

PATIENCE_SECONDS: Final = 10.0
"""How long a thread waits for the others' calls before it says that the token does not answer."""
PAUSES_SECONDS: Final = (0.0, 0.0, 0.02, 0.05, 0.1)
"""Before each try. SoftHSM rewrites a file of the token at each login, and who reads it meanwhile finds no token."""
LOST: Final = (
    fault.SessionHandleInvalid,
    fault.SessionClosed,
    fault.UserNotLoggedIn,
    fault.DeviceRemoved,
    fault.TokenNotPresent,
    fault.ObjectHandleInvalid,
    fault.KeyHandleInvalid,
)
"""The session, the login or what it showed is out of date; a new session will do."""

_T = TypeVar("_T")
_REFUSED: Final = (
    fault.PinIncorrect,
    fault.PinInvalid,
    fault.PinLenRange,
    fault.PinExpired,
    fault.PinLocked,
)
_TURN: Final = threading.Lock()
# A fork in the middle of a call would leave the child a module in no known state. The one effect of this import.
os.register_at_fork(before=_TURN.acquire, after_in_parent=_TURN.release, after_in_child=_TURN.release)


class _Module:
    """One PKCS#11 module as this process has it. `age` grows whenever every session made before is void."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._pid = os.getpid()
        self.age = 0
        self.stale = False

    def check(self) -> None:
        """Initialise anew after a fork, after this process has written, and after a fault."""
        if self.stale or self._pid != os.getpid():
            self.renew()

    def renew(self) -> None:
        self.age += 1
        module = pkcs11.lib(self._path)
        with suppress(fault.PKCS11Error):  # Some modules notice a fork by themselves and have nothing to finalize.
            module.finalize()
        module.initialize()
        self._pid, self.stale = os.getpid(), False

    def token(self, label: str) -> pkcs11.Token:
        return pkcs11.lib(self._path).get_token(token_label=label)


_MODULES: Final[dict[str, _Module]] = {}
"""By path: a module is loaded once in a process, so its sessions die together."""


class TokenSession:
    """A logged-in session on one token, opened again whenever that is needed."""

    def __init__(self, module: Path, token: str, pin: str, *, hardware: bool) -> None:
        """`hardware`: refuse a slot that does not declare itself so. Nothing is opened yet."""
        self._module = _MODULES.setdefault(str(module), _Module(str(module)))
        self._token = token
        self._pin = pin
        self._hardware = hardware
        self._age = -1
        self._session: pkcs11.Session | None = None
        self._refused = False

    def __repr__(self) -> str:
        return f"TokenSession({self._token!r})"

    def ask(self, work: Callable[[pkcs11.Session], _T]) -> _T:
        """Do `work`, which changes nothing, alone in the module; again, a few times, when the token fails.

        Raises `ProviderUnavailable`, `NotHardware`, and what `work` raises of the vault's own.
        """
        return self._do(work, writes=False)

    def change(self, work: Callable[[pkcs11.Session], _T]) -> _T:
        """The same for what changes the token: whoever asks next sees what others changed meanwhile, too."""
        return self._do(work, writes=True)

    def _do(self, work: Callable[[pkcs11.Session], _T], *, writes: bool) -> _T:
        last: fault.PKCS11Error | None = None
        with _turn():
            for pause in PAUSES_SECONDS:
                time.sleep(pause)
                try:
                    return self._work(work, writes=writes)
                except fault.PKCS11Error as refusal:
                    last = refusal
                    self._forget(refusal)
                    if self._refused:
                        break
        raise ProviderUnavailable(str(last) or type(last).__name__) from last

    def _forget(self, refusal: fault.PKCS11Error) -> None:
        """The next try opens a session anew, and the module too where more than the session may be wrong."""
        self._session = None
        self._refused |= isinstance(refusal, _REFUSED)
        self._module.stale |= not isinstance(refusal, LOST)

    def _work(self, work: Callable[[pkcs11.Session], _T], *, writes: bool) -> _T:
        session = self._opened()
        self._module.stale = writes
        return work(session)

    def _opened(self) -> pkcs11.Session:
        self._module.check()
        if self._session is None or self._age != self._module.age:
            token = self._usable()
            self._session, self._age = self._logged_in(token), self._module.age
        # A dead session is found here: a search that fails to start leaves noise behind in python-pkcs11.
        self._session.generate_random(64)
        return self._session

    def _usable(self) -> pkcs11.Token:
        token = self._module.token(self._token)
        if self._hardware and not token.slot.flags & SlotFlag.HW_SLOT:
            raise NotHardware
        if Mechanism.AES_GCM not in token.slot.get_mechanisms():
            raise ProviderUnavailable("the token has no AES-GCM")
        return token

    def _logged_in(self, token: pkcs11.Token) -> pkcs11.Session:
        """Another provider on this token may have logged this process in already."""
        session = token.open(rw=True)
        try:
            confirm_login(session)
        except fault.UserNotLoggedIn:
            session.close()
            return self._login(token)
        return session

    def _login(self, token: pkcs11.Token) -> pkcs11.Session:
        if self._refused:
            raise ProviderUnavailable("the token refused the PIN before; it is not tried again before a restart")
        return token.open(rw=True, user_pin=self._pin)


@contextmanager
def _turn() -> Iterator[None]:
    if not _TURN.acquire(timeout=PATIENCE_SECONDS):
        raise ProviderUnavailable("the token has been busy for too long")
    try:
        yield
    finally:
        _TURN.release()


def confirm_token(session: pkcs11.Session) -> None:
    """Raises `TokenNotPresent` when the slot holds another token now; a module has its own word for none."""
    if session.token.slot.get_token().serial != session.token.serial:
        raise fault.TokenNotPresent


def confirm_login(session: pkcs11.Session) -> None:
    """Raises `UserNotLoggedIn` by doing what only a login may: a private key that lives as long as this line."""
    generate(session, "regard login", b"regard login", lasting=False).destroy()


def generate(session: pkcs11.Session, label: str, key_id: bytes, *, lasting: bool) -> pkcs11.SecretKey:
    """Make an AES-256 key that encrypts and decrypts and never leaves, `lasting` beyond the session or not."""
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
