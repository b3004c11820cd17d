"""How bodies and queries are read: strictly. Unknown fields, wrong types and malformed JSON are refused by name.

RFC 8259 JSON only: no NaN, no nesting that exhausts the parser. Leaves out what values mean: the doors ask the law.
"""

from __future__ import annotations

import binascii
import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, NoReturn, Self

from flask import Request, request
from flask_smorest import Blueprint
from marshmallow import RAISE, Schema, ValidationError, fields
from webargs.flaskparser import FlaskParser
from werkzeug.exceptions import BadRequest, UnsupportedMediaType

from app.http.characters import strange_places
from app.http.errors import BodyInvalid

PROBLEM = "application/problem+json"
_MOST_PLACES = 20
_BASE64URL = re.compile(r"[A-Za-z0-9_-]*={0,2}")


def read_json(raw: bytes) -> Any:
    """Return the JSON value of `raw`. Raises BadRequest for anything else."""
    try:
        return json.loads(raw, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise BadRequest from None


def _no_constant(_name: str) -> NoReturn:
    raise ValueError("NaN and the infinities are not JSON")


class StrictParser(FlaskParser):
    """Webargs with our errors: 415 for another content type, 400 for what is no JSON, 422 for what does not fit."""

    DEFAULT_UNKNOWN_BY_LOCATION: dict[str, str | None] = {"json": None, "query": RAISE}  # noqa: RUF012 - webargs' own attribute

    def load_json(self, req: Request, schema: Schema) -> Any:
        """Read the body as JSON."""
        if req.mimetype != "application/json":
            raise UnsupportedMediaType
        found = read_json(req.get_data(cache=True))
        strange = list(islice(strange_places(found), _MOST_PLACES))
        if strange:
            raise BodyInvalid(*strange)
        return found

    def handle_error(
        self, error: ValidationError, req: Request, schema: Schema, *, error_status_code: Any, error_headers: Any
    ) -> NoReturn:
        """Name the fields, never their values."""
        messages = error.messages if isinstance(error.messages, Mapping) else {}
        inner = {key: value for part in messages.values() if isinstance(part, Mapping) for key, value in part.items()}
        raise BodyInvalid(*sorted(_paths(inner))) from None


def _paths(messages: Mapping[Any, Any], before: str = "") -> Iterator[str]:
    for name, below in messages.items():
        path = f"{before}{name}"[:120]
        if isinstance(below, Mapping):
            yield from _paths(below, f"{path}.")
        else:
            yield path


class JsonBlueprint(Blueprint):
    """A blueprint that reads strictly."""

    ARGUMENTS_PARSER = StrictParser()


class Bytes(fields.Field[bytes]):
    """Bytes as base64url without padding (RFC 4648 section 5); `length` fixes how many."""

    def __init__(self, *, length: int | None = None, **more: Any) -> None:
        super().__init__(metadata={"type": "string", "format": "base64url"}, **more)
        self._length = length

    def _deserialize(self, value: Any, attr: str | None, data: Any, **more: Any) -> bytes:
        if not isinstance(value, str) or not _BASE64URL.fullmatch(value):
            raise ValidationError("not base64url")
        try:
            found = urlsafe_b64decode(value.rstrip("=") + "=" * (-len(value.rstrip("=")) % 4))
        except binascii.Error:
            raise ValidationError("not base64url") from None
        if self._length is not None and len(found) != self._length:
            raise ValidationError("wrong length")
        return found

    def _serialize(self, value: bytes | None, attr: str | None, obj: Any, **more: Any) -> str | None:
        return None if value is None else base64url(value)


class Flag(fields.Boolean):
    """A JSON boolean, nothing that merely looks like one."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **more: Any) -> bool:
        if not isinstance(value, bool):
            raise ValidationError("not a boolean")
        return value


def base64url(data: bytes) -> str:
    """Return base64url without padding."""
    return urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


class Body(Schema):
    """The shape of a body. Nobody changes one once it is made, so the copies of a door's description share it.

    Smorest copies the description with every decorator and once more for the document: without this, copying the
    fields of shapes is two thirds of the time the application takes to be put together.
    """

    def __deepcopy__(self, _memo: dict[int, Any]) -> Self:
        return self


class ProblemSchema(Body):
    """RFC 9457 problem details; `code` is stable."""

    type = fields.String(required=True)
    title = fields.String(required=True)
    status = fields.Integer(required=True)
    code = fields.String(required=True)
    detail = fields.String()
    reason = fields.String(metadata={"description": "Why access was refused: a code of the closed list of reasons."})
    fields_ = fields.List(fields.String(), data_key="fields", metadata={"description": "Fields that do not fit."})
    scope = fields.String()
    erased_at = fields.DateTime()
    reference = fields.String()


_PROBLEM = ProblemSchema()


def refusals(blueprint: Blueprint, *statuses: int) -> Any:
    """Document the problems a door answers with."""

    def decorate(view: Any) -> Any:
        for status in statuses:
            view = blueprint.alt_response(status, schema=_PROBLEM, content_type=PROBLEM)(view)
        return view

    return decorate


def mimetype() -> str:
    """Return the content type of this request's body, without parameters."""
    return request.mimetype
