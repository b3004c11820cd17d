"""What both reference components stand on besides the SDK: refusals as problem+json (RFC 9457), and a server.

Werkzeug's threaded server does for a demonstration on the loopback; a component in production brings its own.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, ClassVar

from flask import Flask, Response, jsonify
from regard_sdk.errors import Malformed, Refused, SdkError, Unreachable
from regard_sdk.gate import Reason
from werkzeug.exceptions import HTTPException
from werkzeug.serving import make_server

PASSED_ON = frozenset({400, 403, 404, 410})
"""Refusals of the authority that are the caller's to know; the others mean that we have to try again."""
CODES: Mapping[int, str] = {
    404: "not_found",
    405: "method_not_allowed",
    413: "body_too_large",
    415: "media_type_unsupported",
}


class ComponentError(Exception):
    """The family: what a component answers instead of doing what was asked."""

    code: ClassVar[str] = "component_error"
    status = 500


class NotAsAgreed(ComponentError):
    """The request has another shape than this component takes; the message says which, never what was sent."""

    code = "request_malformed"
    status = 422


def problem(
    status: int, code: str, reason: str | None = None, headers: Mapping[str, str] | None = None, **more: Any
) -> Response:
    """Return a refusal: a stable code, and the reason of a decision where there is one."""
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "code": code, **more}
    response = jsonify(body if reason is None else {**body, "reason": reason})
    response.status_code = status
    response.mimetype = "application/problem+json"
    response.headers.update(headers or {})
    return response


def answer_errors(app: Flask) -> None:
    """Turn what goes wrong into problems: fail closed, and say nothing of anybody."""

    @app.errorhandler(ComponentError)
    def component(error: ComponentError) -> Response:
        return problem(error.status, error.code)

    @app.errorhandler(SdkError)
    def sdk(error: SdkError) -> Response:
        return problem(*refusal_of(error))

    @app.errorhandler(HTTPException)
    def framework(error: HTTPException) -> Response:
        status = error.code or 500
        return problem(status, CODES.get(status, "bad_request" if status < 500 else "internal_error"))


def refusal_of(error: SdkError) -> tuple[int, str, str | None]:
    """Return (status, code, reason) for what the SDK raised; no answer of the authority is a no (tokens.md, 6)."""
    if isinstance(error, Refused) and error.status in PASSED_ON:
        return error.status, error.error, error.reason
    if isinstance(error, Unreachable):
        return 503, Reason.UNREACHABLE.value, None
    if isinstance(error, (Refused, Malformed)):
        return 503, Reason.NOT_ANSWERED.value, None  # ours to mend, nothing the caller did
    return 503, error.code, None


def serve(app: Flask, host: str, port: int, closing: Callable[[], None]) -> None:
    """Serve until SIGINT or SIGTERM, then let `closing` put things away."""
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # its lines would hold addresses with handles in them
    server = make_server(host, port, app, threaded=True)
    for number in (signal.SIGINT, signal.SIGTERM):
        # shutdown waits for the loop that this handler interrupts: from a thread of its own
        signal.signal(number, lambda *_: threading.Thread(target=server.shutdown).start())
    try:
        server.serve_forever()
    finally:
        server.server_close()
        closing()
