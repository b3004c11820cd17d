"""Where everybody of the demonstration listens, on the loopback."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

_DEFAULT_PORTS = {"https": 443, "http": 80}


@dataclass(frozen=True, slots=True)
class Addresses:
    """The service, the reference holder, the reference component."""

    issuer: str
    safe: str
    collector: str

    @property
    def partner_return(self) -> str:
        """Where people come back to at the partner's; nobody listens there, the outsider reads the address itself."""
        return "http://localhost:8199/back"


def addresses(issuer: str) -> Addresses:
    """Return all of them: the holder and the component have the two ports behind the service's."""
    split = urlsplit(issuer)
    port = split.port or _DEFAULT_PORTS[split.scheme]
    return Addresses(issuer, f"http://127.0.0.1:{port + 1}", f"http://127.0.0.1:{port + 2}")
