"""What an outsider has in hand: a browser without scripts, a mailbox, a passkey. Imports nothing of the project.

The browser reads HTML with the standard library, fills in the forms it finds and presses the buttons it sees, as a
person would; it knows no route but the ones it was given or found in a page.
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass, field
from html import unescape
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urljoin

import httpx

from tests.journeys.software_passkey import SoftwarePasskey

PATIENCE = 120.0
"""Seconds that work done behind a page may take before the outsider gives up."""


class NotAsPromised(AssertionError):
    """The service did something else than it says."""


@dataclass
class Form:
    """One form of a page: where it goes, what it carries by itself, the ceremony it holds if it is a passkey's."""

    method: str
    action: str
    hidden: dict[str, list[str]] = field(default_factory=dict)
    ceremony: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    buttons: list[tuple[str, str]] = field(default_factory=list)
    choices: dict[str, list[str]] = field(default_factory=dict)
    """Radio buttons and boxes: name -> the values offered."""
    names: set[str] = field(default_factory=set)


APART = frozenset({"br", "dd", "dt", "li", "p", "td", "th"})
"""What ends a line or a cell on a page."""


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self.links: list[tuple[str, str]] = []
        self.words: list[str] = []
        self.marked: dict[str, str] = {}
        self.title = ""
        self._in_title = False
        self._open: Form | None = None
        self._link: str | None = None
        self._mark: list[tuple[str, str]] = []
        self._silent = 0
        self._apart = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = {name: value or "" for name, value in attrs}
        if tag in ("script", "style", "head"):
            self._silent += tag != "head"
        self._in_title = tag == "title"
        if tag == "form":
            self._open = Form(said.get("method", "get").lower(), said.get("action", ""))
            self._open.ceremony = said.get("data-passkey")
            self._open.options = json.loads(said["data-options"]) if said.get("data-options") else {}
            self.forms.append(self._open)
        if self._open is not None and tag in ("input", "button", "select", "textarea") and said.get("name"):
            self._open.names.add(said["name"])
            if tag == "input" and said.get("type") == "hidden":
                self._open.hidden.setdefault(said["name"], []).append(said.get("value", ""))
            if tag == "input" and said.get("type") in ("radio", "checkbox"):
                self._open.choices.setdefault(said["name"], []).append(said.get("value", "on"))
            if tag == "button":
                self._open.buttons.append((said["name"], said.get("value", "")))
        if tag == "a":
            self._link = said.get("href")
        self._apart = self._apart or tag == "br"
        name = said.get("data-testid")
        if name and name not in self.marked:  # of several alike, the first
            self.marked[name] = ""
            self._mark.append((tag, name))

    def handle_endtag(self, tag: str) -> None:
        if tag in ("script", "style"):
            self._silent -= 1
        if tag == "form":
            self._open = None
        if tag == "a":
            self._link = None
        self._apart = self._apart or tag in APART
        if self._mark and self._mark[-1][0] == tag:
            self._mark.pop()

    def handle_data(self, data: str) -> None:
        if self._silent or not data.strip():
            return
        if self._in_title:
            self.title = data.strip()
            self._in_title = False
        self.words.append(data.strip())
        if self._link is not None:
            self.links.append((self._link, data.strip()))
        for _, name in self._mark:
            self.marked[name] = _read_on(self.marked[name], self._apart, data.strip())
        self._apart = False


def _read_on(told: str, apart: bool, more: str) -> str:
    """Return a text with its next piece, as it is read aloud: cells kept apart, no gap before a comma."""
    if not told or more[0] in ",.;:":
        return told + more
    return f"{told} · {more}" if apart else f"{told} {more}"


