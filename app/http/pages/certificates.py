"""The certificate of an erasure, by capability: nobody signs in once their keys are destroyed (dsar rules 48, 53, 54).

The link went to the address on file before it was forgotten; its token (256 bits) is kept as a digest only. The page
names nobody. An unknown token and one whose erasure is not certified yet look alike.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from flask import Response, make_response, render_template

from app.http.chrome import speak_for
from app.http.doors import doors
from app.http.erasures import Certificate, served, view_of
from app.http.errors import NotHere
from app.http.guard import anyone
from app.http.locale import people
from app.http.signin import count_try
from app.http.visitor import visitor
from dsar.ports import StoredRetention

page = people("certificates")


@page.get("/certificates/<token>")
@anyone
def shown(token: str) -> Response:
    """Say what was destroyed, when, and what is kept until when and why."""
    certificate, kept = _found(token)
    view = view_of(certificate, kept)
    answer = make_response(render_template("pages/certificate.html", view=view, token=token, now=doors().clock.now()))
    answer.headers["Cache-Control"] = "no-store"
    return answer


@page.get("/certificates/<token>/certificate.<kind>")
@anyone
def file(token: str, kind: str) -> Response:
    """Hand over the signed data (`json`) or the page to print (`pdf`)."""
    certificate, kept = _found(token)
    return served(certificate, kept, kind)


def _found(token: str) -> tuple[Certificate, Sequence[StoredRetention]]:
    """Return what a token opens. Raises NotHere, TooManyTries."""
    of = doors()
    count_try("certificate-ip", visitor(), of.limits.per_ip)
    with of.reading() as unit:
        link = unit.certificate_links.find(hashlib.sha256(token.encode()).digest())
        kept = of.desk(unit).cases.retentions(link.case) if link is not None else ()
    signed = of.certificates(link.erasure) if link is not None else ()
    if link is None or not signed:
        raise NotHere
    speak_for(link.controller)
    return signed[0], kept
