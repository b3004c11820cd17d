"""What people do with the pages in a real Chromium: weigh two buttons, go the whole way without scripts, use a passkey.

Consent rules 4.2, 5, 7, 8, 10, 13, 24, 25, 33, 35, 45.
"""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from consent.record import State
from tests.doors.browsing import DESKTOP, NARROW, PHONE, window
from tests.doors.looks import Who
from tests.doors.pages_house import link_in
from tests.doors.street import FIRM, Street, put_question

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESKTOP, NARROW])
@pytest.mark.parametrize("stage", ["facts", "check", "institution", "withdraw"])
def test_the_two_buttons_weigh_the_same(browser: Browser, street: Street, stage: str, size: Any, scheme: Any) -> None:
    """Consent rules 7 and 45, measured: same size within 2 px, same row, same look."""
    with window(browser, street.origin, viewport=size, color_scheme=scheme) as view:
        view.page.context.add_cookies(street.cookies_of(Who.SUBJECT))
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
        view.page.context.add_cookies(street.cookies_of(Who.SUBJECT))
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
    noe = street.town.enrol("noe@example.org", "Noé Exemple")
    with window(browser, street.origin, java_script_enabled=False, viewport=PHONE, locale="fr-FR") as view:
        page = view.page
        view.go("/")
        assert page.url.endswith("/fr/")
        view.go("/fr/me/consents")
        page.get_by_label("Adresse de courriel").fill("noe@example.org")
        page.get_by_role("button", name="M’envoyer un lien").click()
        page.goto(street.origin + link_in(street.town.letters[-1]))
        page.get_by_role("button", name="Ouvrir mon espace").click()
        assert page.url.endswith("/fr/me/consents")

        page.context.add_cookies(street.session("subject", noe, proven=True))
        path, consent = put_question(street, subject=noe)
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
        states = {unit.consents.find(FIRM, each.id).state for each in unit.consents.of_subject(FIRM, noe)}  # type: ignore[union-attr]
    assert states == {State.WITHDRAWN}


def test_clusters_open_on_a_click(browser: Browser, street: Street) -> None:
    """Consent rule 10."""
    with window(browser, street.origin, java_script_enabled=False) as view:
        view.page.context.add_cookies(street.cookies_of(Who.SUBJECT))
        view.go(f"/en{street.paths['facts']}")
        first = view.page.get_by_test_id("fact-data").locator("details").first
        expect(first.locator("li").first).not_to_be_visible()
        first.locator("summary").click()
        expect(first.locator("li").first).to_be_visible()


def test_another_language_keeps_the_answers(browser: Browser, street: Street) -> None:
    """Consent rule 24."""
    with window(browser, street.origin) as view:
        view.page.context.add_cookies(street.cookies_of(Who.SUBJECT))
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


def test_a_passkey_is_made_and_used_in_the_browser(browser: Browser, street: Street) -> None:
    """Consent rule 33 with the browser's own ceremony; nothing runs that the CSP would have to allow."""
    bea = street.town.enrol("bea@example.org", "Bea Beispiel")
    code = street.town.printed_code("subject", bea)
    with window(browser, street.origin) as view:
        page = view.page
        page.context.add_cookies(street.session("subject", bea, proven=False))
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
        page.context.add_cookies(street.session("subject", carl, proven=False))
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
        view.page.context.add_cookies(street.session("subject", eve, proven=True))
        view.go("/en/me")
        expect(view.page.get_by_role("heading", level=1)).to_have_text("Hello, <img src=x onerror=alert(1)>")
        assert view.said == []
