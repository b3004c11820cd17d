"""Keeps libraries that carry keys over HTTP from writing bodies down (vault.md section 6: no key in logs).

Clients of cloud key services write whole requests and answers at DEBUG, and these hold the key that is wrapped or
unwrapped. A filter on the very loggers that do so outlives any later change of level. Leaves out
`http.client.debuglevel`, which nothing of ours sets and no logger governs.
"""

from __future__ import annotations

import logging


def hush(*names: str) -> None:
    """Let these loggers, and not their children, say nothing below WARNING, whatever their level is or becomes."""
    for name in names:
        logger = logging.getLogger(name)
        logger.removeFilter(_grave)
        logger.addFilter(_grave)


def _grave(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING
