"""What a deployment says of itself: environment variables or one TOML file, frozen, every fault at once.

`REGARD_<NAME>` overrides the file named by `REGARD_CONFIG`; `REGARD_<NAME>_FILE` reads the value from a file, for
secrets. Unknown names are refused: a misspelt setting must not pass for its default (operations.md section 4).
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit


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


@dataclass(frozen=True, slots=True)
class Settings:
    """One deployment. Paths are absolute or relative to the working directory."""

    production: bool = False
    issuer: str = "http://localhost:8000"
    bind_host: str = "127.0.0.1"
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
    executor: str = "regard-1"
    fast_lane: bool = True

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
    except tomllib.TOMLDecodeError as error:
        faults.append(f"REGARD_CONFIG: not valid TOML: {error}")
    return {}


def _from_environment(environment: Mapping[str, str], faults: list[str]) -> dict[str, object]:
    found: dict[str, object] = {}
    for variable, value in environment.items():
        if not variable.startswith(PREFIX) or variable in _NOT_OURS or variable.startswith("REGARD_TEST_"):
            continue
        name = variable.removeprefix(PREFIX).lower()
        if not name.endswith("_file"):
            found[name] = value
            continue
        try:
            found[name.removesuffix("_file")] = Path(value).read_text(encoding="utf-8").strip()
        except OSError:
            faults.append(f"{variable}: the file cannot be read")
    return found


def _parser(kind: str) -> Callable[[object], Any]:
    return {
        "bool": _boolean,
        "int": _integer,
        "Path": lambda raw: Path(str(raw)),
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
    faults = []
    if settings.records_url == settings.keys_url:
        faults.append("REGARD_KEYS_URL: the key store must be another database than the records")
    if urlsplit(settings.issuer).scheme not in {"http", "https"} or not urlsplit(settings.issuer).hostname:
        faults.append("REGARD_ISSUER: must be an http or https address")
    if settings.mail not in {"outbox", "smtp", "sendgrid"}:
        faults.append("REGARD_MAIL: must be outbox, smtp or sendgrid")
    if settings.mail == "smtp" and not settings.smtp_host:
        faults.append("REGARD_SMTP_HOST: needed when REGARD_MAIL is smtp")
    if settings.mail == "sendgrid" and not settings.sendgrid_key.reveal():
        faults.append("REGARD_SENDGRID_KEY: needed when REGARD_MAIL is sendgrid")
    return faults + (_production(settings) if settings.production else [])


def _production(settings: Settings) -> list[str]:
    faults = []
    if not settings.issuer.startswith("https://"):
        faults.append("REGARD_ISSUER: production needs https")
    if settings.mail == "outbox":
        faults.append("REGARD_MAIL: the local outbox is for demonstrations; choose smtp or sendgrid")
    return faults
