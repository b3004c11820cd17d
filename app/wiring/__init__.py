"""Settings to collaborators: the one room that knows everybody, and the only importer of store and providers."""

from app.wiring.application import application
from app.wiring.house import House, UnknownControllerError, build, migrate
from app.wiring.operator import hold_back, pool, restored_vault, sealed_cohort

__all__ = [
    "House",
    "UnknownControllerError",
    "application",
    "build",
    "hold_back",
    "migrate",
    "pool",
    "restored_vault",
    "sealed_cohort",
]
