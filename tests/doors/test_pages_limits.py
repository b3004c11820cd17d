"""What a person restricted or objected to shows on their agreements, and binds the decision, from the moment they ask.

GDPR arts 18, 21; dsar rules 8, 51, 52. On the real house: the request is made on the pages.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from consent import usecases
from consent.decision import Deny, Question
from consent.events import Actor, ActorKind, Channel, Evidence
from consent.journey import Agreement
from consent.proposal import Proposal
from consent.record import Consent
from consent.vocabulary import Action, ControllerId, Locale, PartyId, PurposeId, SubjectRef
from tests.doors.pages_house import Town, Visitor
from tests.doors.request_house import Work, ask, strong

FIRM = ControllerId("ormelune")
FROZEN = "You asked us to freeze the use of your data."
SAID_NO = "You said no to this use."


@dataclass
class Ana:
    """Somebody with a passkey, an overview of her wealth and news by e-mail agreed to."""

    town: Town
    visitor: Visitor
    subject: SubjectRef

    def agree(self, purpose: str, party: str) -> Consent:
        town, at = self.town, self.town.clock.now()
        by, house = Actor(ActorKind.SUBJECT, self.subject), town.house
        proposal = Proposal(FIRM, self.subject, PurposeId(purpose), PartyId(party))
        asked = usecases.propose(
            town.unit(), house.policy, proposal, ids=town.doors.ids, by=by, channel=Channel.PAGE, at=at
        )
        who = {"controller": FIRM, "consent": asked.id, "by": by, "channel": Channel.PAGE, "at": at}
        page = {"locale": Locale.EN, "template_digest": "a" * 64, "catalogue_digest": "b" * 64, "gpc": False}
        usecases.show(town.unit(), house.policy, **page, **who)
        days = house.policy.purposes[PurposeId(purpose)].periods_days[-1]
        said = Agreement(frozenset(), days, attended_only=False, institution=None, access_path=None)
        evidence = Evidence(level=3, step_up="passkey", step_up_at=at, credential_digest=None, gpc=False)
        return usecases.give(town.unit(), house.policy, said, evidence=evidence, **who)

    def page(self, consent: Consent) -> str:
        return str(self.visitor.get(f"/me/consents/{consent.id}").get_data(as_text=True))

    def reasons(self, consent: Consent) -> list[str]:
        """Why the decision says no to a read under it; whatever else it would say of the asker is left out."""
        terms = consent.terms
        question = Question(
            party=terms.party,
            component=None,
            purpose=terms.purpose,
            categories=terms.needed,
            action=Action.READ,
            subject=self.subject,
            attended=True,
            at=self.town.clock.now(),
        )
        with self.town.unit() as unit:
            answer = usecases.judge(unit, self.town.house.policy, question)
        assert isinstance(answer, Deny)
        return [reason.value for reason in answer.all_reasons if reason.value in ("restricted", "objected")]


@pytest.fixture
def ana(town: Town, visitor: Visitor) -> Ana:
    subject = town.enrol()
    strong(town, visitor, subject)
    return Ana(town, visitor, subject)


def sender(town: Town) -> str:
    """A party that may read for the news."""
    return next(
        party.id
        for party in town.house.policy.parties.values()
        if any(grant.purpose == "news_offers" and grant.action is Action.READ for grant in party.grants)
    )


def test_a_freeze_stops_reading_at_once_and_says_so_on_every_agreement(ana: Ana, town: Town) -> None:
    overview = ana.agree("wealth_overview", "patrivue")
    assert ana.reasons(overview) == []
    assert FROZEN not in ana.page(overview)
    town.clock.forward(minutes=1)
    case = ask(ana.visitor, "restriction")
    assert ana.reasons(overview) == ["restricted"]
    page = ana.page(overview)
    assert FROZEN in page
    assert "Data may be read, as you agreed." not in page
    assert FROZEN in ana.visitor.get("/me/consents").get_data(as_text=True)
    # taken back, and told so: everything is as before
    assert ana.visitor.post(f"/me/requests/{case}/take-back").status_code == 303
    Work(town).post(case)
    assert ana.reasons(overview) == []
    assert FROZEN not in ana.page(overview)


def test_the_marketing_stop_names_the_agreement_it_silences_and_no_other(ana: Ana, town: Town) -> None:
    overview, news = ana.agree("wealth_overview", "patrivue"), ana.agree("news_offers", sender(town))
    town.clock.forward(minutes=1)
    ask(ana.visitor, "marketing_objection")
    assert ana.reasons(news) == ["objected"]
    assert ana.reasons(overview) == []
    assert SAID_NO in ana.page(news)
    assert SAID_NO not in ana.page(overview)


def test_somebody_elses_freeze_is_not_mine(ana: Ana, town: Town) -> None:
    overview = ana.agree("wealth_overview", "patrivue")
    other: Any = Visitor(town.app())
    bo = town.enrol("bo@example.org", "Bo Exemple")
    town.clock.forward(days=60)  # an address known for a day proves less (dsar rule 27)
    ana.visitor.sign_in(town)
    other.sign_in(town, "bo@example.org")
    ask(other, "restriction")
    assert ana.reasons(overview) == []
    assert FROZEN not in ana.page(overview)
    with town.unit() as unit:
        assert len(unit.limits.restrictions(FIRM, bo)) == 1
