"""Who looked: each read or look, grouped by day, with CSV and JSON (consent rule 51; GDPR art. 15(1)(c))."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from itertools import groupby

from flask import Response, jsonify, render_template
from flask_babel import to_user_timezone

from app.http import facts
from app.http.doors import DisclosureFacts, doors
from app.http.guard import current_subject, subject
from app.http.locale import people, told
from consent.vocabulary import CategoryId

page = people("access_log")
COLUMNS = ("at", "party", "role", "action", "data", "records", "purpose", "agreement", "person_present")


@page.get("/me/access-log")
@subject()
def listed() -> str:
    """Show the newest looks, day by day."""
    looks = _looks()
    days = [(date, list(found)) for date, found in groupby(looks, key=lambda look: to_user_timezone(look.at).date())]
    return render_template("pages/access-log.html", days=days, facts=facts, policy=doors().policy)


@page.get("/me/access-log.csv")
@subject()
def as_csv() -> Response:
    """The same as a table."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(_plain(look) for look in _looks())
    return Response(
        out.getvalue(),
        mimetype="text/csv",
        headers={"Content-Disposition": 'attachment; filename="access-log.csv"'},
    )


@page.get("/me/access-log.json")
@subject()
def as_json() -> Response:
    """The same as data."""
    return jsonify([_plain(look) for look in _looks()])


def _looks() -> Sequence[DisclosureFacts]:
    """Return them without what is kept solely against money laundering: not even that it was read (dsar rule 42)."""
    with doors().reading() as unit:
        return unit.disclosures.of_subject(current_subject(), without=doors().policy.aml_only())


def _plain(look: DisclosureFacts) -> dict[str, object]:
    policy = doors().policy
    party, purpose = policy.parties.get(look.party), policy.purposes.get(look.purpose)
    return {
        "at": look.at.isoformat(timespec="seconds"),
        "party": party.legal_name if party is not None else look.party,
        "role": look.actor_role or (party.role.value if party is not None else ""),
        "action": look.action,
        "data": "; ".join(_name(category) for category in look.categories),
        "records": look.records,
        "purpose": told(purpose.names) if purpose is not None else look.purpose,
        "agreement": look.consent or "",
        "person_present": look.attended,
    }


def _name(category: CategoryId) -> str:
    """The category's name; its id for one a newer pack no longer has."""
    known = doors().policy.categories.get(category)
    return told(known.names) if known is not None else category
