"""Puts people, consents and two components into an empty house, for the benchmarks of doors; run as its own process.

    REGARD_DATA_DIR=... python -m bench.stage PEOPLE

Prints, as JSON, the consents' ids and both components' private keys (of this throw-away house).
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from app.profiles import Profile
from app.sdk.dpop import new_key, public_jwk, thumbprint
from app.sdk.scopes import Scope
from app.settings import read_settings
from app.tokens.records import Client, GrantType
from app.wiring import House, build, migrate
from bench.load import RESOURCE
from consent import usecases
from consent.events import Actor, ActorKind, Channel, Evidence
from consent.journey import Agreement
from consent.proposal import Proposal
from consent.vocabulary import CategoryId, Locale, PartyId, PurposeId

PURPOSE, READER, HOLDER = PurposeId("wealth_overview"), PartyId("collecte"), PartyId("nuage")


@dataclass(frozen=True)
class Stage:
    """The house and what is put into it."""

    house: House

    def component(self, name: str, party: PartyId, resource: str | None) -> str:
        """Register a component; return its private key."""
        key = new_key()
        public = public_jwk(key)
        with self.house.units.writing() as unit:
            unit.clients.add(
                Client(
                    id=name,
                    controller=self.house.controller,
                    party=party,
                    name=name,
                    jwks={"keys": [{**public, "kid": thumbprint(public)}]},
                    scopes=frozenset({Scope.KEYS_LEASE, Scope.DISCLOSURES_WRITE, Scope.DECISIONS_EVALUATE}),
                    grants=frozenset(GrantType),
                    redirect_uris=(),
                    resource=resource,
                    created_at=self.house.units.clock.now(),
                    country="NL",
                    honours=frozenset({"nothing", "call", "until"}),
                )
            )
            unit.commit()
        return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()

    def agree(self, number: int) -> str:
        """Have one generated person agree; return the consent's id."""
        house, at = self.house, self.house.units.clock.now()
        subject = house.profiles.enrol(house.controller, Profile("Bench", f"p{number}@bench.example"), Locale.EN)
        asked = usecases.propose(
            house.units.writing(),
            house.policy,
            Proposal(house.controller, subject, PURPOSE, READER, categories=frozenset({CategoryId("loans.running")})),
            ids=house.units.ids,
            by=Actor(ActorKind.PARTY, READER),
            channel=Channel.API,
            at=at,
        )
        who: dict[str, Any] = {
            "controller": house.controller,
            "consent": asked.id,
            "by": Actor(ActorKind.SUBJECT, subject),
            "channel": Channel.PAGE,
            "at": at,
        }
        page: dict[str, Any] = {"locale": Locale.EN, "template_digest": "a" * 64, "catalogue_digest": "b" * 64}
        usecases.show(house.units.writing(), house.policy, **who, **page, gpc=False)
        agreed = Agreement(frozenset(), 180, attended_only=False, institution=None, access_path=None)
        evidence = Evidence(1, None, None, None, gpc=False)
        usecases.give(house.units.writing(), house.policy, agreed, **who, evidence=evidence)
        return str(asked.id)


def main() -> None:
    settings = read_settings(os.environ)
    migrate(settings)
    house = build(settings)
    house.work.migrate()
    stage = Stage(house)
    keys = {
        "bench-reader": stage.component("bench-reader", READER, None),
        "bench-holder": stage.component("bench-holder", HOLDER, RESOURCE),
    }
    print(json.dumps({"keys": keys, "consents": [stage.agree(number) for number in range(int(sys.argv[1]))]}))
    house.close()


if __name__ == "__main__":
    main()
