"""A town with people in it and something to see behind every door, and a server before it all.

Ana has a question at every stage, agreements in every mood, requests at every turn; Eva was erased; Sam is staff.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from flask import Flask

from app.http import asking, outbox
from app.http.doors import Limits
from app.http.pages.agreements import stop_path
from app.http.sessions import digest
from app.outbound.mail import Message
from app.outbound.outbox import LocalOutbox
from app.store.certificates import CertificateLink
from app.store.disclosures import Disclosure
from consent import usecases
from consent.events import Actor, ActorKind, Channel
from consent.proposal import Proposal
from consent.vocabulary import CategoryId, ConsentId, ControllerId, PartyId, PurposeId, SubjectRef
from dsar import usecases as requests
from dsar.vocabulary import Actor as Agent
from dsar.vocabulary import Right
from tests.doors import test_pages_dpo as console
from tests.doors.browsing import Server
from tests.doors.looks import Look, Who
from tests.doors.pages_house import MAILBOX, Town, Visitor, enrol_passkey, link_in, use_passkey
from tests.doors.request_house import Work, ask, strong

FIRM = ControllerId("ormelune")
MANY = Limits(per_address=10_000, per_ip=10_000, per_code=10_000)
"""A machine looks at more pages than a person: the limits are proven elsewhere."""
CERTIFICATE = "t" * 43


@dataclass
class Street:
    """Where everything is: `paths` by name, each without its language."""

    town: Town
    origin: str
    app: Flask
    subject: SubjectRef
    paths: dict[str, str] = field(default_factory=dict)
    consents: dict[str, ConsentId] = field(default_factory=dict)

    def session(self, kind: str, person: str, *, proven: bool) -> list[Any]:
        """The cookie of somebody signed in: with a passkey asserted just now, or by an e-mail link alone."""
        token, now = self.town.doors.ids.new("tok"), self.town.clock.now()
        with self.town.unit() as unit:
            unit.sessions.open(
                digest(token),
                kind=kind,
                person=person,
                controller=FIRM,
                level=3 if proven else 1,
                proven_at=now if proven else None,
                credential=None,
                now=now,
                idle=timedelta(minutes=30),
                longest=timedelta(hours=1),
            )
            unit.commit()
        return [{"name": "regard_session", "value": token, "url": self.origin}]

    def cookies_of(self, who: Who) -> list[Any]:
        """The session in which somebody looks."""
        if who is Who.ANYONE:
            return []
        if who is Who.STAFF:
            return self.session("staff", "stf_sam", proven=True)
        person = {Who.ERASED: self.paths["eva"], Who.NEW: self.paths["new"]}.get(who, self.subject)
        return self.session("subject", person, proven=who not in (Who.WEAK, Who.NEW))

    def address(self, look: Look, locale: str) -> str:
        """Return the whole address of a page in one language."""
        prefix = f"/{locale}" if look.spoken else ""
        return f"{self.origin}{prefix}{look.path.format_map(self.paths)}"


@contextmanager
def street_in(folder: Path) -> Iterator[Street]:
    """Build everything below `folder`, serve it, take it down."""
    with Server() as server:
        town = Town(folder / "house", origin=server.origin, limits=MANY)
        sent = LocalOutbox(folder / "outbox", town.clock.now)
        app = town.app(outbox.blueprint(sent))
        server.show(app)
        built = Street(town, server.origin, app, town.enrol())
        ana = Visitor(app)
        strong(town, ana, built.subject)
        for fill in (_questions, _looks, _agreements, _requests, _erased, _console):
            fill(built, ana)
        _post(built, sent)
        yield built
        town.house.close()


def put_question(
    street: Street, purpose: str = "wealth_overview", party: str = "patrivue", subject: SubjectRef | None = None
) -> tuple[str, ConsentId]:
    """Put a question to Ana; return its page and its reference."""
    town, whose = street.town, subject or street.subject
    record = usecases.propose(
        town.unit(),
        town.house.policy,
        Proposal(FIRM, whose, PurposeId(purpose), PartyId(party)),
        ids=town.doors.ids,
        by=Actor(ActorKind.SUBJECT, whose),
        channel=Channel.PAGE,
        at=town.clock.now(),
    )
    with street.app.test_request_context("/en/"):
        return f"/consent/{asking.put_on_page(record)}", record.id


def _questions(street: Street, ana: Visitor) -> None:
    """One question at every stage of both journeys."""
    paths, consents = street.paths, street.consents
    for name in ("facts", "check", "result", "refused", "live"):
        paths[name], consents[name] = put_question(street)
    bank = ("institution", "bank facts", "bank check", "step up", "leaving")
    for name in bank:
        paths[name], consents[name] = put_question(street, "account_information", "collecte")
    for name in bank[1:]:
        page = ana.get(paths[name]).get_data(as_text=True)
        _answer(ana, paths[name], answer="agree", source=page.split('name="source" value="')[1].split('"')[0])
    for name in ("check", "result", "live"):
        _answer(ana, paths[name], answer="agree", period="180", optional="transactions.recent")
    for name in bank[2:]:
        _answer(ana, paths[name], answer="agree", period="180", optional="transactions.older")
    for name in ("result", "live", "step up", "leaving"):
        _answer(ana, paths[name], answer="agree")
    _answer(ana, paths["leaving"], answer="agree")
    _answer(ana, paths["refused"], answer="refuse")


def _answer(ana: Visitor, path: str, **fields: str) -> None:
    """Take one step of a journey; one that does not lead on would leave the wrong page behind its name."""
    taken = ana.post(path, **fields)
    assert taken.status_code == 303, (path, fields, taken.status_code)


def _looks(street: Street, _ana: Visitor) -> None:
    with street.town.unit() as unit:
        for number, party in enumerate(("patrivue", "collecte", "expert")):
            look = Disclosure(
                id=f"dis_{number}",
                controller=FIRM,
                subject=street.subject,
                party=PartyId(party),
                component=None,
                actor_role=None,
                categories=(CategoryId("accounts.balances"), CategoryId("transactions.recent")),
                records=40 + number,
                purpose=PurposeId("wealth_overview"),
                consent=street.consents["live"],
                attended=number == 0,
                action="read",
                at=street.town.clock.now() - timedelta(hours=11 * number),
            )
            unit.disclosures.add(look)
        unit.commit()


class _Straight:
    """Durable work without its engine: each step at once."""

    def run(self, _name: str, effect: Any) -> Any:
        return effect()


def _agreements(street: Street, ana: Visitor) -> None:
    """One that lives, with its receipt; one that was stopped; the link that stops one."""
    live, done = street.consents["live"], street.consents["result"]
    ana.post(f"/me/consents/{done}/withdraw")
    paths = street.paths
    paths |= {"agreement": f"/me/consents/{live}", "withdraw": f"/me/consents/{live}/withdraw"}
    paths["ended"] = f"/me/consents/{done}"
    town = street.town
    with town.unit() as unit:
        record = unit.consents.find(FIRM, live)
    assert record is not None
    town.house.work.migrate()
    town.house.consentwork.handlers()[usecases.RECEIPT](f"{live}/{record.version}", _Straight())
    with town.unit() as unit:
        paths["receipt"] = f"/me/consents/{live}/receipts/{unit.receipts.of_consent(FIRM, live)[0].id}"
    with street.app.test_request_context("/en/"):
        paths["stop"] = stop_path(FIRM, live).removeprefix("/en")
    Visitor(street.app).post("/sign-in", email=MAILBOX)
    paths["link"] = link_in(town.letters[-1]).removeprefix("/en")


def _requests(street: Street, ana: Visitor) -> None:
    """A copy that is ready, an erasure just asked, a question we put, an objection taken back."""
    work, paths = Work(street.town), street.paths
    ready = ask(ana, "access", text="Everything, please.")
    work.hand_over(ready)
    asked = ask(ana, "erasure")
    unclear = ask(ana, "portability")
    with work.desk() as desk:
        requests.ask_clarification(
            desk, unclear, text="Which of your accounts, please?", by=Agent("stf_agent", human=True)
        )
    work.post(unclear)
    back = ask(ana, "objection")
    ana.post(f"/me/requests/{back}/take-back")
    work.post(back)
    for name, case in (("ready", ready), ("asked", asked), ("unclear", unclear), ("taken back", back)):
        paths[name] = f"/me/requests/{case}"


def _erased(street: Street, _ana: Visitor) -> None:
    """Eva asked for a copy and for erasure, and got both."""
    town, work, eva = street.town, Work(street.town), Visitor(street.app)
    subject = town.enrol("eva@example.org", "Eva Exemple")
    eva.sign_in(town, "eva@example.org")
    passkey = enrol_passkey(eva, town.printed_code("subject", subject), street.origin)
    town.clock.forward(minutes=1)
    use_passkey(eva, passkey)
    case = ask(eva, "access", "erasure")
    work.acknowledge(case)
    work.search(case)
    work.seal(case)
    for right in (Right.ACCESS, Right.ERASURE):
        work.decide(case, right)
    work.approve(case)
    work.reply(case, Right.ACCESS)
    erasure = work.erase(case)
    work.reply(case, Right.ERASURE)
    with town.unit() as unit:
        link = CertificateLink(FIRM, case, erasure, town.clock.now())
        unit.certificate_links.add(hashlib.sha256(CERTIFICATE.encode()).digest(), link)
        unit.commit()
    street.paths["certificate"] = f"/certificates/{CERTIFICATE}"
    street.paths["erased"] = f"/me/requests/{case}"
    street.paths["eva"] = subject
    street.paths["new"] = town.enrol("nora@example.org", "Nora Nouvelle")


def _console(street: Street, _ana: Visitor) -> None:
    """A case that waits for approval, one being carried out, a release that waits."""
    town = street.town
    console.hired(town, "dpo", "agent", ident="stf_sam")
    waiting = console.opened(town, subject="sub_bo")
    console.for_approval(town, waiting)
    busy = console.erasing(town)
    console.planned(town)
    street.paths |= {"waiting": f"/dpo/cases/{waiting}", "busy": f"/dpo/cases/{busy}"}


def _post(street: Street, sent: LocalOutbox) -> None:
    for number, letter in enumerate(street.town.letters):
        text = {"subject": letter.subject, "text": letter.text, "html": letter.html}
        receipt = sent.send(Message(f"mail_{number}", letter.to, letter.kind, "en", **text))
        street.paths["mail"] = f"/outbox/{receipt.reference}"
