"""The JSON doors; beside `policyfiles` the only room that knows marshmallow, and the only one with flask-smorest."""

from app.http.api.doors import blueprint
from app.http.api.services import ApiServices, ApiUnit, Look, Presented

__all__ = ["ApiServices", "ApiUnit", "Look", "Presented", "blueprint"]
