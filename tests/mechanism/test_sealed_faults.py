"""What somebody does to sealed records who has the database they lie in (vault.md sections 2 and 8).

One ciphertext under two keys: AES-GCM alone allows it, and the test makes one (the arithmetic of NIST SP 800-38D by
hand, as in Grubbs, Lu and Ristenpart, "Message Franking via Committing Authenticated Encryption", 2017). A record does
not, because it commits to its key. The rest goes through the vault, as a holder of Regard's own records sees it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher as BlockCipher
from cryptography.hazmat.primitives.ciphers import algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import Engine

from app.sdk import sealed
from app.sdk.sealed import Altered, Cipher, CommitmentMismatch, SealError
from app.vault.core import Vault
from app.vault.errors import Erased, UnknownKey
from app.vault.keys import Scope, Selector, Target
from tests.mechanism.vaults import CONTROLLER, SetClock, open_vault, scope

KEY_ID = bytes(range(16))
PLACE = {"subject": "pw_a", "category": "accounts.balances", "record_id": "rec_1"}


# One ciphertext, two keys


def multiplied(a: int, b: int) -> int:
    """In GCM's field: SP 800-38D section 6.3, bits in its order."""
    product = 0
    for bit in range(127, -1, -1):
        if b >> bit & 1:
            product ^= a
        a = a >> 1 ^ (0xE1 << 120 if a & 1 else 0)
    return product


def inverse(a: int) -> int:
    """a ** (2**128 - 2)."""
    found, power = 1 << 127, a
    for _ in range(127):
        power = multiplied(power, power)
        found = multiplied(found, power)
    return found


def raised(a: int, exponent: int) -> int:
    found = 1 << 127
    for _ in range(exponent):
        found = multiplied(found, a)
    return found


def blocks(raw: bytes) -> list[int]:
    padded = raw + bytes(-len(raw) % 16)
    return [int.from_bytes(padded[at : at + 16], "big") for at in range(0, len(padded), 16)]


class Half:
    """What one key makes of a ciphertext: its GHASH key, and the pad of its tag."""

    def __init__(self, key: bytes, nonce: bytes) -> None:
        encrypt = BlockCipher(algorithms.AES(key), modes.ECB()).encryptor().update
        self.h = int.from_bytes(encrypt(bytes(16)), "big")
        self.pad = int.from_bytes(encrypt(nonce + b"\x00\x00\x00\x01"), "big")

    def tag(self, bound: bytes, ciphertext: bytes) -> int:
        lengths = (len(bound) * 8).to_bytes(8, "big") + (len(ciphertext) * 8).to_bytes(8, "big")
        total = 0
        for block in [*blocks(bound), *blocks(ciphertext), int.from_bytes(lengths, "big")]:
            total = multiplied(total ^ block, self.h)
        return total ^ self.pad


def of_both(first: bytes, second: bytes, nonce: bytes, bound: bytes) -> bytes:
    """Ciphertext and tag that both keys accept: the last block is solved for."""
    one, two = Half(first, nonce), Half(second, nonce)
    start, free = os.urandom(32), bytes(16)
    differ = one.tag(bound, start + free) ^ two.tag(bound, start + free)
    solved = multiplied(differ, inverse(raised(one.h, 2) ^ raised(two.h, 2)))
    ciphertext = start + solved.to_bytes(16, "big")
    assert one.tag(bound, ciphertext) == two.tag(bound, ciphertext)
    return ciphertext + one.tag(bound, ciphertext).to_bytes(16, "big")


def test_one_ciphertext_does_not_open_under_two_keys() -> None:
    """The library opens it under both; a record of it opens under neither key but the one it commits to, and then
    only the bytes that key gives."""
    keys = [os.urandom(32), os.urandom(32)]
    split = [sealed._hkdf(key, b"regard sealed record 1" + KEY_ID, length=96) for key in keys]
    nonce = os.urandom(12)
    bound = sealed._binding(sealed.WHOLE, PLACE["subject"], PLACE["category"], KEY_ID) + PLACE["record_id"].encode()
    ciphertext = of_both(split[0][:32], split[1][:32], nonce, bound)
    said = [AESGCM(each[:32]).decrypt(nonce, ciphertext, bound) for each in split]
    assert said[0] != said[1], "two readings of one ciphertext, both genuine to the library"
    for mine, other in ((0, 1), (1, 0)):
        record = b"RGD\x01" + KEY_ID + nonce + split[mine][32:64] + ciphertext
        assert Cipher(KEY_ID, keys[mine]).open(record, **PLACE) == said[mine]
        with pytest.raises(CommitmentMismatch):
            Cipher(KEY_ID, keys[other]).open(record, **PLACE)
    for half in (split[0][32:48] + split[1][48:64], split[1][32:48] + split[0][48:64]):
        record = b"RGD\x01" + KEY_ID + nonce + half + ciphertext
        for key in keys:
            with pytest.raises(CommitmentMismatch):
                Cipher(KEY_ID, key).open(record, **PLACE)


