"""An outsider's check of an erasure, written from docs/formats/ledger.md and docs/formats/certificate.md alone.

python auditor.py BUNDLE LEDGER_KEY CERTIFICATE CERTIFICATE_KEY      (the keys as text, or files that hold them)
"""

import hashlib
import hmac
import json
import sys
from base64 import b64decode, b64encode
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

spelled = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode


def expect(held, what):
    if not held:
        raise ValueError(what)


def unb64(text):
    return b64decode(text) if b64encode(b64decode(text)).decode() == text else expect(None, "base64 spelled otherwise")


def sha(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def signed_note(text, vkey):
    """Check the ledger's one signature on a note; return the lines of its body (ledger.md section 2)."""
    name, key_id, raw = *vkey.split("+", 2)[:2], unb64(vkey.split("+", 2)[2])
    expect(raw[:1] == b"\x01" and sha(name.encode(), b"\n", raw)[:4].hex() == key_id, "not a ledger's key")
    body, _, lines = text.rpartition("\n\n")
    mine = [unb64(line.split(" ")[2]) for line in lines.splitlines() if line.startswith(f"— {name} ")]
    (signature,) = [each[4:] for each in mine if each[:4].hex() == key_id]  # exactly one, or a ValueError
    Ed25519PublicKey.from_public_bytes(raw[1:]).verify(signature, (body + "\n").encode())
    return body.split("\n")


def root_of(leaves, start, size, proof):
    """Return the root of `size` leaves from `start` on, some known, the rest from the joint proof (section 6)."""
    if size == 1 or not any(start <= at < start + size for at in leaves):
        return leaves.get(start) or proof.pop(0)
    half = 1 << (size - 1).bit_length() - 1
    return sha(b"\x01", root_of(leaves, start, half, proof), root_of(leaves, start + half, size - half, proof))


def opened_fields(blob, fields):
    """Check opened fields against the entry's commitment; return what is shown (section 4)."""
    shown = {name: hmac.digest(unb64(salt), text[0].encode(), "sha256") for name, salt, *text in fields if text}
    digests = [[name, b64encode(shown[name]).decode() if name in shown else said] for name, said, *_ in fields]
    expect(blob[:36] == b"RGP\x01" + sha(b"regard-payload/v1\n", spelled(digests).encode()), "not what was recorded")
    return {name: json.loads(text[0]) for name, _, *text in fields if text}


def checked_entries(data, vkey):
    """Check a bundle; return (envelope, shown fields) of each entry (sections 3 to 6)."""
    told, leaves, found = json.loads(data), {}, []
    expect((spelled(told) + "\n").encode() == data and told["key"] == vkey, "another spelling, or another ledger")
    origin, size, root = signed_note(told["checkpoint"], vkey)
    form, digest, _, _, count, *lines = signed_note(told["list"], vkey)
    expect(form == told["format"] == "regard-evidence/v1" and origin == vkey.split("+")[0], "another format or ledger")
    same = told["list"].count("\n— ") == 1 and unb64(digest) == sha(told["checkpoint"].encode())
    expect(same and len(lines) == int(count) == len(told["entries"]), "entries are missing or too many")
    for line, entry in zip(lines, told["entries"], strict=True):
        envelope, blob = entry["envelope"], entry["sealed"] and unb64(entry["sealed"])
        how = "bare" if blob is None else "opened" if "opened" in entry else "sealed"
        leaves[envelope["seq"]] = leaf = sha(b"\x00", spelled(envelope).encode())
        same = blob is None or sha(blob) == unb64(envelope["digest"])
        expect(same and line == f"{envelope['seq']} {b64encode(leaf).decode()} {how}", f"not as listed: {line}")
        found.append((envelope, opened_fields(blob, entry["opened"]) if how == "opened" else {}))
    proof = [unb64(each) for each in told["proof"]]
    expect(list(leaves) == sorted(leaves) and len(leaves) == len(found), "entries are out of order")
    expect(unb64(root) == root_of(leaves, 0, int(size), proof) and not proof, "the proof does not lead to the root")
    return found


def main(bundle, vkey, certificate, public):
    signature, mark = (told := json.loads(certificate)).pop("signature"), sha(certificate).hex()
    expect(signature["algorithm"] == "Ed25519" and signature["public_key"] == public, "another key signed")
    Ed25519PublicKey.from_public_bytes(unb64(public)).verify(unb64(signature["value"]), spelled(told).encode())
    for envelope, said in checked_entries(bundle, vkey):
        if said.get("payload.evidence") == f"{told['erasure']}:{mark}":
            return f"{told['statement']}, {told['erasure']}: certified in leaf {envelope['seq']}, {envelope['at']}"
    raise ValueError("the ledger has no entry of this certificate")


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit("usage: python auditor.py BUNDLE LEDGER_KEY CERTIFICATE CERTIFICATE_KEY (keys as text, or files)")
    try:  # a key given as itself has two plus signs, or ends as base64 of 32 bytes does
        given = [w.encode() if w.count("+") > 1 or w.endswith("=") else Path(w).read_bytes() for w in sys.argv[1:]]
        print(main(given[0], given[1].decode().strip(), given[2], given[3].decode().strip()))
    except OSError as fault:
        sys.exit(f"cannot read {fault.filename}: {fault.strerror}")
    except (ValueError, KeyError, TypeError, IndexError, InvalidSignature) as fault:
        sys.exit(f"does not hold: {str(fault) or 'a signature is false'}")
