"""Addresses of pages for mails and receipts, which are written outside of a request; none holds personal data.

The same addresses the pages' own rules have; a test compares them. The one that stops an agreement without signing in
(consent rule 35), and the link and code that sign in (rule 30), are keys in themselves: derived from the server key,
stored nowhere, they go to the person by mail and nowhere else.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from dataclasses import dataclass, field

from app.http.forms import keyed_with
from app.settings import Secret
from consent.vocabulary import ConsentId, ControllerId, Locale

STOP = "stop"
CODE_DIGITS = 8


@dataclass(frozen=True, slots=True)
class Places:
    """Absolute addresses under `origin`; `key` is the server key of forms."""

    origin: str
    key: Secret = field(repr=False)

    def agreement(self, consent: ConsentId, locale: Locale) -> str:
        """Return the page of one agreement."""
        return self._at(locale, f"me/consents/{consent}")

    def receipt(self, consent: ConsentId, receipt: str, locale: Locale) -> str:
        """Return the page of one receipt."""
        return self._at(locale, f"me/consents/{consent}/receipts/{receipt}")

    def withdraw(self, consent: ConsentId, locale: Locale) -> str:
        """Return the page that stops an agreement."""
        return self._at(locale, f"me/consents/{consent}/withdraw")

    def stop(self, controller: ControllerId, consent: ConsentId, locale: Locale) -> str:
        """Return the page that stops it without signing in."""
        return self._at(locale, f"stop/{controller}/{consent}/{stop_seal(self.key, consent)}")

    def privacy(self, locale: Locale) -> str:
        """Return the page that says whom to turn to."""
        return self._at(locale, "privacy")

    def sign_in(self, ref: str, locale: Locale) -> str:
        """Return the page that opens a sign-in."""
        return self._at(locale, f"sign-in/link/{link_for(self.key, ref)}")

    def sign_in_code(self, ref: str) -> str:
        """Return its code in two halves, as people read it."""
        code = code_for(self.key, ref)
        return f"{code[:4]} {code[4:]}"

    def _at(self, locale: Locale, path: str) -> str:
        return f"{self.origin}/{locale.value}/{path}"


def stop_seal(key: Secret, consent: str) -> str:
    """Return the 43 hex digits that prove a stop link is ours."""
    return keyed_with(key, STOP, consent)[:43]


def link_for(key: Secret, ref: str) -> str:
    """Return the 256 bits, as base64url, that open a sign-in."""
    return urlsafe_b64encode(bytes.fromhex(keyed_with(key, "link", ref))).decode().rstrip("=")


def code_for(key: Secret, ref: str) -> str:
    """Return the 8 digits that go with a sign-in."""
    return str(int(keyed_with(key, "code", ref)[:16], 16) % 10**CODE_DIGITS).zfill(CODE_DIGITS)
