"""What every command begins with: the settings, and the house they name, each fault told in a sentence.

Exit codes: 0 done, 1 something is wrong with what was examined, 2 the command or the settings are at fault.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

from app import policyfiles
from app.settings import Settings, SettingsFaultsError, read_settings
from app.vault.process import harden_process
from app.wiring import House, build

FAULTY, MISUSED = 1, 2


def settings() -> Settings:
    """Return the settings, or leave with every fault on standard error."""
    try:
        return read_settings(os.environ)
    except SettingsFaultsError as faulty:
        for fault in faulty.faults:
            click.echo(fault, err=True)
        sys.exit(MISUSED)


@contextmanager
def opened() -> Iterator[House]:
    """The house of the settings, closed afterwards; a faulty policy pack is reported whole."""
    harden_process()
    try:
        house = build(settings())
    except policyfiles.PolicyFaults as faulty:
        report(faulty)
        sys.exit(FAULTY)
    try:
        yield house
    finally:
        house.close()


def report(faulty: policyfiles.PolicyFaults) -> None:
    """Print every fault of a pack on standard error."""
    for problem in faulty.problems:
        click.echo(f"{problem.file}: {problem.key}: {problem.sentence}", err=True)
    click.echo(f"{len(faulty.problems)} problems; nothing was adopted", err=True)
