"""Frozen dataclasses to plain JSON values and back, by their declared types: the one codec of stored events.

Canonical: sets are sorted, moments are UTC RFC 3339 with microseconds, so equal events have equal bytes. Strict: an
unknown, missing or wrongly typed field is an error, never a default. Leaves out schema evolution (`events` versions).
"""

from __future__ import annotations

import json
import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, date, datetime
from enum import StrEnum
from functools import cache
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


def encode(value: object) -> object:
    """Return `value` (a dataclass of plain things) as JSON values. Raises TypeError for what has no plain form."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: encode(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, frozenset):
        return sorted(str(item) for item in value)
    if isinstance(value, tuple):
        return [encode(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): encode(item) for key, item in value.items()}
    return _scalar(value)


def _scalar(value: object) -> object:
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds")
    if isinstance(value, date):
        return value.isoformat()
    if value is None or isinstance(value, str | bool | int):
        return value
    raise TypeError(f"no plain form for {type(value).__name__}")


def decode(shape: type[T], value: object) -> T:
    """Return the dataclass `shape` from JSON values. Raises ValueError when they do not fit exactly."""
    plain: Any = shape
    hints = _hints(plain)
    if not isinstance(value, Mapping) or set(value) != set(hints):
        raise ValueError(f"not the fields of {shape.__name__}")
    return shape(**{name: _decode(hint, value[name]) for name, hint in hints.items()})


@cache
def _hints(shape: Any) -> dict[str, Any]:
    hints = get_type_hints(shape)
    return {field.name: hints[field.name] for field in fields(shape)}


def _decode(hint: Any, value: Any) -> Any:
    hint = getattr(hint, "__supertype__", hint)  # a NewType is its plain type at run time
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return _decode_union(hint, value)
    if origin in (tuple, frozenset):
        return _decode_many(origin, hint, value)
    if is_dataclass(hint) and isinstance(hint, type):
        return decode(hint, value)
    return _decode_scalar(hint, value)


def _decode_union(hint: Any, value: Any) -> Any:
    if value is None:
        if type(None) not in get_args(hint):
            raise ValueError("a value is missing")
        return None
    (inner,) = [item for item in get_args(hint) if item is not type(None)]
    return _decode(inner, value)


def _decode_many(origin: Any, hint: Any, value: Any) -> Any:
    if not isinstance(value, list):
        raise ValueError("not a list")
    return origin(_decode(get_args(hint)[0], item) for item in value)


def _decode_scalar(hint: Any, value: Any) -> Any:
    if hint is datetime or hint is date:
        return hint.fromisoformat(value)
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return hint(value)
    if type(value) is not hint:
        raise ValueError(f"not a {hint.__name__}")
    return value


def canonical(value: object) -> bytes:
    """Return the one byte form of JSON values: sorted keys, no blanks, UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
