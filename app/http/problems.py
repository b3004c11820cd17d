"""The one error mapping: every exception becomes one answer, here and nowhere else.

API and OAuth paths get RFC 9457 problem+json with a stable `code`; people get a page in their language that says what
happened and what to do next. What is not in the table is a 500 that reveals nothing but a reference, under which the
log holds the kind of fault and where it arose, never its message (messages may quote data).

Leaves out OAuth's own `{"error": ...}` answers (RFC 6749 section 5.2): the `oauth` room writes those.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Mapping
from http import HTTPStatus

import structlog
from flask import Flask, Response, jsonify, redirect, render_template, request, url_for
from flask_babel import gettext
from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.wrappers import Response as AnyResponse

from app.http.doors import doors
from app.http.errors import (
    AccessRefused,
    BodyInvalid,
    ChangedMeanwhile,
    ClientUnknown,
    CodeWrong,
    CopyExpired,
    CopyRevoked,
    DoorError,
    FormForged,
    FormInvalid,
    HandleUnknown,
    IdempotencyInProgress,
    IdempotencyKeyInvalid,
    IdempotencyKeyReused,
    IdempotencyNotOffered,
    LinkSpent,
    NotHere,
    NotSignedIn,
    PartOutOfOrder,
    PasskeyRefused,
    PasskeyTooNew,
    PresentedTokenRefused,
    QuestionGone,
    RoleMissing,
    ScopeMissing,
    StepUpNeeded,
    TaskAnswered,
    TooManyTries,
    Unavailable,
    UploadDiffers,
    UploadNotExpected,
)
from app.http.locale import current_locale
from app.http.sessions import look_no_further
from app.ledger.errors import LedgerError, PositionUnknown, WitnessRefused
from app.sdk.sealed import SealError
from app.tokens.errors import TokenError
from app.vault.errors import (
    Erased,
    KeyStoreUnavailable,
    LeaseTooLong,
    NotLeasable,
    ProviderUnavailable,
    TooManyLookUps,
    UnknownKey,
    UnknownSubject,
    VaultError,
)
from consent.errors import (
    ActorRefusedError,
    AskedTooSoonError,
    ConsentError,
    LiftUntoldError,
    MoveRefusedError,
    NoSuchConsentError,
    NoSuchLimitError,
    StaleVersionError,
    UnfitError,
)
from dsar.errors import (
    AccessFirst,
    CaseChanged,
    CaseUnknown,
    CopyGone,
    DsarError,
    ErasurePartial,
    ExtensionTooLate,
    ExtensionUsed,
    GroundNotAllowed,
    HumanNeeded,
    KindNotServed,
    LateRefusal,
    MalformedIntake,
    MoveRefused,
    NotAnswered,
    NotIdentified,
    OutcomeNotAllowed,
    PackageIncomplete,
    PauseTooLate,
    ReceivedInFuture,
    RecipientsPending,
    SecondPersonNeeded,
    TooEarly,
)

STATUS: dict[type[Exception], int] = {
    DoorError: 500,
    NotSignedIn: 401,
    ClientUnknown: 401,
    StepUpNeeded: 403,
    RoleMissing: 403,
    ScopeMissing: 403,
    FormForged: 403,
    PasskeyRefused: 403,
    PasskeyTooNew: 403,
    NotHere: 404,
    LinkSpent: 410,
    FormInvalid: 422,
    CodeWrong: 422,
    TooManyTries: 429,
    Unavailable: 503,
    BodyInvalid: 422,
    ChangedMeanwhile: 409,
    IdempotencyKeyInvalid: 400,
    IdempotencyNotOffered: 400,
    IdempotencyKeyReused: 422,
    IdempotencyInProgress: 409,
    AccessRefused: 403,
    PresentedTokenRefused: 403,
    HandleUnknown: 404,
    TaskAnswered: 409,
    UploadNotExpected: 409,
    PartOutOfOrder: 409,
    UploadDiffers: 409,
    VaultError: 500,
    Erased: 410,
    UnknownKey: 404,
    UnknownSubject: 404,
    LeaseTooLong: 422,
    NotLeasable: 403,
    ProviderUnavailable: 503,
    TooManyLookUps: 503,
    KeyStoreUnavailable: 503,
    SealError: 422,
    LedgerError: 500,
    PositionUnknown: 404,
    WitnessRefused: 422,
    TokenError: 400,
    ConsentError: 500,
    NoSuchConsentError: 404,
    NoSuchLimitError: 404,
    LiftUntoldError: 409,
    ActorRefusedError: 403,
    MoveRefusedError: 409,
    StaleVersionError: 409,
    AskedTooSoonError: 409,
    UnfitError: 422,
    DsarError: 422,
    CaseUnknown: 404,
    CopyGone: 410,
    CaseChanged: 409,
    MalformedIntake: 422,
    ReceivedInFuture: 422,
    KindNotServed: 422,
    MoveRefused: 409,
    ExtensionTooLate: 409,
    ExtensionUsed: 409,
    PauseTooLate: 409,
    NotIdentified: 403,
    GroundNotAllowed: 422,
    OutcomeNotAllowed: 422,
    SecondPersonNeeded: 403,
    LateRefusal: 409,
    HumanNeeded: 403,
    AccessFirst: 409,
    PackageIncomplete: 409,
    ErasurePartial: 409,
    NotAnswered: 409,
    RecipientsPending: 409,
    TooEarly: 409,
    QuestionGone: 410,
    CopyExpired: 410,
    CopyRevoked: 410,
}
"""Exception family or leaf -> status; the nearest class wins. A family without a line of its own here is a 500."""

CODES: Mapping[int, str] = {
    400: "bad_request",
    404: "not_found",
    405: "method_not_allowed",
    406: "not_acceptable",
    408: "request_timeout",
    409: "conflict",
    411: "length_required",
    412: "precondition_failed",
    413: "body_too_large",
    414: "address_too_long",
    415: "media_type_unsupported",
    416: "range_not_satisfiable",
    422: "body_invalid",
    428: "precondition_required",
    429: "too_many_tries",
    500: "internal_error",
    501: "not_implemented",
    503: "unavailable",
}
"""The codes of what the framework itself refuses."""

PASSING = (Unavailable, ProviderUnavailable, KeyStoreUnavailable, TooManyLookUps)
"""What passes by itself: the caller tries again, and nothing is broken here."""
RETRY_AFTER = 30
MACHINE_PATHS = ("/api/", "/oauth/", "/access/", "/.well-known/", "/events/", "/ledger/", "/health/", "/metrics")
_log = structlog.get_logger()


def install(app: Flask, away: Iterable[type[Exception]] = ()) -> None:
    """Answer every exception of `app` from the table; `away` are the store's own, of a database that is busy or away.

    Those are answered as Unavailable: the caller comes back (operations.md section 6).
    """
    app.register_error_handler(Exception, answer)
    for kind in away:
        app.register_error_handler(kind, _answer_away)


def _answer_away(fault: Exception) -> AnyResponse:
    _log.warning("request.database_away", fault=type(fault).__name__, where=_where(fault))
    look_no_further()
    return answer(Unavailable(RETRY_AFTER))


def answer(error: Exception) -> AnyResponse:
    """Return the one answer to `error`."""
    if isinstance(error, HTTPException) and error.code is not None and error.code < 400:
        return error.get_response()  # a redirect the router raised
    status = status_of(error)
    reference = _unknown(error) if status >= 500 and not isinstance(error, PASSING) else None
    response = _for_machines(error, status, reference) if for_machines() else _for_people(error, status, reference)
    return _with_headers(response, error)


def for_machines() -> bool:
    """Return whether this request's answers are problem+json."""
    return request.path.startswith(MACHINE_PATHS)


