"""The wired house with the reference component and holder of the demo, joined over WSGI or by real processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from regard_sdk import Authority, Token

from app.demo import bank, collector, safe
from app.demo.generator import Subject, make_subject
from app.profiles import Profile
from app.sdk.dpop import public_jwk
from app.sdk.keyfile import read_key, write_key
from app.tokens.registration import Registration
from app.wiring import registrations
from consent import usecases
from consent.events import Actor, ActorKind, Channel, Evidence
from consent.journey import Agreement
from consent.proposal import Proposal
from consent.vocabulary import CategoryId, Locale, PartyId, PurposeId
from tests.doors.api_house import ISSUER, Agreed, ApiHouse

SAFE = "https://safe.example"
PARTY, APP_PARTY = PartyId("collecte"), PartyId("patrivue")
CALLBACK = "https://patrivue.example/back"
BALANCES, DETAILS, RECENT = "accounts.balances", "accounts.details", "transactions.recent"
CLIENTS: dict[str, dict[str, Any]] = {
    "safe": {
        "party": PARTY,
        "scopes": ("keys.lease", "disclosures.write", "cases.fulfil"),
        "grants": ("client_credentials",),
        "resource": SAFE,
    },
    "collector": {"party": PARTY, "grants": ("client_credentials",)},
    "app": {
        "party": APP_PARTY,
        "scopes": ("consents.read",),
        "grants": ("authorization_code", "refresh_token"),
        "redirect_uris": (CALLBACK,),
    },
    "stranger": {"party": PartyId("assurances_fauvette"), "grants": ("client_credentials",)},
}


class DemoHouse(ApiHouse):
    """Ana agreed; `collector` fetches, `safe` holds, `app` is a partner's, `stranger` is nobody to her."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, *, safe_at: str = SAFE) -> None:
        urls = (f"sqlite:///{folder / name}.sqlite" for name in ("records", "keys"))
        super().__init__(folder, *urls, monkeypatch)
        self.folder = folder
        self.safe_at = safe_at
        for name, said in CLIENTS.items():
            self.register(name, **said | ({"resource": safe_at} if name == "safe" else {}))
        self.down = False

    def register(self, name: str, **said: Any) -> None:
        key = write_key(self.key(name))
        asked = Registration(
            id=name, name=name, jwk=public_jwk(key), country="FR", honours=("nothing", "call", "until"), **said
        )
        registrations.register(self.house, asked, by="operator")

    def agree_to(self, purpose: str, *optional: str, party: PartyId = PARTY) -> Agreed:
        """Ana agrees to all that a purpose needs, and to these categories that it may have."""
        house, at = self.house, self.clock.now()
        subject = house.profiles.enrol(house.controller, Profile("Ana", f"{purpose}@example.org"), Locale.EN)
        wished = frozenset(map(CategoryId, optional))
        asked = usecases.propose(
            house.units.writing(),
            house.policy,
            Proposal(house.controller, subject, PurposeId(purpose), party, categories=wished),
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
            Agreement(wished, 180, attended_only=False, institution=None, access_path=None),
            **who,
            evidence=Evidence(1, None, None, None, gpc=False),
            channel=Channel.PAGE,
            at=at,
        )
        return Agreed(subject, asked.id)

    def key(self, name: str) -> Path:
        return self.folder / f"{name}.pem"

    def authority(self, name: str, resource: str | None = None) -> Authority:
        """The authority as a component of the demo sees it: the wheel's own class, over WSGI."""
        http = httpx.Client(transport=httpx.MockTransport(self._answer))
        return Authority(ISSUER, name, read_key(self.key(name)), resource=resource, http=http, clock=self.clock.now)

    def _answer(self, sent: httpx.Request) -> httpx.Response:
        if self.down:
            raise httpx.ConnectError("the line is cut", request=sent)
        return through(self.app, sent)

    def connect(self, number: int = 7) -> tuple[str, Subject]:
        """A generated person's connection at the bank."""
        person = make_subject(2026, number, self.clock.now().date())
        return bank.write_connection(self.folder / "bank", person), person


def through(app: Any, sent: httpx.Request) -> httpx.Response:
    """Hand a request to a WSGI application."""
    with httpx.Client(transport=httpx.WSGITransport(app=app)) as wire:
        got = wire.request(sent.method, sent.url, headers=sent.headers, content=sent.content)
    return httpx.Response(got.status_code, headers=got.headers, content=got.content)


class Pair:
    """The safe and the collector, in this process, with their own databases."""

    def __init__(self, at: DemoHouse) -> None:
        self.at = at
        self.data = at.folder / "safe"
        self.safe = safe.Safe(at.authority("safe", SAFE), SAFE, self.data)
        self.web = safe.create_app(self.safe)
        http = httpx.Client(transport=httpx.MockTransport(lambda sent: through(self.web, sent)))
        self.collecting = at.authority("collector")
        made = collector.Collector(self.collecting, SAFE, collector.Bank(at.folder / "bank"), http)
        self.collector = collector.create_app(made).test_client()

    def fetch(self, agreed: Agreed, connection: str) -> Any:
        return self.collector.post("/fetch", json={"consent_id": agreed.consent, "connection": connection})

    def read(self, agreed: Agreed, category: str = BALANCES) -> Any:
        return self.collector.post("/read", json={"consent_id": agreed.consent, "category": category})

    def ask(self, who: Authority, token: Token, method: str, path: str, **more: Any) -> Any:
        """Present a token at the safe."""
        headers = who.headers(token, method, SAFE + urlsplit(path).path)
        return self.web.test_client().open(SAFE + path, method=method, headers=headers, **more)

    def bytes_at_rest(self) -> bytes:
        return b"".join(file.read_bytes() for file in self.data.rglob("*") if file.is_file())
