"""Settings to collaborators: the one room that knows everybody, and the only importer of store and providers."""

from app.wiring.application import application
from app.wiring.fastlane import fast_lane, serving
from app.wiring.founding import UnfitDeployment
from app.wiring.house import House, build, migrate
from app.wiring.keystatus import key_status
from app.wiring.ledgerkeys import LedgerKeyTurning
from app.wiring.moves import MoveRefused, NowhereFrom, move_roots
from app.wiring.operator import (
    EnrolmentError,
    add_staff,
    dismiss_staff,
    hold_back,
    issue_code,
    present_staff,
    restored_vault,
)
from app.wiring.pack import UnknownControllerError
from app.wiring.reaching import look_whole, unreached
from app.wiring.releases import (
    Departed,
    ReleaseRefused,
    plan_release,
    planned_releases,
    release,
    seal_for_pool,
    shred_pool_keys,
)
from app.wiring.rotations import finish_ledger, rotate_index, rotate_ledger, rotate_roots, rotate_signing

__all__ = [
    "Departed",
    "EnrolmentError",
    "House",
    "LedgerKeyTurning",
    "MoveRefused",
    "NowhereFrom",
    "ReleaseRefused",
    "UnfitDeployment",
    "UnknownControllerError",
    "add_staff",
    "application",
    "build",
    "dismiss_staff",
    "fast_lane",
    "finish_ledger",
    "hold_back",
    "issue_code",
    "key_status",
    "look_whole",
    "migrate",
    "move_roots",
    "plan_release",
    "planned_releases",
    "present_staff",
    "release",
    "restored_vault",
    "rotate_index",
    "rotate_ledger",
    "rotate_roots",
    "rotate_signing",
    "seal_for_pool",
    "serving",
    "shred_pool_keys",
    "unreached",
]
