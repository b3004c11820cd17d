"""Who may knock where: every URL rule declares its guard, even "anyone"; the application refuses to boot otherwise.

A guard is a value pinned on the view by a decorator; nothing is enforced in the view. `enforce` runs before each
request, looks the guard up and lets the request through or raises. Unsafe methods that live on a cookie (pages) also
need the form token (`forms`); those that live on a token or on a protocol of their own (API, OAuth) do not.

Leaves out what a consent, a grant or an assignment allows: that is `consent.decision`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from enum import IntEnum, StrEnum
from typing import Any, TypeVar

from flask import Flask, current_app, g, request
from werkzeug.routing import Rule

from app.http.characters import check_address, check_form_text
from app.http.doors import ClientActor, SessionFacts, StaffFacts, doors
from app.http.errors import ClientUnknown, NotSignedIn, RoleMissing, ScopeMissing, StepUpNeeded, Unguarded
from app.http.forms import check_form
from app.http.sessions import current
from app.sdk.scopes import Scope
from consent.vocabulary import ControllerId, SubjectRef

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_MARK = "__regard_guard__"
V = TypeVar("V", bound=Callable[..., Any])


class Level(IntEnum):
    """Identity levels a session can reach (dsar rules 1.3)."""

    LINK = 1
    """A link sent to the address on file."""
    TWO_CHANNELS = 2
    PASSKEY = 3


class StaffRole(StrEnum):
    """Who works at the console (dsar.md)."""

    AGENT = "agent"
    DPO = "dpo"
    SECOND_READER = "second_reader"
    AML = "aml"
    AUDITOR = "auditor"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Anyone:
    """No session asked for."""


@dataclass(frozen=True, slots=True)
class SubjectOnly:
    """A signed-in subject of at least `level`; with `fresh`, a passkey asserted no longer ago than that."""

    level: Level
    fresh: timedelta | None


@dataclass(frozen=True, slots=True)
class StaffOnly:
    """A member of staff, signed in with a passkey, who has one of `roles`."""

    roles: frozenset[StaffRole]
    fresh: timedelta | None


@dataclass(frozen=True, slots=True)
class ClientOnly:
    """An OAuth client whose token carries `scope`."""

    scope: Scope


@dataclass(frozen=True, slots=True)
class ByProtocol:
    """The endpoint authenticates its caller itself, as the named text says (e.g. RFC 7523 at `/oauth/token`)."""

    text: str


Guard = Anyone | SubjectOnly | StaffOnly | ClientOnly | ByProtocol


def anyone(view: V) -> V:
    """Declare that no session is needed; forms still need their token."""
    return _pin(view, Anyone())


def subject(*, level: Level = Level.LINK, fresh: timedelta | None = None) -> Callable[[V], V]:
    """Declare that a signed-in subject of this level is needed."""
    return lambda view: _pin(view, SubjectOnly(level, fresh))


def staff(*roles: StaffRole, fresh: timedelta | None = None) -> Callable[[V], V]:
    """Declare that a member of staff with one of the roles is needed."""
    return lambda view: _pin(view, StaffOnly(frozenset(roles), fresh))


def client(scope: Scope) -> Callable[[V], V]:
    """Declare that a token with this scope is needed."""
    return lambda view: _pin(view, ClientOnly(scope))


def by_protocol(text: str) -> Callable[[V], V]:
    """Declare that the endpoint authenticates its caller itself, under the named text."""
    return lambda view: _pin(view, ByProtocol(text))


def _pin(view: V, guard: Guard) -> V:
    setattr(view, _MARK, guard)
    return view


def declare(app: Flask, endpoint: str, guard: Guard) -> None:
    """Declare the guard of a view that is not ours to decorate (a library's)."""
    app.extensions.setdefault("regard.guards", {})[endpoint] = guard


def guard_of(app: Flask, endpoint: str, method: str) -> Guard | None:
    """Return the guard of one method of one endpoint: the method's own in a MethodView, else the view's."""
    declared = app.extensions.get("regard.guards", {}).get(endpoint)
    if declared is not None:
        return _known(declared)
    view = app.view_functions.get(endpoint)
    view_class = getattr(view, "view_class", None)
    own = getattr(view_class, "get" if method == "HEAD" else method.lower(), None)
    for candidate in (own, view_class, view):
        guard = _known(getattr(candidate, _MARK, None))
        if guard is not None:
            return guard
    return None


def _known(guard: object) -> Guard | None:
    return guard if isinstance(guard, Anyone | SubjectOnly | StaffOnly | ClientOnly | ByProtocol) else None


def guards(app: Flask) -> Iterator[tuple[Rule, str, Guard | None]]:
    """Walk every rule and method of the URL map (OPTIONS aside: it only lists methods)."""
    for rule in app.url_map.iter_rules():
        for method in sorted((rule.methods or set()) - {"OPTIONS"}):
            yield rule, method, guard_of(app, rule.endpoint, method)


def refuse_unguarded(app: Flask) -> None:
    """Raise Unguarded, naming every rule without a guard."""
    bare = sorted({f"{method} {rule.rule}" for rule, method, guard in guards(app) if guard is None})
    if bare:
        raise Unguarded("no guard is declared for: " + ", ".join(bare))


def enforce() -> None:
    """Let the request through or raise what `problems` maps; runs before every request."""
    if request.endpoint is None or request.method == "OPTIONS":
        return  # not routed: 404 and 405 follow; OPTIONS only lists methods
    guard = guard_of(current_app, request.endpoint, request.method)
    if guard is None:
        raise Unguarded("no guard is declared for this rule")
    check_address()
    _admit(guard)
    if request.method not in SAFE and isinstance(guard, Anyone | SubjectOnly | StaffOnly):
        check_form()
        check_form_text()


def _admit(guard: Guard) -> None:
    match guard:
        case SubjectOnly():
            _admit_subject(guard)
        case StaffOnly():
            _admit_staff(guard)
        case ClientOnly():
            _admit_client(guard)
        case Anyone() | ByProtocol():
            return


def _admit_subject(guard: SubjectOnly) -> None:
    session = current()
    if session is None or session.kind != "subject":
        raise NotSignedIn
    if session.level < guard.level or _stale(session, guard.fresh):
        raise StepUpNeeded(max(guard.level, Level.PASSKEY if guard.fresh else guard.level))


def _admit_staff(guard: StaffOnly) -> None:
    session = current()
    if session is None or session.kind != "staff":
        raise NotSignedIn
    if session.level < Level.PASSKEY or _stale(session, guard.fresh):
        raise StepUpNeeded(Level.PASSKEY)
    with doors().reading() as unit:
        member = unit.staff.find(session.person)
    if member is None or (guard.roles and not guard.roles & member.roles):
        raise RoleMissing
    g.regard_staff = member


def _admit_client(guard: ClientOnly) -> None:
    # by their own names: WSGI knows headers without regard to case, a plain dict of them would hold "Dpop"
    headers = {name: request.headers[name] for name in ("Authorization", "DPoP") if name in request.headers}
    actor = doors().tokens.present(headers, request.method, request.base_url)
    if actor is None:
        raise ClientUnknown
    if guard.scope not in actor.scopes:
        raise ScopeMissing(guard.scope)
    g.regard_client = actor


def _stale(session: SessionFacts, fresh: timedelta | None) -> bool:
    if fresh is None:
        return False
    return session.proven_at is None or doors().clock.now() - session.proven_at > fresh


def current_subject() -> SubjectRef:
    """Return the signed-in subject. Raises NotSignedIn where the guard did not ask for one."""
    session = current()
    if session is None or session.kind != "subject":
        raise NotSignedIn
    return SubjectRef(session.person)


def current_controller() -> ControllerId:
    """Return the controller the session belongs to, or the deployment's own without a session."""
    session = current()
    return session.controller if session is not None and session.kind == "subject" else doors().controller


def current_staff() -> StaffFacts:
    """Return the member of staff the guard let in."""
    member: StaffFacts | None = g.get("regard_staff")
    if member is None:
        raise NotSignedIn
    return member


def current_client() -> ClientActor:
    """Return the client the guard let in."""
    actor: ClientActor | None = g.get("regard_client")
    if actor is None:
        raise ClientUnknown
    return actor
