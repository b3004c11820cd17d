"""What a deployment takes from its policy pack before it opens: whose it is, and the numbers of a request's clock."""

from __future__ import annotations

from app.settings import Settings
from app.wiring.founding import UnfitDeployment
from consent.policy import Policy
from consent.vocabulary import ControllerId
from dsar.practice import Practice, read_practice


class UnknownControllerError(UnfitDeployment):
    """The settings name no controller of the pack, or the pack has several and the settings name none."""

    code = "unknown_controller"


class PracticeUnknownError(UnfitDeployment):
    """The pack does not state a number the clock of requests needs."""

    code = "practice_unknown"


def controller_of(settings: Settings, policy: Policy) -> ControllerId:
    """Return whose deployment this is. Raises `UnknownControllerError`."""
    if settings.controller:
        if settings.controller not in policy.controllers:
            raise UnknownControllerError(f"REGARD_CONTROLLER: the pack has no controller {settings.controller!r}")
        return ControllerId(settings.controller)
    own = [each.id for each in policy.controllers.values() if each.capacity == "controller"]
    if len(own) != 1:
        raise UnknownControllerError("REGARD_CONTROLLER: say which controller of the pack this deployment is")
    return own[0]


def practice_of(policy: Policy) -> Practice:
    """Return the numbers that the clock of requests needs. Raises `PracticeUnknownError`."""
    practice, faults = read_practice(policy.practice())
    if practice is None:
        raise PracticeUnknownError("; ".join(faults))
    return practice
