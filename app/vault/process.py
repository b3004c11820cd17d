"""Making the process a poor place to find keys: no core dumps, no attaching debugger (vault.md section 6).

To be called where a process starts. Leaves out locking memory, which needs a limit the operator sets.
"""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from dataclasses import dataclass

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4


@dataclass(frozen=True, slots=True)
class Hardening:
    """What could be done on this host."""

    core_dumps_off: bool
    undumpable: bool


def harden_process() -> Hardening:
    """Turn core dumps off and, on Linux, make the process undumpable; returns what was achieved.

    New files are their owner's alone from here on: databases, journals, copies.
    """
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    off = resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)
    return Hardening(core_dumps_off=off, undumpable=_undumpable())


def end_with_parent(number: int) -> bool:
    """Have this process sent a signal when its parent ends, however that ends; false where the host cannot."""
    return _prctl(_PR_SET_PDEATHSIG, number)


def _undumpable() -> bool:
    return _prctl(_PR_SET_DUMPABLE, 0)


def _prctl(option: int, value: int) -> bool:
    if sys.platform != "linux":
        return False
    done: int = ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)
    return done == 0
