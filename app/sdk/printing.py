"""Words of others, as they may be shown on a terminal: nothing in them moves its cursor, hides or turns what is shown.

Leaves out letters that look like others.
"""

from __future__ import annotations


def printable(text: str) -> str:
    """Return the text with everything that is not to be seen escaped: control characters, marks of direction."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in text)
