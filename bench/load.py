"""The load: a process of its own that asks over kept-alive connections and believes no answer it has not read.

    python -m bench.load    reads one job (a line of JSON), says "ready", begins at the next line, writes its result

A job is an address, a number of requests and of connections, and what each form is made of. Assertions are signed
before the clock starts. Every answer must be a 200 that says `active: true`; anything else ends the run.
"""

from __future__ import annotations

import json
import random
import secrets
import socket
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

import jwt
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from app.sdk.dpop import public_jwk, thumbprint

RESOURCE = "https://holder.bench.example"
"""The address under which the bench's holder is an audience."""
ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


def assertion(client: str, key: Any, kid: str, issuer: str) -> str:
    """One `private_key_jwt` (RFC 7523)."""
    now = int(time.time())
    claims = {
        "iss": client,
        "sub": client,
        "aud": issuer,
        "jti": secrets.token_urlsafe(18),
        "iat": now,
        "exp": now + 240,
    }
    return jwt.encode(claims, key, algorithm="ES256", headers={"kid": kid})


def requests(job: dict[str, Any]) -> list[bytes]:
    """The requests, whole, in an order drawn from the job's seed."""
    draw, key = random.Random(job["seed"]), load_pem_private_key(job["key"].encode(), None)
    kid = thumbprint(public_jwk(key))  # type: ignore[arg-type]
    made = []
    for _ in range(job["requests"]):
        form = {"client_assertion_type": ASSERTION, "token": draw.choice(job["tokens"])}
        form["client_assertion"] = assertion(job["client"], key, kid, job["issuer"])
        body = urlencode(form).encode()
        head = f"POST /oauth/introspect HTTP/1.1\r\nHost: {job['host']}:{job['port']}\r\nAccept: */*\r\n"
        head += f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n\r\n"
        made.append(head.encode() + body)
    return made


def answer(connection: socket.socket, rest: bytes) -> tuple[bytes, bytes, bytes]:
    """Read one answer: status line, body, what was read too far."""
    while b"\r\n\r\n" not in rest:
        rest += _more(connection)
    head, _, rest = rest.partition(b"\r\n\r\n")
    names = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
    length = int(names[b"content-length"])
    while len(rest) < length:
        rest += _more(connection)
    return head.split(b"\r\n", 1)[0], rest[:length], rest[length:]


def _more(connection: socket.socket) -> bytes:
    part = connection.recv(65536)
    if not part:
        raise ConnectionError("the server closed the connection")
    return part


def ask(job: dict[str, Any], share: Sequence[bytes], wrong: list[str]) -> None:
    """Send a share of the requests one after the other over one connection."""
    with socket.create_connection((job["host"], job["port"])) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        rest = b""
        for request in share:
            connection.sendall(request)
            status, body, rest = answer(connection, rest)
            if b" 200 " not in status or b'"active": true' not in body:
                wrong.append(f"{status!r} {body[:120]!r}")
                return


def main() -> None:
    job = json.loads(sys.stdin.readline())
    made, wrong = requests(job), list[str]()
    shares = [made[start :: job["connections"]] for start in range(job["connections"])]
    print("ready", flush=True)
    sys.stdin.readline()
    threads = [threading.Thread(target=ask, args=(job, share, wrong)) for share in shares]
    begin = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps({"seconds": time.perf_counter() - begin, "requests": len(made), "wrong": wrong[:3]}), flush=True)


if __name__ == "__main__":
    main()
