"""The service's own secrets."""

from __future__ import annotations

import base64
import os
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from app.servicekeys import ServiceKeyError, certificate_signer, public_key, service_key


def test_a_key_is_made_once_and_read_by_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "ledger.key"
    made = service_key(path, os.urandom)
    assert service_key(path, os.urandom) == made
    assert path.stat().st_mode & 0o777 == 0o600


def test_an_exposed_or_damaged_key_is_refused_without_showing_it(tmp_path: Path) -> None:
    path = tmp_path / "ledger.key"
    service_key(path, lambda n: b"S" * n)
    path.chmod(0o644)
    with pytest.raises(ServiceKeyError, match="0600") as exposed:
        service_key(path, os.urandom)
    assert "SSSS" not in str(exposed.value)
    path.chmod(0o600)
    path.write_bytes(b"short")
    with pytest.raises(ServiceKeyError, match="32 bytes"):
        service_key(path, os.urandom)


def test_a_certificate_signature_is_checked_with_the_public_key() -> None:
    seed = bytes(range(32))
    signature = certificate_signer(seed)(b"certificate")
    public = Ed25519PublicKey.from_public_bytes(public_key(seed))
    assert signature["key"] == sha256(public_key(seed)).hexdigest()
    assert base64.b64decode(signature["public_key"]) == public_key(seed), "the file has the key to check it with"
    public.verify(base64.b64decode(signature["value"]), b"certificate")
    with pytest.raises(InvalidSignature):
        public.verify(base64.b64decode(signature["value"]), b"another")
