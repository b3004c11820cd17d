"""A real OpenBao server of the tests' own: in memory for most, on disk where a test stops it or reads its files.

One in-memory server a process, started when first asked for, each provider on a mount of its own. A shell holds the
server and lets it go when the pipe from here ends: however this process ends, the server does not outlive it.
"""

from __future__ import annotations

import atexit
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from app.vault.providers.openbao import OpenBaoTransit
from tests.cluster import free_port
from tests.mechanism.vaults import SetClock
from tests.waiting import PATIENCE

CLOCK = SetClock()
BINARY = Path(sys.executable).parent / "bao"
_KEPT = '"$0" server -config="$1" >"$2" 2>&1 </dev/null & read -r _; kill -9 $!; wait'
_CONFIG = """
{storage}
listener "tcp" {{
  address = "127.0.0.1:{port}"
  tls_disable = true
}}
listener "tcp" {{
  address = "127.0.0.1:{tls_port}"
  tls_cert_file = "{folder}/tls.pem"
  tls_key_file = "{folder}/tls.key"
}}
api_addr = "http://127.0.0.1:{port}"
cluster_addr = "http://127.0.0.1:{cluster_port}"
raw_storage_endpoint = true
"""


@dataclass
class Server:
    """One server: initialised and unsealed by `start` the first time, started and unsealed again after `stop`."""

    on_disk: bool = False
    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="regard-bao-")))
    token: str = ""
    unseal_key: str = ""

    def __post_init__(self) -> None:
        self.port, self.tls_port, self.cluster_port = free_port(), free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.tls_url = f"https://127.0.0.1:{self.tls_port}"
        self.http = httpx.Client(base_url=self.url, timeout=PATIENCE, trust_env=False)
        self._process: subprocess.Popen[bytes] | None = None
        self.disk = self.folder / "raft"
        self.disk.mkdir()
        _certificates(self.folder)
        raft = f'storage "raft" {{\n path = "{self.disk}"\n node_id = "only"\n performance_multiplier = "1"\n}}'
        ports = {"port": self.port, "tls_port": self.tls_port, "cluster_port": self.cluster_port}
        config = _CONFIG.format(storage=raft if self.on_disk else 'storage "inmem" {}', folder=self.folder, **ports)
        (self.folder / "config.hcl").write_text(config)

    @property
    def ca(self) -> Path:
        return self.folder / "ca.pem"

    def start(self) -> None:
        command = ["sh", "-c", _KEPT, str(BINARY), str(self.folder / "config.hcl"), str(self.folder / "log")]
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.folder)}
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, env=environment)
        initialised = self._until("sys/init", lambda answer: answer.status_code == 200).json()["initialized"]
        if not initialised:
            made = self.http.put("/v1/sys/init", json={"secret_shares": 1, "secret_threshold": 1}).json()
            self.token, self.unseal_key = made["root_token"], made["keys"][0]
            self.http.headers["X-Vault-Token"] = self.token
        self.unseal()

    def stop(self) -> None:
        """Kill it, without a word to it."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            self._process.wait(PATIENCE)
            self._process = None

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def seal(self) -> None:
        self.api("PUT", "sys/seal")

    def unseal(self) -> None:
        self.http.put("/v1/sys/unseal", json={"key": self.unseal_key})
        self._until("sys/health", lambda answer: answer.status_code == 200)

    def api(self, method: str, path: str, body: Mapping[str, object] | None = None) -> Any:
        """Do it as root; the answer's `data`, or the whole answer where there is none."""
        answer = self.http.request(method, f"/v1/{path}", json=body)
        answer.raise_for_status()
        said = answer.json() if answer.content else {}
        return said.get("data") or said

    def mount(self, name: str) -> str:
        """A transit mount of this name, made when there is none."""
        if f"{name}/" not in self.api("GET", "sys/mounts"):
            self.api("POST", f"sys/mounts/{name}", {"type": "transit"})
        return name

    def limited_token(self, policy: str) -> str:
        """A token that may do what the policy says and nothing else."""
        name = f"p{sha256(policy.encode()).hexdigest()[:8]}"
        self.api("PUT", f"sys/policies/acl/{name}", {"policy": policy})
        answer = self.http.post("/v1/auth/token/create", json={"policies": [name], "no_default_policy": True})
        return str(answer.raise_for_status().json()["auth"]["client_token"])

    def stored(self, folder: str = "") -> Iterator[tuple[str, bytes]]:
        """All that the server stores, deciphered by it: (path, content)."""
        listed = self.http.get(f"/v1/sys/raw/{folder}", params={"list": "true"})
        for name in listed.json()["data"]["keys"] if listed.status_code == 200 else []:
            if name.endswith("/"):
                yield from self.stored(folder + name)
                continue
            found = self.http.get(f"/v1/sys/raw/{folder}{name}", params={"encoding": "base64"})
            if found.status_code == 200:
                yield folder + name, b64decode(found.json()["data"]["value"])

    def roots_in(self, mount: str) -> set[bytes]:
        """The root keys themselves, in base64 as the server stores them: every version of every key of a mount."""
        where = self.api("GET", f"sys/mounts/{mount}")["uuid"]
        found = [
            re.findall(rb'"key":"([A-Za-z0-9+/]{43}=)"', content) for _, content in self.stored(f"logical/{where}/")
        ]
        return {key for keys in found for key in keys}

    def _until(self, path: str, enough: Any) -> httpx.Response:
        ends = time.monotonic() + PATIENCE
        while time.monotonic() < ends:
            try:
                answer = self.http.get(f"/v1/{path}")
            except httpx.TransportError:
                answer = None
            if answer is not None and enough(answer):
                return answer
            time.sleep(0.02)
        raise RuntimeError((self.folder / "log").read_text())


