"""Durable work on DBOS Transact (operations.md section 3): work committed with a state change is carried out.

One workflow, `carry`, runs every kind of work: it looks the kind up in a literal register and hands it the reference
and a way to run steps. A step's result is recorded, so a killed worker goes on after the last finished step.
Arguments and results are opaque ids and small codes only, in the portable JSON format: job tables are kept, and
would otherwise defeat shredding.

DBOS opens connections of its own to the records database: on SQLite it begins its transactions itself, which an
engine that begins them IMMEDIATE (`store.engine`) would do twice. The file is in WAL mode already, so both meet there.
Enqueuing uses the caller's session, so the work commits with the state change or not at all.

Deadlines are rows with a `due_at` (rule 6): a workflow that begins each minute runs the registered sweeps over them.
Many workers make one run a minute between them; a sweep locks what it moves, so that two at once do no harm.

Work that failed begins anew after a rest, for as long as it takes: what a person asked for is not given up because a
disk was full or a release had a fault. What a fault says may quote a person, so the job tables and the log keep its
kind and place, never its words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from traceback import extract_tb
from typing import Final, Protocol, TypeVar

import structlog
from dbos import (
    DBOS,
    DBOSClient,
    DBOSConfig,
    DBOSPortableJSONSerializer,
    EnqueueOptions,
    PortableWorkflowError,
    StepOptions,
    error,
)
from sqlalchemy import Engine
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.orm import Session

from app.vault.errors import KeyStoreUnavailable
from consent.ports import Clock

QUEUE = "regard"
CARRY: Final = "carry"
APPLICATION_VERSION = "1"
SCHEMA = "dbos"

EACH_MINUTE: Final = "* * * * *"
SWEEPS_KEPT: Final = timedelta(days=1)
"""How long a finished sweep stays in the job tables: one row a minute says nothing after that."""
WORK_KEPT: Final = timedelta(days=30)
"""How long finished work stays there. Asked for again after that it would run again, which does no harm."""
RESTED: Final = timedelta(minutes=10)
"""How long failed work rests before it begins anew."""
_REMOVED_AT_ONCE: Final = 500
_BEGUN_AT_ONCE: Final = 100
_FAILED: Final = ["ERROR", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"]

StepResult = None | bool | int | str
_Result = TypeVar("_Result")


class Steps(Protocol):
    """How a handler runs one external effect; the name is part of the recorded history."""

    def run(self, name: str, effect: Callable[[], StepResult]) -> StepResult: ...


Handler = Callable[[str, Steps], None]
"""Takes the reference and the steps. Everything with an effect goes through a step and must be idempotent: a kill
between the effect and the record of it runs the effect again."""


Sweep = Callable[[], int]
"""Does what has fallen due and returns how much that was."""


class UnknownWorkError(LookupError):
    """Work of a kind nobody registered was asked for; refused when it is enqueued, not when it would run."""


class WorkFailedError(Exception):
    """Work, or one step of it, failed. Carries the fault's name alone: job tables keep what it says."""

    def __init__(self, fault: BaseException) -> None:
        super().__init__(type(fault).__name__)
        self.passing = isinstance(fault, _PASSING)
        """Whether trying again may help: the machine failed, not what was asked of it."""


class SweepsFailedError(Exception):
    """Some sweeps failed; the others have run."""

    def __init__(self, names: list[str]) -> None:
        super().__init__(", ".join(names))


_PASSING: Final = (OperationalError, InterfaceError, OSError, KeyStoreUnavailable)
_PATIENCE: Final[StepOptions] = {
    "retries_allowed": True,
    "max_attempts": 6,
    "interval_seconds": 1.0,
    "backoff_rate": 3.0,
}
"""Two minutes: a database that restarts, a disk that is busy."""


@dataclass(frozen=True, slots=True)
class _RecordedSteps:
    kind: str
    ref: str

    def run(self, name: str, effect: Callable[[], StepResult]) -> StepResult:
        options: StepOptions = {**_PATIENCE, "name": name, "should_retry": _passes}
        return DBOS.run_step(options, lambda: _without_words(effect, kind=self.kind, ref=self.ref, step=name))


def _passes(fault: BaseException) -> bool:
    return isinstance(fault, WorkFailedError) and fault.passing


def _without_words(effect: Callable[[], _Result], **about: str) -> _Result:
    """Return what `effect` does; raises WorkFailedError in place of any fault of it, and logs its kind and place."""
    try:
        return effect()
    except (WorkFailedError, error.DBOSException):
        raise  # says nothing of its own; the engine's own faults steer it
    except Exception as fault:  # noqa: BLE001 - whatever it is, what it says stays here
        structlog.get_logger().error("work.failed", fault=type(fault).__name__, at=place_of(fault), **about)
        failed = WorkFailedError(fault)
    raise failed


def place_of(fault: BaseException) -> str:
    """Return file and line of where a fault arose."""
    frames = extract_tb(fault.__traceback__)
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""


