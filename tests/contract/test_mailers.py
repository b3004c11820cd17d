"""Every sender keeps the same promises, against real local servers (house.md: one contract test for every adapter)."""

from __future__ import annotations

import base64
import json
import logging
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from app.outbound.errors import CredentialsUnusable, MailRefused, MailUnavailable, PlaintextRefused
from app.outbound.mail import Mailer, Message, Sender
from app.outbound.outbox import LocalOutbox
from app.outbound.sendgrid_v3 import SendGridMailer
from app.outbound.smtp import SmtpMailer, SmtpSecurity
from tests.waiting import PATIENCE

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
SENDER = Sender("no-reply@regard.example", "Régard, Atlas")
KEY = "SG.key"
LINK = "https://regard.example/fr/sign-in/" + "a" * 90


def message(**changed: str) -> Message:
    values = {
        "key": "mail_abc",
        "to": "anna@example.org",
        "template": "sign-in",
        "locale": "fr",
        "subject": "Votre lien de connexion à Atlas",
        "text": f"Voici votre lien :\n\n{LINK}\n\nIl vaut dix minutes, à bientôt.\n",
        "html": f'<html lang="fr"><body><p>À bientôt : <a href="{LINK}">entrer</a></p></body></html>\n',
    }
    return Message(**(values | changed))


@dataclass(frozen=True, slots=True)
class Arrived:
    """What came out at the other end, whoever carried it."""

    to: str
    sender: str
    subject: str
    text: str
    html: str


class Bench(Protocol):
    """A mailer, what arrived through it, and ways to break what it talks to."""

    mailer: Mailer

    def arrived(self) -> list[Arrived]: ...
    def take_away(self) -> None: ...


# -- SMTP: a server of our own, with STARTTLS, TLS and AUTH -----------------------------------------------------------


