"""What can go wrong in the law of consent: one family, each leaf with a stable `code` that the door maps.

No message carries personal data; identifiers stay out too, so that an error may be logged as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import ClassVar


class ConsentError(Exception):
    """The family; `code` is what an API client may rely on."""

    code: ClassVar[str] = "consent_error"


class NoSuchConsentError(ConsentError):
    """No such consent for this controller and asker; says nothing about other controllers' consents."""

    code = "consent_not_found"


class MoveRefusedError(ConsentError):
    """The event does not follow from the state the consent is in, e.g. anything after a final state."""

    code = "consent_state_conflict"

    def __init__(self, state: str, kind: str) -> None:
        super().__init__(f"{kind} cannot follow the state {state}")
        self.state = state
        self.kind = kind


class ActorRefusedError(ConsentError):
    """The actor may not do this to a consent, e.g. resume what the subject paused."""

    code = "consent_actor_refused"

    def __init__(self, actor: str, kind: str) -> None:
        super().__init__(f"{kind} is not for the actor kind {actor}")
        self.actor = actor
        self.kind = kind


class StaleVersionError(ConsentError):
    """The consent changed since it was read; read it again."""

    code = "consent_version_conflict"


class NoSuchLimitError(ConsentError):
    """No such restriction or objection for this controller."""

    code = "limit_not_found"


class LiftUntoldError(ConsentError):
    """A restriction may not be lifted before its subject was told (GDPR art. 18(3), dsar rule 51)."""

    code = "restriction_lift_untold"


class UnreadableEventError(ConsentError):
    """A stored event has an unknown kind, schema version or shape."""

    code = "consent_event_unreadable"


class BrokenChainError(ConsentError):
    """A stored event was edited, removed, inserted or moved (consent rule 56)."""

    code = "consent_chain_broken"

    def __init__(self, version: int) -> None:
        super().__init__(f"the chain breaks at event {version}")
        self.version = version


class UnfitError(ConsentError):
    """A proposal or an answer that the policy does not allow; `faults` names all of them, as stable codes."""

    code = "consent_invalid"

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = tuple(faults)


class AskedTooSoonError(ConsentError):
    """The subject refused this question; it may be asked again from `until` (consent rule 8)."""

    code = "consent_asked_too_soon"

    def __init__(self, until: datetime) -> None:
        super().__init__(f"not before {until.isoformat(timespec='minutes')}")
        self.until = until
