"""JWK thumbprints (RFC 7638): the name of a key, in `cnf.jkt` and in `kid`. Written in the SDK, which needs it too."""

from __future__ import annotations

from app.sdk.dpop import thumbprint

__all__ = ["thumbprint"]
