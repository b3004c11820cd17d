"""A whole house with two people, three components and a colleague, and what of it a refusal must not change."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, MetaData, select, update

from app.http.forms import FIELD, keyed_with
from app.http.sessions import cookie_name
from app.http.sessions import digest as session_digest
from app.sdk.scopes import Scope
from app.store.passkeys import StoredStaff
from app.store.rows.base import KeysBase, RecordsBase
from app.store.rows.tokens import AccessTokenRow
from app.tokens.minting import digest
from consent import usecases as agreements
from consent.vocabulary import Locale
from dsar import usecases
from dsar.proofs.shape import Proof
from dsar.usecases import Intake
from dsar.vocabulary import Actor, CaseId, Channel, Method, Right, TaskKind
from tests.databases import postgres_database, sqlite_database
from tests.doors.api_house import ISSUER, Agreed, ApiHouse
from tests.doors.oauth_house import Component

NOT_THE_STATE = frozenset({"oauth_spent_ids", "door_counters"})
"""That something was tried: single-use ids of proofs, and counters of guesses."""
_MOVING = frozenset({"arrival", "messages", "seen_at", "idle_at"})
"""Order of arrival, a sampled count of seals, and that a session was used."""
_REFUSED = "key.refused"
"""A refused key is in the ledger on purpose (vault.md section 3)."""


class Straight:
    """Runs each step of durable work at once."""

    def run(self, name: str, effect: Any) -> Any:
        return effect()


@dataclass
class BadHouse:
    """Ana and Bea agreed, and each has a case; `reader` read for them, `holder` stores, `rival` is somebody else."""

    at: ApiHouse
    ana: Agreed
    bea: Agreed
    cases: Mapping[str, CaseId]
    receipts: Mapping[str, str]
    tokens: dict[tuple[str, Scope], str] = field(default_factory=dict)
    sessions: dict[str, str] = field(default_factory=dict)

    # components

    def token(self, who: Component, scope: Scope) -> str:
        """An own token of a component: issued once, since issuing writes."""
        key = (who.record.id, scope)
        if key not in self.tokens:
            self.tokens[key] = self.at.own_token(who, scope)
        return self.tokens[key]

    def dead_token(self, who: Component, scope: Scope, **ended: Any) -> str:
        """One that has ended in the way said (`revoked_at`, `expires_at`)."""
        secret = self.at.own_token(who, scope)
        with self.at.house.records.begin() as connection:
            row = update(AccessTokenRow).where(AccessTokenRow.digest == digest(secret))
            assert connection.execute(row.values(ended)).rowcount == 1
        return secret

    def call(self, method: str, path: str, who: Component, scope: Scope, **more: Any) -> Any:
        """Call as a component does, with a fresh proof; `secret` and `proof` say otherwise."""
        secret = more.pop("secret", None) or self.token(who, scope)
        proof = more.pop("proof", None) or self.proof(method, path, who, secret)
        headers = {"Authorization": f"DPoP {secret}", "DPoP": proof, **more.pop("headers", {})}
        return self.at.web.open(path, method=method, headers=headers, base_url=ISSUER, **more)

    def proof(self, method: str, path: str, who: Component, secret: str) -> str:
        """A proof for exactly this call, whatever the path says once it is read."""
        with self.at.app.test_request_context(path, base_url=ISSUER) as context:
            return who.prover.prove(method, context.request.base_url, access_token=secret)

    # people

    def sign_in(self, name: str, kind: str, person: str) -> None:
        """Give somebody a session with a passkey asserted just now."""
        doors, token = self.at.app.extensions["regard.doors"], f"session-of-{name}"
        with self.at.house.units.writing() as unit:
            unit.sessions.open(
                session_digest(token),
                kind=kind,
                person=person,
                controller=self.at.house.controller,
                level=3,
                proven_at=doors.clock.now(),
                credential=None,
                now=doors.clock.now(),
                idle=timedelta(minutes=30),
                longest=timedelta(hours=1),
            )
            unit.commit()
        self.sessions[name] = token

    def visit(self, method: str, path: str, name: str | None, **more: Any) -> Any:
        """Open a page as somebody (None: nobody); forms go with the token of that session unless they say otherwise."""
        web, doors = self.at.app.test_client(), self.at.app.extensions["regard.doors"]
        if name is not None:
            web.set_cookie(cookie_name("regard_session", doors), self.sessions[name], domain="regard.example")
        return web.open(path, method=method, base_url=ISSUER, **more)

    def form(self, name: str, **fields: Any) -> dict[str, Any]:
        key = self.at.app.extensions["regard.doors"].key
        return {FIELD: keyed_with(key, "form", self.sessions[name]), **fields}

    # what is there

    def state(self) -> dict[str, tuple[int, str]]:
        """Every table of both databases: how many rows, and a digest of them; and of the files beside."""
        found = _tables(self.at.house.records, RecordsBase.metadata) | _tables(self.at.house.keys, KeysBase.metadata)
        sealed = self.at.house.settings.data_dir / "sealed"
        files = sorted(f"{path.relative_to(sealed)} {path.stat().st_size}" for path in sealed.rglob("*"))
        return {**found, "files": (len(files), "\n".join(files))}

    def secrets(self) -> list[str]:
        """What no answer to a refusal may hold."""
        people = [self.ana.subject, self.bea.subject, "Bea Exemplo", "bea@example.org"]
        return [*people, *self.tokens.values(), *self.sessions.values()]

    def task(self, holder: str, whose: str = "ana") -> str:
        with self.at.house.casework.unit() as unit:
            tasks = unit.desk.cases.tasks(self.cases[whose], TaskKind.SEARCH)
        return next(task.id for task in tasks if task.holder == holder)


def _tables(engine: Engine, metadata: MetaData) -> dict[str, tuple[int, str]]:
    found = {}
    with engine.execution_options(regard_read=True).connect() as connection:
        for table in metadata.sorted_tables:
            if table.name in NOT_THE_STATE:
                continue
            query = select(*(column for column in table.columns if column.name not in _MOVING))
            if table.name == "ledger_entries":
                query = query.where(table.c.kind != _REFUSED)
            rows = sorted(repr(tuple(row)) for row in connection.execute(query))
            found[table.name] = (len(rows), hashlib.sha256("\n".join(rows).encode()).hexdigest())
    return found


@contextmanager
def bad_house(folder: Path, backend: str) -> Iterator[BadHouse]:
    """Build everything on one backend; take it down."""
    with pytest.MonkeyPatch.context() as patch, _urls(folder, backend) as (records, keys):
        at = ApiHouse(folder, records, keys, patch)
        yield _filled(at)
        at.house.close()


@contextmanager
def _urls(folder: Path, backend: str) -> Iterator[tuple[str, str]]:
    if backend == "sqlite":
        yield sqlite_database(folder / "records.sqlite", "records"), sqlite_database(folder / "keys.sqlite", "keys")
        return
    with postgres_database("records") as records, postgres_database("keys") as keys:
        yield records, keys


def _filled(at: ApiHouse) -> BadHouse:
    people = {"ana": at.agree(), "bea": at.agree("bea@example.org")}
    cases = {name: _case(at, person) for name, person in people.items()}
    receipts = {name: _receipt(at, person) for name, person in people.items()}
    house = BadHouse(at, people["ana"], people["bea"], cases, receipts)
    with at.house.units.writing() as unit:
        roles, firms = frozenset({"dpo", "agent"}), frozenset({at.house.controller})
        unit.staff.add(StoredStaff("stf_sam", "Sam Staff", roles, firms))
        unit.commit()
    for name, person in people.items():
        house.sign_in(name, "subject", person.subject)
    house.sign_in("sam", "staff", "stf_sam")
    for who in (at.reader, at.holder, at.rival):
        for scope in Scope:
            if scope in who.record.scopes:
                house.token(who, scope)
    for person in people.values():
        for party in ("nuage", "collecte"):
            at.handle(person, party)  # type: ignore[arg-type]
    # a first refusal: the keys under which later ones are sealed exist from here on
    at.lease(people["ana"], "rat_nothing")
    return house


def _case(at: ApiHouse, person: Agreed) -> CaseId:
    now = at.clock.now()
    proof = Proof(Method.PASSKEY, now, "pk_1", now - timedelta(days=400))
    asked = (at.house.controller, person.subject, (Right.ACCESS,), Channel.SPACE, now, Locale.EN)
    with at.house.casework.unit() as unit:
        intake = Intake(*asked, by=Actor(person.subject, human=True), proofs=(proof,))
        case = usecases.open_case(unit.desk, intake).case
        assert case is not None
        usecases.start_search(unit.desk, case, unit.holders(at.house.controller))
        unit.commit()
    return case


def _receipt(at: ApiHouse, person: Agreed) -> str:
    with at.house.units.reading() as unit:
        record = unit.consents.find(at.house.controller, person.consent)
    assert record is not None
    at.house.consentwork.handlers()[agreements.RECEIPT](f"{person.consent}/{record.version}", Straight())
    with at.house.units.reading() as unit:
        return unit.receipts.of_consent(at.house.controller, person.consent)[0].id