def status_of(error: Exception) -> int:
    """Return the status of `error`: its nearest class in the table, 500 for what is not in it."""
    if isinstance(error, HTTPException):
        return error.code or 500
    own = getattr(error, "status", None)  # an OAuth error's RFC names its status
    if isinstance(error, TokenError) and isinstance(own, int):
        return own
    return next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 500)


def code_of(error: Exception, status: int) -> str:
    """Return the stable code; the unknown has only one."""
    if isinstance(error, HTTPException):
        return CODES.get(status, "bad_request")
    known = any(kind in STATUS for kind in type(error).__mro__)
    return str(getattr(error, "code", CODES[500])) if known else CODES[500]


def _unknown(error: Exception) -> str:
    """Log where it arose, without its message, and return the reference."""
    reference = doors().ids.new("err")
    _log.error("request.failed", reference=reference, fault=type(error).__name__, where=_where(error))
    return reference


def _where(error: Exception) -> list[str]:
    return [f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)[-6:]]


def _for_machines(error: Exception, status: int, reference: str | None) -> Response:
    code = code_of(error, status)
    body: dict[str, object] = {
        "type": f"urn:regard:problem:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": code,
    }
    if reference is None and not isinstance(error, HTTPException):
        body["detail"] = str(error) or (type(error).__doc__ or "").split("\n")[0]
    if reference is not None:
        body["reference"] = reference
    if isinstance(error, Erased):
        body["erased_at"] = error.at.isoformat()
    for extra in ("faults", "fields", "scope", "reason"):
        if reference is None and hasattr(error, extra):  # the unknown may have a `reason` too, which quotes data
            value = getattr(error, extra)
            body[extra] = list(value) if isinstance(value, tuple) else value
    response = jsonify(body)
    response.status_code = status
    response.mimetype = "application/problem+json"
    return response


