"""Opening what a deployment stands on: both databases, key provider, vault, ledger, durable work.

`build(settings)` makes no table and starts no thread; `House.work.launch` does the latter.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import ProgrammingError, SQLAlchemyError

from app import policyfiles
from app.calendars import Calendars
from app.http.places import Places
from app.machine import RandomIds, SystemClock
from app.metrics import Metrics
from app.profiles import HOUSE, Profiles
from app.sdk.sealed import key_id_of
from app.settings import Settings
from app.store.engine import open_engine
from app.store.leaves import LeafStore
from app.store.restores import partitions
from app.store.sealedfiles import SealedFolder
from app.store.unit import Units
from app.store.workerrole import RoleTakenError, WorkerRole
from app.vault.core import Vault
from app.vault.errors import ProviderUnavailable
from app.vault.keys import KeyClass, Scope
from app.wiring.casework import Casework
from app.wiring.consentwork import consent_work, forms_key
from app.wiring.founding import (
    BEHIND,
    DataFolderUnfit,
    ProviderRefused,
    SchemaBehind,
    WorkerRunning,
    ask,
    found,
    look,
    refuse_newer,
    refuse_one_database,
)
from app.wiring.ledgerkeys import ledger_signer
from app.wiring.mail import hand_over_to, mailer
from app.wiring.pack import controller_of, practice_of
from app.wiring.pooling import expire_pool
from app.wiring.restoring import Restoring
from app.wiring.rotating import IndexSchedule
from app.wiring.sweeping import sweeps
from app.wiring.vaults import tombstones_of, vault_over
from app.workflows.cases import Waits
from app.workflows.consents import ConsentWork
from app.workflows.durable import DurableWork, Handler
from app.workflows.integrating import Integrator
from app.workflows.mail import Postman
from app.workflows.signins import SignInMail
from consent.policy import Policy
from consent.vocabulary import ControllerId, SubjectRef

_NOT_PERMITTED = "42501"
"""PostgreSQL: insufficient_privilege."""
_OWN = SubjectRef("house")
"""Under whose keys a controller's own secrets rest: ledger entries about nobody, mail on its way."""


_RUNNING = (
    "another process, as executor {!r}, carries out the work of this deployment already: end it first. "
    "On PostgreSQL several may run, each with a REGARD_EXECUTOR of its own"
)


@dataclass(frozen=True, slots=True)
class House:
    """Everything that lives while the service runs."""

    settings: Settings
    policy: Policy
    controller: ControllerId
    records: Engine
    keys: Engine
    vault: Vault
    ledger: LeafStore
    units: Units
    profiles: Profiles
    work: DurableWork
    role: WorkerRole
    seals: OwnSeals
    casework: Casework
    consentwork: ConsentWork
    integrator: Integrator
    metrics: Metrics
    restoring: Restoring

    def start(self) -> None:
        """Replay what a restored database brought back; then carry out the durable work, place ledger entries.

        Raises one of `restoring.REFUSALS`, `ProviderRefused` or `WorkerRunning`: it must not serve as it is.
        """
        self._take_role()
        try:
            self._look_before_serving()
        except BaseException:
            self.role.give_up()
            raise
        self.work.launch()
        self.integrator.start()

    def _take_role(self) -> None:
        try:
            self.role.take()
        except RoleTakenError:
            raise WorkerRunning(_RUNNING.format(self.settings.executor)) from None

    def _look_before_serving(self) -> None:
        try:
            self.restoring.before_serving()
        except ProviderUnavailable as refused:
            raise _provider_refused(refused) from None
        self._ask_provider()

    def _ask_provider(self) -> None:
        """Have the log say that the key provider refuses; a deployment that has no key yet has nothing to serve."""
        try:
            self.seals.probe()
        except ProviderUnavailable as refused:
            if not partitions(self.keys):
                raise _provider_refused(refused) from None
            told = {"provider": self.settings.key_provider, "code": refused.code, "said": str(refused)}
            structlog.get_logger().error("keys.provider_refused", **told)

    def close(self) -> None:
        """Stop the durable work and the integrator, and let go of both databases."""
        self.work.stop()
        self.integrator.stop()
        self.role.give_up()
        self.records.dispose()
        self.keys.dispose()


