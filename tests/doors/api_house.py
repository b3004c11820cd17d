"""The wired house with a person, a consent, a reader and a holder, talked to as components do."""

from __future__ import annotations

import contextlib
import json
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from app.profiles import Profile
from app.sdk.dpop import Prover, new_key, public_jwk, thumbprint
from app.sdk.payloads import split
from app.sdk.scopes import Scope, join
from app.settings import read_settings
from app.store.rows.base import RecordsBase
from app.tokens.records import Client, GrantType
from app.tokens.rfc7523 import ASSERTION_TYPE
from app.vault.errors import UnknownKey
from app.vault.keys import KeyClass
from app.vault.keys import Scope as KeyScope
from app.wiring import House, application, build
from consent import usecases
from consent.events import Actor, ActorKind, Channel, Evidence
from consent.journey import Agreement
from consent.proposal import Proposal
from consent.vocabulary import CategoryId, ConsentId, Locale, PairwiseHandle, PartyId, PurposeId, SubjectRef
from tests.databases import found_deployment
from tests.doors.oauth_house import Clock, Component

ROOT = Path(__file__).resolve().parents[2]
ISSUER = "https://regard.example"
STORE = "https://store.example"
START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
REFUSED = "key.refused"
PURPOSE, READER, HOLDER, RIVAL = PurposeId("wealth_overview"), PartyId("collecte"), PartyId("nuage"), "patrivue"
BALANCES, DETAILS = "accounts.balances", "accounts.details"


SCOPES = frozenset(
    {
        Scope.KEYS_LEASE,
        Scope.DISCLOSURES_WRITE,
        Scope.DECISIONS_EVALUATE,
        Scope.CASES_FULFIL,
        Scope.CONSENTS_READ,
        Scope.CONSENTS_WITHDRAW,
    }
)


@dataclass(frozen=True)
class Agreed:
    subject: SubjectRef
    consent: ConsentId


