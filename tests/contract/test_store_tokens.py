"""The authorization server's stores on SQLite and PostgreSQL: round trips, single use, counting, housekeeping."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Connection, Engine, event, insert, select
from sqlalchemy.exc import IntegrityError

from app.sdk.claims import AggregationConsent
from app.sdk.scopes import Scope
from app.store.clients import SqlClients
from app.store.rows.consents import ConsentEventRow, ConsentRow
from app.store.rows.tokens import ReadCounterRow, TokenGrantRow
from app.store.tokens import SqlSigningKeys, SqlTokens
from app.tokens.minting import digest
from app.tokens.records import (
    AccessToken,
    Client,
    Code,
    GrantType,
    KeyState,
    PushedRequest,
    Refresh,
    StoredKey,
    TokenGrant,
)
from consent.record import State

NOW = datetime(2026, 3, 2, 9, 0, 0, 123456, tzinfo=UTC)
DETAIL = AggregationConsent(purpose="budget", categories=frozenset({"a", "b"}), consent_id="con_1")
CLIENT = Client(
    id="collector",
    controller="firm",
    party="aggregator",
    name="Collector",
    jwks={"keys": [{"kty": "EC", "kid": "1"}]},
    scopes=frozenset({Scope.KEYS_LEASE, Scope.CASES_FULFIL}),
    grants=frozenset(GrantType),
    redirect_uris=("https://a.example/b",),
    resource="https://holder.example",
    created_at=NOW,
    country="FR",
    honours=frozenset({"call", "nothing"}),
)
GRANT = TokenGrant(
    "gnt_1", "collector", "firm", "aggregator", "con_1", frozenset({Scope.KEYS_LEASE}), "https://h", DETAIL, NOW
)
TOKEN = AccessToken(
    digest=digest("t"),
    client="collector",
    controller="firm",
    party="aggregator",
    audience="https://h",
    scopes=frozenset({Scope.KEYS_LEASE}),
    jkt="jkt",
    consent="con_1",
    consent_version=3,
    detail=DETAIL,
    attended=True,
    grant="gnt_1",
    issued_at=NOW,
    expires_at=NOW + timedelta(minutes=5),
)
REQUEST = PushedRequest(
    digest=digest("r"),
    client="collector",
    controller="firm",
    party="aggregator",
    journey="jrn_1",
    parameters={"state": "é"},
    jkt=None,
    created_at=NOW,
    expires_at=NOW + timedelta(minutes=5),
)


@pytest.fixture
def connection(records_engine: Engine) -> Iterator[Connection]:
    with records_engine.connect() as opened:
        SqlClients(opened).add(CLIENT)
        yield opened


@pytest.fixture
def tokens(connection: Connection) -> SqlTokens:
    return SqlTokens(connection)


def test_clients(connection: Connection) -> None:
    clients = SqlClients(connection)
    assert clients.find("collector") == CLIENT
    assert clients.of_resource("https://holder.example") == CLIENT
    assert clients.of_party("aggregator") == [CLIENT]
    assert clients.find("nobody") is None
    assert clients.suspend("collector", NOW)
    assert not clients.suspend("collector", NOW)
    assert clients.find("collector") == replace(CLIENT, suspended_at=NOW)
    assert clients.resume("collector")
    assert not clients.resume("collector")
    with pytest.raises(IntegrityError):
        clients.add(replace(CLIENT, id="second"))


def test_the_holders_of_a_controller_are_its_components_that_fulfil_cases(connection: Connection) -> None:
    """Dsar rule 40: one that is suspended still has what it has."""
    clients = SqlClients(connection)
    fulfils = frozenset({Scope.CASES_FULFIL})
    more = {
        "store": {"resource": "https://a.example", "scopes": fulfils},
        "later": {"resource": "https://b.example", "scopes": fulfils, "created_at": NOW + timedelta(days=1)},
        "bare": {"resource": None, "scopes": fulfils},
        "reader": {"resource": "https://c.example", "scopes": frozenset({Scope.KEYS_LEASE})},
        "abroad": {"resource": "https://d.example", "scopes": fulfils, "controller": "another"},
        "off": {"resource": "https://e.example", "scopes": fulfils, "suspended_at": NOW},
    }
    for name, fields in more.items():
        clients.add(replace(CLIENT, id=name, **fields))
    assert [each.id for each in clients.holders(CLIENT.controller)] == ["collector", "off", "store", "later"]


def test_an_id_is_spent_once_for_its_kind_and_owner(tokens: SqlTokens) -> None:
    assert tokens.spend("dpop", "k", "j", NOW)
    assert not tokens.spend("dpop", "k", "j", NOW + timedelta(1))
    assert tokens.spend("assertion", "k", "j", NOW)
    assert tokens.spend("dpop", "k2", "j", NOW)


def test_pushed_requests(tokens: SqlTokens) -> None:
    tokens.push(REQUEST)
    assert tokens.pushed(REQUEST.digest) == REQUEST
    assert tokens.pushed_for("jrn_1") == REQUEST
    assert tokens.pushed(digest("x")) is None
    later = NOW + timedelta(hours=1)
    assert tokens.open_pushed(REQUEST.digest, NOW, later)
    assert not tokens.open_pushed(REQUEST.digest, later, later)
    assert tokens.complete_pushed(REQUEST.digest, later)
    assert not tokens.complete_pushed(REQUEST.digest, later)
    assert tokens.pushed(REQUEST.digest) == replace(REQUEST, opened_at=NOW, expires_at=later, completed_at=later)


def test_grants_codes_and_tokens(tokens: SqlTokens) -> None:
    code = Code(digest("c"), GRANT, "https://a.example/b", "x" * 43, None, NOW)
    refresh = Refresh(digest("r"), GRANT, "jkt", NOW)
    tokens.add_grant(GRANT)
    tokens.add_code(code)
    tokens.add_refresh(refresh)
    tokens.add_access(TOKEN)
    alone = replace(TOKEN, digest=digest("u"), consent=None, consent_version=None, detail=None, grant=None)
    tokens.add_access(alone)
    assert tokens.code(code.digest) == code
    assert tokens.refresh(refresh.digest) == refresh
    assert tokens.access(TOKEN.digest) == TOKEN
    assert tokens.access(alone.digest) == alone
    assert tokens.use_code(code.digest, NOW)
    assert not tokens.use_code(code.digest, NOW)
    tokens.end_grant("gnt_1", NOW)
    tokens.end_grant("gnt_1", NOW + timedelta(1))
    assert tokens.refresh(refresh.digest) == replace(refresh, grant=replace(GRANT, ended_at=NOW))
    assert tokens.access(TOKEN.digest) == replace(TOKEN, revoked_at=NOW)
    assert tokens.access(alone.digest) == alone
    tokens.revoke_access(alone.digest, NOW)
    assert tokens.access(alone.digest) == replace(alone, revoked_at=NOW)


def test_reads_are_counted_in_any_24_hours_and_for_each_connection(tokens: SqlTokens) -> None:
    """RTS art. 36(5)(b), consent rule 14."""
    for hour in range(4):
        assert tokens.count_read("con_1", "p", "bank-1", NOW + timedelta(hours=hour), 4)
    assert not tokens.count_read("con_1", "p", "bank-1", NOW + timedelta(hours=23, minutes=59), 4)
    assert tokens.count_read("con_1", "p", "bank-2", NOW + timedelta(hours=4), 4)
    assert tokens.reads("con_1", "p", NOW + timedelta(hours=4)) == 4
    assert tokens.count_read("con_1", "p", "bank-1", NOW + timedelta(hours=24), 4)
    assert not tokens.count_read("con_1", "p", "bank-1", NOW + timedelta(hours=24), 4)
    assert tokens.reads("con_2", "p", NOW) == 0


def test_what_can_never_matter_again_is_removed_in_batches(tokens: SqlTokens) -> None:
    for number in range(10):
        tokens.spend("dpop", "k", str(number), NOW)
    tokens.push(REQUEST)
    tokens.add_access(TOKEN)
    tokens.count_read("con_1", "p", "", NOW, 4)
    assert tokens.purge(NOW, 100) == 0
    after = NOW + timedelta(days=2)
    assert tokens.purge(after, 4) == 4 + 1 + 1 + 1
    assert tokens.purge(after, 100) == 6
    assert tokens.purge(after, 100) == 0
    assert tokens.access(TOKEN.digest) is None


def test_grants_and_refresh_tokens_go_a_month_after_they_are_over(connection: Connection, tokens: SqlTokens) -> None:
    """Tokens.md section 2: a refresh token ends with its grant and with the consent; what is over is not kept."""
    consents = {"lives": State.ACTIVE, "stopped": State.WITHDRAWN}
    for name, state in consents.items():
        who = {"controller": "firm", "head": "0" * 64}
        of = {"subject": "sub_1", "purpose": "budget", "party": "aggregator", "version": 2, "requested_at": NOW}
        connection.execute(insert(ConsentRow).values(id=name, state=state.value, **who, **of))
        said = {"controller": "firm", "kind": "k", "body": "{}", "digest": "0" * 64}
        for version, at in ((1, NOW - timedelta(days=90)), (2, NOW)):
            connection.execute(insert(ConsentEventRow).values(consent=name, version=version, at=at, **said))
    for name, consent in (("kept", "lives"), ("ended", "lives"), ("never", "lives"), ("after", "stopped")):
        grant = replace(GRANT, id=name, consent=consent)
        tokens.add_grant(grant)
        if name != "never":
            tokens.add_refresh(Refresh(digest(name), grant, "jkt", NOW))
    tokens.end_grant("ended", NOW)
    tokens.add_code(Code(digest("c"), replace(GRANT, id="never"), "https://a.example/b", "c" * 43, None, NOW))
    month = NOW + timedelta(days=30)
    assert tokens.grants_over(month, 10) == []
    over = month + timedelta(seconds=1)
    assert set(tokens.grants_over(over, 10)) == {"ended", "after"}, "a code that is still there still ends its grant"
    tokens.purge(over, 10)
    gone = tokens.grants_over(over, 10)
    assert set(gone) == {"ended", "after", "never"}
    assert len(tokens.grants_over(over, 2)) == 2
    tokens.drop_grants(gone)
    assert connection.execute(select(TokenGrantRow.id)).scalars().all() == ["kept"]
    assert [tokens.refresh(digest(name)) is None for name in ("ended", "after", "kept")] == [True, True, False]
    assert tokens.grants_over(over, 10) == []


def test_a_counter_goes_with_the_last_read_it_counted(connection: Connection, tokens: SqlTokens) -> None:
    """Tokens.md section 3: rolling 24 hours, counted anew when they are over."""

    def counters() -> set[str]:
        return set(connection.execute(select(ReadCounterRow.connection)).scalars())

    later = NOW + timedelta(hours=20)
    for bank, at in (("bank-1", NOW), ("bank-2", NOW), ("bank-2", later)):
        assert tokens.count_read("con_1", "p", bank, at, 2)
    assert tokens.purge(NOW + timedelta(hours=25), 100) == 2
    assert counters() == {"bank-2"}
    assert tokens.count_read("con_1", "p", "bank-2", NOW + timedelta(hours=25), 2)
    assert not tokens.count_read("con_1", "p", "bank-2", NOW + timedelta(hours=25), 2)
    assert tokens.count_read("con_1", "p", "bank-1", NOW + timedelta(hours=25), 1)
    assert not tokens.count_read("con_1", "p", "bank-1", NOW + timedelta(hours=25), 1)
    assert tokens.purge(NOW + timedelta(days=3), 100) == 3
    assert counters() == set()


def test_a_counter_removed_meanwhile_still_lets_one_through_at_a_time(records_engine: Engine) -> None:
    """Whoever counts writes the counter in one statement: a removal comes before it or after, never in between."""
    with records_engine.begin() as opened:
        assert SqlTokens(opened).count_read("con_1", "p", "bank", NOW, 4)
    heard: list[str] = []
    listen = ("before_cursor_execute", lambda _c, _u, said, *_more: heard.append(said))
    event.listen(records_engine, *listen)
    with records_engine.begin() as opened:
        assert SqlTokens(opened).count_read("con_1", "p", "bank", NOW, 4)
    event.remove(records_engine, *listen)
    assert [said for said in heard if "oauth_read_counters" in said][1:] == []


def test_signing_keys(connection: Connection) -> None:
    rows = SqlSigningKeys(connection)
    key = StoredKey("kid", KeyState.NEXT, {"kty": "EC"}, b"sealed", NOW, NOW)
    rows.put(key)
    assert rows.all() == [key]
    retired = replace(key, state=KeyState.RETIRED, sealed=b"", since=NOW + timedelta(1))
    rows.put(retired)
    assert rows.all() == [retired]
