"""What commands about the deployment begin with: the house its settings name, each fault told in a sentence."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NoReturn

import click

from app import policyfiles
from app.cli.configured import FAULTY, settings
from app.servicekeys import ServiceKeyError
from app.vault.errors import VaultError
from app.vault.process import harden_process
from app.wiring import House, UnfitDeployment, build

Unfit = UnfitDeployment | ServiceKeyError | VaultError | policyfiles.PolicyFaults
UNFIT: Final = (UnfitDeployment, ServiceKeyError, VaultError, policyfiles.PolicyFaults)
"""What opening a deployment raises when it cannot be opened."""


@contextmanager
def opened() -> Iterator[House]:
    """The house of the settings, closed afterwards; a faulty policy pack is reported whole."""
    harden_process()
    try:
        house = build(settings())
    except UNFIT as unfit:
        refuse(unfit)
    try:
        yield house
    finally:
        house.close()


def refuse(unfit: Unfit) -> NoReturn:
    """Leave, after `explain`."""
    explain(unfit)
    sys.exit(FAULTY)


def explain(unfit: Unfit) -> None:
    """Say on standard error what keeps the deployment from being opened: a line, or one for each fault of the pack."""
    if isinstance(unfit, policyfiles.PolicyFaults):
        report(unfit)
    else:
        click.echo(f"{unfit.code}: {str(unfit) or inspect.getdoc(type(unfit))}", err=True)


def report(faulty: policyfiles.PolicyFaults) -> None:
    """Print every fault of a pack on standard error."""
    for problem in faulty.problems:
        click.echo(f"{problem.file}: {problem.key}: {problem.sentence}", err=True)
    count = len(faulty.problems)
    click.echo(f"{faulty.code}: {count} {'problem' if count == 1 else 'problems'}", err=True)
