"""The real house on SQLite behind real pages; only the clock, the post and the durable work are the test's."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy.orm import Session

from app.factory import create_app
from app.http.doors import ClientActor, Doors, Limits
from app.http.passkeys import issue_code
from app.http.places import Places
from app.machine import RandomIds
from app.profiles import Profile
from app.settings import Secret, read_settings
from app.store.passkeys import StoredStaff
from app.store.unit import RecordsUnit
from app.wiring import House, build
from app.wiring.rooms import DoorCopies, certificate_pdfs, certificates_of, door_desk
from app.workflows.signins import WRITE, SignInMail
from consent.vocabulary import ControllerId, Locale, SubjectRef
from tests.databases import found_deployment
from tests.journeys.software_passkey import SoftwarePasskey

ROOT = Path(__file__).resolve().parents[2]
ORIGIN = "http://localhost:8000"
MAILBOX = "ana.exemplo@example.org"


@dataclass
class Clock:
    at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def now(self) -> datetime:
        return self.at

    def forward(self, **amount: float) -> None:
        self.at += timedelta(**amount)


@dataclass(frozen=True)
class Letter:
    to: str
    subject: str
    text: str
    html: str
    kind: str
    locale: str = "und"


class Post:
    """Mail as the doors queue it: there once the unit commits, gone with it otherwise."""

    def __init__(self) -> None:
        self.queued: list[Letter] = []

    def send(
        self,
        controller: ControllerId,
        *,
        to: str,
        subject: str,
        text: str,
        html: str,
        kind: str,
        locale: str = "und",
    ) -> str:
        self.queued.append(Letter(to, subject, text, html, kind, locale))
        return f"mail_{len(self.queued)}"


class Desk:
    """Durable work, noted down."""

    def __init__(self) -> None:
        self.queued: list[tuple[str, str]] = []

    def enqueue(self, kind: str, ref: str, *, due: datetime | None = None) -> None:
        self.queued.append((kind, ref))


class Unit(RecordsUnit):
    """The real unit; its post and its desk are the test's."""

    def __init__(self, town: Town, session: Session) -> None:
        super().__init__(town.house.units, session)
        self._town = town
        self.mail_queue, self.work = Post(), Desk()  # type: ignore[assignment]  # stand in for cached properties

    def commit(self) -> None:
        super().commit()
        self._town.letters += self.mail_queue.queued  # type: ignore[attr-defined]
        self._town.jobs += self.work.queued  # type: ignore[attr-defined]
        self._town.write_sign_ins(self.work.queued)  # type: ignore[attr-defined]


class Straight:
    """Runs each step of durable work at once."""

    def run(self, _name: str, effect: Any) -> Any:
        return effect()


class NoTokens:
    def present(self, headers: Mapping[str, str], method: str, url: str) -> ClientActor | None:
        return None


class Town:
    """A house, its doors, its letters."""

    def __init__(self, folder: Path, *, origin: str = ORIGIN, limits: Limits | None = None, **more: Any) -> None:
        self.clock = Clock()
        self.letters: list[Letter] = []
        self.jobs: list[tuple[str, str]] = []
        said = {"REGARD_DATA_DIR": str(folder), "REGARD_POLICIES_DIR": str(ROOT / "policies")}
        settings = read_settings({**said, "REGARD_ERASURE_BATCH_MINUTES": "0"})
        found_deployment(settings)
        self.house: House = build(settings)
        self.doors = Doors(
            policy=self.house.policy,
            controller=self.house.controller,
            origin=origin,
            key=Secret("a key of the test"),
            clock=self.clock,
            ids=RandomIds(),
            entropy=os.urandom,
            unit=self.unit,
            reading=self.unit,
            subjects=self.house.profiles,
            tokens=NoTokens(),
            open_receipt=self.house.consentwork.receipts.open,
            desk=lambda unit: replace(door_desk(self.house)(unit), clock=self.clock),
            copies=DoorCopies(self.house),
            certificates=certificates_of(self.house),
            certificate_pdf=certificate_pdfs(self.house),
            limits=limits or Limits(),
            **more,
        )

    def unit(self) -> Unit:
        return Unit(self, Session(self.house.records))

    def write_sign_ins(self, queued: Sequence[tuple[str, str]]) -> None:
        """Carry out what the doors asked for when somebody signed in by mail."""
        places = Places(self.doors.origin, self.doors.key)
        work = SignInMail(self.unit, self.unit, self.house.policy, self.clock, self.house.profiles, places)
        for kind, ref in queued:
            if kind == WRITE:
                work.write(ref, Straight())

    def app(self, *blueprints: Any) -> Flask:
        return create_app(self.doors, blueprints)

    def enrol(self, email: str = MAILBOX, name: str = "Ana Exemplo") -> SubjectRef:
        return self.house.profiles.enrol(self.house.controller, Profile(name, email), Locale.EN)

    def staff(self, *roles: str, ident: str = "stf_one") -> str:
        with self.unit() as unit:
            unit.staff.add(StoredStaff(ident, "Sam Staff", frozenset(roles), frozenset({self.house.controller})))
            unit.commit()
        return ident

    def printed_code(self, kind: Any, person: str, cooling: timedelta = timedelta(0)) -> str:
        with self.unit() as unit:
            code = issue_code(
                self.doors, unit, kind=kind, person=person, controller=self.house.controller, cooling=cooling
            )
            unit.commit()
        return code


