"""A real Chromium on a real server on loopback, with the town behind it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from flask import Flask
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright
from werkzeug.serving import WSGIRequestHandler, make_server

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
    page, said = context.new_page(), list[str]()
    page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: said.append(f"error: {error}"))
    yield Window(page, said, origin)
    context.close()


def axe_findings(page: Page, axe: Any) -> list[str]:
    """What axe has against the page: rule and the first place."""
    found = axe.run(page, options={"runOnly": WCAG})
    return [f"{each['id']}: {each['nodes'][0]['html'][:160]}" for each in found.response["violations"]]


def picture(page: Page, folder: Path, name: str) -> None:
    """Keep a screenshot of the whole page."""
    folder.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=folder / f"{name}.png", full_page=True)