def _for_people(error: Exception, status: int, reference: str | None) -> AnyResponse:
    if request.method in {"GET", "HEAD"}:
        if isinstance(error, NotSignedIn):
            return redirect(url_for(_sign_in_page(), next=_here()), 303)
        if isinstance(error, StepUpNeeded):
            return redirect(url_for("signin.step_up", next=_here()), 303)
    code = code_of(error, status)
    title, advice = sentences(code)
    said = {"title": title, "advice": advice, "status": status, "code": code, "reference": reference}
    page = render_template("pages/error.html", **said, awaited=getattr(error, "journey", None))
    return Response(page, status, mimetype="text/html")


def _sign_in_page() -> str:
    return "signin.passkey" if request.path.startswith("/dpo") else "signin.ask"


def _here() -> str:
    return request.full_path.rstrip("?")


def sentences(code: str) -> tuple[str, str]:
    """Return what happened and what to do, in the reader's language."""
    table = {
        "not_found": (
            gettext("This page does not exist"),
            gettext("The address may be mistyped or old. You can start again from the home page."),
        ),
        "bad_request": (
            gettext("We could not read this address or this form"),
            gettext("It holds something that we do not understand. Nothing was changed. Go back and try again."),
        ),
        "consent_not_found": (
            gettext("This agreement was not found"),
            gettext("It may belong to another account. Your own agreements are in your space."),
        ),
        "not_signed_in": (
            gettext("You are signed out"),
            gettext("For your safety, a session ends after a while. Nothing was changed. Please sign in again."),
        ),
        "step_up_needed": (
            gettext("Your passkey is needed here"),
            gettext("Nothing was changed. Confirm with your passkey, then do it again."),
        ),
        "role_missing": (
            gettext("This page is for other colleagues"),
            gettext("Your role does not open it. Ask an administrator if you think it should."),
        ),
        "form_expired": (
            gettext("This form is no longer valid"),
            gettext("Nothing was changed. Go back, reload the page, and send the form again."),
        ),
        "link_spent": (
            gettext("This link no longer works"),
            gettext("A link works once, for 15 minutes, and a newer one replaces it. Ask for a new link."),
        ),
        "code_wrong": (
            gettext("This code does not fit"),
            gettext("Check the code in the latest message, or ask for a new one."),
        ),
        "too_many_tries": (
            gettext("Too many tries"),
            gettext("To protect your account we wait a little. Please try again in 15 minutes."),
        ),
        "passkey_refused": (
            gettext("The passkey was not accepted"),
            gettext("Nothing was changed. Use the device where you created it, or ask us for help."),
        ),
        "passkey_cooling": (
            gettext("This passkey is too new"),
            gettext("A passkey added after a recovery can be used after a few days. We told you by e-mail."),
        ),
        "form_invalid": (
            gettext("Something in the form is missing"),
            gettext("Nothing was changed. Go back and answer every question."),
        ),
        "consent_invalid": (
            gettext("These choices do not go together"),
            gettext("Nothing was changed. Go back and choose from what the page offers."),
        ),
        "invalid_request_uri": (
            gettext("This request is over"),
            gettext("It was answered already, or waited too long. Go back to the site that sent you and start again."),
        ),
        "consent_state_conflict": (
            gettext("This has changed meanwhile"),
            gettext("Nothing was done twice. Your space shows how things stand now."),
        ),
        "changed_meanwhile": (
            gettext("This has changed meanwhile"),
            gettext("Nothing was done. Open the page again to see how things stand now."),
        ),
        "second_person_needed": (
            gettext("A second person is needed"),
            gettext("You decided this yourself, or it is not yours to decide. Ask a colleague; nothing was changed."),
        ),
        "not_answered": (
            gettext("Something is not decided yet"),
            gettext("Nothing was changed. Every part of the request needs its decision first."),
        ),
        "case_unknown": (
            gettext("This request was not found"),
            gettext("It may belong to another account. Your own requests are in your space."),
        ),
        "case_changed": (
            gettext("This has changed meanwhile"),
            gettext("Nothing was done twice. Your space shows how things stand now."),
        ),
        "move_refused": (
            gettext("This is no longer possible"),
            gettext("The request has moved on meanwhile. Nothing was changed."),
        ),
        "not_identified": (
            gettext("We could not be sure that it is you"),
            gettext("Nothing was changed. Use a passkey that you added before today, or write to us."),
        ),
        "copy_expired": (
            gettext("This copy is no longer here"),
            gettext("A copy stays for a limited time, to protect you. You can ask for a new one at any time."),
        ),
        "copy_gone": (
            gettext("This copy is no longer here"),
            gettext("A copy stays for a limited time, to protect you. You can ask for a new one at any time."),
        ),
        "copy_revoked": (
            gettext("This copy was destroyed"),
            gettext("Nobody can open it any more. If your data is still here, you can ask for a new copy."),
        ),
        "erased": (
            gettext("This data was erased"),
            gettext("Its keys are destroyed. Nobody can open it any more, not even us."),
        ),
        "consent_asked_too_soon": (
            gettext("You already said no to this"),
            gettext("We do not ask again so soon. You can change your mind in your space."),
        ),
        "body_too_large": (
            gettext("That is too much at once"),
            gettext("What was sent is larger than this page accepts. Nothing was changed."),
        ),
        "method_not_allowed": (
            gettext("This cannot be done here"),
            gettext("Go back and use the buttons of the page."),
        ),
        "question_gone": (
            gettext("This question is no longer asked"),
            gettext(
                "What it is about has left our list. Nothing was changed. You can see it, and say no, in your space."
            ),
        ),
        "unavailable": (
            gettext("Not available for the moment"),
            gettext("Nothing was changed. Please try again in a minute."),
        ),
    }
    table["key_provider_unavailable"] = table["key_store_unavailable"] = table["unavailable"]
    for status, known in CODES.items():
        if status < 500:
            table.setdefault(known, table["bad_request"])  # what the framework refuses is not a fault of ours
    fallback = (
        gettext("Something went wrong on our side"),
        gettext("Nothing was changed. Please try again; if it goes on, tell us the reference below."),
    )
    return table.get(code, fallback)


def _with_headers(response: AnyResponse, error: Exception) -> AnyResponse:
    if isinstance(error, MethodNotAllowed) and error.valid_methods:
        response.headers["Allow"] = ", ".join(sorted(error.valid_methods))
    if isinstance(error, (TooManyTries, IdempotencyInProgress, *PASSING)):
        response.headers["Retry-After"] = str(getattr(error, "retry_after", RETRY_AFTER))
    if isinstance(error, ClientUnknown):
        response.headers["WWW-Authenticate"] = error.challenge
        response.headers.extend({"DPoP-Nonce": error.nonce} if error.nonce else {})
    if isinstance(error, ScopeMissing):
        response.headers["WWW-Authenticate"] = f'DPoP error="insufficient_scope", scope="{error.scope}"'
    response.headers["Content-Language"] = current_locale().value
    return response
