"""Proof of the page a person was shown: digests of its template and of the words it was put in (consent rule 58)."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from app.http.locale import CATALOGUES
from consent.vocabulary import Locale

TEMPLATES = Path(__file__).resolve().parents[2] / "templates"
QUESTION = ("pages/base.html", "pages/words.html", "pages/consent.html")
"""The files the question page is made of."""


@cache
def template_digest() -> str:
    """Return the hex SHA-256 over the files of the question page, in order."""
    return _digest(*(TEMPLATES / name for name in QUESTION))


@cache
def catalogue_digest(locale: Locale) -> str:
    """Return the hex SHA-256 of the catalogue of a language, as released."""
    return _digest(CATALOGUES / locale.value / "LC_MESSAGES" / "messages.po")


def _digest(*files: Path) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()
