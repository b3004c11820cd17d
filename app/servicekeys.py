"""The service's own secrets: files of 32 random bytes, mode 0600, made once (vault.md sections 4, 6).

They sign checkpoints and certificates, and key forms and codes. They open nobody's data: those keys are the vault's.
Founding a deployment makes them (`service_key`); everything else only reads (`kept_service_key`), so that a lost one
is not replaced unseen. Leaves out rotation, which has a ledger entry and a command of its own.
"""

from __future__ import annotations

import base64
import os
import stat
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import ClassVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

LENGTH = 32


class ServiceKeyError(RuntimeError):
    """A key file is readable by others, or is not 32 bytes; the message names the file, never its content."""

    code: ClassVar[str] = "service_key_unfit"


class ServiceKeyMissing(ServiceKeyError):
    """There is no such key file."""

    code = "service_key_missing"


def service_key(path: Path, entropy: Callable[[int], bytes]) -> bytes:
    """Return the 32 bytes of the file, made with fresh random bytes when there is none."""
    try:
        return _read(path)
    except FileNotFoundError:
        _make(path, entropy(LENGTH))
        return _read(path)


def kept_service_key(path: Path) -> bytes:
    """Return the 32 bytes of the file; raises `ServiceKeyMissing`, `ServiceKeyError`."""
    try:
        return _read(path)
    except FileNotFoundError:
        raise ServiceKeyMissing(
            f"{path.name} is missing: restore it from its replica; in a new deployment `regard db upgrade` makes it"
        ) from None


def _read(path: Path) -> bytes:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise ServiceKeyError(f"{path.name} can be read by others than its owner; set its mode to 0600")
    key = path.read_bytes()
    if len(key) != LENGTH:
        raise ServiceKeyError(f"{path.name} is not a key of {LENGTH} bytes; restore it from its replica")
    return key


def _make(path: Path, key: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(handle, key)
        os.fsync(handle)
    finally:
        os.close(handle)


def certificate_signer(seed: bytes) -> Callable[[bytes], Mapping[str, str]]:
    """Return what signs erasure certificates: Ed25519 (RFC 8032), the key named by its SHA-256."""
    private = Ed25519PrivateKey.from_private_bytes(seed)
    public = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    # whoever has the file can check it with this; `key` says which key to trust
    told = base64.b64encode(public).decode("ascii")

    def sign(message: bytes) -> Mapping[str, str]:
        value = base64.b64encode(private.sign(message)).decode("ascii")
        return {"algorithm": "Ed25519", "key": sha256(public).hexdigest(), "public_key": told, "value": value}

    return sign


def public_key(seed: bytes) -> bytes:
    """Return the 32 bytes whose owner checks what `certificate_signer` signed."""
    private = Ed25519PrivateKey.from_private_bytes(seed)
    return private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