class DurableWork:
    """Enqueue inside the caller's transaction; run what is enqueued, once launched."""

    def __init__(self, engine: Engine, clock: Clock, handlers: Mapping[str, Handler], *, executor: str) -> None:
        self._engine = engine
        self._clock = clock
        self._handlers = dict(handlers)
        self._executor = executor
        self._sweeps: dict[str, Sweep] = {}
        self._client: DBOSClient | None = None
        self._runner: DBOS | None = None

    def register(self, handlers: Mapping[str, Handler]) -> None:
        """Add kinds of work, before `launch`; those that stand on what this work was handed to."""
        self._handlers.update(handlers)

    def sweep_with(self, sweeps: Mapping[str, Sweep]) -> None:
        """Add sweeps that run each minute, before `launch`; each is a step of its own, under its name."""
        self._sweeps.update(sweeps)

    def enqueue(self, session: Session, kind: str, ref: str, due: datetime | None = None) -> None:
        """Commit the work with `session`. The same kind and reference twice is the same work."""
        if kind not in self._handlers:
            raise UnknownWorkError(kind)
        options: EnqueueOptions = {
            "workflow_name": CARRY,
            "queue_name": QUEUE,
            "workflow_id": f"{kind}:{ref}",
            "app_version": APPLICATION_VERSION,
        }
        if due is not None:
            options["delay_seconds"] = max(0.0, (due - self._clock.now()).total_seconds())
        self._enqueuer().enqueue_in_transaction(session, options, kind, ref)

    def launch(self, *, poll_seconds: float = 0.2, sweep_when: str = EACH_MINUTE) -> None:
        """Start carrying out work in this process; resume what a dead process of the same executor id left.

        `sweep_when` is a cron expression, of six fields where the first is seconds.
        """
        # our connection puts a new SQLite file into WAL mode; two at once would lock each other out
        self._engine.connect().close()
        DBOS.destroy()
        self._runner = DBOS(config=self._config())
        _register(self._handlers)
        swept = _register_sweeps({**self._sweeps, "failed": self.begin_failed_anew, "history": self.forget_finished})
        DBOS.launch()
        DBOS.register_queue(QUEUE, worker_concurrency=4, polling_interval_sec=poll_seconds)
        DBOS.apply_schedules([{"schedule_name": "sweep", "workflow_fn": swept, "schedule": sweep_when}])

    def stop(self, *, patience_seconds: int = 5) -> None:
        """Finish what runs, within the patience given, and stop."""
        if self._runner is not None:
            DBOS.destroy(workflow_completion_timeout_sec=patience_seconds)
            self._runner = None
        if self._client is not None:
            self._client.destroy()
            self._client = None

    def failed(self) -> int:
        """Return how much work has failed and rests before it begins anew."""
        found = self._enqueuer().list_workflows(name=CARRY, status=_FAILED, load_input=False, load_output=False)
        return len(found)

    def begin_failed_anew(self, *, rested: timedelta = RESTED) -> int:
        """Begin work anew that failed so long ago, from its first step, a bounded number; return how much that was."""
        before = (datetime.now(UTC) - rested).isoformat()
        known = self._enqueuer()
        found = known.list_workflows(
            name=CARRY,
            status=_FAILED,
            completed_before=before,
            limit=_BEGUN_AT_ONCE,
            load_input=False,
            load_output=False,
        )
        for each in found:
            known.rewind_workflow(each.workflow_id, queue_name=QUEUE)
        return len(found)

    def forget_finished(self, *, sweeps: timedelta = SWEEPS_KEPT, work: timedelta = WORK_KEPT) -> int:
        """Remove what ended so long ago from the job tables, a bounded number; return how much that was."""
        ended = (("sweep", ["SUCCESS", "ERROR"], sweeps), (CARRY, ["SUCCESS"], work))
        return sum(self._forget(name, status, kept) for name, status, kept in ended)

    def _forget(self, name: str, status: list[str], kept: timedelta) -> int:
        known = self._enqueuer()
        old = known.list_workflows(
            name=name,
            status=status,
            completed_before=(datetime.now(UTC) - kept).isoformat(),
            limit=_REMOVED_AT_ONCE,
            load_input=False,
            load_output=False,
        )
        if old:
            known.delete_workflows([each.workflow_id for each in old])
        return len(old)

    def migrate(self) -> None:
        """Make or bring up to date the tables of the engine."""
        client = self._enqueuer()
        client._sys_db.run_migrations()

    def _config(self) -> DBOSConfig:
        return {
            "name": "regard",
            "system_database_url": self._engine.url.render_as_string(hide_password=False),
            "application_version": APPLICATION_VERSION,
            "executor_id": self._executor,
            "serializer": DBOSPortableJSONSerializer(),
            "dbos_system_schema": SCHEMA,
            "log_level": "WARNING",
            "use_listen_notify": False,
        }

    def _enqueuer(self) -> DBOSClient:
        if self._client is None:
            self._client = DBOSClient(
                system_database_url=self._engine.url.render_as_string(hide_password=False),
                serializer=DBOSPortableJSONSerializer(),
                dbos_system_schema=SCHEMA,
                use_listen_notify=False,
            )
        return self._client


def _register(handlers: Mapping[str, Handler]) -> None:
    @DBOS.workflow(name=CARRY)
    def carry(kind: str, ref: str) -> None:
        _without_words(lambda: handlers[kind](ref, _RecordedSteps(kind, ref)), kind=kind, ref=ref)


def _register_sweeps(sweeps: Mapping[str, Sweep]) -> Callable[[datetime, object], None]:
    @DBOS.workflow(name="sweep")
    def swept(_planned: datetime, _context: object) -> None:
        failed = [name for name, sweep in sweeps.items() if not _swept(name, sweep)]
        if failed:
            raise SweepsFailedError(failed)

    return swept


def _swept(name: str, sweep: Sweep) -> bool:
    """Run one sweep as a step; false when it failed. The others run all the same."""
    try:
        DBOS.run_step({"name": name}, lambda: _without_words(sweep, sweep=name))
    except (WorkFailedError, PortableWorkflowError):  # the second: what was recorded of one before a kill
        return False
    return True