@cache
def server() -> Server:
    """This process's server in memory."""
    made = Server()
    atexit.register(made.remove)
    made.start()
    return made


@contextmanager
def server_on_disk() -> Iterator[Server]:
    made = Server(on_disk=True)
    try:
        made.start()
        yield made
    finally:
        made.remove()


def transit(folder: Path) -> OpenBaoTransit:
    """A provider of its own for each folder: the same mount for the same folder, again and again."""
    mount = server().mount(f"t{sha256(str(folder).encode()).hexdigest()[:16]}")
    return opened(server(), mount)


def opened(at: Server, mount: str, **more: Any) -> OpenBaoTransit:
    named = {"url": at.url, "token": at.token, "mount": mount, **more}
    return OpenBaoTransit(**named, clock=CLOCK, random=os.urandom)


@dataclass(frozen=True)
class Asked:
    """A request on its way to the server."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def work(self) -> str:
        """`decrypt`, `keys`, `trim` ..."""
        _, _, _, first, *rest = self.path.split("/")
        return rest[1] if len(rest) > 1 else first

    @property
    def fields(self) -> Any:
        return json.loads(self.body or b"{}")


@dataclass(frozen=True)
class Reply:
    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


Hook = Callable[[Asked, Callable[[], Reply]], Reply | None]


class Between:
    """Stands between a provider and the server: `hook` answers, asks the server first, or (None) hangs up."""

    def __init__(self, at: Server) -> None:
        self.hook: Hook = lambda asked, forward: forward()
        self.seen: list[Asked] = []
        self._http = httpx.Client(base_url=at.url, timeout=PATIENCE, trust_env=False)
        between = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                asked = Asked(self.command, self.path, dict(self.headers.items()), body)
                between.seen.append(asked)
                reply = between.hook(asked, lambda: between.forward(asked))
                if reply is None:
                    return
                # Whoever asked may have given up by now.
                with suppress(ConnectionError):
                    self.send_response(reply.status)
                    for name, value in {"Content-Length": str(len(reply.body)), **reply.headers}.items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(reply.body)

            do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815

            def log_message(self, *told: object) -> None:
                """Says nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def forward(self, asked: Asked) -> Reply:
        token = {"X-Vault-Token": asked.headers["X-Vault-Token"]}
        answer = self._http.request(asked.method, asked.path, content=asked.body, headers=token)
        return Reply(answer.status_code, answer.content, {"Content-Type": "application/json"})

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._http.close()


def _certificates(folder: Path) -> None:
    """An authority and a certificate for 127.0.0.1, both of today."""
    authority, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "tests")])
    host = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "bao")])
    basic = x509.BasicConstraints(ca=True, path_length=None)
    names = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    signed = _certificate(root, root, authority.public_key(), authority, basic)
    leaf = _certificate(host, root, key.public_key(), authority, names)
    (folder / "ca.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    (folder / "tls.pem").write_bytes(leaf.public_bytes(serialization.Encoding.PEM))
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "tls.key").write_bytes(pem)


def _certificate(
    subject: x509.Name,
    issuer: x509.Name,
    public: ec.EllipticCurvePublicKey,
    signer: ec.EllipticCurvePrivateKey,
    extension: x509.ExtensionType,
) -> x509.Certificate:
    today = datetime.now(UTC)
    building = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(today - timedelta(days=1))
        .not_valid_after(today + timedelta(days=2))
        .add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
    )
    return building.sign(signer, hashes.SHA256())
