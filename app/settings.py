"""What a deployment says of itself: environment variables or one TOML file, frozen, every fault at once.

`REGARD_<NAME>` overrides the file named by `REGARD_CONFIG`; `REGARD_<NAME>_FILE` reads the value from a file, for
secrets. Unknown names are refused: a misspelt setting must not pass for its default (operations.md section 4).
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from app.sdk.notes import Algorithm, NoteError, Verifier


class Secret:
    """A value whose `repr` shows nothing; `reveal()` says where it is read."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "Secret(hidden)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)


NO_SECRET = Secret("")


class KeyProviderKind(StrEnum):
    """Where root keys can live (vault.md section 4)."""

    FILE = "file"
    PKCS11 = "pkcs11"
    OPENBAO = "openbao"
    AWS = "aws"
    GCP = "gcp"


@dataclass(frozen=True, slots=True)
class Settings:
    """One deployment. Paths are absolute or relative to the working directory."""

    production: bool = False
    issuer: str = "http://localhost:8000"
    bind_host: str = "127.0.0.1"
    trusted_proxies: int = 0
    """How many proxies of ours stand in front, each adding the address it was asked from to X-Forwarded-For."""
    data_dir: Path = Path("var")
    policies_dir: Path = Path("policies")
    controller: str = ""
    """Whose deployment this is; empty: the pack's only controller in the capacity `controller`."""
    records_url: Secret = NO_SECRET
    keys_url: Secret = NO_SECRET
    mail: str = "outbox"
    """`outbox` (a page of the demo), `smtp` or `sendgrid`."""
    mail_from: str = "regard@localhost"
    smtp_host: str = ""
    smtp_port: int = 587
    smtp_user: str = ""
    smtp_password: Secret = NO_SECRET
    sendgrid_key: Secret = NO_SECRET
    sendgrid_host: str = ""
    ledger_witnesses: str = ""
    """Verifier keys (`name+id+base64`) of the witnesses whose cosignatures are taken, with spaces between."""
    executor: str = "regard-1"
    fast_lane: bool = True
    key_provider: str = "file"
    """Where the root keys are made: one of `KeyProviderKind`."""
    key_provider_before: str = ""
    """Where root keys still are while `regard keys move` has not brought all of them to `key_provider`."""
    pkcs11_module: Path | None = None
    """The vendor's library (a shared object); `pkcs11_token` is the token's label."""
    pkcs11_token: str = ""
    pkcs11_pin: Secret = NO_SECRET
    pkcs11_hardware: bool = False
    """Whether the token is a device that its keys cannot leave: it decides what a certificate claims."""
    openbao_url: str = ""
    openbao_token: Secret = NO_SECRET
    openbao_mount: str = "transit"
    openbao_ca: Path | None = None
    """A PEM file that says whom to trust, where the server's certificate is the firm's own."""
    aws_region: str = ""
    aws_endpoint: str = ""
    aws_waiting_days: int = 7
    """How long AWS keeps a key that was told to go; it takes 7 to 30 days."""
    gcp_key_ring: str = ""
    """`projects/P/locations/L/keyRings/R`."""
    gcp_hardware: bool = False
    gcp_destroy_days: int = 30
    """How long Google keeps a key version that was told to go; it takes 1 to 120 days."""
    erasure_batch_minutes: int = 15
    """How often the keys of the erased are destroyed physically; 0: at once. No key opens or is lent meanwhile."""
    erasure_guard_subjects: int = 200
    """More people than this erased within 24 hours: two colleagues have to agree to the rest."""
    erasure_cooling_hours: int = 0
    """How long nothing is destroyed physically after a person's erasure was asked for."""
    key_backup_window: int = 0
    """Hours an old root lives on after an erasure, so that backups of the key store still restore the survivors."""
    gcp_endpoint: str = ""
    index_rekey_days: int = 90
    """How old the key by which people are found by their address may become before the next one takes over."""
    metrics_token: Secret = NO_SECRET
    """What a scraper presents at /metrics as a bearer token; empty: there is no such door."""

    @property
    def port(self) -> int:
        split = urlsplit(self.issuer)
        return split.port or (443 if split.scheme == "https" else 80)


