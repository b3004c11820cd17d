"""From where a request came, for counting tries (decision 0013: a proxy stands in front).

Where proxies are trusted (`REGARD_TRUSTED_PROXIES`), the address has been taken from what they add; otherwise it is the
peer's, whatever a request claims. Leaves out who it is: an address is nobody's name.
"""

from __future__ import annotations

from ipaddress import AddressValueError, IPv6Address, IPv6Network

from flask import request

_HOUSEHOLD = 64
"""Bits of the network one subscriber has to itself (RFC 6177): it could take another address for each try."""


def visitor() -> str:
    """Return the address tries are counted for; of IPv6 its network."""
    address = request.remote_addr or ""
    try:
        return str(IPv6Network((int(IPv6Address(address)), _HOUSEHOLD), strict=False))
    except AddressValueError:
        return address
