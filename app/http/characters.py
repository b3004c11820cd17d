"""Characters that nobody types: refused at the door, whatever they stand in.

NUL ends a text in some stores and is an error in others; other control characters and lone surrogates have no place in
an id, a name or a sentence either. Refused where they arrive, they never reach a query, a log, a mail or a file.
Leaves out what a value means: each door asks for what it needs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from flask import request
from werkzeug.exceptions import BadRequest

from app.http.errors import FormInvalid, NotHere

_NEVER: Final = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_NEVER_IN_TEXT: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
"""A text of several lines has tabs and ends of lines."""


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


def check_text(value: Any) -> None:
    """Raise BadRequest for a JSON value with such characters in any text or name, however deep."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            if not is_text(one):
                raise BadRequest
        elif isinstance(one, Mapping):
            waiting += [*one.keys(), *one.values()]
        elif isinstance(one, list):
            waiting += one