def _provider_refused(refused: ProviderUnavailable) -> ProviderRefused:
    said = str(refused) or "it does not answer"
    return ProviderRefused(f"the key provider refuses: {said}. `regard config check --reach` says when it answers")


def build(settings: Settings, handlers: Mapping[str, Handler] | None = None) -> House:
    """Open everything the settings name; nothing is made.

    Raises what opening raises: policy faults, key faults, settings faults, `UnfitDeployment`.
    """
    clock, ids = SystemClock(), RandomIds()
    policy = policyfiles.load(settings.policies_dir)
    records = open_engine(settings.records_url.reveal())
    keys = open_engine(settings.keys_url.reveal(), keys=True)
    look(settings, records, keys)
    metrics = Metrics()
    vault = vault_over(settings, keys, clock, unnamed=policy.aml_only(), noted=metrics.asked_provider)
    work = DurableWork(records, clock, handlers or {}, executor=settings.executor)
    controller = controller_of(settings, policy)
    sealer = OwnSeals(vault, controller)
    units = Units(records, clock, ids, os.urandom, sealer.payload, sealer.mail, work.enqueue)
    casework = _casework(units, vault, policy, settings)
    work.register(casework.handlers())
    work.register(_postman(units, sealer, settings, casework).handlers())
    profiles = Profiles(vault, clock, ids, units.writing)
    signing = {"seal_key": sealer.seal_key, "open_key": sealer.open_key}
    consentwork = consent_work(settings, units, policy, vault, profiles=profiles, **signing)
    work.register(consentwork.handlers())
    work.register(_sign_in_mail(settings, units, policy, profiles).handlers())
    restoring = Restoring(
        units,
        vault,
        keys,
        tombstones_of(settings),
        random=os.urandom,
        controller=controller,
        prepare=lambda: work.migrate() if records.dialect.name == "sqlite" else None,
    )
    work.sweep_with({"replays": restoring.finish, "marks": restoring.keep_up})
    schedule = IndexSchedule(units, vault, profiles, controller, timedelta(days=settings.index_rekey_days))
    work.sweep_with({"indexes": schedule.sweep, "epochs": vault.epochs.drop_stale})
    work.sweep_with({**sweeps(units), **casework.sweeps(), "pool": lambda: expire_pool(units, vault)})
    ledger = LeafStore(records, ledger_signer(settings.data_dir), clock)
    return House(
        settings=settings,
        policy=policy,
        controller=controller,
        records=records,
        keys=keys,
        vault=vault,
        ledger=ledger,
        units=units,
        profiles=profiles,
        work=work,
        role=WorkerRole(records, settings.executor),
        seals=sealer,
        casework=casework,
        consentwork=consentwork,
        integrator=Integrator(ledger, SQLAlchemyError),
        metrics=metrics,
        restoring=restoring,
    )


def _casework(units: Units, vault: Vault, policy: Policy, settings: Settings) -> Casework:
    files = SealedFolder(settings.data_dir / "sealed")
    return Casework(units, vault, policy, practice_of(policy), files, Waits(), Calendars(), settings.issuer)


def _postman(units: Units, seals: OwnSeals, settings: Settings, casework: Casework) -> Postman:
    handing = hand_over_to(mailer(settings, units.clock))
    told = {"sent": casework.mail_sent, "lost": casework.mail_lost}
    return Postman(units.reading, units.writing, seals.open_mail, handing, clock=units.clock, **told)


def _sign_in_mail(settings: Settings, units: Units, policy: Policy, profiles: Profiles) -> SignInMail:
    places = Places(settings.issuer, forms_key(settings))
    return SignInMail(units.reading, units.writing, policy, units.clock, profiles, places)


