"""Waiting for what happens beside a test: one patience for all, long enough for a busy machine, short of a hang."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

PATIENCE: Final = 120.0
"""Seconds. A wait that passes costs only what it took; one that ends here is a fault, not a slow machine."""
_PAUSE: Final = 0.05


def came_to_pass(met: Callable[[], object], meanwhile: Callable[[], object] = lambda: None) -> bool:
    """Look until it is so, doing `meanwhile` between two looks; False when patience ends."""
    ends = time.monotonic() + PATIENCE
    while not met():
        if time.monotonic() > ends:
            return False
        meanwhile()
        time.sleep(_PAUSE)
    return True


def wait(met: Callable[[], object], meanwhile: Callable[[], object] = lambda: None) -> None:
    """Wait until it is so; fails the test when it does not come to pass."""
    assert came_to_pass(met, meanwhile), "it did not come to pass"
