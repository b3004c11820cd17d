"""The description to read: an OpenAPI document turned into sections, doors and rows for `/api/docs`.

Plain data to plain data; the template only writes it. English, because it is for developers. Leaves out trying a call
from the page: tokens are bound to keys that no page should hold.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

_DEEPEST = 6
_LIMITS = {"minimum": "at least", "maximum": "at most", "minLength": "min. characters", "maxLength": "max. characters"}
_LISTS = {"minItems": "min. items", "maxItems": "max. items"}


@dataclass(frozen=True, slots=True)
class Row:
    """One field or parameter; `where` is empty for a field of a body."""

    name: str
    kind: str
    required: bool
    says: str
    where: str = ""


@dataclass(frozen=True, slots=True)
class Body:
    """One content type of a request or an answer."""

    media: str
    rows: Sequence[Row]
    example: str


@dataclass(frozen=True, slots=True)
class Answer:
    """A good answer."""

    status: str
    phrase: str
    bodies: Sequence[Body]


@dataclass(frozen=True, slots=True)
class Refusal:
    """One way to be refused."""

    status: str
    code: str
    says: str


@dataclass(frozen=True, slots=True)
class Door:
    """One method of one path."""

    anchor: str
    method: str
    path: str
    says: str
    text: str
    who: str
    scope: str
    parameters: Sequence[Row]
    bodies: Sequence[Body]
    answers: Sequence[Answer]
    refusals: Sequence[Refusal]


@dataclass(frozen=True, slots=True)
class Section:
    """The doors of one room."""

    anchor: str
    title: str
    doors: Sequence[Door]


def sections(document: Mapping[str, Any]) -> list[Section]:
    """Return the rooms in the order of the document's tags, each with its doors."""
    doors = [(operation["tags"][0], door) for operation, door in _doors(document)]
    return [
        Section(tag["name"].replace("_", "-"), tag["description"], [door for of, door in doors if of == tag["name"]])
        for tag in document["tags"]
    ]


def paragraphs(document: Mapping[str, Any]) -> list[str]:
    """Return the opening words of the document, one string a paragraph."""
    return [" ".join(part.split()) for part in document["info"]["description"].split("\n\n")]


def pieces(text: str) -> list[tuple[bool, str]]:
    """Cut a sentence at its backticks: (is code, text) in order."""
    return [(place % 2 == 1, part) for place, part in enumerate(text.split("`")) if part]


def scopes(document: Mapping[str, Any]) -> Mapping[str, str]:
    """Return each scope with its sentence."""
    found: Mapping[str, str] = document["components"]["securitySchemes"]["token"]["flows"]["clientCredentials"][
        "scopes"
    ]
    return found


def _doors(document: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], Door]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if method != "parameters":
                yield operation, _door(document, path, method, operation, methods.get("parameters", ()))


def _door(
    document: Mapping[str, Any], path: str, method: str, operation: Mapping[str, Any], shared: Sequence[Any]
) -> Door:
    who, scope = _who(operation)
    responses = sorted(operation["responses"].items())
    return Door(
        anchor=re.sub(r"[^a-z0-9]+", "-", f"{method}{path}".lower()).strip("-"),
        method=method.upper(),
        path=path,
        says=operation["summary"],
        text=operation.get("description", ""),
        who=who,
        scope=scope,
        parameters=[_parameter(document, each) for each in (*shared, *operation.get("parameters", ()))],
        bodies=_bodies(document, operation.get("requestBody", {})),
        answers=[
            Answer(status, HTTPStatus(int(status)).phrase, _bodies(document, response))
            for status, response in responses
            if status[0] in "23"
        ],
        refusals=[each for status, response in responses if status[0] in "45" for each in _refusals(status, response)],
    )


def _who(operation: Mapping[str, Any]) -> tuple[str, str]:
    if "x-authentication" in operation:
        return f"a client, by {operation['x-authentication']}", ""
    scopes_asked = [scope for need in operation.get("security", ()) for names in need.values() for scope in names]
    return ("a token with the scope", scopes_asked[0]) if scopes_asked else ("anyone", "")


def _parameter(document: Mapping[str, Any], said: Mapping[str, Any]) -> Row:
    schema = _resolved(document, said["schema"])
    words = [said.get("description", ""), _bounds(schema)]
    words += [f"e.g. `{said['example']}`"] if "example" in said else []
    return Row(said["name"], _kind(schema), said.get("required", False), _joined(words), said["in"])


def _bodies(document: Mapping[str, Any], holder: Mapping[str, Any]) -> list[Body]:
    return [
        Body(media, list(_rows(document, content.get("schema", {}))), _shown(content.get("example")))
        for media, content in holder.get("content", {}).items()
    ]


def _shown(example: Any) -> str:
    if example is None or isinstance(example, str):
        return (example or "").rstrip("\n")
    return json.dumps(example, indent=2, ensure_ascii=False)


def _refusals(status: str, response: Mapping[str, Any]) -> Iterator[Refusal]:
    for content in response.get("content", {}).values():
        for code, each in content.get("examples", {}).items():
            yield Refusal(status, code, each["summary"])


def _rows(document: Mapping[str, Any], schema: Mapping[str, Any], before: str = "", depth: int = 0) -> Iterator[Row]:
    """Yield the fields of an object, those inside after their own, named by their way in."""
    whole = _resolved(document, schema)
    if depth > _DEEPEST:
        return
    if whole.get("type") == "array":
        yield from _rows(document, whole["items"], f"{before}[]", depth + 1)
        return
    required = whole.get("required", ())
    for name, below in whole.get("properties", {}).items():
        inner = _resolved(document, below)
        way = f"{before}.{name}" if before else name
        yield Row(way, _kind(inner), name in required, _joined([inner.get("description", ""), _bounds(inner)]))
        yield from _rows(document, inner, way, depth + 1)


def _resolved(document: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Follow a reference; of a thing or null, the thing, said to be nullable."""
    if "$ref" in schema:
        found: Any = document
        for step in schema["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        return _resolved(document, found)
    if "anyOf" in schema:
        things = [each for each in schema["anyOf"] if each != {"type": "null"}]
        return {**_resolved(document, things[0]), "nullable": True}
    return schema


def _kind(schema: Mapping[str, Any]) -> str:
    if "const" in schema:
        return f'"{schema["const"]}"'
    if "enum" in schema:
        return " | ".join(f'"{each}"' for each in schema["enum"])
    said = schema.get("type", "any")
    names = [said] if isinstance(said, str) else list(said)
    names += ["null"] if schema.get("nullable") else []
    shape = f", {schema['format']}" if "format" in schema else ""
    return " or ".join(names) + shape


def _bounds(schema: Mapping[str, Any]) -> str:
    found = [f"{words} {schema[name]}" for name, words in {**_LIMITS, **_LISTS}.items() if schema.get(name) is not None]
    found += [f"without it: {json.dumps(schema['default'])}"] if schema.get("default") is not None else []
    return ", ".join(found)


def _joined(words: Sequence[str]) -> str:
    return "; ".join(part.rstrip(".") for part in words if part)
