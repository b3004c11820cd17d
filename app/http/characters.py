"""Characters that nobody types: refused at the door, whatever they stand in.

NUL ends a text in some stores and is an error in others; other control characters and lone surrogates have no place in
an id, a name or a sentence either. Refused where they arrive, they never reach a query, a log, a mail or a file.
Leaves out what a value means: each door asks for what it needs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from flask import request
from werkzeug.exceptions import BadRequest

from app.http.errors import FormInvalid, NotHere

_NEVER: Final = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_NEVER_IN_TEXT: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
"""A text of several lines has tabs and ends of lines."""
_WHOLE: Final = "_schema"
"""The place of a fault of the whole, as the schemas call it."""


def check_address() -> None:
    """Raise NotHere for a path, BadRequest for a query with such characters: there is nothing at such an address."""
    if _NEVER.search(request.path):
        raise NotHere
    if any(_NEVER.search(said) for pair in request.args.items(multi=True) for said in pair):
        raise BadRequest


def is_text(said: str) -> bool:
    """Return whether a text, of several lines perhaps, has none of them."""
    return not _NEVER_IN_TEXT.search(said)


def check_form_text() -> None:
    """Raise FormInvalid for a form with such characters, naming no field: its names are the sender's words too."""
    if not all(is_text(said) for pair in request.form.items(multi=True) for said in pair):
        raise FormInvalid


def strange_places(value: Any) -> Iterator[str]:
    """Yield where in a JSON value there are such characters, `disclosures.1.id`; of a strange name only its object."""
    waiting = [("", value)]  # no recursion: whoever sends chooses the depth
    while waiting:
        place, one = waiting.pop()
        if isinstance(one, str) and not is_text(one):
            yield place or _WHOLE
        elif isinstance(one, Mapping):
            waiting += [(_below(place, name), below) for name, below in one.items() if is_text(name)]
            if not all(map(is_text, one)):
                yield place or _WHOLE
        elif isinstance(one, list):
            waiting += [(_below(place, str(number)), below) for number, below in enumerate(one)]


def _below(place: str, name: str) -> str:
    """No longer than a place is ever said: names and depth are the sender's."""
    return f"{place}.{name}"[:120] if place else name[:120]
