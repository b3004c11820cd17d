"""What commands about the deployment begin with: the house its settings name, each fault told in a sentence."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

from app import policyfiles
from app.cli.configured import FAULTY, settings
from app.vault.process import harden_process
from app.wiring import House, build


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
