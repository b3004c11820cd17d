"""The pages people see, one file each; a handler parses, calls one use case and renders.

A page is added by writing `pages/x.py` with `page = people("x")`, its template and its strings, and naming it here.
"""

from __future__ import annotations

from app.http.pages import (
    access_log,
    agreements,
    certificates,
    dpo,
    home,
    journey,
    me,
    privacy,
    processors,
    receipts,
    requests,
    security,
    signin,
    staff_door,
)

PAGES = (
    home.page,
    processors.page,
    privacy.page,
    privacy.signals,
    signin.page,
    journey.page,
    me.page,
    agreements.page,
    receipts.page,
    access_log.page,
    requests.page,
    certificates.page,
    security.page,
    staff_door.page,
    dpo.page,
)
"""Every blueprint of pages that is always there; rooms with more to wire are passed to `create_app`."""
