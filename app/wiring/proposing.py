"""What the pack has against a partner's proposal, in words for the partner, before a person is sent here (RFC 9396
section 5). The law is `consent.proposal.pack_faults`; `consent.usecases.propose` judges again with the person.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from app.sdk.claims import AggregationConsent
from app.tokens.records import Client
from consent.events import AccessPath
from consent.policy import Policy
from consent.ports import Clock
from consent.proposal import PackFault, pack_faults, page_names
from consent.vocabulary import CategoryId, ControllerId, PartyId, PurposeId

_WORD = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*")
"""How ids of a pack are written; nothing else that was sent is repeated in an answer."""
_SENTENCES: Mapping[PackFault, str] = {
    PackFault.PURPOSE_UNKNOWN: "the policy pack has no purpose {word}",
    PackFault.CATEGORY_UNKNOWN: "the policy pack has no category {word}",
    PackFault.CATEGORY_OUTSIDE_PURPOSE: "the category {word} is outside the purpose {purpose}",
    PackFault.PURPOSE_NOT_GRANTED: "the purpose {purpose} is not granted to {party}",
    PackFault.CATEGORY_NOT_GRANTED: "the category {word} is not granted to {party} for {purpose}",
}


def unfit(policy: Policy, clock: Clock) -> Callable[[Client, AggregationConsent], str | None]:
    """Return what says the first thing that stands against a client's proposal, or None."""

    def against(client: Client, asked: AggregationConsent) -> str | None:
        if asked.access_path is not None and asked.access_path not in frozenset(AccessPath):
            return f"there is no access path {_named(asked.access_path)}"
        faults = pack_faults(
            policy,
            controller=ControllerId(client.controller),
            party=PartyId(client.party),
            purpose=PurposeId(asked.purpose or ""),
            categories=frozenset(CategoryId(name) for name in asked.categories),
            at=clock.now(),
        )
        first = next(faults, None)
        if first is None:
            return None
        fault, word = first
        return _SENTENCES[fault].format(word=_named(word), purpose=asked.purpose, party=client.party)

    return against


def named(policy: Policy, clock: Clock) -> Callable[[Client, AggregationConsent], frozenset[PartyId]]:
    """Return what says whom the page of a client's proposal would name."""

    def names(client: Client, asked: AggregationConsent) -> frozenset[PartyId]:
        return page_names(
            policy,
            controller=ControllerId(client.controller),
            party=PartyId(client.party),
            purpose=PurposeId(asked.purpose or ""),
            at=clock.now(),
        )

    return names


def _named(word: str) -> str:
    return word if _WORD.fullmatch(word) else "of that name"
