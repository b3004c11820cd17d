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
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from dbos import DBOS, DBOSClient, DBOSConfig, DBOSPortableJSONSerializer, EnqueueOptions, StepOptions
from sqlalchemy import Engine
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.orm import Session

from consent.ports import Clock

QUEUE = "regard"
APPLICATION_VERSION = "1"
SCHEMA = "dbos"

EACH_MINUTE: Final = "* * * * *"
_HISTORY: Final = timedelta(days=1)
"""How long a finished sweep stays in the job tables: one row a minute says nothing after that."""
_REMOVED_AT_ONCE: Final = 500

StepResult = None | bool | int | str


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


_PATIENCE: Final[StepOptions] = {
    "retries_allowed": True,
    "max_attempts": 6,
    "interval_seconds": 1.0,
    "backoff_rate": 3.0,
}
"""Two minutes: a database that restarts, a disk that is busy."""


class _RecordedSteps:
    def run(self, name: str, effect: Callable[[], StepResult]) -> StepResult:
        return DBOS.run_step({**_PATIENCE, "name": name, "should_retry": _passes}, effect)


def _passes(fault: BaseException) -> bool:
    """Say whether trying again may help: the machine failed, not what was asked of it."""
    return isinstance(fault, OperationalError | InterfaceError | OSError)


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
            "workflow_name": "carry",
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
        swept = _register_sweeps(self._sweeps)
        DBOS.launch()
        DBOS.register_queue(QUEUE, worker_concurrency=4, polling_interval_sec=poll_seconds)
        if self._sweeps:
            DBOS.apply_schedules([{"schedule_name": "sweep", "workflow_fn": swept, "schedule": sweep_when}])

    def stop(self, *, patience_seconds: int = 5) -> None:
        """Finish what runs, within the patience given, and stop."""
        if self._runner is not None:
            DBOS.destroy(workflow_completion_timeout_sec=patience_seconds)
            self._runner = None
        if self._client is not None:
            self._client.destroy()
            self._client = None

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
    @DBOS.workflow(name="carry")
    def carry(kind: str, ref: str) -> None:
        handlers[kind](ref, _RecordedSteps())


def _register_sweeps(sweeps: Mapping[str, Sweep]) -> Callable[[datetime, object], None]:
    @DBOS.workflow(name="sweep")
    def swept(_planned: datetime, _context: object) -> None:
        for name, sweep in sweeps.items():
            DBOS.run_step({"name": name}, sweep)
        DBOS.run_step({"name": "history"}, _forget_sweeps)

    return swept


def _forget_sweeps() -> int:
    """Remove old finished sweeps from the job tables, a bounded number at once."""
    before = (datetime.now(UTC) - _HISTORY).isoformat()
    old = DBOS.list_workflows(
        name="sweep", status=["SUCCESS", "ERROR"], end_time=before, limit=_REMOVED_AT_ONCE, load_input=False
    )
    ids = [each.workflow_id for each in old]
    if ids:
        DBOS.delete_workflows(ids)
    return len(ids)