class ApiHouse:
    """Ana agreed that `collecte` reads her balances; `nuage` stores them; `patrivue` is somebody else."""

    def __init__(self, folder: Path, records: str, keys: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = Clock(START)
        monkeypatch.setattr("app.wiring.house.SystemClock", lambda: self.clock)
        settings = read_settings(
            {
                "REGARD_DATA_DIR": str(folder / "var"),
                "REGARD_POLICIES_DIR": str(ROOT / "policies"),
                "REGARD_RECORDS_URL": records,
                "REGARD_KEYS_URL": keys,
                "REGARD_ERASURE_BATCH_MINUTES": "0",
                "REGARD_ISSUER": ISSUER,
            }
        )
        found_deployment(settings)
        # follow-up work is queued here; tests that want it done carry it out
        self.house: House = build(settings)
        self.house.work.migrate()
        self.app = application(self.house)
        self.web = self.app.test_client()
        self.reader = self.component("reader", READER)
        self.holder = self.component("store", HOLDER, resource=STORE)
        self.rival = self.component("rival", PartyId(RIVAL), resource="https://rival.example")

    def component(
        self, name: str, party: PartyId, resource: str | None = None, controller: str | None = None
    ) -> Component:
        key = new_key()
        public = public_jwk(key)
        record = Client(
            id=name,
            controller=controller or self.house.controller,
            party=party,
            name=name,
            jwks={"keys": [{**public, "kid": thumbprint(public)}]},
            scopes=SCOPES,
            grants=frozenset(GrantType),
            redirect_uris=(),
            resource=resource,
            created_at=self.clock.now(),
            country="NL",
            honours=frozenset({"nothing", "call", "until"}),
        )
        with self.house.units.writing() as unit:
            unit.clients.add(record)
            unit.commit()
        return Component(record, key, self.clock, Prover(new_key(), self.clock.now))  # type: ignore[arg-type]

    # the person

    def agree(self, email: str = "ana@example.org", party: PartyId = READER) -> Agreed:
        house, at = self.house, self.clock.now()
        subject = house.profiles.enrol(house.controller, Profile("Ana", email), Locale.EN)
        asked = usecases.propose(
            house.units.writing(),
            house.policy,
            Proposal(house.controller, subject, PURPOSE, party, categories=frozenset({CategoryId("loans.running")})),
            ids=house.units.ids,
            by=Actor(ActorKind.PARTY, party),
            channel=Channel.API,
            at=at,
        )
        who = {"controller": house.controller, "consent": asked.id, "by": Actor(ActorKind.SUBJECT, subject)}
        page = {"locale": Locale.EN, "template_digest": "a" * 64, "catalogue_digest": "b" * 64, "gpc": False}
        usecases.show(house.units.writing(), house.policy, **who, **page, channel=Channel.PAGE, at=at)
        usecases.give(
            house.units.writing(),
            house.policy,
            Agreement(frozenset(), 180, attended_only=False, institution=None, access_path=None),
            **who,
            evidence=Evidence(1, None, None, None, gpc=False),
            channel=Channel.PAGE,
            at=at,
        )
        return Agreed(subject, asked.id)

    def withdraw(self, agreed: Agreed) -> None:
        usecases.withdraw(
            self.house.units.writing(),
            controller=self.house.controller,
            consent=agreed.consent,
            by=Actor(ActorKind.SUBJECT, agreed.subject),
            channel=Channel.PAGE,
            at=self.clock.now(),
        )

    def handle(self, agreed: Agreed, party: PartyId = HOLDER) -> str:
        fresh = PairwiseHandle(self.house.units.ids.new("pw"))
        with self.house.units.writing() as unit:
            found = unit.subjects.handle(agreed.subject, self.house.controller, party, fresh)
            unit.commit()
        return found

    # the wire

    def own_token(self, who: Component, scope: Scope) -> str:
        return self._issue(who, scope=join([scope]))

    def token(self, agreed: Agreed, who: Component | None = None, resource: str = STORE, *categories: str) -> str:
        detail: dict[str, Any] = {
            "type": "aggregation_consent",
            "consent_id": agreed.consent,
            "actions": ["read"],
            "categories": list(categories or (BALANCES, DETAILS)),
        }
        return self._issue(who or self.reader, resource=resource, authorization_details=json.dumps([detail]))

    def _issue(self, who: Component, **form: str) -> str:
        answer = self.web.post(
            "/oauth/token",
            data={
                "grant_type": "client_credentials",
                "client_assertion_type": ASSERTION_TYPE,
                "client_assertion": who.assertion(),
                **form,
            },
            headers={"DPoP": who.proof("/oauth/token")},
        )
        assert answer.status_code == 200, answer.text
        return str(answer.json["access_token"])

    def post(self, path: str, who: Component, scope: Scope, body: Any = None, **more: Any) -> Any:
        secret = self.own_token(who, scope)
        headers = {
            "Authorization": f"DPoP {secret}",
            "DPoP": who.prover.prove("POST", ISSUER + path, access_token=secret),
            **more.pop("headers", {}),
        }
        said = {"json": body} if "data" not in more else {}
        return self.web.post(path, headers=headers, **said, **more)

    def lease(self, agreed: Agreed, token: str, who: Component | None = None, /, **fields: Any) -> Any:
        body = {"presented_token": token, "category": BALANCES, "handle": self.handle(agreed), **fields}
        return self.post("/api/v1/keys/lease", who or self.holder, Scope.KEYS_LEASE, body)

    def erase(self, agreed: Agreed) -> None:
        """What an erasure does to the records; the vault's part is tested on its own."""
        with self.house.units.writing() as unit:
            unit.subjects.forget(agreed.subject, self.clock.now())
            unit.commit()

    # what is there

    def rows(self, table: str) -> list[Mapping[str, Any]]:
        with self.house.records.connect() as connection:
            return [dict(row) for row in connection.execute(select(RecordsBase.metadata.tables[table])).mappings()]

    def traces(self) -> tuple[int, list[str]]:
        """How many disclosures there are, and the kinds of ledger entries about keys, records and reads that were."""
        kinds = [row["kind"] for row in self.rows("ledger_entries") if row["kind"] != REFUSED]
        return len(self.rows("disclosures")), [k for k in kinds if k.startswith(("key.", "record.", "disclosure."))]

    def refusals(self, subject: str = "house") -> list[dict[str, Any]]:
        """What the ledger says of refused keys, opened under the audit keys of a person, or of the house's own."""
        vault, found = self.house.vault, []
        scope = KeyScope(self.house.controller, subject, "regard", "ledger", key_class=KeyClass.AUDIT)
        for row in self.rows("ledger_entries"):
            if row["kind"] == REFUSED:
                with contextlib.suppress(UnknownKey):
                    found.append(json.loads(vault.open(scope, REFUSED, split(row["sealed"])[1]))["payload"])
        return found


def problem(answer: Any, status: int, code: str) -> Any:
    """Assert a problem+json of this status and code, and that nothing else leaked; return it."""
    assert answer.status_code == status, answer.text
    assert answer.mimetype == "application/problem+json"
    assert answer.json["code"] == code, answer.json
    for secret in ('"key"', '"plaintext":', "sub_", "rgt_", "pw_"):
        assert secret not in answer.text
    return answer.json


def unb64(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))