def migrate(settings: Settings) -> None:
    """Bring both databases to the newest schema, and found what a new deployment has not yet; raises `UnfitDeployment`.

    On PostgreSQL it needs the role that owns the tables only where there is something to change.
    """
    from app.store.migrate import upgrade  # noqa: PLC0415 - Alembic, which a process that serves has no use for

    _make_folder(settings.data_dir)
    with _both(settings) as (records, keys):
        ask("REGARD_RECORDS_URL", records)
        ask("REGARD_KEYS_URL", keys)
        refuse_one_database(records, keys)
        refuse_newer(records, keys)
        with _told_who_may():
            upgrade(records, "records")
            upgrade(keys, "keys")
            _make_job_tables(settings, records)
        found(settings, records, keys)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        raise DataFolderUnfit(f"REGARD_DATA_DIR: {folder} cannot be made: {fault.strerror}") from None


@contextmanager
def _told_who_may() -> Iterator[None]:
    try:
        yield
    except ProgrammingError as fault:
        if getattr(fault.orig, "sqlstate", None) != _NOT_PERMITTED:
            raise
        raise SchemaBehind(BEHIND) from None


def _make_job_tables(settings: Settings, records: Engine) -> None:
    """On PostgreSQL the role that serves may make no tables; on SQLite the process that launches makes them."""
    if records.dialect.name == "sqlite":
        return
    work = DurableWork(records, SystemClock(), {}, executor=settings.executor)
    work.migrate()
    work.stop()


@contextmanager
def _both(settings: Settings) -> Iterator[tuple[Engine, Engine]]:
    records = open_engine(settings.records_url.reveal())
    keys = open_engine(settings.keys_url.reveal(), keys=True)
    try:
        yield records, keys
    finally:
        records.dispose()
        keys.dispose()


class OwnSeals:
    """Sealing of what Regard itself writes: ledger payloads under audit keys, mail under the controller's own."""

    def __init__(self, vault: Vault, controller: ControllerId) -> None:
        self._vault = vault
        self._controller = controller

    def payload(
        self, controller: ControllerId, subject: SubjectRef | None, kind: str, plaintext: bytes
    ) -> tuple[str, bytes]:
        """Return (audit key id, sealed payload)."""
        scope = self._scope(controller, subject or _OWN, "ledger", KeyClass.AUDIT)
        sealed = self._vault.seal(scope, kind, plaintext)
        return key_id_of(sealed).hex(), sealed

    def mail(self, controller: ControllerId, mail: str, plaintext: bytes) -> bytes:
        return self._vault.seal(self._scope(controller, _OWN, "mail", KeyClass.DATA), mail, plaintext)

    def open_mail(self, controller: ControllerId, mail: str, sealed: bytes) -> bytes:
        return self._vault.open(self._scope(controller, _OWN, "mail", KeyClass.DATA), mail, sealed)

    def answer(self, controller: ControllerId, request: str, plaintext: bytes) -> bytes:
        """Seal an answer that is kept for whoever asks again."""
        return self._vault.seal(self._scope(controller, _OWN, "answers", KeyClass.DATA), request, plaintext)

    def open_answer(self, controller: ControllerId, request: str, sealed: bytes) -> bytes:
        return self._vault.open(self._scope(controller, _OWN, "answers", KeyClass.DATA), request, sealed)

    def seal_key(self, plaintext: bytes) -> bytes:
        """Seal a signing key of the service."""
        return self._vault.seal(self._signing(), "signing-key", plaintext)

    def open_key(self, sealed: bytes) -> bytes:
        return self._vault.open(self._signing(), "signing-key", sealed)

    def probe(self) -> bool:
        """Seal a word and open it again: whether keys can be reached. Raises what either raises."""
        return self.open_key(self.seal_key(b"ready")) == b"ready"

    def _signing(self) -> Scope:
        return self._scope(self._controller, _OWN, "signing", KeyClass.DATA)

    def _scope(self, controller: ControllerId, subject: SubjectRef, category: str, key_class: KeyClass) -> Scope:
        if subject == _OWN:
            self._vault.create_subject(controller, subject)
        return Scope(controller, subject, HOUSE, category, key_class=key_class)
