"""The house as the JSON doors see it. Everything here passes a call on; nothing is decided."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime

from app.http.api import ApiServices, ApiUnit, Look, Presented
from app.http.oauth import OAuthServices, standing
from app.store.disclosures import Disclosure
from app.store.unit import RecordsUnit
from app.tokens.minting import digest
from app.wiring.agreements import agreement_units
from app.wiring.evidence import public_ledger
from app.wiring.faces import OAuthFace
from app.wiring.holders import holder_units
from app.wiring.house import House
from app.wiring.idempotency import KeyedRequests, lending
from consent import usecases
from consent.decision import Deny, Permit, Question
from consent.policy import Policy
from consent.ports import Json
from consent.vocabulary import (
    CategoryId,
    ComponentId,
    ConsentId,
    ControllerId,
    PairwiseHandle,
    PartyId,
    SubjectRef,
)


def api_services(house: House, authorization: OAuthServices) -> ApiServices:
    """Return what the JSON doors stand on; presented tokens are judged by the authorization server's own join."""

    def opened(unit: Callable[[], RecordsUnit]) -> Callable[[], AbstractContextManager[ApiUnit]]:
        @contextmanager
        def face() -> Iterator[ApiUnit]:
            with unit() as records:
                seen = OAuthFace(records, house.units.ids, house.seals.seal_key, house.seals.open_key)
                yield ApiFace(records, seen, authorization, house.policy)

        return face

    # only in these units can an Idempotency-Key bind what is done to the answer that is kept
    writing = lending(house.units)
    return ApiServices(
        policy=house.policy,
        clock=house.units.clock,
        ids=house.units.ids,
        writing=opened(writing),
        reading=opened(house.units.reading),
        keys=house.vault,
        ledger=public_ledger(house),
        fulfilling=holder_units(house, writing),
        pulling=holder_units(house, house.units.reading),
        parts=house.casework.files,
        amending=agreement_units(writing, house.units.ids),
        agreements=agreement_units(house.units.reading, house.units.ids),
        open_receipt=house.consentwork.receipts.open,
        keyed=KeyedRequests(house.units, house.seals),
    )


class ApiFace:
    """A unit as the JSON doors see it."""

    def __init__(self, records: RecordsUnit, seen: OAuthFace, authorization: OAuthServices, policy: Policy) -> None:
        self._records = records
        self._seen = seen
        self._authorization = authorization
        self._policy = policy

    def presented(self, secret: str, holder: str) -> Presented | None:
        component = self._records.clients.find(holder)
        token = self._records.tokens.access(digest(secret))
        now = self._authorization.clock.now()
        if component is None or component.resource is None or token is None or token.audience != component.resource:
            return None
        if token.consent is None or token.detail is None or token.revoked_at is not None or now >= token.expires_at:
            return None
        view = self._seen.consents.view(ConsentId(token.consent))
        if view is None:
            return None
        return Presented(
            client=ComponentId(token.client),
            party=PartyId(token.party),
            consent=view.id,
            controller=view.controller,
            subject=view.subject,
            purpose=view.purpose,
            categories=frozenset(CategoryId(name) for name in token.detail.categories),
            attended=token.attended,
            expires_at=token.expires_at,
            stands=standing(self._authorization, self._seen, secret, component.resource, component.party) is not None,
        )

    def judge(self, question: Question) -> Permit | Deny:
        return usecases.judge(self._records, self._policy, question)

    def named(self, handle: PairwiseHandle, party: PartyId) -> SubjectRef | None:
        return self._records.subjects.named(handle, party)

    def controller_of(self, subject: SubjectRef) -> ControllerId | None:
        found = self._records.subjects.get(subject)
        return found.controller if found is not None else None

    def erased_at(self, subject: SubjectRef) -> datetime | None:
        found = self._records.subjects.get(subject)
        return found.erased_at if found is not None else None

    def party_of(self, component: ComponentId) -> PartyId | None:
        found = self._records.clients.find(component)
        return PartyId(found.party) if found is not None else None

    def readers(self, consent: ConsentId, subject: SubjectRef) -> frozenset[PartyId]:
        view = self._seen.consents.view(consent)
        return view.parties if view is not None and view.subject == subject else frozenset()

    def write(self, look: Look) -> bool:
        return self._records.disclosures.add(
            Disclosure(
                id=look.id,
                controller=look.controller,
                subject=look.subject,
                party=look.party,
                component=look.component,
                actor_role=look.actor_role,
                categories=look.categories,
                records=look.records,
                purpose=look.purpose,
                consent=look.consent,
                attended=look.attended,
                action=look.action,
                at=look.at,
            )
        )

    def record(
        self,
        kind: str,
        *,
        actor: str,
        controller: ControllerId,
        subject: SubjectRef | None,
        payload: Mapping[str, Json],
    ) -> str:
        return self._records.journal.record(kind, actor=actor, controller=controller, subject=subject, payload=payload)

    def commit(self) -> None:
        self._records.commit()
