"""The settings as every command reads them, in a module that loads almost nothing.

Exit codes: 0 done, 1 something is wrong with what was examined, 2 the command or the settings are at fault.
"""

from __future__ import annotations

import os
import sys

import click

from app.settings import Settings, SettingsFaultsError, read_settings

FAULTY, MISUSED = 1, 2


def settings() -> Settings:
    """Return the settings, or leave with every fault on standard error."""
    try:
        return read_settings(os.environ)
    except SettingsFaultsError as faulty:
        for fault in faulty.faults:
            click.echo(fault, err=True)
        sys.exit(MISUSED)
