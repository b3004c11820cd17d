"""The sealer: works for the lease and not a moment longer, for one permit's token alone (vault.md sections 2, 3)."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from io import BytesIO
from pathlib import Path

import pytest

from app.sdk.client import Authority
from app.sdk.errors import LeaseEnded, Refused, Unreachable
from app.sdk.gate import Gate, Permit
from app.sdk.sealed import SealError
from app.sdk.sealer import Sealer, elapsed
from app.store.engine import open_engine
from app.store.rows.base import RecordsBase
from tests.doors.oauth_house import HOLDER, House
from tests.mechanism.sdk_house import Doors, Wire, authority, outage

BALANCES, TRANSACTIONS = "accounts.balances", "accounts.transactions"


class Seconds:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Setting:
    """A house, its doors, a holder's authority and gate, and a reader."""

    def __init__(self, tmp_path: Path) -> None:
        engine = open_engine(f"sqlite:///{tmp_path / 'records.sqlite'}")
        RecordsBase.metadata.create_all(engine)
        self.house = House(engine)
        self.doors = Doors(self.house)
        self.reader = authority(self.house, self.house.collector)
        self.authority: Authority = authority(self.house, self.house.holder, resource=HOLDER)
        self.gate = Gate(self.authority, HOLDER)
        self.seconds = Seconds()
        self.sealer = Sealer(self.authority, self.seconds)

    def permit(self, *categories: str) -> Permit:
        token = self.reader.token(self.house.consent, HOLDER, categories)
        request = Wire("GET", HOLDER + "/r", self.reader.headers(token, "GET", HOLDER + "/r"))
        verdict = self.gate.check(request, "budget", categories or (BALANCES, TRANSACTIONS))
        assert isinstance(verdict, Permit)
        return verdict


@pytest.fixture
def at(tmp_path: Path) -> Setting:
    return Setting(tmp_path)


def test_what_is_sealed_opens_again_on_one_lease(at: Setting) -> None:
    permit = at.permit()
    sealed = at.sealer.seal_json(permit, BALANCES, "r1", {"amount": "12.50", "é": 1})
    assert b"12.50" not in sealed
    assert at.sealer.open_json(permit, BALANCES, "r1", sealed) == {"amount": "12.50", "é": 1}
    assert at.doors.leases == 1
    at.sealer.seal(permit, TRANSACTIONS, "r1", b"x")
    assert at.doors.leases == 2


def test_a_record_opens_only_as_what_it_is(at: Setting) -> None:
    permit = at.permit()
    sealed = at.sealer.seal(permit, BALANCES, "r1", b"x")
    with pytest.raises(SealError):
        at.sealer.open(permit, BALANCES, "r2", sealed)
    with pytest.raises(SealError):
        at.sealer.open(replace(permit, subject="pw_other"), BALANCES, "r1", sealed)
    with pytest.raises(SealError):
        at.sealer.open(permit, BALANCES, "r1", b"short")


def test_large_objects_are_sealed_and_opened_piece_by_piece(at: Setting, tmp_path: Path) -> None:
    permit, plain, record, out = at.permit(), tmp_path / "plain", tmp_path / "record", tmp_path / "out"
    plain.write_bytes(bytes(range(256)) * 9_000)
    written = at.sealer.seal_file(permit, BALANCES, "d1", plain, record)
    assert written == record.stat().st_size > plain.stat().st_size
    assert at.sealer.open_file(permit, BALANCES, "d1", record, out) == plain.stat().st_size
    assert out.read_bytes() == plain.read_bytes() == at.sealer.open(permit, BALANCES, "d1", record.read_bytes())
    assert at.doors.leases == 1
    with pytest.raises(SealError):
        at.sealer.open_file(permit, BALANCES, "d2", record, tmp_path / "never")
    assert not (tmp_path / "never").exists()


@pytest.mark.parametrize("end", ["lease", "eviction"])
@pytest.mark.parametrize("way", ["seal", "open"])
def test_a_large_object_ends_with_the_lease(at: Setting, end: str, way: str) -> None:
    """Not one more chunk under a key whose time is over, or that was given up on word of a withdrawal."""
    permit, content = at.permit(), bytes(3 * 1024 * 1024)
    record = b"".join(at.sealer.seal_stream(permit, BALANCES, "d1", BytesIO(content)))
    streams = {"seal": at.sealer.seal_stream, "open": at.sealer.open_stream}
    source = BytesIO(content if way == "seal" else record)
    pieces = streams[way](permit, BALANCES, "d1", source)
    next(pieces)
    if end == "lease":
        at.seconds.now += 60
    else:
        at.sealer.evict(permit.token)
    with pytest.raises(LeaseEnded):
        next(pieces)