class Visitor:
    """Somebody at a browser without scripts: reads the page, fills its forms in."""

    def __init__(self, app: Flask, locale: str = "en") -> None:
        self.client: FlaskClient = app.test_client()
        self.locale = locale

    def get(self, path: str, **more: Any) -> Any:
        return self.client.get(self._full(path), **more)

    def post(self, path: str, page: str | None = None, **fields: Any) -> Any:
        """Send the form found at `page` (by default at `path` itself) with its token."""
        shown = self.get(page or path).get_data(as_text=True)
        return self.client.post(self._full(path), data={**carried_by(shown), **fields})

    def sign_in(self, town: Town, email: str = MAILBOX) -> Any:
        self.post("/sign-in", email=email)
        return self.post(link_in(town.letters[-1]))

    def _full(self, path: str) -> str:
        return path if path.startswith(("/en", "/fr", "/es", "/pt", "/dpo")) else f"/{self.locale}{path}"


def token_in(page: str) -> str:
    found = re.search(r'name="form_token" value="([0-9a-f]{64})"', page)
    assert found, "the page has no form"
    return found.group(1)


def carried_by(page: str) -> dict[str, str]:
    """Return what a page's form sends by itself: its token, and which page of a question it stands on."""
    seen = re.search(r'name="seen" value="([^"]+)"', page)
    return {"form_token": token_in(page)} | ({"seen": seen.group(1)} if seen else {})


def options_in(page: str) -> dict[str, Any]:
    import html
    import json

    found = re.search(r'data-options="([^"]+)"', page)
    assert found, "the page has no ceremony"
    return dict(json.loads(html.unescape(found.group(1))))


def link_in(letter: Letter) -> str:
    found = re.search(rf"{re.escape(ORIGIN)}|http://localhost:\d+", letter.text)
    assert found
    return re.search(r"https?://[^/]+(/\S+)", letter.text).group(1)  # type: ignore[union-attr]


def code_in(letter: Letter) -> str:
    return re.search(r"\b(\d{4} \d{4})\b", letter.text).group(1)  # type: ignore[union-attr]


def enrol_passkey(visitor: Visitor, code: str, origin: str = ORIGIN) -> SoftwarePasskey:
    """Type the printed code, create the passkey."""
    import json

    assert visitor.post("/me/security/code", page="/me/security", code=code).status_code == 303
    page = visitor.get("/me/security/add").get_data(as_text=True)
    passkey = SoftwarePasskey(origin)
    answer = json.dumps(passkey.create(options_in(page)))
    done = visitor.client.post(
        visitor._full("/me/security/add"), data={"form_token": token_in(page), "credential": answer}
    )
    assert done.status_code == 303, done.get_data(as_text=True)
    return passkey


def use_passkey(visitor: Visitor, passkey: SoftwarePasskey, page_at: str = "/me/step-up", **fields: str) -> Any:
    """Assert the passkey where the page asks for it."""
    import json

    page = visitor.get(page_at).get_data(as_text=True)
    answer = json.dumps(passkey.get(options_in(page)))
    return visitor.client.post(
        visitor._full("/sign-in/passkey"), data={"form_token": token_in(page), "credential": answer, **fields}
    )
