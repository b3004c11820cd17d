"""Settings to collaborators: the one room that knows everybody, and the only importer of store and providers."""

from app.wiring.application import application
from app.wiring.house import House, UnknownControllerError, build, migrate

__all__ = ["House", "UnknownControllerError", "application", "build", "migrate"]
