"""Every page in a real Chromium: accessible in four languages, quiet under its CSP, whole without scripts, fair."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from app.http import asking
from app.http.pages.agreements import stop_path
from app.http.sessions import digest
from app.store.disclosures import Disclosure
from consent import usecases
from consent.events import Actor, ActorKind, Channel
from consent.proposal import Proposal
from consent.record import State
from consent.vocabulary import CategoryId, ConsentId, ControllerId, PartyId, PurposeId, SubjectRef
from tests.doors.browsing import DESKTOP, NARROW, PHONE, Server, Window, axe_findings, window
from tests.doors.pages_house import MAILBOX, Town, Visitor, enrol_passkey, link_in, use_passkey

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]
FIRM = ControllerId("ormelune")


@dataclass
class Street:
    """A town with a person in it, a question at every stage, and a server before it all."""

    town: Town
    origin: str
    subject: SubjectRef
    cookie: str
    paths: dict[str, str] = field(default_factory=dict)
    consents: dict[str, ConsentId] = field(default_factory=dict)

    def cookies(self) -> list[Any]:
        return [{"name": "regard_session", "value": self.cookie, "url": self.origin}]


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Street]:
    folder: Path = tmp_path_factory.mktemp("street")
    with Server() as server:
        town = Town(folder / "house", origin=server.origin)
        app = town.app()
        server.show(app)
        subject = town.enrol()
        ana = Visitor(app)
        ana.sign_in(town)
        use_passkey(ana, enrol_passkey(ana, town.printed_code("subject", subject), server.origin))
        cookie = ana.client.get_cookie("regard_session")
        assert cookie is not None
        built = Street(town, server.origin, subject, cookie.value)
        _fill(built, ana)
        yield built
        town.house.close()


def ask(street: Street, purpose: str = "wealth_overview", party: str = "patrivue") -> tuple[str, ConsentId]:
    """Put a question to the person; return its page and its reference."""
    town = street.town
    record = usecases.propose(
        town.unit(),
        town.house.policy,
        Proposal(FIRM, street.subject, PurposeId(purpose), PartyId(party)),
        ids=town.doors.ids,
        by=Actor(ActorKind.SUBJECT, street.subject),
        channel=Channel.PAGE,
        at=town.clock.now(),
    )
    with town.app().test_request_context("/en/"):
        return f"/consent/{asking.put_on_page(record)}", record.id


def _fill(street: Street, ana: Visitor) -> None:
    """Leave a question at every stage, agreements in every mood, somebody who looked."""
    paths, consents = street.paths, street.consents
    for name in ("facts", "check", "result", "refused", "live"):
        paths[name], consents[name] = ask(street)
    for name in ("institution", "bank facts", "bank check", "step up", "leaving"):
        paths[name], consents[name] = ask(street, "account_information", "collecte")
    for name in ("bank facts", "bank check", "step up", "leaving"):
        page = ana.get(paths[name]).get_data(as_text=True)
        source = page.split('name="source" value="')[1].split('"')[0]
        ana.post(paths[name], answer="agree", source=source)
    for name in ("check", "result", "live", "bank check", "step up", "leaving"):
        ana.post(paths[name], answer="agree", period="180", optional="transactions.recent")
    for name in ("result", "live", "step up", "leaving"):
        ana.post(paths[name], answer="agree")
    ana.post(paths["leaving"], answer="agree")
    ana.post(paths["refused"], answer="refuse")
    with street.town.unit() as unit:
        for number, party in enumerate(("patrivue", "collecte", "expert")):
            unit.disclosures.add(
                Disclosure(
                    id=f"dis_{number}",
                    controller=FIRM,
                    subject=street.subject,
                    party=PartyId(party),
                    component=None,
                    actor_role=None,
                    categories=(CategoryId("accounts.balances"), CategoryId("transactions.recent")),
                    records=40 + number,
                    purpose=PurposeId("wealth_overview"),
                    consent=consents["live"],
                    attended=number == 0,
                    action="read",
                    at=street.town.clock.now() - timedelta(hours=11 * number),
                )
            )
        unit.commit()
    live = consents["live"]
    paths |= {"agreement": f"/me/consents/{live}", "withdraw": f"/me/consents/{live}/withdraw"}
    with street.town.app().test_request_context("/en/"):
        paths["stop"] = stop_path(FIRM, live).removeprefix("/en")
    stranger = Visitor(street.town.app())
    stranger.post("/sign-in", email=MAILBOX)
    paths["link"] = link_in(street.town.letters[-1]).removeprefix("/en")


OPEN = ("/", "/processors", "/processors/patrivue", "/processors/connecteurs", "/privacy", "/sign-in", "/sign-in/sent")
OPEN_TOO = ("/sign-in/passkey", "/staff/enrol", "/nothing-here")
OWN = ("/me", "/me/step-up", "/me/security", "/me/security/add", "/me/consents", "/me/access-log")
STAGES = (
    "facts",
    "check",
    "result",
    "refused",
    "institution",
    "bank facts",
    "bank check",
    "step up",
    "leaving",
    "agreement",
    "withdraw",
)


@pytest.mark.parametrize(
    ("locale", "scheme", "size"),
    [("fr", "light", DESKTOP), ("en", "dark", PHONE), ("es", "light", NARROW), ("pt", "dark", NARROW)],
)
def test_axe_finds_nothing_anywhere(
    *, browser: Browser, axe: Axe, street: Street, locale: str, scheme: Any, size: Any
) -> None:
    """WCAG 2.2 AA on every page in four languages, light and dark, down to 320 px; no CSP message, no overflow."""
    found: dict[str, Any] = {}
    with window(browser, street.origin, viewport=size, color_scheme=scheme) as view:
        for path in (*OPEN, *OPEN_TOO, street.paths["stop"], street.paths["link"]):
            _look_at(view, axe, f"/{locale}{path}", found)
        view.page.context.add_cookies(street.cookies())
        for path in (*OWN, *(street.paths[stage] for stage in STAGES)):
            _look_at(view, axe, f"/{locale}{path}", found)
        said = [line for line in view.said if "404" not in line]
    assert found == {}
    assert said == []


def _look_at(view: Window, axe: Axe, path: str, found: dict[str, Any]) -> None:
    """Judge a page as it opens and with everything unfolded; contrast in the other scheme too."""
    view.go(path)
    page = view.page
    page.evaluate("() => document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    faults = axe_findings(page, axe)
    if page.evaluate("() => document.documentElement.scrollWidth > window.innerWidth"):
        faults.append("overflows sideways")
    if page.locator("html").get_attribute("lang") != path.split("/")[1]:
        faults.append("wrong language")
    if page.locator("h1").count() != 1:
        faults.append("not one h1")
    if faults:
        found[path] = faults


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESKTOP, NARROW])
@pytest.mark.parametrize("stage", ["facts", "check", "institution", "withdraw"])
def test_the_two_buttons_weigh_the_same(browser: Browser, street: Street, stage: str, size: Any, scheme: Any) -> None:
    """Consent rules 7 and 45, measured: same size within 2 px, same row, same look."""
    with window(browser, street.origin, viewport=size, color_scheme=scheme) as view:
        view.page.context.add_cookies(street.cookies())
        view.go(f"/pt{street.paths[stage]}")
        pair = view.page.locator("[data-testid=equal] > *")
        expect(pair).to_have_count(2)
        boxes = [pair.nth(number).bounding_box() for number in (0, 1)]
        looks = [pair.nth(number).evaluate(_LOOK) for number in (0, 1)]
    assert boxes[0] is not None
    assert boxes[1] is not None
    for side in ("width", "height", "y"):
        assert abs(boxes[0][side] - boxes[1][side]) <= 2, side  # type: ignore[literal-required]
    assert looks[0] == looks[1]


_LOOK = """(element) => {
  const style = getComputedStyle(element);
  return ["color", "backgroundColor", "fontSize", "fontWeight", "fontFamily", "borderTopWidth", "borderTopColor",
    "borderTopStyle", "opacity", "textTransform", "boxShadow", "filter"].map((name) => style[name]);
}"""


def test_forced_colours_keep_the_buttons_visible(browser: Browser, street: Street) -> None:
    with window(browser, street.origin, viewport=PHONE, forced_colors="active") as view:
        view.page.context.add_cookies(street.cookies())
        view.go(f"/en{street.paths['facts']}")
        for number in (0, 1):
            width = (
                view.page.locator("[data-testid=equal] > *")
                .nth(number)
                .evaluate("(element) => getComputedStyle(element).borderTopWidth")
            )
            assert float(width.removesuffix("px")) >= 2


def test_the_whole_way_without_scripts(browser: Browser, street: Street) -> None:
    """Consent rules 4.2, 5, 8, 13, 25, 35: sign in, agree, look, stop, with nothing but HTML."""
    with window(browser, street.origin, java_script_enabled=False, viewport=PHONE, locale="fr-FR") as view:
        page = view.page
        view.go("/")
        assert page.url.endswith("/fr/")
        view.go("/fr/me/consents")
        page.get_by_label("Adresse de courriel").fill(MAILBOX)
        page.get_by_role("button", name="M’envoyer un lien").click()
        page.goto(street.origin + link_in(street.town.letters[-1]))
        page.get_by_role("button", name="Ouvrir mon espace").click()
        assert page.url.endswith("/fr/me/consents")

        page.context.add_cookies(street.cookies())
        path, consent = ask(street)
        view.go(f"/fr{path}")
        assert page.locator("input:checked").count() == 0
        page.get_by_role("button", name="J’accepte").click()
        expect(page.get_by_role("alert")).to_contain_text("Choisissez pour combien de temps")
        page.get_by_label("180 jours").check()
        page.get_by_label("Mouvements des 90 derniers jours").or_(page.locator("input[name=optional]")).first.check()
        page.get_by_role("button", name="J’accepte").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Vérifiez vos réponses")
        page.get_by_role("button", name="Changer la durée").click()
        page.get_by_label("12 mois").check()
        page.get_by_role("button", name="J’accepte").click()
        page.get_by_role("button", name="J’accepte").click()
        expect(page.get_by_test_id("reference")).to_have_text(consent)

        view.go("/fr/me/consents?status=active")
        page.get_by_test_id("stop").first.click()
        page.get_by_role("button", name="Je l’arrête").click()
        expect(page.get_by_test_id("status")).to_have_text("retiré")
        assert [line for line in view.said if "422" not in line] == []
    with street.town.unit() as unit:
        states = {unit.consents.find(FIRM, each.id).state for each in unit.consents.of_subject(FIRM, street.subject)}  # type: ignore[union-attr]
    assert State.WITHDRAWN in states


def test_clusters_open_on_a_click(browser: Browser, street: Street) -> None:
    """Consent rule 10."""
    with window(browser, street.origin, java_script_enabled=False) as view:
        view.page.context.add_cookies(street.cookies())
        view.go(f"/en{street.paths['facts']}")
        first = view.page.get_by_test_id("fact-data").locator("details").first
        expect(first.locator("li").first).not_to_be_visible()
        first.locator("summary").click()
        expect(first.locator("li").first).to_be_visible()


def test_another_language_keeps_the_answers(browser: Browser, street: Street) -> None:
    """Consent rule 24."""
    with window(browser, street.origin) as view:
        view.page.context.add_cookies(street.cookies())
        view.go(f"/en{street.paths['check']}")
        view.page.get_by_role("link", name="Español").click()
        expect(view.page.get_by_role("heading", level=1)).to_have_text("Revise sus respuestas")
        expect(view.page.get_by_test_id("check-period")).to_contain_text("180 días")


def _authenticator(page: Page, *, verified: bool) -> None:
    session = page.context.new_cdp_session(page)
    session.send("WebAuthn.enable")
    options = {
        "protocol": "ctap2",
        "transport": "internal",
        "hasResidentKey": True,
        "hasUserVerification": True,
        "isUserVerified": verified,
        "automaticPresenceSimulation": True,
    }
    session.send("WebAuthn.addVirtualAuthenticator", {"options": options})


def _weak_cookie(street: Street, subject: SubjectRef) -> list[Any]:
    """A session as an e-mail link leaves it."""
    token = street.town.doors.ids.new("tok")
    with street.town.unit() as unit:
        unit.sessions.open(
            digest(token),
            kind="subject",
            person=subject,
            controller=FIRM,
            level=1,
            proven_at=None,
            credential=None,
            now=street.town.clock.now(),
            idle=timedelta(minutes=30),
            longest=timedelta(hours=1),
        )
        unit.commit()
    return [{"name": "regard_session", "value": token, "url": street.origin}]


def test_a_passkey_is_made_and_used_in_the_browser(browser: Browser, street: Street) -> None:
    """Consent rule 33 with the browser's own ceremony; nothing runs that the CSP would have to allow."""
    bea = street.town.enrol("bea@example.org", "Bea Beispiel")
    code = street.town.printed_code("subject", bea)
    with window(browser, street.origin) as view:
        page = view.page
        page.context.add_cookies(_weak_cookie(street, bea))
        _authenticator(page, verified=True)
        view.go("/en/me/security")
        page.get_by_label("Printed code").fill(code)
        page.get_by_role("button", name="Go on").click()
        page.get_by_role("button", name="Create the passkey").click()
        expect(page.get_by_role("heading", name="Passkey 1")).to_be_visible()
        view.go("/en/me/step-up?next=/en/me")
        page.get_by_role("button", name="Use my passkey").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Hello, Bea Beispiel")
        page.get_by_role("button", name="Sign out").click()
        page.get_by_role("link", name="Sign in", exact=True).click()
        page.get_by_role("link", name="Sign in with a passkey").click()
        page.get_by_role("button", name="Use my passkey").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Hello, Bea Beispiel")
        assert view.said == []


