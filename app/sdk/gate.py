"""The gate of a data holder: one call that says yes or no, with a reason (tokens.md section 6).

It checks the proof (RFC 9449), asks the authority what the token is worth right now, and compares that with what is
about to be read. It caches nothing and fails closed: no answer is a no. Leaves out keys and records: `sealer`,
`disclosures`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import wraps
from importlib import import_module
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

from .claims import AggregationConsent, Presented
from .client import Authority
from .dpop import Proof, verify
from .errors import BadProof, Malformed, Refused, Unreachable

V = TypeVar("V", bound=Callable[..., Any])


class Reason(StrEnum):
    """Every way to be turned away at the gate."""

    NO_TOKEN = "no_token"  # noqa: S105 - a reason, no secret
    BAD_PROOF = "bad_proof"
    REPLAYED = "replayed"
    UNREACHABLE = "authority_unreachable"
    NOT_ANSWERED = "authority_did_not_answer_us"
    INACTIVE = "token_inactive"
    OTHER_KEY = "token_of_another_key"
    NOT_FOR_US = "token_for_another_audience"
    NO_CONSENT = "no_consent"
    OTHER_PURPOSE = "other_purpose"
    OTHER_CATEGORY = "other_category"
    OTHER_ACTION = "other_action"
    OTHER_SUBJECT = "other_subject"
    NOT_ATTENDED = "subject_not_present"


STATUS: Mapping[Reason, int] = {
    Reason.NO_TOKEN: 401,
    Reason.BAD_PROOF: 401,
    Reason.REPLAYED: 401,
    Reason.INACTIVE: 401,
    Reason.OTHER_KEY: 401,
    Reason.NOT_FOR_US: 401,
    Reason.UNREACHABLE: 503,
    Reason.NOT_ANSWERED: 503,
}
"""The HTTP status a holder answers with; 403 where none is named."""


class Headers(Protocol):
    """Header values by name, without regard to case."""

    def get(self, key: str, default: str, /) -> str: ...


class Request(Protocol):
    """What the gate needs of a request; Flask's, Starlette's and httpx's fit."""

    @property
    def method(self) -> str: ...
    @property
    def url(self) -> Any: ...
    @property
    def headers(self) -> Headers: ...


@dataclass(frozen=True, slots=True)
class Permit:
    """Yes: who reads what of whom, on which consent, and what that binds the reader to."""

    token: str = field(repr=False)
    client_id: str
    party: str
    subject: str
    """This holder's own handle of the subject."""
    purpose: str
    categories: frozenset[str]
    accounts: frozenset[str]
    """Empty means all."""
    consent: str
    consent_version: int | None
    attended: bool
    obligations: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Deny:
    """No, and why."""

    reason: Reason

    @property
    def status(self) -> int:
        """The HTTP status to answer with."""
        return STATUS.get(self.reason, 403)


class Gate:
    """The gate of one holder: `authority.resource` is the audience its callers' tokens must name.

    `base` is the address callers know it by, e.g. `https://holder.example`; the proof is checked against it and the
    path of the request, never against a Host header. One gate a process: it remembers the proofs it saw.
    """

    def __init__(self, authority: Authority, base: str) -> None:
        if authority.resource is None:
            raise ValueError("a holder's authority names its resource")
        self._authority = authority
        self._resource = authority.resource
        self._base = base.rstrip("/")
        self._seen = _Seen()

    def check(
        self,
        request: Request,
        purpose: str,
        categories: Collection[str],
        action: str = "read",
        subject: str | None = None,
        *,
        attended: bool = False,
    ) -> Permit | Deny:
        """Say whether this request may do this now.

        `subject` is the handle the data is filed under (None: whoever the token is about); `attended` True means the
        subject has to be present.
        """
        secret = _secret(request)
        if secret is None:
            return Deny(Reason.NO_TOKEN)
        proof = self._proof(request, secret)
        if isinstance(proof, Deny):
            return proof
        presented = self._presented(secret, proof)
        if isinstance(presented, Deny):
            return presented
        return _compare(_Wanted(secret, purpose, frozenset(categories), action, subject, attended=attended), presented)

    def flask(
        self,
        purpose: str,
        categories: Collection[str],
        action: str = "read",
        *,
        subject: str | None = None,
        attended: bool = False,
    ) -> Callable[[V], V]:
        """Guard a Flask view: it runs with `permit=` on a yes; a no is answered here, with its reason.

        `subject` names the view's argument that holds the subject's handle.
        """

        def decorate(view: V) -> V:
            @wraps(view)
            def guarded(*args: Any, **kwargs: Any) -> Any:
                # by name, when a request comes: only components that run Flask have it
                flask = import_module("flask")
                whose = kwargs[subject] if subject is not None else None
                verdict = self.check(flask.request, purpose, categories, action, whose, attended=attended)
                if isinstance(verdict, Permit):
                    return view(*args, permit=verdict, **kwargs)
                answer = flask.jsonify(code=verdict.reason.value)
                answer.status_code = verdict.status
                answer.headers.update(refusal_headers(verdict))
                return answer

            return guarded  # type: ignore[return-value]

        return decorate

    def _proof(self, request: Request, secret: str) -> Proof | Deny:
        url = self._base + urlsplit(str(request.url)).path
        now = self._authority.clock()
        try:
            proof = verify(
                request.headers.get("DPoP", ""), method=request.method, url=url, now=now, access_token=secret
            )
        except BadProof:
            return Deny(Reason.BAD_PROOF)
        return proof if self._seen.first(proof, now) else Deny(Reason.REPLAYED)

    def _presented(self, secret: str, proof: Proof) -> Presented | Deny:
        try:
            presented = self._authority.introspect(secret)
        except Unreachable:
            return Deny(Reason.UNREACHABLE)
        except (Refused, Malformed):
            return Deny(Reason.NOT_ANSWERED)
        if presented is None or presented.expires <= self._authority.clock().timestamp():
            return Deny(Reason.INACTIVE)
        if presented.audience != self._resource:
            return Deny(Reason.NOT_FOR_US)
        return presented if presented.jkt == proof.jkt else Deny(Reason.OTHER_KEY)


