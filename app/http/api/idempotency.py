"""`Idempotency-Key` (api.md; draft-ietf-httpapi-idempotency-key-header): a change asked for twice happens once.

The key is the client's own and opaque, its scope that client. The answer to a change is sealed and kept for a day; the
same request under the same key gets it again, marked `Idempotency-Replayed: true`. Another request under it is refused,
a duplicate while the first is under way too. Refusals are not kept: they changed nothing, and are decided anew.

Leaves out, on purpose, the doors to keys: a kept answer would be a key or a plaintext at rest, and giving it again
would be yes after the person said no. There the header is refused rather than quietly ignored.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from base64 import b64decode, b64encode
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum
from typing import Any, Final

from flask import Response, current_app, make_response, request
from flask_smorest import Blueprint

from app.http.api.schemas import refusals
from app.http.api.services import Answered, ApiServices, Asked, Claimed, Taken
from app.http.errors import IdempotencyInProgress, IdempotencyKeyInvalid, IdempotencyKeyReused, IdempotencyNotOffered
from app.http.forms import keyed
from app.http.guard import current_client

HEADER: Final = "Idempotency-Key"
REPLAYED: Final = "Idempotency-Replayed"
_KEY: Final = re.compile(r"[\x21-\x7e]{1,255}")
_KEPT_HEADERS: Final = ("Content-Type", "ETag", "Location", "Cache-Control", "Content-Language")
_MARK: Final = "__regard_repeats__"
_PARAMETER: Final = {
    "in": "header",
    "name": HEADER,
    "required": False,
    "description": "Names this change: sent again with the same key within a day, it gets the same answer.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
}
View = Callable[..., Any]


class Repeats(StrEnum):
    """What a POST does with the header; every one under `/api/v1` says it."""

    HONOURED = "honoured"
    REFUSED = "refused"


def once_per_key(room: Blueprint, services: ApiServices) -> Callable[[View], View]:
    """Have a POST honour the header. Stands right below the guard, so that what is kept is the whole answer."""

    def decorate(view: View) -> View:
        @functools.wraps(view)
        def once(*args: Any, **kwargs: Any) -> Any:
            act = functools.partial(view, *args, **kwargs)
            return _carried_out(services, act) if HEADER in request.headers else act()

        return _marked(refusals(room, 409)(room.doc(parameters=[_PARAMETER])(once)), Repeats.HONOURED)

    return decorate


def never_by_key(view: View) -> View:
    """Have a POST refuse the header: every such call is decided, and recorded, on its own."""

    @functools.wraps(view)
    def unkept(*args: Any, **kwargs: Any) -> Any:
        if HEADER in request.headers:
            raise IdempotencyNotOffered
        return view(*args, **kwargs)

    return _marked(unkept, Repeats.REFUSED)


def repeats_of(view: Any) -> Repeats | None:
    """Return what a view does with the header; None where it does not say."""
    found = getattr(view, _MARK, None)
    return found if isinstance(found, Repeats) else None


def _marked(view: View, how: Repeats) -> View:
    setattr(view, _MARK, how)  # survives the wrappers above, as the guard's mark does
    return view


def _carried_out(services: ApiServices, act: Callable[[], Any]) -> Response:
    """Raises IdempotencyKeyInvalid, IdempotencyKeyReused, IdempotencyInProgress, and what the door itself raises."""
    found = services.keyed.claim(_asked())
    match found:
        case Answered():
            return _again(found.answer)
        case Taken.OTHER_REQUEST:
            raise IdempotencyKeyReused
        case Taken.IN_PROGRESS:
            raise IdempotencyInProgress
        case Claimed():
            return _first(services, found, act)


def _first(services: ApiServices, claimed: Claimed, act: Callable[[], Any]) -> Response:
    kept = False
    try:
        with services.keyed.carrying(claimed) as keep:
            response = current_app.make_response(act())
            kept = keep(_packed(response))
    finally:
        if not kept:
            services.keyed.release(claimed)
    if not kept:
        raise IdempotencyInProgress  # took so long that somebody else carries it out by now
    return response


def _asked() -> Asked:
    key = request.headers[HEADER]
    if not _KEY.fullmatch(key):
        raise IdempotencyKeyInvalid
    actor = current_client()
    # The whole body is here before any unit of work opens: whoever sends slowly keeps nobody else waiting.
    body = hashlib.sha256(request.get_data(cache=True)).hexdigest()
    said = (request.method, request.full_path, request.mimetype, request.headers.get("If-Match", ""), body)
    return Asked(
        name=_digest("idempotency-key", actor.client, key),
        controller=actor.controller,
        request=_digest("idempotent-request", *said),
    )


def _digest(purpose: str, *parts: str) -> bytes:
    """Keyed, so that whoever has the table cannot confirm a guess of what was sent."""
    return bytes.fromhex(keyed(purpose, json.dumps(parts)))


def _packed(response: Response) -> bytes:
    headers = {name: response.headers[name] for name in _KEPT_HEADERS if name in response.headers}
    body = b64encode(response.get_data()).decode("ascii")
    return json.dumps({"status": response.status_code, "headers": headers, "body": body}).encode()


def _again(answer: bytes) -> Response:
    kept = json.loads(answer)
    response = make_response(b64decode(kept["body"]), kept["status"])
    with suppress(KeyError):
        del response.headers["Content-Type"]  # Flask's own guess; an answer without a body had none
    response.headers.update(kept["headers"])
    response.headers[REPLAYED] = "true"
    return response