def certificate(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return (server's, client's) contexts around a fresh certificate for 127.0.0.1."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "mail.test")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime.now(UTC) - timedelta(hours=1))
        .not_valid_after(datetime.now(UTC) + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    cert, secret = folder / "cert.pem", folder / "key.pem"
    cert.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(cert, secret)
    return server, ssl.create_default_context(cafile=str(cert))


@dataclass
class SmtpServer:
    """RFC 5321 as far as a submission client goes; `answers` overrides what a verb is told."""

    context: ssl.SSLContext
    security: SmtpSecurity
    answers: dict[str, str] = field(default_factory=dict)
    mails: list[tuple[str, str, bytes]] = field(default_factory=list)
    said: list[tuple[str, bool]] = field(default_factory=list)
    """(line, was the link encrypted)."""

    def __post_init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self._accept, daemon=True)
        self.thread.start()

    def close(self) -> None:
        with suppress(OSError):  # closed before
            self.listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits in accept()
        self.listener.close()
        self.thread.join(PATIENCE)

    def _accept(self) -> None:
        while True:
            try:
                link, _ = self.listener.accept()
            except OSError:
                return
            link.settimeout(10)
            threading.Thread(target=self._guarded, args=(link,), daemon=True).start()

    def _guarded(self, link: socket.socket) -> None:
        try:
            encrypted = self.security is SmtpSecurity.TLS
            self._serve(self.context.wrap_socket(link, server_side=True) if encrypted else link, encrypted)
        except OSError:
            pass  # the client went away, which several tests are about
        finally:
            link.close()

    def _serve(self, link: socket.socket, encrypted: bool) -> None:
        file = link.makefile("rb")
        if not encrypted or self.security is SmtpSecurity.TLS:
            link.sendall(b"220 mail.test\r\n")
        addresses: list[str] = []
        while line := file.readline().decode().rstrip("\r\n"):
            self.said.append((line, encrypted))
            verb = line.split()[0].upper()
            reply = self.answers.get(verb) or self._reply(verb, line, encrypted)
            link.sendall(reply.encode() + b"\r\n")
            if verb in {"MAIL", "RCPT"}:
                addresses.append(line.split("<")[1].split(">")[0])
            if reply.startswith("354"):
                self.mails.append((addresses[0], addresses[1], _data(file)))
                link.sendall(self.answers.get("DONE", "250 queued").encode() + b"\r\n")
            if reply == "220 go":
                self._serve(self.context.wrap_socket(link, server_side=True), encrypted=True)
                return

    def _reply(self, verb: str, line: str, encrypted: bool) -> str:
        if verb == "EHLO":
            offers = "" if encrypted or self.security is SmtpSecurity.NONE else "250-STARTTLS\r\n"
            return f"250-mail.test\r\n{offers}250 AUTH PLAIN"
        if verb == "AUTH":
            good = base64.b64encode(b"\0regard\0password").decode()
            return "235 ok" if line.endswith(good) else "535 no"
        return {"STARTTLS": "220 go", "DATA": "354 go", "QUIT": "221 bye"}.get(verb, "250 ok")


def _data(file: BinaryIO) -> bytes:
    """Read up to the lone dot and take off the doubled ones (RFC 5321 section 4.5.2)."""
    lines = iter(file.readline, b".\r\n")
    return b"".join(line.removeprefix(b".") for line in lines)


@dataclass
class SmtpBench:
    mailer: SmtpMailer
    server: SmtpServer

    def take_away(self) -> None:
        self.server.close()

    def arrived(self) -> list[Arrived]:
        return [self._one(*mail) for mail in self.server.mails]

    def _one(self, sender: str, to: str, data: bytes) -> Arrived:
        mail = message_from_bytes(data, policy=default)
        assert isinstance(mail, EmailMessage)
        assert mail.get_content_type() == "multipart/alternative"
        parts = list(mail.iter_parts())
        assert [part.get_content_type() for part in parts] == ["text/plain", "text/html"]
        assert (mail["To"].addresses[0].addr_spec, mail["From"].addresses[0].addr_spec) == (to, sender)
        assert mail["Auto-Submitted"] == "auto-generated"
        assert mail["Content-Language"] == "fr"
        assert mail["Date"].datetime == NOW
        text, html = (part.get_content().replace("\r\n", "\n") for part in parts)  # type: ignore[attr-defined]
        return Arrived(to, mail["From"].addresses[0].display_name + " " + sender, mail["Subject"], text, html)


def smtp_bench(folder: Path, security: SmtpSecurity = SmtpSecurity.STARTTLS, **how: Any) -> SmtpBench:
    server_side, client_side = certificate(folder)
    server = SmtpServer(server_side, security)
    options = {"username": "regard", "password": "password", "context": client_side} | how
    return SmtpBench(SmtpMailer("127.0.0.1", server.port, SENDER, lambda: NOW, security=security, **options), server)


# -- SendGrid: a strict v3 door ---------------------------------------------------------------------------------------


class SendGridDoor(BaseHTTPRequestHandler):
    """Checks a mail/send request the way the v3 reference describes it, and refuses what it does not know."""

    server: SendGridServer

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        faults = self._faults(body)
        if faults:
            self._answer(400, {"errors": [{"message": fault} for fault in faults]})
        elif self.server.status != 202:
            self._answer(self.server.status, {"errors": [{"message": "anna@example.org cannot be served"}]})
        else:
            self.server.mails.append(json.loads(body))
            self._answer(202, None)

    def _faults(self, body: bytes) -> list[str]:
        self.server.requests += 1
        faults = []
        if self.path != "/v3/mail/send":
            faults.append(f"path {self.path}")
        if self.headers["Authorization"] != f"Bearer {KEY}":
            faults.append("authorization")
        if self.headers["Content-Type"] != "application/json":
            faults.append(f"content type {self.headers['Content-Type']}")
        return faults + payload_faults(json.loads(body))

    def _answer(self, status: int, body: object) -> None:
        data = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("X-Message-Id", f"sg-{self.server.requests}")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None: ...


def payload_faults(mail: dict[str, Any]) -> list[str]:
    expected: dict[str, Callable[[Any], bool]] = {
        "personalizations": lambda p: (
            isinstance(p, list)
            and len(p) == 1
            and p[0].keys() == {"to", "custom_args"}
            and len(p[0]["to"]) == 1
            and p[0]["to"][0].keys() == {"email"}
            and p[0]["custom_args"].keys() == {"key"}
        ),
        "from": lambda f: f == {"email": SENDER.address, "name": SENDER.name},
        "subject": lambda s: isinstance(s, str) and s != "",
        "content": lambda c: (
            [part["type"] for part in c] == ["text/plain", "text/html"]
            and all(part.keys() == {"type", "value"} and part["value"] for part in c)
        ),
        "headers": lambda h: h == {"Content-Language": "fr", "Auto-Submitted": "auto-generated"},
        "tracking_settings": lambda t: (
            t
            == {
                "click_tracking": {"enable": False, "enable_text": False},
                "open_tracking": {"enable": False},
                "subscription_tracking": {"enable": False},
                "ganalytics": {"enable": False},
            }
        ),
    }
    faults = [f"{name} is unknown or missing" for name in sorted(mail.keys() ^ expected.keys())]
    wrong = [name for name, check in expected.items() if name in mail and not check(mail[name])]
    return faults + [f"{name} is not as it must be" for name in wrong]


class SendGridServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), SendGridDoor)
        self.status, self.requests, self.mails = 202, 0, list[dict[str, Any]]()
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@dataclass
class SendGridBench:
    mailer: SendGridMailer
    server: SendGridServer

    def take_away(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def arrived(self) -> list[Arrived]:
        return [
            Arrived(
                mail["personalizations"][0]["to"][0]["email"],
                f"{mail['from']['name']} {mail['from']['email']}",
                mail["subject"],
                mail["content"][0]["value"],
                mail["content"][1]["value"],
            )
            for mail in self.server.mails
        ]


def sendgrid_bench() -> SendGridBench:
    server = SendGridServer()
    return SendGridBench(SendGridMailer(KEY, SENDER, host=server.url, production=False), server)


# -- the outbox -------------------------------------------------------------------------------------------------------


@dataclass
class OutboxBench:
    mailer: LocalOutbox
    folder: Path

    def take_away(self) -> None:
        """A file where the folder should be: not writable, even for root."""
        self.folder.rename(self.folder.with_suffix(".gone")) if self.folder.exists() else None
        self.folder.write_text("in the way")

    def arrived(self) -> list[Arrived]:
        mails = [mail.message for mail in reversed(self.mailer.delivered())]
        return [Arrived(m.to, f"{SENDER.name} {SENDER.address}", m.subject, m.text, m.html) for m in mails]


@pytest.fixture(params=["smtp", "sendgrid", "outbox"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    if request.param == "smtp":
        made: Any = smtp_bench(tmp_path)
    elif request.param == "sendgrid":
        made = sendgrid_bench()
    else:
        made = OutboxBench(LocalOutbox(tmp_path / "outbox", lambda: NOW), tmp_path / "outbox")
    yield made
    if request.param != "outbox":
        made.take_away()


# -- the contract -----------------------------------------------------------------------------------------------------


def test_a_mail_arrives_as_it_was_written(bench: Bench) -> None:
    sent = message()
    receipt = bench.mailer.send(sent)
    assert receipt.reference
    assert bench.arrived() == [
        Arrived("anna@example.org", "Régard, Atlas no-reply@regard.example", sent.subject, sent.text, sent.html)
    ]


def test_a_service_that_is_away_is_unavailable(bench: Bench) -> None:
    bench.take_away()
    with pytest.raises(MailUnavailable) as away:
        bench.mailer.send(message())
    assert "anna" not in f"{away.value!r} {away.value.__cause__!r}"


def test_nothing_personal_is_logged(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """house.md: no personal data in logs; at every level, the libraries' own included."""
    with caplog.at_level(logging.DEBUG):
        bench.mailer.send(message())
    assert "anna" not in caplog.text
    assert LINK not in caplog.text


# -- what only one of them can do -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        *((s, MailRefused) for s in (400, 404, 413)),
        *((s, MailUnavailable) for s in (200, 401, 403, 408, 429, 500, 503)),
    ],
)
def test_sendgrid_answers_are_judged(status: int, expected: type[Exception]) -> None:
    bench = sendgrid_bench()
    bench.server.status = status
    with pytest.raises(expected) as raised:
        bench.mailer.send(message())
    assert str(status) in str(raised.value)
    assert "anna" not in str(raised.value)
    assert raised.value.__suppress_context__ or raised.value.__context__ is None
    bench.take_away()


def test_sendgrid_refuses_a_wrong_key_and_returns_its_id() -> None:
    bench = sendgrid_bench()
    assert bench.mailer.send(message()).reference == "sg-1"
    with pytest.raises(MailRefused):  # the strict door answers 400 to everything it does not like
        SendGridMailer("SG.other", SENDER, host=bench.server.url, production=False).send(message())
    assert KEY not in repr(bench.mailer)
    bench.take_away()


@pytest.mark.parametrize(
    ("verb", "answer", "expected"),
    [
        ("RCPT", "550 no such anna@example.org", MailRefused),
        ("RCPT", "450 later, anna@example.org", MailUnavailable),
        ("MAIL", "552 too much", MailRefused),
        ("MAIL", "421 closing", MailUnavailable),
        ("MAIL", "530 log in first", MailUnavailable),
        ("MAIL", "550 not your address", MailUnavailable),
        ("RCPT", "530 log in first", MailUnavailable),
        ("DONE", "538 not without encryption", MailUnavailable),
        ("DONE", "554 rejected anna@example.org", MailRefused),
        ("DONE", "451 try again", MailUnavailable),
        ("AUTH", "535 who are you", MailUnavailable),
        ("STARTTLS", "454 not now", MailUnavailable),
        ("STARTTLS", "502 never heard of it", MailUnavailable),
    ],
)
def test_smtp_answers_are_judged(tmp_path: Path, verb: str, answer: str, expected: type[Exception]) -> None:
    bench = smtp_bench(tmp_path)
    bench.server.answers[verb] = answer
    with pytest.raises((MailRefused, MailUnavailable)) as raised:
        bench.mailer.send(message())
    assert raised.type is expected
    assert "anna" not in str(raised.value)
    assert raised.value.__suppress_context__
    bench.take_away()


@pytest.mark.parametrize("security", [SmtpSecurity.STARTTLS, SmtpSecurity.TLS])
def test_nothing_travels_in_clear(tmp_path: Path, security: SmtpSecurity) -> None:
    """operations.md section 2: production refuses plaintext links."""
    bench = smtp_bench(tmp_path, security)
    bench.mailer.send(message())
    clear = [line for line, encrypted in bench.server.said if not encrypted]
    assert {line.split()[0].upper() for line in clear} <= {"EHLO", "STARTTLS"}
    assert any(line.startswith("AUTH") for line, encrypted in bench.server.said if encrypted)
    bench.take_away()


def test_a_server_without_starttls_gets_nothing(tmp_path: Path) -> None:
    bench = smtp_bench(tmp_path)
    bench.server.security = SmtpSecurity.NONE
    with pytest.raises(MailUnavailable):
        bench.mailer.send(message())
    assert not any(line.startswith(("AUTH", "MAIL", "RCPT")) for line, _ in bench.server.said)
    bench.take_away()


def test_a_mail_that_was_taken_stays_taken(tmp_path: Path) -> None:
    """An odd answer to QUIT must not make the worker send the mail again."""
    bench = smtp_bench(tmp_path)
    bench.server.answers["QUIT"] = "500 what?"
    assert bench.mailer.send(message()).reference == "<mail_abc@regard.example>"
    assert len(bench.arrived()) == 1
    bench.take_away()


def test_lines_that_begin_with_a_dot_survive(tmp_path: Path) -> None:
    bench = smtp_bench(tmp_path)
    bench.mailer.send(message(text=".\n..\n.x\n"))
    assert bench.arrived()[0].text == ".\n..\n.x\n"
    bench.take_away()


def test_an_unknown_certificate_is_not_believed(tmp_path: Path) -> None:
    bench = smtp_bench(tmp_path, context=None)
    with pytest.raises(MailUnavailable):
        bench.mailer.send(message())
    assert bench.server.mails == []
    bench.take_away()


def test_a_relay_on_this_host_needs_no_tls_outside_production(tmp_path: Path) -> None:
    bench = smtp_bench(tmp_path, SmtpSecurity.NONE, username=None, password=None, production=False)
    assert bench.mailer.send(message()).reference == "<mail_abc@regard.example>"
    assert len(bench.arrived()) == 1
    bench.take_away()


def test_plaintext_is_refused_at_the_start() -> None:
    with pytest.raises(PlaintextRefused):
        SmtpMailer("localhost", 25, SENDER, lambda: NOW, security=SmtpSecurity.NONE)
    with pytest.raises(PlaintextRefused):
        SmtpMailer("localhost", 25, SENDER, lambda: NOW, security=SmtpSecurity.NONE, password="b", production=False)
    with pytest.raises(CredentialsUnusable):
        SmtpMailer("localhost", 25, SENDER, lambda: NOW, username="a", password="ß")
    for alone in ({"username": "a"}, {"password": "b"}):
        with pytest.raises(CredentialsUnusable, match="go together"):
            SmtpMailer("localhost", 25, SENDER, lambda: NOW, **alone)  # type: ignore[arg-type]
    with pytest.raises(PlaintextRefused):
        SendGridMailer(KEY, SENDER, host="http://api.example")
    SendGridMailer(KEY, SENDER, host="https://api.eu.sendgrid.com")


def test_the_outbox_is_read_forgotten_and_keeps_one_of_each(tmp_path: Path) -> None:
    moments = iter(NOW + timedelta(seconds=n) for n in range(9))
    outbox = LocalOutbox(tmp_path / "outbox", lambda: next(moments))
    assert outbox.delivered() == []
    first = outbox.send(message())
    second = outbox.send(message(key="mail_b", to="bruno@example.org"))
    assert outbox.send(message()) == first
    assert [mail.id for mail in outbox.delivered()] == [second.reference, first.reference]
    found = outbox.read(first.reference)
    assert found
    assert found.message == message()
    assert outbox.read("../outbox/" + first.reference) is None
    assert outbox.forget("ANNA@example.org") == 1
    assert [mail.message.to for mail in outbox.delivered()] == ["bruno@example.org"]
    assert b"anna" not in b"".join(file.read_bytes() for file in (tmp_path / "outbox").iterdir())


# -- what may be a mail at all ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changed",
    [
        {"to": "anna@example.org\r\nBcc: x@example.org"},
        {"to": "anna"},
        {"to": "anna@example..org"},
        {"to": "anna@example.org, bruno@example.org"},
        {"to": ""},
        {"subject": "a\r\nBcc: x@example.org"},
        {"subject": " "},
        {"subject": "x" * 201},
        {"key": "a b"},
        {"text": " "},
        {"html": ""},
        {"html": '<p>x</p><img src="https://t.example/p.gif">'},
        {"html": "<p style=\"background: url('https://t.example/p.gif')\">x</p>"},
        {"html": "<script>1</script>"},
        {"html": '<LINK rel="stylesheet" href="https://t.example/a.css">'},
        {"text": "Bonjour ANNA@example.org"},
        {"html": "<p>anna@example.org</p>"},
        {"subject": "anna@example.org, votre lien"},
    ],
)
def test_what_may_not_be_a_mail(changed: dict[str, str]) -> None:
    """dsar rule 58: nothing personal in subject or body; consent rules section 4, item 7: nothing loaded."""
    with pytest.raises(MailRefused) as refused:
        message(**changed)
    assert "anna" not in str(refused.value).lower()


def test_a_mail_does_not_show_itself() -> None:
    shown = repr(message())
    assert "anna" not in shown
    assert LINK not in shown
    assert "mail_abc" in shown


def test_a_sender_is_checked() -> None:
    for address, name in (("x", "Atlas"), ("a@b.example", "Atlas\nBcc: x@y.example")):
        with pytest.raises(MailRefused):
            Sender(address, name)