class Page:
    """One page as the outsider sees it."""

    def __init__(self, response: httpx.Response) -> None:
        self.status = response.status_code
        self.url = str(response.url)
        self.location = response.headers.get("Location", "")
        self.body = response.content
        self.headers = response.headers
        reader = _Reader()
        if "html" in response.headers.get("Content-Type", ""):
            reader.feed(response.text)
        self.forms, self.links, self.marked = reader.forms, reader.links, reader.marked
        self.words = " ".join(reader.words)
        self.title = reader.title

    def form(self, *, button: tuple[str, str] | None = None, has: str | None = None, ceremony: bool = False) -> Form:
        """Return the form with this button, this field, or a passkey ceremony; else the first POST one."""
        for form in self.forms:
            fits = (button is None or button in form.buttons) and (has is None or has in form.names)
            if fits and (has or form.method == "post") and (not ceremony or form.ceremony):
                return form
        raise NotAsPromised(f"{self.url} ({self.status}) has no such form; it says: {self.words[:300]}")

    def link(self, pattern: str) -> str:
        """Return the first link whose address matches."""
        for address, _ in self.links:
            if re.search(pattern, address):
                return address
        raise NotAsPromised(f"{self.url} ({self.status}) has no link like {pattern}; it says: {self.words[:300]}")


class Browser:
    """A browser without scripts, with its cookies and at most one passkey."""

    def __init__(self, origin: str, locale: str = "en") -> None:
        self.origin = origin
        self.locale = locale
        self.passkey: SoftwarePasskey | None = None
        self._http = httpx.Client(
            base_url=origin, follow_redirects=True, timeout=60, headers={"Accept-Language": locale}
        )

    def get(self, address: str, *, expect: int = 200) -> Page:
        """Open an address."""
        return self._seen(self._http.get(urljoin(self.origin, address)), expect)

    def send(self, page: Page, form: Form, *, expect: int = 200, **filled: Any) -> Page:
        """Fill a form in and send it."""
        address, data = urljoin(page.url, form.action or page.url), form.hidden | filled
        if form.method == "get":
            return self._seen(self._http.get(address, params=data), expect)
        return self._seen(self._http.post(address, data=data), expect)

    def follow_out(self, address: str) -> str:
        """Open an address that leads away from the service, and return where to."""
        response = self._http.get(urljoin(self.origin, address), follow_redirects=False)
        if response.status_code != httpx.codes.SEE_OTHER:
            raise NotAsPromised(f"{address} answered {response.status_code}, not a way out")
        return str(response.headers["Location"])

    def prove(self, page: Page) -> Page:
        """Carry out the passkey ceremony of a page: create one, or assert the one this browser has."""
        form = page.form(ceremony=True)
        if form.ceremony == "create":
            self.passkey = SoftwarePasskey(self.origin)
            answer = self.passkey.create(form.options)
        elif self.passkey is None:
            raise NotAsPromised("the page wants a passkey and this browser has none")
        else:
            answer = self.passkey.get(form.options)
        return self.send(page, form, credential=json.dumps(answer))

    @staticmethod
    def _seen(response: httpx.Response, expect: int) -> Page:
        page = Page(response)
        if page.status != expect:
            raise NotAsPromised(f"{page.url} answered {page.status}, not {expect}: {page.words[:400]}")
        return page


class Mailbox:
    """The outbox page of the demonstration, where "sent" mail can be read."""

    def __init__(self, origin: str, *, old: bool = False) -> None:
        """With `old`, mail that lies there already counts as new."""
        self._origin = origin
        self._http = httpx.Client(base_url=origin, timeout=60)
        self._read: set[str] = set() if old else set(self._listed())

    def wait(self, pattern: str, patience: float = PATIENCE) -> str:
        """Wait for a new mail with a link of this kind and return the link (whole)."""
        ends = time.monotonic() + patience
        while time.monotonic() < ends:
            for mail in self._listed():
                found = re.search(rf'{re.escape(self._origin)}[^\s"<]*{pattern}[^\s"<]*', self._text(mail))
                if mail not in self._read and found:
                    self._read.add(mail)
                    return unescape(found.group(0))
            time.sleep(0.1)
        raise NotAsPromised(f"no mail with a link like {pattern} arrived within {patience:.0f} s")

    def _listed(self) -> list[str]:
        return re.findall(r'href="(/outbox/\w+)"', self._http.get("/outbox").text)

    def _text(self, mail: str) -> str:
        return self._http.get(mail).text


def until(look: Any, what: str, patience: float = PATIENCE) -> Any:
    """Look again and again until something is there; raises NotAsPromised naming `what`."""
    ends = time.monotonic() + patience
    while time.monotonic() < ends:
        found = look()
        if found:
            return found
        time.sleep(0.2)
    raise NotAsPromised(f"{what}: not within {patience:.0f} s")
