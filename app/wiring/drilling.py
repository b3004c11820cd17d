"""The restore drill: shows on scratch databases, with the deployment's own key provider, that a backup undoes nothing.

It makes people of its own, seals records of theirs, takes backups of both databases, erases some and some in part,
restores the backups and tries everything again (vault.md sections 5, 8; dsar rule 54). Live databases are not opened
and live roots not touched (`app.vault.apart`). First it shows that the backups really held everything: a drill whose
backup is empty proves nothing. Leaves out PostgreSQL's own tools (both databases are SQLite files here), and the
deployment's `key_backup_window`, during which a restored key store still opens: the report says how long that is.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from app.machine import RandomIds, SystemClock
from app.profiles import Profile, Profiles
from app.sdk.sealed import SealError
from app.servicekeys import certificate_signer
from app.settings import Settings
from app.store import tables
from app.store.engine import open_engine
from app.store.keystore import SqlKeyStore
from app.store.restores import partitions
from app.store.unit import Units
from app.vault.apart import ApartProvider
from app.vault.core import Vault
from app.vault.errors import PartitionsShut, RootStillAlive, SurvivorUnverified, TombstonesLost, VaultError
from app.vault.keys import Scope, Selector, Target
from app.vault.ports import ErasureState, KeyProvider, RootState
from app.vault.tombstones import Tombstones
from app.wiring.house import OwnSeals
from app.wiring.restoring import Restoring
from app.wiring.vaults import key_provider
from consent.vocabulary import ControllerId, Locale, SubjectRef

PEOPLE: Final = 12
FEWEST: Final = 3
MOST: Final = 3_000
_CONTROLLER: Final = ControllerId("drill")
_HOLDER: Final = "drill"
_FIRST: Final = "drill.first"
_SECOND: Final = "drill.second"
_PER_PARTITION: Final = 4
_SESSION: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that has to hold: a code, whether it does, and a sentence with the numbers."""

    name: str
    ok: bool
    told: str


@dataclass(frozen=True, slots=True)
class Report:
    """What a drill found. `ok` when every check holds."""

    provider: str
    assurance: str
    people: int
    checks: tuple[Check, ...]
    roots_cleared: int
    key_backup_window_hours: int
    seconds: float

    @property
    def ok(self) -> bool:
        return all(check.ok for check in self.checks)

    def told(self) -> dict[str, object]:
        """Return it as plain data."""
        return {"ok": self.ok, **asdict(self)}


class WorkRefused(Exception):
    """A drill asked for durable work; it has none to ask for."""


@dataclass(frozen=True, slots=True)
class _Person:
    ref: SubjectRef
    email: str
    first: bytes
    second: bytes


@dataclass(frozen=True, slots=True)
class _Service:
    """What a deployment consists of, as far as erasing and restoring go, over two SQLite files."""

    records: Engine
    keys: Engine
    vault: Vault
    units: Units
    profiles: Profiles
    restoring: Restoring

    def close(self) -> None:
        self.records.dispose()
        self.keys.dispose()


