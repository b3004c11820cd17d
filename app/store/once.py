"""An attribute made at its first use and kept, without a lock.

`functools.cached_property` of Python 3.11 holds one lock for all instances of a class while it computes. A unit that
waits there for the database's one writer, and the unit that is that writer, would wait for each other. Leaves out
threads that share an instance: a unit of work belongs to one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, Self, TypeVar, overload

T = TypeVar("T")


class once(Generic[T]):  # noqa: N801 - it stands where a decorator stands
    """Decorate a method without arguments: its first value becomes the attribute."""

    def __init__(self, make: Callable[[Any], T]) -> None:
        self._make = make
        self._name = make.__name__
        self.__doc__ = make.__doc__

    @overload
    def __get__(self, instance: None, owner: type[Any]) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type[Any]) -> T: ...
    def __get__(self, instance: object | None, owner: type[Any]) -> T | Self:
        """Make the value; the instance's own attribute hides this from then on."""
        if instance is None:
            return self
        made = instance.__dict__[self._name] = self._make(instance)
        return made
