"""What can go wrong at the door itself: one family, each leaf with a stable `code` (house.md, "one error family").

Leaves out what goes wrong behind the door: each package has its own family, and `problems` maps all of them.
"""

from __future__ import annotations

from typing import ClassVar


class DoorError(Exception):
    """The family; `code` is what an API client may rely on. Messages carry no personal data."""

    code: ClassVar[str] = "door_error"


class Unguarded(DoorError):
    """A URL rule declares no guard: the application refuses to start."""

    code = "unguarded"


class NotSignedIn(DoorError):
    """There is no session, or it has ended."""

    code = "not_signed_in"


class StepUpNeeded(DoorError):
    """The session is real but too weak, or its strong proof too old, for this (consent rule 33, dsar rules 1.3)."""

    code = "step_up_needed"

    def __init__(self, level: int) -> None:
        super().__init__(f"identity level {level} is needed")
        self.level = level


class RoleMissing(DoorError):
    """The member of staff has none of the roles this page is for."""

    code = "role_missing"


class ClientUnknown(DoorError):
    """No token, or one that is not (or no longer) valid, or no good proof with it (RFC 6750 section 3.1).

    `challenge` is the `WWW-Authenticate` value; `nonce` is for the next proof (RFC 9449 section 9), None: none is due.
    """

    code = "token_invalid"

    def __init__(self, challenge: str = 'DPoP algs="ES256"', nonce: str | None = None) -> None:
        super().__init__("no valid token was presented")
        self.challenge = challenge
        self.nonce = nonce


class ScopeMissing(DoorError):
    """The token is valid but lacks the scope (RFC 6750 section 3.1)."""

    code = "scope_missing"

    def __init__(self, scope: str) -> None:
        super().__init__(f"the scope {scope} is needed")
        self.scope = scope


class NotHere(DoorError):
    """There is nothing at this address for this asker; also said where "forbidden" would reveal existence."""

    code = "not_found"


class FormForged(DoorError):
    """The form was not sent from our own page, or its session changed meanwhile."""

    code = "form_expired"


class FormInvalid(DoorError):
    """A field is missing, unknown or has a value that is not offered; `fields` names them."""

    code = "form_invalid"

    def __init__(self, *fields: str) -> None:
        super().__init__("these fields are not valid: " + ", ".join(fields))
        self.fields = fields


class TooManyTries(DoorError):
    """A counter is full (consent rule 31, dsar rule 30)."""

    code = "too_many_tries"

    def __init__(self, retry_after: int) -> None:
        super().__init__("too many tries")
        self.retry_after = retry_after


class LinkSpent(DoorError):
    """The sign-in link was used, replaced by a newer one, or is too old (consent rule 30)."""

    code = "link_spent"


class CodeWrong(DoorError):
    """The code does not fit; says nothing about whether the address is known (consent rule 31)."""

    code = "code_wrong"


class PasskeyRefused(DoorError):
    """The passkey ceremony did not verify."""

    code = "passkey_refused"


class PasskeyTooNew(DoorError):
    """The passkey is in its cooling period (consent.md section 6)."""

    code = "passkey_cooling"


class ChangedMeanwhile(DoorError):
    """What the form was made of has changed since it was shown; nothing was done."""

    code = "changed_meanwhile"


class QuestionGone(DoorError):
    """What a question is about has left the policy pack since it was put: it can be neither shown nor answered.

    `journey` is said where a partner waits for the person to come back from it.
    """

    code = "question_gone"

    def __init__(self, journey: str | None = None) -> None:
        super().__init__("the policy pack no longer has what this question is about")
        self.journey = journey


class Unavailable(DoorError):
    """Something behind the door cannot answer now; nothing was changed."""

    code = "unavailable"

    def __init__(self, retry_after: int = 30) -> None:
        super().__init__("temporarily unavailable")
        self.retry_after = retry_after


class BodyInvalid(DoorError):
    """A field of a JSON body or a query is missing, unknown or does not fit; `fields` says where, never what."""

    code = "body_invalid"

    def __init__(self, *fields: str) -> None:
        super().__init__("these fields are not valid" if fields else "the body is not of the expected shape")
        self.fields = fields


class IdempotencyKeyInvalid(DoorError):
    """An Idempotency-Key has 1 to 255 visible ASCII characters."""

    code = "idempotency_key_invalid"


class IdempotencyKeyReused(DoorError):
    """This Idempotency-Key was used for another request."""

    code = "idempotency_key_reused"


class IdempotencyInProgress(DoorError):
    """The same request is under way; ask again for its answer."""

    code = "idempotency_in_progress"
    retry_after = 1


class IdempotencyNotOffered(DoorError):
    """Keys and plaintexts are never kept for a second asking; send the request without an Idempotency-Key."""

    code = "idempotency_not_offered"


class PresentedTokenRefused(DoorError):
    """The token that was presented to the caller does not stand: unknown, for another audience, over, or revoked."""

    code = "presented_token_refused"


class AccessRefused(DoorError):
    """The decision is no; `reason` is its code (consent.md section 4)."""

    code = "access_refused"

    def __init__(self, reason: str) -> None:
        super().__init__("the decision is no")
        self.reason = str(reason)


class HandleUnknown(DoorError):
    """The caller's party calls nobody by this handle; a forgotten person's handle is unknown too."""

    code = "handle_unknown"


class CopyExpired(DoorError):
    """The time of a copy is over (dsar rule 58)."""

    code = "copy_expired"


class CopyRevoked(DoorError):
    """The copy was destroyed: by an erasure, by a newer one, or because the person asked (dsar rules 53, 58)."""

    code = "copy_revoked"


class TaskAnswered(DoorError):
    """The task has been answered; nothing more is taken for it."""

    code = "task_answered"


class UploadNotExpected(DoorError):
    """This task asks for no records."""

    code = "upload_not_expected"


class PartOutOfOrder(DoorError):
    """Parts are numbered from 1, each sent after the one before it, and there is a most."""

    code = "part_out_of_order"


class UploadDiffers(DoorError):
    """The parts that arrived are not the upload the answer names: another digest, or other counts."""

    code = "upload_differs"
