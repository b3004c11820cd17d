"""Who looked, of two people who are alike but for a suspicion (dsar rule 42; CMF L.561-18)."""

from __future__ import annotations

import re

import pytest

from app.store.disclosures import Disclosure
from consent.vocabulary import CategoryId, PartyId, PurposeId, SubjectRef
from tests.doors.pages_house import Town, Visitor

BALANCES, PAPERS, SUSPICION = (CategoryId(name) for name in ("accounts.balances", "identity.papers", "aml.file"))


def _look(town: Town, subject: SubjectRef, number: int, party: str, *categories: CategoryId) -> None:
    with town.unit() as unit:
        unit.disclosures.add(
            Disclosure(
                id=f"{subject}_{number}",
                controller=town.house.controller,
                subject=subject,
                party=PartyId(party),
                component=None,
                actor_role=None,
                categories=categories,
                records=2,
                purpose=PurposeId("wealth_overview" if BALANCES in categories else "aml_duties"),
                consent=None,
                attended=False,
                action="read",
                at=town.clock.now(),
            )
        )
        unit.commit()


def _told(town: Town, mailbox: str, path: str) -> str:
    visitor = Visitor(town.app())
    visitor.sign_in(town, mailbox)
    return re.sub(r"<[^>]+>", " ", visitor.get(path).get_data(as_text=True))


@pytest.mark.parametrize("path", ["/me/access-log", "/me/access-log.csv", "/me/access-log.json"])
def test_two_people_alike_but_for_a_suspicion_see_the_same(town: Town, path: str) -> None:
    ana, bea = town.enrol("ana@example.org", "Ana"), town.enrol("bea@example.org", "Ana")
    for one, suspected in ((ana, False), (bea, True)):
        _look(town, one, 1, "patrivue", BALANCES)
        _look(town, one, 2, "compliance", *((PAPERS, SUSPICION) if suspected else (PAPERS,)))
    _look(town, bea, 3, "compliance", SUSPICION)
    seen = _told(town, "bea@example.org", path)
    assert seen == _told(town, "ana@example.org", path)
    assert "Patrivue" in seen
    assert "apers" in seen, "the ordinary checks everybody goes through are told"