def refusal_headers(deny: Deny) -> dict[str, str]:
    """Return the headers that go with a no (RFC 9449 section 7.1)."""
    if deny.status == 401:
        return {"WWW-Authenticate": 'DPoP algs="ES256"' + ("" if deny.reason is Reason.NO_TOKEN else _ERROR)}
    return {"Retry-After": "5"} if deny.status == 503 else {}


_ERROR = ', error="invalid_token"'


@dataclass(frozen=True, slots=True)
class _Wanted:
    secret: str = field(repr=False)
    purpose: str
    categories: frozenset[str]
    action: str
    subject: str | None
    attended: bool


def _secret(request: Request) -> str | None:
    scheme, _, secret = request.headers.get("Authorization", "").partition(" ")
    return secret if scheme.lower() == "dpop" and secret else None


def _compare(wanted: _Wanted, presented: Presented) -> Permit | Deny:
    """The consent behind the token has to cover all that is wanted."""
    detail = presented.detail
    if detail is None or detail.consent_id is None or presented.subject is None:
        return Deny(Reason.NO_CONSENT)
    reason = _outside(wanted, presented, detail)
    if reason is not None:
        return Deny(reason)
    return Permit(
        token=wanted.secret,
        client_id=presented.client_id,
        party=presented.party,
        subject=presented.subject,
        purpose=wanted.purpose,
        categories=wanted.categories,
        accounts=detail.accounts,
        consent=detail.consent_id,
        consent_version=presented.consent_version,
        attended=presented.attended,
        obligations=presented.obligations,
    )


def _outside(wanted: _Wanted, presented: Presented, detail: AggregationConsent) -> Reason | None:
    if wanted.action != "read":
        return Reason.OTHER_ACTION  # a token allows reading and nothing else (tokens.md section 3)
    if detail.purpose != wanted.purpose:
        return Reason.OTHER_PURPOSE
    if not wanted.categories or not wanted.categories <= detail.categories:
        return Reason.OTHER_CATEGORY
    if wanted.subject not in (None, presented.subject):
        return Reason.OTHER_SUBJECT
    return Reason.NOT_ATTENDED if wanted.attended and not presented.attended else None


class _Seen:
    """Proofs seen, each until it is too old to be accepted anyway."""

    def __init__(self) -> None:
        self._until: dict[tuple[str, str], datetime] = {}
        self._lock = threading.Lock()
        self._next_sweep: datetime | None = None

    def first(self, proof: Proof, now: datetime) -> bool:
        key = (proof.jkt, proof.jti)
        with self._lock:
            self._sweep(now)
            if key in self._until:
                return False
            self._until[key] = proof.until
            return True

    def _sweep(self, now: datetime) -> None:
        if self._next_sweep is not None and now < self._next_sweep:
            return
        self._until = {key: until for key, until in self._until.items() if until >= now}
        self._next_sweep = min(self._until.values(), default=None)
