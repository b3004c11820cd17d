"""A receipt in the space: to read, as the signed file, and as the plain data it holds (consent rules 41, 57).

Opened like the agreement it belongs to: it names no account and no amount (consent.md section 6, level L1). The page
is written in the reader's language; the files are as they were issued.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from flask import render_template, url_for
from werkzeug.wrappers import Response

from app.http import facts
from app.http.doors import doors
from app.http.errors import NotHere
from app.http.guard import current_controller, current_subject, subject
from app.http.locale import people, told
from app.receipts import SealedReceipt, said_in
from app.vault.errors import Erased, UnknownKey
from consent import usecases
from consent.events import Actor, ActorKind
from consent.record import State
from consent.vocabulary import CategoryId, ConsentId, PartyId, PurposeId, Shredded

page = people("receipts")
SIGNED = "application/jose"
"""A compact JWS (RFC 7515 section 9.2.1)."""


@page.get("/me/consents/<consent>/receipts/<receipt>")
@subject()
def shown(consent: str, receipt: str) -> str:
    """Show what a receipt says, in words."""
    stored = _stored(consent, receipt)
    said = said_in(_signed(stored))
    return render_template("pages/receipt.html", stored=stored, facts=facts, **_words(said["record"]))


@page.get("/me/consents/<consent>/receipts/<receipt>.jws")
@subject()
def signed_file(consent: str, receipt: str) -> Response:
    """Hand over the signed file, byte for byte as it was issued."""
    stored = _stored(consent, receipt)
    return _file(_signed(stored), SIGNED, f"{stored.id}.jws")


@page.get("/me/consents/<consent>/receipts/<receipt>.json")
@subject()
def plain_file(consent: str, receipt: str) -> Response:
    """Hand over the data that was signed, laid out to be read."""
    stored = _stored(consent, receipt)
    said = json.dumps(said_in(_signed(stored)), ensure_ascii=False, indent=2)
    return _file(said, "application/json", f"{stored.id}.json")


def _stored(consent: str, receipt: str) -> SealedReceipt:
    """Raises NoSuchConsentError for another's agreement, NotHere for a receipt that is not its subject's own."""
    me = current_subject()
    with doors().reading() as unit:
        record, _ = usecases.read(
            unit, controller=current_controller(), consent=ConsentId(consent), by=Actor(ActorKind.SUBJECT, me)
        )
        found = unit.receipts.find(current_controller(), record.id, receipt)
    if found is None or found.subject != me:
        raise NotHere
    return found


def _signed(stored: SealedReceipt) -> str:
    """Raises Erased, or UnknownKey, once the person's keys are destroyed."""
    signed = doors().open_receipt(stored)
    if isinstance(signed, Shredded):
        raise Erased(signed.at) if signed.at is not None else UnknownKey
    return signed


def _file(body: str, kind: str, name: str) -> Response:
    return Response(
        body,
        content_type=kind,
        headers={"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"},
    )


def _words(record: Mapping[str, Any]) -> dict[str, object]:
    """Return what the page shows: names as today's pack has them in this language, else as the receipt has them."""
    processing, ours, policy = record["processing"], record["regard"], doors().policy
    purpose = policy.purposes.get(PurposeId(processing["purpose"]["id"]))
    names = {party["party_id"]: party["party_brand"] for party in record["parties"]}
    return {
        "purpose": told(purpose.names) if purpose is not None else processing["purpose"]["name"],
        "why": told(purpose.why) if purpose is not None else processing["purpose"]["why"],
        "state": facts.state_words(State(ours["state"])),
        "party": _brand(ours["party"], names),
        "readers": [_brand(each, names) for each in processing["recipient_third_parties"]],
        "data": _data(processing["pii_information"], ours["given_categories"]),
        "basis": processing["lawful_basis"],
        "given_at": _moment(processing["period"]["from"]),
        "until": _moment(processing["period"]["until"]),
        "head": ours["chain_head"],
        "keys": doors().origin + "/oauth/jwks",
        "agreement": url_for("agreements.shown", consent=record["header"]["record_id"]),
    }


def _brand(party: str, names: Mapping[str, str]) -> str:
    listed = doors().policy.parties.get(PartyId(party))
    return listed.brand_name if listed is not None else names.get(party, party)


def _data(items: Iterable[Mapping[str, Any]], given: Iterable[str]) -> list[str]:
    """Return the names of the categories that were agreed to."""
    known, wanted = doors().policy.categories, frozenset(given)
    return [
        told(known[CategoryId(item["pii_type"])].names) if item["pii_type"] in known else item["name"]
        for item in items
        if item["pii_type"] in wanted
    ]


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