class Drill:
    """One drill in a folder of its own; `prepare`, `erase`, `examine` and `clear`, in this order."""

    def __init__(self, folder: Path, provider: KeyProvider, *, people: int = PEOPLE) -> None:
        """`people`: 3 to 3,000; a third of them is erased, a third in part."""
        if not FEWEST <= people <= MOST:
            raise ValueError(f"a drill has {FEWEST} to {MOST} people")
        self._folder = folder
        self._provider = ApartProvider(provider, os.urandom)
        self._seed = os.urandom(32)
        self._count = people
        self._people: list[_Person] = []
        self._checks: list[Check] = []
        self._live: _Service | None = None
        self._assurance = ""

    # The steps

    def prepare(self) -> None:
        """Make the people, seal their records, take both backups, and see that these hold everything."""
        live = self._live = self._opened("records", "keys", lay=True)
        live.restoring.before_serving()
        self._people = self._enrolled(live)
        for name in ("records", "keys"):
            _copy(self._file(name), self._file(f"{name}-backup"))
        restored = self._restored("control", "records", "keys")
        held = sum(self._opens(restored.vault, each) == 2 for each in self._people)
        named = sum(self._finds(restored, each) for each in self._people)
        restored.close()
        told = f"{held} of {self._count} people open from the backups, {named} are found"
        self._check("backup_complete", told, holds=held == named == self._count)

    def erase(self) -> None:
        """Erase a third of the people, and of another third one category; leave the rest."""
        live, vault = self._service, self._service.vault
        targets = [Target(_CONTROLLER, each.ref) for each in self._erased]
        targets += [Target(_CONTROLLER, each.ref, only=(Selector(category=_FIRST),)) for each in self._partly]
        vault.shred("era_drill", targets, by="drill")
        vault.erasures.acknowledge("era_drill")
        ended = self._driven(vault)
        self._check("erasure_certified", f"it ended as {ended}", holds=ended == ErasureState.CERTIFIED)
        with live.units.writing() as unit:
            for each in self._erased:
                unit.subjects.forget(each.ref, live.units.clock.now())
            unit.commit()

    @staticmethod
    def _driven(vault: Vault) -> str:
        """Return how the erasure ended: its state, or the code of what the vault found out by itself."""
        try:
            return vault.erasures.drive("era_drill", now=True).value
        except (RootStillAlive, SurvivorUnverified) as found:
            return found.code

    def examine(self) -> None:
        """Restore the backups and try everything again."""
        self._examine_live()
        self._examine_roots()
        self._examine_keys()
        self._examine_records()
        self._examine_loss()

    def clear(self) -> int:
        """Destroy the drill's roots and let go of its databases; return how many roots still worked."""
        if self._live is not None:
            self._live.close()
        return self._provider.clear()

    def report(self, *, cleared: int, window: int, seconds: float) -> Report:
        """Return what was found so far."""
        kind, checks = self._provider.kind, tuple(self._checks)
        return Report(kind, self._assurance, self._count, checks, cleared, window, round(seconds, 2))

    # What is examined

    def _examine_live(self) -> None:
        vault = self._service.vault
        erased = sum(self._opens(vault, each) for each in self._erased)
        self._check(
            "live_erased_shut", f"{erased} records of {len(self._erased)} erased people open", holds=erased == 0
        )
        first = sum(self._tried(vault, each, first=True) for each in self._partly)
        second = sum(self._tried(vault, each, first=False) for each in self._partly)
        told = f"of {len(self._partly)} people erased in part {first} destroyed and {second} kept records open"
        self._check("live_partial", told, holds=first == 0 and second == len(self._partly))
        others = sum(self._opens(vault, each) == 2 for each in self._left)
        told = f"{others} of {len(self._left)} survivors open"
        self._check("live_survivors_open", told, holds=others == len(self._left))

    def _examine_roots(self) -> None:
        """Ask the provider itself for what the backup's partitions were wrapped under, past everything of ours."""
        present = {(one.key_class, one.number): one.root for one in partitions(self._service.keys)}
        backup = open_engine(f"sqlite:///{self._file('keys-backup')}", keys=True)
        old = [one.root for one in partitions(backup) if present.get((one.key_class, one.number)) != one.root]
        backup.dispose()
        described = [self._provider.describe(root) for root in old]
        self._assurance = described[0].assurance if described else ""
        alive = sum(each.state is RootState.ACTIVE for each in described)
        self._check("old_roots_gone", f"{alive} of {len(old)} old roots still work", holds=bool(old) and alive == 0)

    def _examine_keys(self) -> None:
        """The backup of the key store, with today's provider: nothing of the erased, and it says which partitions."""
        restored = self._restored("keys-restored", None, "keys")
        erased = sum(self._opens(restored.vault, each) for each in self._erased)
        told = f"{erased} records of the erased open from the backup"
        self._check("restored_keys_erased_shut", told, holds=erased == 0)
        partly = sum(self._tried(restored.vault, each, first=True) for each in self._partly)
        told = f"{partly} destroyed records of people erased in part open from the backup"
        self._check("restored_keys_partial_shut", told, holds=partly == 0)
        refused = self._refusal(restored, PartitionsShut)
        told = refused or "a key store older than its roots would be served"
        self._check("restored_keys_refused", told, holds=refused is not None)
        restored.close()

    def _examine_records(self) -> None:
        """The backup of the records, with the live key store: the erased are forgotten again before it serves."""
        restored = self._restored("records-restored", "records", None)
        before = sum(self._finds(restored, each) for each in self._erased)
        told = f"the backup finds {before} of {len(self._erased)} erased people by their address"
        self._check("restored_records_control", told, holds=before == len(self._erased))
        replayed = restored.restoring.before_serving()
        found = sum(self._finds(restored, each) or self._signed_in(restored, each) for each in self._erased)
        told = f"{replayed.subjects} forgotten again, {found} still found or signed in"
        self._check("restored_records_replayed", told, holds=found == 0 and replayed.subjects == len(self._erased))
        rest = [*self._partly, *self._left]
        known = sum(restored.profiles.profile(each.ref) is not None and self._finds(restored, each) for each in rest)
        told = f"{known} of {len(rest)} others are found and known"
        self._check("restored_records_others", told, holds=known == len(rest))
        restored.close()

    def _examine_loss(self) -> None:
        """Without the tombstones nobody could tell what was erased: a service must not serve then."""
        log = self._folder / "tombstones"
        away = log.rename(log.with_suffix(".away"))
        refused = self._refusal(self._service, TombstonesLost)
        away.rename(log)
        told = refused or "a service without its tombstones would serve"
        self._check("lost_tombstones_refused", told, holds=refused is not None)

    # How it is tried

    @property
    def _service(self) -> _Service:
        if self._live is None:
            raise RuntimeError("a drill is prepared first")
        return self._live

    @property
    def _erased(self) -> Sequence[_Person]:
        return self._people[0::3]

    @property
    def _partly(self) -> Sequence[_Person]:
        return self._people[1::3]

    @property
    def _left(self) -> Sequence[_Person]:
        return self._people[2::3]

    def _check(self, name: str, told: str, *, holds: bool) -> None:
        self._checks.append(Check(name, holds, told))

    @staticmethod
    def _refusal(service: _Service, wanted: type[VaultError]) -> str | None:
        """Return the sentence with which serving is refused; None when it is not."""
        try:
            service.restoring.before_serving()
        except wanted as refused:
            return str(refused)
        return None

    def _opens(self, vault: Vault, person: _Person) -> int:
        return sum(self._tried(vault, person, first=first) for first in (True, False))

    @staticmethod
    def _tried(vault: Vault, person: _Person, *, first: bool) -> bool:
        category, record = (_FIRST, person.first) if first else (_SECOND, person.second)
        try:
            vault.trial(record, handle=person.ref, category=category, record_id="r")
        except (VaultError, SealError):
            return False
        return True

    @staticmethod
    def _finds(service: _Service, person: _Person) -> bool:
        return service.profiles.find_by_email(_CONTROLLER, person.email) == person.ref

    @staticmethod
    def _signed_in(service: _Service, person: _Person) -> bool:
        with service.units.reading() as unit:
            return unit.sessions.find(person.ref, service.units.clock.now()) is not None

    # How it is laid out

    def _enrolled(self, live: _Service) -> list[_Person]:
        profiles = [Profile(f"Drill {n}", f"drill-{n}@drill.invalid") for n in range(self._count)]
        refs = live.profiles.enrol_all(_CONTROLLER, [(each, Locale.EN) for each in profiles])
        now = live.units.clock.now()
        with live.units.writing() as unit:
            for ref in refs:
                unit.sessions.open(
                    ref,
                    kind="subject",
                    person=ref,
                    controller=_CONTROLLER,
                    level=1,
                    proven_at=None,
                    credential=None,
                    now=now,
                    idle=_SESSION,
                    longest=_SESSION,
                )
            unit.commit()
        scopes = [[Scope(_CONTROLLER, ref, _HOLDER, category) for category in (_FIRST, _SECOND)] for ref in refs]
        sealed = [[live.vault.seal(scope, "r", b"drill") for scope in pair] for pair in scopes]
        return [_Person(ref, who.email, *pair) for ref, who, pair in zip(refs, profiles, sealed, strict=True)]

    def _file(self, name: str) -> Path:
        return self._folder / f"{name}.sqlite"

    def _restored(self, name: str, records: str | None, keys: str | None) -> _Service:
        """A service over copies of the backups; what is not named stays the live one."""
        names = {"records": "records", "keys": "keys"}
        for which in filter(None, (records, keys)):
            names[which] = f"{name}-{which}"
            shutil.copyfile(self._file(f"{which}-backup"), self._file(names[which]))
        return self._opened(names["records"], names["keys"])

    def _opened(self, records: str, keys: str, *, lay: bool = False) -> _Service:
        first, second = (open_engine(f"sqlite:///{self._file(name)}", keys=name == keys) for name in (records, keys))
        if lay:
            tables.RECORDS.create_all(first)
            tables.KEYS.create_all(second)
        return self._assembled(first, second)

    def _assembled(self, records: Engine, keys: Engine) -> _Service:
        clock, log = SystemClock(), Tombstones(self._folder / "tombstones")
        vault = Vault(
            SqlKeyStore(keys),
            self._provider,
            clock=clock,
            random=os.urandom,
            tombstones=log,
            sign=certificate_signer(self._seed),
            worker="drill",
            per_partition=_PER_PARTITION,
        )
        seals = OwnSeals(vault, _CONTROLLER)
        units = Units(records, clock, RandomIds(), os.urandom, seals.payload, seals.mail, _refuse_work)
        profiles = Profiles(vault, clock, RandomIds(), units.writing)
        restoring = Restoring(units, vault, keys, log, random=os.urandom, controller=_CONTROLLER, prepare=lambda: None)
        return _Service(records, keys, vault, units, profiles, restoring)


def _refuse_work(_session: Session, kind: str, _ref: str, _due: datetime | None = None) -> None:
    raise WorkRefused(kind)


def _copy(database: Path, file: Path) -> None:
    """A backup while the database is in use, as SQLite makes one."""
    with sqlite3.connect(database) as live, sqlite3.connect(file) as copy:
        live.backup(copy)
    live.close()
    copy.close()


def drill(settings: Settings, folder: Path, *, people: int, told: Callable[[str], None]) -> Report:
    """Carry out a drill in an empty folder with the key provider of the settings; `told` hears of each step.

    Its roots are destroyed at the end, whatever happens. Raises what the provider raises, `ProviderUnavailable` mostly.
    """
    begun = time.monotonic()
    one = Drill(folder, key_provider(settings, SystemClock()), people=people)
    cleared = 0
    try:
        for step in (one.prepare, one.erase, one.examine):
            told(step.__doc__ or step.__name__)
            step()
    finally:
        cleared = one.clear()
    return one.report(cleared=cleared, window=settings.key_backup_window, seconds=time.monotonic() - begun)