class SettingsFaultsError(ValueError):
    """Every fault of a configuration, each with the sentence that mends it."""

    code = "settings_faulty"

    def __init__(self, faults: tuple[str, ...]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


PREFIX = "REGARD_"
_NOT_OURS = frozenset({"REGARD_CONFIG"})
_DATABASE = re.compile(r"sqlite(?:\+pysqlite)?:///.+|postgresql\+psycopg://[^/?#\s]*/[^/?\s].*")
_HOST = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*|[0-9a-f:.]+")
"""A name in ASCII (of another script its `xn--` spelling) or an address of IP."""
_KEY_RING = re.compile(r"projects/[^/\s]+/locations/[^/\s]+/keyRings/[^/\s]+")


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Return the settings, or raise `SettingsFaultsError` with every fault."""
    faults: list[str] = []
    given = _from_file(environment, faults) | _from_environment(environment, faults)
    known = {field.name: _parser(str(field.type)) for field in fields(Settings)}
    values: dict[str, Any] = {}
    for name, raw in given.items():
        if name not in known:
            faults.append(f"{PREFIX}{name.upper()}: no such setting; see `regard config show` for the names")
            continue
        _take(name, raw, known[name], values, faults)
    settings = _with_defaults(Settings(**values))
    faults.extend(_meaning(settings))
    if faults:
        raise SettingsFaultsError(tuple(faults))
    return settings


def _take(name: str, raw: object, parse: Callable[[object], Any], values: dict[str, Any], faults: list[str]) -> None:
    try:
        values[name] = parse(raw)
    except (TypeError, ValueError):
        faults.append(f"{PREFIX}{name.upper()}: the value has the wrong form")


def _from_file(environment: Mapping[str, str], faults: list[str]) -> dict[str, object]:
    path = environment.get("REGARD_CONFIG")
    if not path:
        return {}
    try:
        return dict(tomllib.loads(Path(path).read_text(encoding="utf-8")))
    except OSError:
        faults.append("REGARD_CONFIG: the file cannot be read")
    except UnicodeDecodeError:
        faults.append("REGARD_CONFIG: the file is not UTF-8 text")
    except tomllib.TOMLDecodeError as error:
        faults.append(f"REGARD_CONFIG: not valid TOML: {error}")
    return {}


def _from_environment(environment: Mapping[str, str], faults: list[str]) -> dict[str, object]:
    found: dict[str, object] = {}
    for variable, value in environment.items():
        if not variable.startswith(PREFIX) or variable in _NOT_OURS or variable.startswith("REGARD_TEST_"):
            continue
        name = variable.removeprefix(PREFIX).lower()
        setting = name.removesuffix("_file")
        if setting in found:
            faults.append(f"{PREFIX}{setting.upper()}: is given twice, itself and as a file: keep one")
        found[setting] = value if setting == name else _content(variable, value, faults)
    return found


def _content(variable: str, path: str, faults: list[str]) -> str:
    """Return what the file says; the fault of one that says nothing readable repeats none of it."""
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError:
        faults.append(f"{variable}: the file cannot be read")
    except UnicodeDecodeError:
        faults.append(f"{variable}: the file is not UTF-8 text")
    return ""


def _parser(kind: str) -> Callable[[object], Any]:
    return {
        "bool": _boolean,
        "int": _integer,
        "Path": lambda raw: Path(str(raw)),
        "Path | None": lambda raw: Path(str(raw)) if str(raw) else None,
        "Secret": lambda raw: Secret(str(raw)),
    }.get(kind, str)


def _boolean(raw: object) -> bool:
    if isinstance(raw, bool):
        return raw
    known = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
    if str(raw).lower() not in known:
        raise ValueError
    return known[str(raw).lower()]


def _integer(raw: object) -> int:
    return int(str(raw))


def _with_defaults(settings: Settings) -> Settings:
    folder = settings.data_dir
    return replace(
        settings,
        records_url=settings.records_url
        if settings.records_url.reveal()
        else Secret(f"sqlite:///{folder}/records.sqlite"),
        keys_url=settings.keys_url if settings.keys_url.reveal() else Secret(f"sqlite:///{folder}/keys.sqlite"),
    )


def _meaning(settings: Settings) -> list[str]:
    faults = [f"{PREFIX}{name.upper()}: {_DATABASES}" for name in _DATABASE_NAMES if not _is_database(settings, name)]
    if settings.records_url == settings.keys_url:
        faults.append("REGARD_KEYS_URL: the key store must be another database than the records")
    if not _is_origin(settings.issuer):
        faults.append(
            "REGARD_ISSUER: must be an http or https address as browsers write an origin: in small letters, the port "
            "unless it is the usual one, and nothing after it, no slash either"
        )
    if any(_not_a_witness(key) for key in settings.ledger_witnesses.split()):
        faults.append("REGARD_LEDGER_WITNESSES: not all are witnesses' verifier keys (name+id+base64, type 0x04)")
    if settings.mail not in {"outbox", "smtp", "sendgrid"}:
        faults.append("REGARD_MAIL: must be outbox, smtp or sendgrid")
    if settings.mail == "smtp" and not settings.smtp_host:
        faults.append("REGARD_SMTP_HOST: needed when REGARD_MAIL is smtp")
    if settings.mail == "smtp" and bool(settings.smtp_user) is not bool(settings.smtp_password.reveal()):
        faults.append("REGARD_SMTP_USER: goes together with REGARD_SMTP_PASSWORD: both or neither")
    if settings.mail == "sendgrid" and not settings.sendgrid_key.reveal():
        faults.append("REGARD_SENDGRID_KEY: needed when REGARD_MAIL is sendgrid")
    faults += _endpoint_faults("REGARD_SENDGRID_HOST", settings.sendgrid_host, settings)
    faults += _providers(settings) + _erasures(settings)
    return faults + (_production(settings) if settings.production else [])


_DATABASE_NAMES = ("records_url", "keys_url")
_DATABASES = (
    "must read sqlite:///PATH or postgresql+psycopg://ROLE:PASSWORD@HOST:PORT/DATABASE, with %xx in the password for "
    "what would end it"
)


def _is_database(settings: Settings, name: str) -> bool:
    url = getattr(settings, name).reveal()
    return _DATABASE.fullmatch(url) is not None and _comes_apart(url)


def _comes_apart(url: str) -> bool:
    """Reading a port that is no number raises, as does a bracket in a password."""
    try:
        return urlsplit(url).port != 0
    except ValueError:
        return False


def _erasures(settings: Settings) -> list[str]:
    """A week at the most: what waits longer than that is no erasure "without undue delay" (GDPR art. 17(1))."""
    most = {
        "erasure_batch_minutes": 24 * 60,
        "erasure_guard_subjects": 1_000_000,
        "erasure_cooling_hours": 7 * 24,
        "key_backup_window": 7 * 24,
    }
    wrong = [name for name, highest in most.items() if not 0 <= getattr(settings, name) <= highest]
    faults = [f"{PREFIX}{name.upper()}: must be 0 to {most[name]}" for name in wrong]
    if not 1 <= settings.index_rekey_days <= 3_650:
        faults.append("REGARD_INDEX_REKEY_DAYS: must be 1 to 3650")
    return faults


def _providers(settings: Settings) -> list[str]:
    known = [kind.value for kind in KeyProviderKind]
    faults = []
    if settings.key_provider not in known:
        faults.append(f"REGARD_KEY_PROVIDER: must be one of {', '.join(known)}")
    if settings.key_provider_before not in ("", *known):
        faults.append(f"REGARD_KEY_PROVIDER_BEFORE: must be empty or one of {', '.join(known)}")
    if settings.key_provider_before == settings.key_provider:
        faults.append("REGARD_KEY_PROVIDER_BEFORE: names the provider that roots are moved away from, so another one")
    for kind in dict.fromkeys((settings.key_provider, settings.key_provider_before)):
        if kind in known:
            faults += _PROVIDER_FAULTS[KeyProviderKind(kind)](settings)
    return faults


def _pkcs11_faults(settings: Settings) -> list[str]:
    faults = []
    if settings.pkcs11_module is None:
        faults.append("REGARD_PKCS11_MODULE: the path of the token's library is needed")
    elif not settings.pkcs11_module.is_file():
        faults.append("REGARD_PKCS11_MODULE: there is no such file")
    if not settings.pkcs11_token:
        faults.append("REGARD_PKCS11_TOKEN: the label of the token is needed")
    if not settings.pkcs11_pin.reveal():
        faults.append("REGARD_PKCS11_PIN: the user's PIN is needed; REGARD_PKCS11_PIN_FILE reads it from a file")
    return faults


def _openbao_faults(settings: Settings) -> list[str]:
    faults = []
    if not _is_address(settings.openbao_url):
        faults.append("REGARD_OPENBAO_URL: must be an http or https address")
    elif settings.production and not settings.openbao_url.startswith("https://"):
        faults.append("REGARD_OPENBAO_URL: production needs https")
    if not settings.openbao_token.reveal():
        faults.append("REGARD_OPENBAO_TOKEN: a token is needed; REGARD_OPENBAO_TOKEN_FILE reads it from a file")
    if not settings.openbao_mount.strip("/"):
        faults.append("REGARD_OPENBAO_MOUNT: the path of the transit engine is needed")
    if settings.openbao_ca is not None and not settings.openbao_ca.is_file():
        faults.append("REGARD_OPENBAO_CA: there is no such file")
    return faults


def _aws_faults(settings: Settings) -> list[str]:
    faults = _endpoint_faults("REGARD_AWS_ENDPOINT", settings.aws_endpoint, settings)
    if not settings.aws_region:
        faults.append("REGARD_AWS_REGION: the region of the keys is needed")
    if not 7 <= settings.aws_waiting_days <= 30:
        faults.append("REGARD_AWS_WAITING_DAYS: AWS takes 7 to 30")
    return faults


def _gcp_faults(settings: Settings) -> list[str]:
    faults = _endpoint_faults("REGARD_GCP_ENDPOINT", settings.gcp_endpoint, settings)
    if not _KEY_RING.fullmatch(settings.gcp_key_ring):
        faults.append("REGARD_GCP_KEY_RING: must read projects/P/locations/L/keyRings/R")
    if not 1 <= settings.gcp_destroy_days <= 120:
        faults.append("REGARD_GCP_DESTROY_DAYS: Google takes 1 to 120")
    return faults


def _endpoint_faults(name: str, address: str, settings: Settings) -> list[str]:
    if address and not _is_address(address):
        return [f"{name}: must be empty or an http or https address"]
    if address and settings.production and not address.startswith("https://"):
        return [f"{name}: production needs https"]
    return []


def _is_address(said: str) -> bool:
    return said.startswith(("http://", "https://")) and _comes_apart(said) and bool(urlsplit(said).hostname)


def _is_origin(said: str) -> bool:
    """Return whether an address is its own origin (RFC 6454 section 6.2).

    Links begin with it as it stands, and a passkey's answer names the browser's spelling of it.
    """
    if not (_is_address(said) and _HOST.fullmatch(urlsplit(said).hostname or "")):
        return False
    split = urlsplit(said)
    host = f"[{split.hostname}]" if ":" in (split.hostname or "") else split.hostname
    usual = split.port in (None, {"http": 80, "https": 443}[split.scheme])
    return said == f"{split.scheme}://{host}" + ("" if usual else f":{split.port}")


_PROVIDER_FAULTS: Mapping[KeyProviderKind, Callable[[Settings], list[str]]] = {
    KeyProviderKind.FILE: lambda _settings: [],
    KeyProviderKind.PKCS11: _pkcs11_faults,
    KeyProviderKind.OPENBAO: _openbao_faults,
    KeyProviderKind.AWS: _aws_faults,
    KeyProviderKind.GCP: _gcp_faults,
}


def _not_a_witness(key: str) -> bool:
    try:
        return Verifier.parse(key).algorithm is not Algorithm.COSIGNATURE
    except NoteError:
        return True


def _production(settings: Settings) -> list[str]:
    faults = []
    if not settings.issuer.startswith("https://"):
        faults.append("REGARD_ISSUER: production needs https")
    if settings.mail == "outbox":
        faults.append("REGARD_MAIL: the local outbox is for demonstrations; choose smtp or sendgrid")
    if _role(settings.records_url) is not None and _role(settings.records_url) == _role(settings.keys_url):
        faults.append("REGARD_KEYS_URL: production needs another role of the database server than the records")
    if settings.openbao_url.startswith("http://"):
        faults.append("REGARD_OPENBAO_URL: production needs https: root keys cross this wire")
    return faults + [f"{PREFIX}{name.upper()}: {_CLEAR}" for name in _DATABASE_NAMES if _in_clear(settings, name)]


_CLEAR = (
    "production needs ?sslmode=verify-full&sslrootcert=FILE: what else there is also talks in clear, or with whoever "
    "answers. A server on this machine is named by host=/FOLDER of its socket, or a loopback address"
)


def _in_clear(settings: Settings, name: str) -> bool:
    """Return whether the link to a database may go over a network without TLS to a server whose name was proven.

    `require` does not do: it encrypts for whoever stands between (operations.md section 2, "refuses plaintext links").
    """
    url = getattr(settings, name).reveal()
    if not (url.startswith("postgresql") and _is_database(settings, name)):
        return False
    asked = parse_qs(urlsplit(url).query, keep_blank_values=True)
    return asked.get("sslmode") != ["verify-full"] and not _stays_here(urlsplit(url).hostname, asked)


def _stays_here(host: str | None, asked: Mapping[str, list[str]]) -> bool:
    """Return whether every host that the driver may try, by the address or its query, is a socket or the loopback."""
    named = [*([host] if host else []), *asked.get("host", []), *asked.get("hostaddr", [])]
    hosts = [one for each in named for one in each.split(",")]
    return bool(hosts) and "service" not in asked and all(one.startswith("/") or _is_loopback(one) for one in hosts)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _role(url: Secret) -> tuple[str | None, int, str | None] | None:
    """Return whom the address signs in as, and where; nothing for a SQLite file or what is no address."""
    if not _comes_apart(url.reveal()):
        return None
    split = urlsplit(url.reveal())
    if not split.scheme.startswith("postgresql"):
        return None
    return split.hostname, split.port or 5432, split.username
