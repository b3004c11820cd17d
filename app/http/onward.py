"""Where to go after signing in: our own paths only, so that no link of ours leads a person elsewhere (CWE-601)."""

from __future__ import annotations

import re

_OURS = re.compile(r"/(?:(?:fr|en|es|pt)(?:/[\w./~-]*)?|dpo(?:/[\w./~-]*)?|oauth/authorize)(?:\?[\w.=&%:~+-]*)?")
_LONGEST = 500


def own_path(path: str | None) -> str | None:
    """Return `path` when it is one of ours, else None."""
    if not path or len(path) > _LONGEST or "//" in path or ".." in path:
        return None
    return path if _OURS.fullmatch(path) else None
