"""What stands in the pack against a partner's proposal, said to the partner before a person is sent here (RFC 9396
section 5): an unknown purpose or category, one outside the purpose, one the processor list does not grant the party.

`consent.usecases.propose` decides again when the person arrives; it alone knows the person (consent rules 8, 11).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from app.sdk.claims import AggregationConsent
from app.tokens.records import Client
from consent.decision import local_day
from consent.parties import grants_live
from consent.policy import Policy, Purpose
from consent.ports import Clock
from consent.vocabulary import Action, ControllerId, PurposeId

_WORD = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*")
"""How ids of a pack are written; nothing else that was sent is repeated in an answer."""


def unfit(policy: Policy, clock: Clock) -> Callable[[Client, AggregationConsent], str | None]:
    """Return what says the first thing that stands against a client's proposal, or None."""

    def against(client: Client, asked: AggregationConsent) -> str | None:
        return next(_faults(policy, clock, client, asked), None)

    return against


def _faults(policy: Policy, clock: Clock, client: Client, asked: AggregationConsent) -> Iterator[str]:
    purpose = policy.purposes.get(PurposeId(asked.purpose or ""))
    if purpose is None or purpose.controller != client.controller:
        yield f"the policy pack has no purpose {_named(asked.purpose)}"
        return
    yield from _outside(policy, purpose, asked)
    yield from _not_granted(policy, clock, client, purpose, asked)


def _outside(policy: Policy, purpose: Purpose, asked: AggregationConsent) -> Iterator[str]:
    """Consent rule 11."""
    leaves = policy.leaves()
    for name in sorted(asked.categories - (purpose.needed | purpose.optional)):
        if name in leaves:
            yield f"the category {name} is outside the purpose {purpose.id}"
        else:
            yield f"the policy pack has no category {_named(name)}"


def _not_granted(
    policy: Policy, clock: Clock, client: Client, purpose: Purpose, asked: AggregationConsent
) -> Iterator[str]:
    """Dsar rule P5: a party reads what its entry on the processor list grants today."""
    party = policy.parties.get(client.party)
    day = local_day(policy, ControllerId(client.controller), clock.now())
    live = grants_live(party, day) if party is not None else ()
    may = {grant.category for grant in live if (grant.purpose, grant.action) == (purpose.id, Action.READ)}
    if not may:
        yield f"the purpose {purpose.id} is not granted to {client.party}"
    for name in sorted(asked.categories - may):
        yield f"the category {name} is not granted to {client.party} for {purpose.id}"


def _named(word: str | None) -> str:
    return word if word and _WORD.fullmatch(word) else "of that name"
