"""Who may do what on PostgreSQL: the shipped role scripts are enough for the service, and for nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.exc import OperationalError, ProgrammingError

from app.store.migrate import _config
from app.wiring import migrate
from app.wiring.founding import SchemaBehind
from app.workflows.durable import DurableWork
from tests.contract import case_house as town
from tests.contract import test_case_workflows as workflows
from tests.databases import Tree, metadata, postgres_database
from tests.doors.api_house import ApiHouse, unb64

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("key-roles")]

SCRIPTS = Path(__file__).resolve().parents[2] / "migrations" / "roles"


@dataclass(frozen=True)
class Stores:
    """Addresses of both databases as the roles that serve."""

    records: str
    keys: str

    def crossed(self) -> list[str]:
        """Each role at the other's database."""
        return [_as(self.keys, "regard_records"), _as(self.records, "regard_keys")]


def _as(url: str, role: str) -> str:
    return re.sub(r"//[^@]+@", f"//{role}@", url)


def _run(url: str, script: str) -> None:
    """Run a script as its reader does with psql: one session, every statement as it stands."""
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.connection.cursor().execute((SCRIPTS / script).read_bytes())
    engine.dispose()


def _lay(url: str, tree: Tree) -> None:
    """As `regard db upgrade` does as the owner, without Alembic's seconds."""
    engine = create_engine(url)
    metadata(tree).create_all(engine)
    with engine.connect() as connection:
        command.stamp(_config(tree, connection), "head")
        connection.commit()
    if tree == "records":
        work = DurableWork(engine, town.now, {}, executor="owner")
        work.migrate()
        work.stop()
    engine.dispose()


@contextmanager
def _database(tree: Tree) -> Iterator[str]:
    """A database that its own role owns, its script run twice; the address as the role that serves."""
    with postgres_database() as url:
        _run(url, "cluster.sql")
        owner = _as(url, f"regard_{tree}_owner")
        with create_engine(url, isolation_level="AUTOCOMMIT").connect() as connection:
            connection.execute(text(f"ALTER DATABASE {url.rsplit('/', 1)[1]} OWNER TO regard_{tree}_owner"))
            connection.engine.dispose()
        _lay(owner, tree)
        for _ in range(2):
            _run(owner, f"{tree}.sql")
        yield _as(url, f"regard_{tree}")


@pytest.fixture(scope="module")
def stores() -> Iterator[Stores]:
    with ExitStack() as opened:
        yield Stores(*(opened.enter_context(_database(tree)) for tree in ("records", "keys")))


@pytest.fixture
def connection(request: pytest.FixtureRequest, stores: Stores) -> Iterator[Connection]:
    engine = create_engine(getattr(stores, request.param))
    with engine.connect() as opened:
        yield opened
    engine.dispose()


