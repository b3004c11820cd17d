"""Addresses of pages for mails and receipts, which are written outside of a request; none holds personal data.

The same addresses the pages' own rules have; a test compares them. The one that stops an agreement without signing in
is a key in itself (consent rule 35): it goes to the person by mail and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from app.http.forms import keyed_with
from app.settings import Secret
from consent.vocabulary import ConsentId, ControllerId, Locale

STOP = "stop"


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

    def _at(self, locale: Locale, path: str) -> str:
        return f"{self.origin}/{locale.value}/{path}"


def stop_seal(key: Secret, consent: str) -> str:
    """Return the 43 hex digits that prove a stop link is ours."""
    return keyed_with(key, STOP, consent)[:43]
