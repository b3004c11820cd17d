"""Whether something else listens where a command is about to, in a module that loads almost nothing.

Web servers let several processes share a port on purpose, so that one can take over from another. Here two deployments
would then answer in turns under one address; who starts a second one is told instead.
"""

from __future__ import annotations

import socket


def taken(host: str, port: int) -> str | None:
    """Return why nothing may listen there, in the system's words; None when something may."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[
            0
        ]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what an earlier process left is no obstacle
            probe.bind(address)
    except OSError as refused:
        return refused.strerror or type(refused).__name__
    return None
