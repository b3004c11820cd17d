"""A real Chromium on a real server on loopback, with the town behind it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from axe_playwright_python.base import AXE_SCRIPT
from flask import Flask
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright
from werkzeug.serving import WSGIRequestHandler, make_server

from tests.doors.looks import Look
from tests.waiting import PATIENCE

CHROMIUM = "/usr/bin/chromium"
ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
"""Without these axe leaves the target-size rule of WCAG 2.2 out (consent rules 5.2)."""
SEEN = {"type": "rule", "values": ["color-contrast", "link-in-text-block", "target-size"]}
"""The rules whose answer depends on colours or on the width of the window."""
DARK: Any = {"color_scheme": "dark", "forced_colors": "none"}
FORCED: Any = {"color_scheme": "dark", "forced_colors": "active"}
LIGHT: Any = {"color_scheme": "light", "forced_colors": "none"}
PHONE = {"width": 390, "height": 844}
DESKTOP = {"width": 1280, "height": 900}
NARROW = {"width": 320, "height": 700}


@contextmanager
def chromium() -> Iterator[Browser]:
    """One browser; a context of it for each test."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGS)
        yield browser
        browser.close()


class _Quiet(WSGIRequestHandler):
    """Addresses hold sign-in links: they are logged nowhere, not even here."""

    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002 - werkzeug's own name
        """Say nothing."""


class Server:
    """The application on a free port, called localhost (WebAuthn knows no addresses)."""

    def __init__(self) -> None:
        self._app: Flask | None = None
        self._server = make_server("127.0.0.1", 0, self._serve, threaded=True, request_handler=_Quiet)
        self.origin = f"http://localhost:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def _serve(self, environ: Any, start_response: Any) -> Any:
        assert self._app is not None
        return self._app(environ, start_response)

    def show(self, app: Flask) -> None:
        self._app = app

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@dataclass
class Window:
    """A page and everything its console said."""

    page: Page
    said: list[str]
    origin: str

    def go(self, path: str) -> None:
        self.page.goto(self.origin + path)


@contextmanager
def window(browser: Browser, origin: str, **options: Any) -> Iterator[Window]:
    """A fresh context of the browser; options as Playwright's `new_context` has them."""
    context: BrowserContext = browser.new_context(**options)
    context.set_default_timeout(PATIENCE * 1_000)
    page, said = context.new_page(), list[str]()
    page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: said.append(f"error: {error}"))
    yield Window(page, said, origin)
    context.close()


class Eyes:
    """Judges pages in one window: axe injected once a page, everything unfolded, every scheme, phone to desktop."""

    def __init__(self, view: Window) -> None:
        self.page = view.page
        self._axe = AXE_SCRIPT

    def judge(self, address: str, look: Look, locale: str, scheme: Any) -> list[str]:
        """Return everything against the page: whole in light on a narrow phone, then in `scheme` on a desktop."""
        page = self.page
        page.set_viewport_size(NARROW)
        page.emulate_media(**LIGHT)
        status = self.open(address, look)
        page.evaluate("() => document.querySelectorAll('details').forEach((each) => { each.open = true; })")
        faults = [] if status == look.status else [f"answers {status}"]
        faults += self._plain(locale) + self._axe_says(WCAG)
        page.emulate_media(**scheme)
        page.set_viewport_size(DESKTOP)
        return faults + self._axe_says(SEEN) + self._overflow()

    def open(self, address: str, look: Look) -> int:
        """Go there, press what is to be pressed, and return the status of what is shown then."""
        page = self.page
        answer = page.goto(address)
        if look.press:
            with page.expect_navigation() as pressed:
                page.locator(look.press).first.evaluate(
                    "(button) => { button.form.noValidate = true; button.click(); }"
                )
            answer = pressed.value
        return answer.status if answer is not None else 0

    def _plain(self, locale: str) -> list[str]:
        page = self.page
        faults = self._overflow()
        if page.locator("html").get_attribute("lang") != locale:
            faults.append("wrong language")
        if page.locator("h1").count() != 1:
            faults.append("not one h1")
        return faults

    def _overflow(self) -> list[str]:
        wide = self.page.evaluate("() => document.documentElement.scrollWidth > window.innerWidth")
        return ["overflows sideways"] if wide else []

    def _axe_says(self, run_only: Any) -> list[str]:
        """Under the page's own CSP: axe comes in by evaluation, not as a script of the page (consent rules 5.2)."""
        page = self.page
        if not page.evaluate("() => 'axe' in window"):
            page.evaluate(self._axe)
        options = {"runOnly": run_only, "resultTypes": ["violations"]}
        found = page.evaluate("(options) => axe.run(document, options)", options)
        return [f"{each['id']}: {each['nodes'][0]['html'][:160]}" for each in found["violations"]]
