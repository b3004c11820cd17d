"""A small Flask application: the real authorization server over real stores; the law's facts are set by the test."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
from flask import Flask
from sqlalchemy import Connection, Engine, select

from app.http.oauth import Authorizations, ConsentView, OAuthServices, PresentedTokens, blueprint
from app.sdk.claims import AggregationConsent
from app.sdk.dpop import Prover, new_key, public_jwk, thumbprint
from app.sdk.scopes import Scope
from app.store.clients import SqlClients
from app.store.rows.base import RecordsBase
from app.store.tokens import SqlSigningKeys, SqlTokens
from app.tokens.records import Client, GrantType
from app.tokens.rfc7523 import ASSERTION_TYPE
from app.tokens.rfc7636 import challenge_of
from app.tokens.rfc9449 import Nonces
from app.tokens.signing import SigningKeys
from consent.decision import Deny, Keep, Obligations, Permit, Question
from consent.reasons import Reason
from consent.vocabulary import CategoryId, ConsentId, ControllerId, PairwiseHandle, PartyId, PurposeId, SubjectRef

ISSUER = "https://regard.example"
HOLDER = "https://holder.example"
CALLBACK = "https://partner.example/back"
START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
SUBJECT = SubjectRef("sub_one")


@dataclass
class Clock:
    at: datetime = START

    def now(self) -> datetime:
        return self.at

    def forward(self, **amount: float) -> None:
        self.at += timedelta(**amount)


class Ids:
    def new(self, prefix: str) -> str:
        return f"{prefix}_{secrets.token_hex(13)}"


@dataclass
class Facts:
    """What the test says is so: consents, why any is refused, who is suspended, who is present."""

    consents: dict[str, ConsentView] = field(default_factory=dict)
    denied: dict[str, Reason] = field(default_factory=dict)
    suspended_parties: set[str] = field(default_factory=set)
    present: set[str] = field(default_factory=set)
    questions: list[Question] = field(default_factory=list)
    unfit_purposes: set[str] = field(default_factory=set)
    on_the_page: set[PartyId] = field(default_factory=lambda: {PartyId("vault-firm")})

    def unfit(self, client: Client, asked: AggregationConsent) -> str | None:
        return f"{client.party} may not ask for {asked.purpose}" if asked.purpose in self.unfit_purposes else None

    def named(self, client: Client, asked: AggregationConsent) -> frozenset[PartyId]:
        return frozenset({PartyId(client.party), *self.on_the_page})

    def view(self, consent: ConsentId) -> ConsentView | None:
        return self.consents.get(consent)

    def handle(self, subject: SubjectRef, party: PartyId) -> PairwiseHandle | None:
        return PairwiseHandle(f"pw_{party}_{subject}")

    def withdraw(self, consent: str) -> None:
        view = self.consents[consent]
        self.consents[consent] = replace(view, version=view.version + 1)
        self.denied[consent] = Reason.CONSENT_WITHDRAWN

    def judge(self, unit: Unit, question: Question) -> Permit | Deny:
        self.questions.append(question)
        reason = self.denied.get(question.consent or "")
        if reason is not None:
            return Deny(reason, (reason,))
        view = self.consents[question.consent or ""]
        if not question.categories <= view.categories:
            return Deny(Reason.CATEGORY_NOT_CONSENTED, (Reason.CATEGORY_NOT_CONSENTED,))
        return Permit(Obligations(Keep.CALL, None, ("EU",), frozenset()), view.id, view.version)


class Journal:
    def __init__(self, entries: list[tuple[str, Mapping[str, Any]]]) -> None:
        self._entries = entries
        self.pending: list[tuple[str, Mapping[str, Any]]] = []

    def record(self, kind: str, *, actor: str, controller: str, subject: str | None, payload: Mapping[str, Any]) -> str:
        self.pending.append((kind, {"actor": actor, "subject": subject, **payload}))
        return f"leaf_{len(self.pending)}"

    def keep(self) -> None:
        self._entries.extend(self.pending)
        self.pending.clear()


class Unit:
    def __init__(self, connection: Connection, facts: Facts, entries: list[tuple[str, Mapping[str, Any]]]) -> None:
        self._connection = connection
        self.clients = SqlClients(connection)
        self.tokens = SqlTokens(connection)
        self.signing_keys = SigningKeys(SqlSigningKeys(connection), _mask, _mask, timedelta(days=1))
        self.consents = facts
        self.journal = Journal(entries)

    def commit(self) -> None:
        self._connection.commit()
        self.journal.keep()


def _said(form: Mapping[str, Any]) -> dict[str, Any]:
    """A parameter that is None is left out; a proof that is None means: send none."""
    return {name: value for name, value in form.items() if value is not None or name == "proof"}


def _mask(data: bytes) -> bytes:
    return bytes(byte ^ 0x5A for byte in data)


@dataclass
class Component:
    """A component with its keys, making real assertions and proofs."""

    record: Client
    key: Any
    clock: Clock
    prover: Prover

    @property
    def kid(self) -> str:
        return str(self.record.jwks["keys"][0]["kid"])

    def assertion(self, *, headers: dict[str, Any] | None = None, key: Any = None, **claims: Any) -> str:
        now = int(self.clock.now().timestamp())
        said = {
            "iss": self.record.id,
            "sub": self.record.id,
            "aud": ISSUER,
            "jti": secrets.token_urlsafe(18),
            "iat": now,
            "exp": now + 60,
            **claims,
        }
        kept = {name: value for name, value in said.items() if value is not None}
        return jwt.encode(
            kept, key or self.key, algorithm="ES256", headers={"kid": self.kid} if headers is None else headers
        )

    def proof(self, path: str, **more: Any) -> str:
        return self.prover.prove("POST", ISSUER + path, **more)


class House:
    """The application, its stores, two parties: a data user (partner app and collector) and a holder."""

    def __init__(self, engine: Engine, *, nonce: bool = False) -> None:
        self.engine = engine
        self.clock = Clock()
        self.facts = Facts()
        self.entries: list[tuple[str, Mapping[str, Any]]] = []
        self.services = OAuthServices(
            issuer=ISSUER,
            clock=self.clock,
            ids=Ids(),
            entropy=secrets.token_bytes,
            units=self.unit,
            judge=self.facts.judge,
            party_live=lambda _unit, client, _at: client.party not in self.facts.suspended_parties,
            present=lambda _unit, view, _at: view.id in self.facts.present,
            unfit=self.facts.unfit,
            named=self.facts.named,
            nonces=Nonces(b"n" * 32, required=nonce),
        )
        app = Flask("oauth_house")
        app.register_blueprint(blueprint(self.services))
        self.web = app.test_client()
        self.authorizations = Authorizations(self.services)
        self.presented = PresentedTokens(self.services)
        self.partner = self.component("partner", "aggregator", redirect_uris=(CALLBACK,))
        self.collector = self.component("collector", "aggregator")
        self.stranger = self.component("stranger", "elsewhere")
        self.holder = self.component("holder", "vault-firm", resource=HOLDER)
        self.consent = self.agree("con_one")
        with self.unit() as unit:
            unit.signing_keys.prepare(self.clock.now())
            unit.commit()

    @contextmanager
    def unit(self) -> Iterator[Unit]:
        with self.engine.connect() as connection:
            yield Unit(connection, self.facts, self.entries)

    def component(
        self,
        name: str,
        party: str,
        *,
        redirect_uris: tuple[str, ...] = (),
        resource: str | None = None,
        scopes: frozenset[Scope] = frozenset({Scope.KEYS_LEASE, Scope.CONSENTS_READ, Scope.DISCLOSURES_WRITE}),
    ) -> Component:
        key, binding = new_key(), new_key()
        public = public_jwk(key)
        record = Client(
            id=name,
            controller="firm",
            party=party,
            name=name,
            jwks={"keys": [{**public, "kid": thumbprint(public)}]},
            scopes=scopes,
            grants=frozenset(GrantType),
            redirect_uris=redirect_uris,
            resource=resource,
            created_at=START,
        )
        with self.unit() as unit:
            unit.clients.add(record)
            unit.commit()
        return Component(record, key, self.clock, Prover(binding, self.clock.now))

    def agree(self, consent: str, *, reads_per_day: int = 4, until: timedelta = timedelta(days=90)) -> str:
        self.facts.consents[consent] = ConsentView(
            id=ConsentId(consent),
            version=3,
            controller=ControllerId("firm"),
            subject=SUBJECT,
            purpose=PurposeId("budget"),
            categories=frozenset({CategoryId("accounts.balances"), CategoryId("accounts.transactions")}),
            accounts=frozenset(),
            parties=frozenset({PartyId("aggregator"), PartyId("vault-firm")}),
            valid_until=self.clock.now() + until,
            reads_per_day=reads_per_day,
            connection="bank-1",
            party=PartyId("aggregator"),
            given_at=START,
            history_from=START.date() - timedelta(days=365),
            access_path=None,
        )
        return consent

    def post(
        self, path: str, who: Component, /, *, proof: str | None = "", assertion: str | None = None, **form: Any
    ) -> Any:
        """Post a form as `who`; `proof=""` makes a good proof, None sends none."""
        headers = {} if proof is None else {"DPoP": proof or who.proof(path)}
        said = {
            "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": who.assertion() if assertion is None else assertion,
            **form,
        }
        return self.web.post(path, data=said, headers=headers)

    def token(self, who: Component | None = None, **form: Any) -> Any:
        """Ask for a token at the holder, bound to the consent, with `who`'s own credentials."""
        said: dict[str, Any] = {
            "grant_type": "client_credentials",
            "resource": HOLDER,
            "authorization_details": self.details(),
            **form,
        }
        return self.post("/oauth/token", who or self.collector, **_said(said))

    def details(self, **fields: Any) -> str:
        return json.dumps([{"type": "aggregation_consent", "consent_id": self.consent, "actions": ["read"], **fields}])

    def introspect(self, token: str, who: Component | None = None, **more: Any) -> Any:
        answer = self.post("/oauth/introspect", who or self.holder, proof=None, token=token, **more)
        assert answer.status_code == 200, answer.text
        return answer.json

    def push(self, verifier: str = "v" * 43, **form: Any) -> Any:
        said = {
            "response_type": "code",
            "redirect_uri": CALLBACK,
            "state": "st-1",
            "scope": "consents.read",
            "resource": HOLDER,
            "code_challenge": challenge_of(verifier),
            "code_challenge_method": "S256",
            "ui_locales": "pt-PT en",
            "authorization_details": json.dumps(
                [{"type": "aggregation_consent", "purpose": "budget", "categories": ["accounts.balances", "loans"]}]
            ),
            **form,
        }
        proof = said.pop("proof", None)
        who = said.pop("who", self.partner)
        return self.post("/oauth/par", who, proof=proof, **_said(said))

    def open(self, request_uri: str, client: str = "partner", **more: str) -> Any:
        return self.web.get("/oauth/authorize", query_string={"client_id": client, "request_uri": request_uri, **more})

    def journey(self, **form: Any) -> str:
        """Push and open a request; return its journey."""
        pushed = self.push(**form)
        assert pushed.status_code == 201, pushed.text
        opened = self.open(pushed.json["request_uri"])
        assert opened.status_code == 303, opened.text
        return str(opened.location.rsplit("/", 1)[1])

    def complete(self, journey: str) -> dict[str, str]:
        """Agree on the page; return what the partner gets back."""
        with self.unit() as unit:
            url = self.authorizations.complete(unit, journey, ConsentId(self.consent), SUBJECT)
            unit.commit()
        return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}

    def code(self, **form: Any) -> str:
        return self.complete(self.journey(**form))["code"]

    def redeem(self, code: str, /, **form: Any) -> Any:
        said = {"grant_type": "authorization_code", "code": code, "redirect_uri": CALLBACK, "code_verifier": "v" * 43}
        who = form.pop("who", self.partner)
        return self.post("/oauth/token", who, **_said(said | form))

    def snapshot(self) -> dict[str, list[Any]]:
        """Every row of every table save spent ids: what a refused request must leave as it was."""
        with self.engine.connect() as connection:
            return {
                table.name: sorted(map(repr, connection.execute(select(table))))
                for table in RecordsBase.metadata.sorted_tables
                if table.name.startswith("oauth_") and table.name != "oauth_spent_ids"
            }