def test_a_device_that_does_not_verify_its_holder_is_refused(browser: Browser, street: Street) -> None:
    """User verification is required: the browser refuses, the page says so, nothing is stored."""
    carl = street.town.enrol("carl@example.org", "Carl")
    code = street.town.printed_code("subject", carl)
    with window(browser, street.origin) as view:
        page = view.page
        page.context.add_cookies(_weak_cookie(street, carl))
        _authenticator(page, verified=False)
        view.go("/en/me/security")
        page.get_by_label("Printed code").fill(code)
        page.get_by_role("button", name="Go on").click()
        page.get_by_role("button", name="Create the passkey").click()
        expect(page.get_by_role("alert")).to_contain_text("Nothing was changed")
        expect(page.get_by_role("button", name="Create the passkey")).to_be_enabled()
    with street.town.unit() as unit:
        assert unit.passkeys.of("subject", carl) == []


def test_without_scripts_the_passkey_page_says_what_it_needs(browser: Browser, street: Street) -> None:
    with window(browser, street.origin, java_script_enabled=False) as view:
        view.go("/en/sign-in/passkey")
        expect(view.page.get_by_text("A passkey needs scripts")).to_be_visible()
        expect(view.page.get_by_role("button", name="Use my passkey")).not_to_be_visible()
        expect(view.page.get_by_role("link", name="Sign in by e-mail")).to_be_visible()


def test_a_script_in_a_name_stays_text(browser: Browser, street: Street) -> None:
    """Autoescaping and CSP, both."""
    eve = street.town.enrol("eve@example.org", "<img src=x onerror=alert(1)>")
    with window(browser, street.origin) as view:
        cookies = _weak_cookie(street, eve)
        with street.town.unit() as unit:
            unit.sessions.open(
                digest("strong"),
                kind="subject",
                person=eve,
                controller=FIRM,
                level=3,
                proven_at=street.town.clock.now(),
                credential=None,
                now=street.town.clock.now(),
                idle=timedelta(minutes=30),
                longest=timedelta(hours=1),
            )
            unit.commit()
        cookies[0]["value"] = "strong"
        view.page.context.add_cookies(cookies)
        view.go("/en/me")
        expect(view.page.get_by_role("heading", level=1)).to_have_text("Hello, <img src=x onerror=alert(1)>")
        assert view.said == []