# Through the vault


@pytest.fixture
def vault(keys_engine: Engine, tmp_path: Path) -> Vault:
    made = open_vault(keys_engine, tmp_path, SetClock())
    made.create_subjects(CONTROLLER, ["sub_a", "sub_b"])
    return made


MINE = scope("sub_a")
SECRET = b"a secret that no refusal may show"


def damages(record: bytes, other: bytes) -> dict[str, bytes]:
    """Everything that can be done to a record with another one at hand."""
    return {
        "cut in the head": record[:40],
        "cut in the tag": record[:-1],
        "longer": record + b"\x00",
        "the other's ciphertext": record[:64] + other[64:],
        "the other's nonce": record[:20] + other[20:32] + record[32:],
        "another commitment": record[:32] + bytes(32) + record[64:],
        "another version": record[:3] + b"\x02" + record[4:],
        "no version known": record[:3] + b"\x07" + record[4:],
        "not a record": b"XXX" + record[3:],
        "empty": b"",
    }


@pytest.mark.parametrize("size", [len(SECRET), sealed.CHUNK_BYTES + 7])
def test_a_damaged_record_is_refused_and_shows_nothing(vault: Vault, size: int) -> None:
    plaintext = (SECRET * (size // len(SECRET) + 1))[:size]
    record, other = vault.seal(MINE, "rec_1", plaintext), vault.seal(MINE, "rec_2", plaintext)
    damaged = damages(record, other)
    if size > sealed.CHUNK_BYTES:
        damaged["another version"] = record[:3] + b"\x01" + record[4:]
    for what, bad in damaged.items():
        with pytest.raises(SealError) as caught:
            vault.open(MINE, "rec_1", bad)
        assert caught.value.code != "seal_failed", what
        assert "secret" not in repr(caught.value) + str(caught.value), what
    assert vault.open(MINE, "rec_1", record) == plaintext


def test_a_record_in_another_place_is_refused(vault: Vault) -> None:
    """Swapped between records, categories, holders, subjects, controllers: relabelled or not, it opens nowhere."""
    vault.create_subject("ctl_other", "sub_a")
    record = vault.seal(MINE, "rec_1", SECRET, handle="pw_a")
    elsewhere = Scope("ctl_other", "sub_a", MINE.holder, MINE.category, MINE.basis)
    places = [scope("sub_b"), scope("sub_a", "loans"), scope("sub_a", holder="broker"), elsewhere]
    for there in places:
        theirs = vault.dek_for(there)
        with pytest.raises(UnknownKey):
            vault.open(there, "rec_1", record, handle="pw_a")
        with pytest.raises(CommitmentMismatch):
            vault.open(there, "rec_1", record[:4] + theirs + record[20:], handle="pw_a")
    refused: list[Callable[[], bytes]] = [
        lambda: vault.open(MINE, "rec_2", record, handle="pw_a"),
        lambda: vault.open(MINE, "rec_1", record, handle="pw_b"),
        lambda: vault.open(MINE, "rec_1", record),
    ]
    for work in refused:
        with pytest.raises(Altered):
            work()


def test_an_old_record_put_back_after_a_shred_stays_shut(vault: Vault) -> None:
    """Replayed after the key went and a new one of the same scope came: also under the new key's name."""
    old = vault.seal(MINE, "rec_1", SECRET)
    vault.shred("era_1", [Target(CONTROLLER, "sub_a", only=(Selector(category=MINE.category),))])
    assert vault.erasures.drive("era_1") == "certified"
    new = vault.seal(MINE, "rec_1", b"after a new consent")
    with pytest.raises(Erased):
        vault.open(MINE, "rec_1", old)
    with pytest.raises(CommitmentMismatch):
        vault.open(MINE, "rec_1", old[:4] + new[4:20] + old[20:])
    with pytest.raises(Altered):
        vault.open(MINE, "rec_1", new[:20] + old[20:32] + new[32:64] + old[64:])
    assert vault.open(MINE, "rec_1", new) == b"after a new consent"
