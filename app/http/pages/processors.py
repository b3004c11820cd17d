"""The processor list, public: who may touch which data, why, since when, on what footing (consent rule 52).

By default, whoever is not on the list has no access. What is said here is the list the decision reads; nothing is
written twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

from flask import render_template

from app.http.chrome import firm
from app.http.doors import doors
from app.http.errors import NotHere
from app.http.guard import anyone
from app.http.locale import people
from consent.decision import local_day
from consent.parties import Active, Grant, Party, PartyRole
from consent.policy import Policy
from consent.vocabulary import PurposeId

page = people("processors")


@page.get("/processors")
@anyone
def listed() -> str:
    """Show every party of the firm, by its role in law."""
    of, today = doors(), local_day(doors().policy, firm().id, doors().clock.now())
    parties = [party for party in of.policy.parties.values() if party.controller == firm().id]
    groups = {role: [p for p in parties if p.role is role] for role in PartyRole}
    in_force = {party.id: isinstance(of.policy.standing(party.id, today), Active) for party in parties}
    return render_template("pages/processors.html", groups=groups, in_force=in_force)


@page.get("/processors/<party>")
@anyone
def shown(party: str) -> str:
    """Show one party with every grant and its written justification."""
    policy = doors().policy
    entry = policy.parties.get(party)
    if entry is None:
        raise NotHere
    standing = policy.standing(party, local_day(policy, entry.controller, doors().clock.now()))
    return render_template(
        "pages/processor.html",
        party=entry,
        standing=standing,
        in_force=isinstance(standing, Active),
        grants=by_purpose(entry),
        parent=policy.parties.get(entry.parent or ""),
        policy=policy,
        below=sub_processors(policy, entry),
    )


def by_purpose(party: Party) -> Mapping[PurposeId, Sequence[Grant]]:
    """Return the party's grants by purpose, in the order of the categories."""
    ordered = sorted(party.grants, key=lambda grant: (grant.purpose, grant.category, grant.action))
    return {purpose: list(grants) for purpose, grants in groupby(ordered, key=lambda grant: grant.purpose)}


def sub_processors(policy: Policy, party: Party) -> Sequence[Party]:
    """Return who works for this party in turn (rule P4)."""
    return [other for other in policy.parties.values() if other.parent == party.id]
