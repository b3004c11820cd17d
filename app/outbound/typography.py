"""How our words are set: spaces that do not break in French (Imprimerie nationale), lists, labels, texts of law.

For words of ours only; what a person's data says is reproduced as it is (dsar rule 39).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from consent.vocabulary import Locale

_NARROW, _WIDE = "\u202f", "\u00a0"
_BEFORE = re.compile(r" ([;?!»])")
_COLON = re.compile(r" :(?=\s|$)")
_OPENING = re.compile(r"« ")


def typeset(text: str, locale: Locale) -> str:
    """Return the text with the spaces of its language; only French has its own."""
    if locale is not Locale.FR:
        return text
    tight = _BEFORE.sub(lambda found: (_WIDE if found[1] == "»" else _NARROW) + found[1], text)
    return _OPENING.sub("«" + _WIDE, _COLON.sub(_WIDE + ":", tight))


def labelled(label: str, text: str, locale: Locale) -> str:
    """Return "label: text" as the language writes it."""
    return f"{label}{' :' if locale is Locale.FR else ':'} {text}"


def listed(names: Iterable[str], locale: Locale) -> str:
    """Return names that may hold commas of their own, as the language separates them."""
    return (" ; " if locale is Locale.FR else "; ").join(names)


_LAW: Mapping[str, str] = {"GDPR": "RGPD", "(EU)": "(UE)", "Reg.": "Règl."}


def cited(reference: str, locale: Locale) -> str:
    """Return a text of law as the language calls it; the pack cites in English."""
    if locale is Locale.EN:
        return reference
    names = {**_LAW, "Reg.": _LAW["Reg."] if locale is Locale.FR else "Reg."}
    for english, own in names.items():
        reference = reference.replace(english, own)
    return reference
