"""The SDK against the real doors: a component's own code leases, seals, opens and reports (tokens.md section 6)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from app.sdk.client import Authority
from app.sdk.disclosures import Disclosures
from app.sdk.errors import Refused
from app.sdk.gate import Permit
from app.sdk.sealer import Sealer
from tests.doors.api_house import BALANCES, DETAILS, HOLDER, ISSUER, PURPOSE, READER, STORE, Agreed, ApiHouse


@pytest.fixture
def at(tmp_path: Path, laid_records_url: str, laid_keys_url: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    built = ApiHouse(tmp_path, laid_records_url, laid_keys_url, monkeypatch)
    yield built
    built.house.close()


def authority(at: ApiHouse, who: Any) -> Authority:
    http = httpx.Client(transport=httpx.WSGITransport(app=at.app))
    return Authority(ISSUER, who.record.id, who.key, resource=who.record.resource, http=http, clock=at.clock.now)


def permit(at: ApiHouse, agreed: Agreed, token: str) -> Permit:
    """What the gate hands the holder after introspection."""
    said = authority(at, at.holder).introspect(token)
    assert said is not None
    assert said.subject == at.handle(agreed, HOLDER)
    return Permit(
        client_id="reader",
        party=READER,
        subject=said.subject,
        consent=agreed.consent,
        purpose=PURPOSE,
        categories=frozenset({BALANCES, DETAILS}),
        accounts=frozenset(),
        token=token,
        consent_version=said.consent_version,
        attended=False,
        obligations=said.obligations,
    )


def test_a_holder_seals_reports_and_is_stopped_by_the_person(at: ApiHouse, tmp_path: Path) -> None:
    """consent rules 46, 51."""
    ana = at.agree()
    granted = permit(at, ana, authority(at, at.reader).token(ana.consent, STORE, [BALANCES, DETAILS]).secret)
    sealer = Sealer(authority(at, at.holder))
    sealed = sealer.seal(granted, BALANCES, "r1", b"12 euros")
    assert sealer.open(granted, BALANCES, "r1", sealed) == b"12 euros"
    journal = Disclosures(authority(at, at.holder), tmp_path / "reads")
    journal.record(granted, 1)
    assert (journal.flush().accepted, journal.pending()) == (1, 0)
    journal.close()
    before = at.traces()
    at.withdraw(ana)
    with pytest.raises(Refused) as refusal:
        Sealer(authority(at, at.holder)).open(granted, BALANCES, "r1", sealed)
    assert (refusal.value.status, refusal.value.error) == (403, "access_refused")
    assert at.traces() == before