def test_after_the_lease_the_authority_is_asked_again(at: Setting) -> None:
    permit = at.permit()
    sealed = at.sealer.seal(permit, BALANCES, "r1", b"x")
    at.seconds.now += 59.9
    assert at.sealer.open(permit, BALANCES, "r1", sealed) == b"x"
    assert at.doors.leases == 1
    at.seconds.now += 0.1
    assert at.sealer.open(permit, BALANCES, "r1", sealed) == b"x"
    assert at.doors.leases == 2


def test_after_a_withdrawal_nothing_opens_once_the_lease_has_ended(at: Setting) -> None:
    permit = at.permit()
    sealed = at.sealer.seal(permit, BALANCES, "r1", b"x")
    at.house.facts.withdraw(at.house.consent)
    at.seconds.now += 60
    for act in (
        lambda: at.sealer.open(permit, BALANCES, "r1", sealed),
        lambda: at.sealer.seal(permit, BALANCES, "r", b""),
    ):
        with pytest.raises(Refused):
            act()


def test_word_of_a_withdrawal_ends_leases_at_once(at: Setting) -> None:
    permit = at.permit()
    sealed = at.sealer.seal(permit, BALANCES, "r1", b"x")
    at.house.facts.withdraw(at.house.consent)
    assert at.sealer.evict(permit.token) == 1
    with pytest.raises(Refused):
        at.sealer.open(permit, BALANCES, "r1", sealed)


def test_another_token_never_rides_on_a_key(at: Setting) -> None:
    first, second = at.permit(), at.permit()
    sealed = at.sealer.seal(first, BALANCES, "r1", b"x")
    assert at.sealer.open(second, BALANCES, "r1", sealed) == b"x"
    assert at.doors.leases == 2
    at.house.post("/oauth/revoke", at.house.collector, proof=None, token=second.token)
    at.sealer.evict(second.token)
    with pytest.raises(Refused):
        at.sealer.open(second, BALANCES, "r1", sealed)
    assert at.sealer.open(first, BALANCES, "r1", sealed) == b"x"


def test_a_category_outside_the_permit_is_refused_without_asking(at: Setting) -> None:
    permit = at.permit(BALANCES)
    with pytest.raises(LeaseEnded):
        at.sealer.seal(permit, TRANSACTIONS, "r1", b"x")
    assert at.doors.leases == 0


def test_a_lease_that_arrives_too_late_is_not_used(at: Setting) -> None:
    permit = at.permit()
    asked = at.authority.lease

    def slow(*args: object, **kwargs: object) -> object:
        leased = asked(*args, **kwargs)  # type: ignore[arg-type]
        at.seconds.now += 61
        return leased

    at.authority.lease = slow  # type: ignore[assignment, method-assign]
    with pytest.raises(LeaseEnded):
        at.sealer.seal(permit, BALANCES, "r1", b"x")


def test_an_erased_key_stays_erased_and_an_outage_opens_nothing(at: Setting) -> None:
    permit = at.permit()
    sealed = at.sealer.seal(permit, BALANCES, "r1", b"x")
    at.doors.keys.clear()
    at.sealer.evict()
    with pytest.raises(Refused) as refusal:
        at.sealer.open(permit, BALANCES, "r1", sealed)
    assert (refusal.value.status, refusal.value.error) == (410, "erased")
    with outage(at.doors), pytest.raises(Unreachable):
        at.sealer.seal(permit, BALANCES, "r1", b"x")


def test_the_clock_moves() -> None:
    assert elapsed() <= elapsed()


def test_a_clock_that_is_behind_stretches_no_lease_beyond_sixty_seconds(at: Setting) -> None:
    permit = at.permit()
    ends = at.authority.clock
    at.authority.clock = lambda: ends() - timedelta(seconds=25)
    assert at.authority.lease(permit.token, permit.subject, BALANCES).life == timedelta(seconds=60)
    at.authority.clock = lambda: ends() + timedelta(seconds=9)
    assert at.authority.lease(permit.token, permit.subject, BALANCES).life == timedelta(seconds=51)


def test_a_holder_may_borrow_for_less_than_a_minute(at: Setting) -> None:
    """An erasure waits for the longest lease that is out: short ones hold it up less (vault.md section 5)."""
    permit, sealer = at.permit(), Sealer(at.authority, at.seconds, lease_seconds=5)
    sealed = sealer.seal(permit, BALANCES, "r1", b"x")
    at.seconds.now += 4
    assert sealer.open(permit, BALANCES, "r1", sealed) == b"x"
    assert at.doors.leases == 1
    at.seconds.now += 1
    assert sealer.open(permit, BALANCES, "r1", sealed) == b"x"
    assert at.doors.leases == 2