@pytest.mark.parametrize("tree", ["records", "keys"])
def test_every_table_is_named_once(tree: Tree) -> None:
    """A table that a migration adds is closed to the service until somebody says what it may do with it."""
    script = re.sub(r"--.*|UPDATE \(.*?\) ON \w+", "", (SCRIPTS / f"{tree}.sql").read_text())
    granted = re.findall(r"GRANT [A-Z, ]+ ON\s+([a-z_,\s]+?)\s+TO", script)
    named = [name for names in granted for name in re.split(r",\s*", names)]
    assert sorted(named) == sorted({*metadata(tree).tables, "alembic_version"})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One data folder for both stories: the stores are theirs together, and so are the keyring and the tombstones."""
    return tmp_path_factory.mktemp("roles")


def test_a_case_goes_to_its_end_as_the_roles_that_serve(stores: Stores, folder: Path) -> None:
    """Access and erasure, carried out durably: records, ledger, keys, certificate. Migrating has nothing to change."""
    migrate(town.settings_for(folder, stores.records, stores.keys))
    built = town.open_house(folder, stores.records, stores.keys)
    quick = town.quick(built, first=timedelta(seconds=0.3), longest=timedelta(seconds=0.3))
    quick.work.launch(poll_seconds=0.05)
    try:
        workflows.test_access_then_erasure_to_the_end(quick)
        assert quick.ledger.integrate() > 0
        assert quick.ledger.audit() == []
    finally:
        quick.close()


def test_consent_lease_and_withdrawal_through_the_doors(
    stores: Stores, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = ApiHouse(folder, stores.records, stores.keys, monkeypatch)
    try:
        agreed = at.agree("bea@example.org")
        token = at.token(agreed)
        lease = at.lease(agreed, token)
        assert lease.status_code == 200
        assert len(unb64(lease.json["key"])) == 32
        at.withdraw(agreed)
        assert at.lease(agreed, token).status_code in (401, 403)
        at.erase(agreed)
        assert at.house.ledger.integrate() > 0
        assert at.house.ledger.audit() == []
    finally:
        at.house.close()


def test_a_schema_that_is_behind_is_told_to_the_role_that_serves(stores: Stores, folder: Path) -> None:
    owner = create_engine(_as(stores.keys, "regard_keys_owner"))
    with owner.connect() as connection:
        command.stamp(_config("keys", connection), "base")
        connection.commit()
        try:
            with pytest.raises(SchemaBehind, match="as the owner"):
                migrate(town.settings_for(folder, stores.records, stores.keys))
        finally:
            command.stamp(_config("keys", connection), "head")
            connection.commit()
    owner.dispose()


@pytest.mark.parametrize("which", [0, 1], ids=["records role, key store", "keys role, records"])
def test_neither_role_reaches_the_other_database(stores: Stores, which: int) -> None:
    with pytest.raises(OperationalError, match="permission denied for database"):
        create_engine(stores.crossed()[which]).connect()


@pytest.mark.parametrize("connection", ["records", "keys"], indirect=True)
def test_the_role_that_serves_makes_and_unmakes_nothing(connection: Connection) -> None:
    tables = connection.execute(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")).scalars().all()
    assert len(tables) > 10
    refused = [f"{what} TABLE {table}" for table in tables for what in ("DROP", "TRUNCATE")]
    refused += [f"ALTER TABLE {table} ADD COLUMN x int" for table in tables]
    refused += ["CREATE TABLE x (y int)", "CREATE TEMP TABLE x (y int)", "CREATE SCHEMA x", "CREATE ROLE x"]
    refused += ["SET ROLE regard_keys_owner", "SET ROLE regard_records_owner", "SET ROLE regard"]
    refused += ["COPY (SELECT 1) TO PROGRAM 'true'", "CHECKPOINT", "UPDATE alembic_version SET version_num = '0'"]
    for statement in refused:
        assert _refused(connection, statement), statement


GROWING = {
    "records": ["case_events", "consent_events", "disclosures", "ledger_nodes", "policy_adoptions", "export_members"],
    "keys": ["destroyed_keys", "erased_subjects", "erasure_targets", "erasure_approvals"],
}


@pytest.mark.parametrize("connection", ["records", "keys"], indirect=True)
def test_what_happened_is_not_unmade(connection: Connection) -> None:
    """Whoever has the service's role cannot bring an erased person back, or unsay a consent."""
    tree = "keys" if "regard_keys" in str(connection.engine.url) else "records"
    for table in GROWING[tree]:
        assert _refused(connection, f"DELETE FROM {table}"), table
        column = next(iter(metadata(tree).tables[table].columns)).name
        assert _refused(connection, f"UPDATE {table} SET {column} = {column}"), table
    for statement in {
        "records": ["DELETE FROM ledger_entries", "UPDATE ledger_entries SET digest = digest", "DELETE FROM consents"],
        "keys": ["DELETE FROM partitions", "DELETE FROM erasures", "DELETE FROM tombstone_marks"],
    }[tree]:
        assert _refused(connection, statement), statement


def _refused(connection: Connection, statement: str) -> bool:
    try:
        connection.execute(text(statement))
    except ProgrammingError as fault:
        return type(fault.orig).__name__ == "InsufficientPrivilege"
    finally:
        connection.rollback()
    return False


def test_the_refusal_of_a_role_is_seen(stores: Stores) -> None:
    """The test above can fail: what a role may do is not taken for refused."""
    engine: Engine = create_engine(stores.keys)
    with engine.connect() as connection:
        assert not _refused(connection, "DELETE FROM subject_keys WHERE false")
        with pytest.raises(ProgrammingError):
            connection.execute(text("SELECT * FROM no_such_table"))
    engine.dispose()
