"""The contract with components: scopes, claims, gate, sealer, client, and the codecs of sealed records and evidence.

Standard library, pyjwt, cryptography, httpx; relative imports alone, because it also ships as the wheel `regard-sdk`.
Names are looked up when first used, so that reading a sealed record does not need the HTTP client.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .claims import AggregationConsent, Presented
    from .client import Authority, Token
    from .disclosures import Disclosures
    from .errors import SdkError
    from .gate import Deny, Gate, Permit, Reason
    from .holder import Change, Holder, Task
    from .keyfile import read_key, write_key
    from .partner import Agreed, Partner, Pushed
    from .parts import Found
    from .scopes import Scope
    from .sealer import Sealer

_HOME = {
    "AggregationConsent": "claims",
    "Presented": "claims",
    "Authority": "client",
    "Token": "client",
    "Disclosures": "disclosures",
    "SdkError": "errors",
    "Deny": "gate",
    "Gate": "gate",
    "Permit": "gate",
    "Reason": "gate",
    "Change": "holder",
    "Found": "parts",
    "Holder": "holder",
    "Task": "holder",
    "read_key": "keyfile",
    "write_key": "keyfile",
    "Agreed": "partner",
    "Partner": "partner",
    "Pushed": "partner",
    "Scope": "scopes",
    "Sealer": "sealer",
}

__all__ = [
    "AggregationConsent",
    "Agreed",
    "Authority",
    "Change",
    "Deny",
    "Disclosures",
    "Found",
    "Gate",
    "Holder",
    "Partner",
    "Permit",
    "Presented",
    "Pushed",
    "Reason",
    "Scope",
    "SdkError",
    "Sealer",
    "Task",
    "Token",
    "read_key",
    "write_key",
]


def __getattr__(name: str) -> Any:
    """Import an exported name from its module (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(name)
    return getattr(import_module("." + _HOME[name], __name__), name)
