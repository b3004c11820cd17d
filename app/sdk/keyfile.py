"""A component's registered key in a file of its own: PEM, PKCS #8 (RFC 5958), readable by its owner alone.

Leaves out passphrases and key stores: whoever has one hands the key to `Authority` from there.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from .dpop import new_key
from .errors import KeyFileUnfit

MODE: Final = 0o600
_OTHERS: Final = 0o077


def write_key(path: str | os.PathLike[str]) -> ec.EllipticCurvePrivateKey:
    """Make a P-256 key and write it to a new file of mode 0600. Raises `FileExistsError`: no key is ever replaced."""
    key = new_key()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, MODE), "wb") as file:
        file.write(pem)
        file.flush()
        os.fsync(file.fileno())
    return key


def read_key(path: str | os.PathLike[str]) -> ec.EllipticCurvePrivateKey:
    """Read a key file. Raises `KeyFileUnfit` when others may read it or it holds no P-256 key; `OSError`."""
    file = Path(path)
    if file.stat().st_mode & _OTHERS:
        raise KeyFileUnfit("others may read the key file: take their rights away (chmod 600)")
    try:
        key = load_pem_private_key(file.read_bytes(), None)
    except (ValueError, TypeError):
        raise KeyFileUnfit("the file holds no unencrypted PEM key") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise KeyFileUnfit("the key is not on the curve P-256")
    return key
