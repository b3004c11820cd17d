"""The wheel `regard-sdk`: built, imported with nothing of ours beside it; and its README's example, executed."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from click.testing import CliRunner

import app.sdk
from app.cli.main import main
from app.sdk.client import Authority
from app.sdk.dpop import new_key
from app.sdk.gate import Reason
from app.sdk.keyfile import read_key
from app.settings import read_settings
from app.wiring import migrate
from consent.vocabulary import PurposeId
from tests.doors.oauth_house import CALLBACK, HOLDER, ISSUER
from tests.mechanism.sdk_house import Wire
from tests.mechanism.test_sdk_sealer import BALANCES, Setting

SOURCE = Path(app.sdk.__file__).parent
_USE = """
import sys
import regard_sdk
from regard_sdk import Authority, Deny, Disclosures, Found, Gate, Holder, Partner, Permit, Scope, Sealer, Task
import regard_sdk.sealed, regard_sdk.evidence, regard_sdk.verify
assert all(hasattr(regard_sdk, name) for name in regard_sdk.__all__)
cipher = regard_sdk.sealed.Cipher(b"i" * 16, b"k" * 32)
sealed = cipher.seal(b"x", subject="s", category="c", record_id="r")
assert cipher.open(sealed, subject="s", category="c", record_id="r") == b"x"
foreign = [n for n in sys.modules if n.split(".")[0] in {"app", "consent", "dsar", "flask", "sqlalchemy", "authlib"}]
assert not foreign, foreign
print(regard_sdk.__file__)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("wheel")
    shutil.copytree(SOURCE, place / "sdk", ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", str(place), str(place / "sdk")]
    subprocess.run(command, check=True, capture_output=True)
    return next(place.glob("regard_sdk-*.whl"))


def test_the_wheel_holds_every_module_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    packed = {name.removeprefix("regard_sdk/") for name in names if not name.split("/")[0].endswith(".dist-info")}
    assert packed == {path.name for path in SOURCE.glob("*.py")} | {"py.typed"}


def test_the_wheel_works_alone(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "alone"
    zipfile.ZipFile(wheel).extractall(target)
    # isolated from the working directory and from PYTHONPATH: the wheel and its published dependencies, no more
    entry = f"import sys; sys.path.insert(0, {str(target)!r})\n{_USE}"
    done = subprocess.run(
        [sys.executable, "-I", "-c", entry], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(target))


def test_the_package_imports_only_itself_and_what_the_wheel_asks_for() -> None:
    allowed = set(sys.stdlib_module_names) | {"jwt", "cryptography", "httpx"}
    for path in SOURCE.glob("*.py"):
        for found in re.findall(r"^\s*(?:from|import)\s+([.\w]+)", path.read_text(), re.MULTILINE):
            assert found.startswith(".") or found.split(".")[0] in allowed, (path.name, found)


@dataclass
class Row:
    id: str
    sealed: bytes


def for_overview(at: Setting) -> None:
    """Make the agreement one for the purpose that the README names."""
    consents = at.house.facts.consents
    consents[at.house.consent] = replace(consents[at.house.consent], purpose=PurposeId("wealth_overview"))


def test_the_readme_s_registrations_run_with_the_shipped_pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"REGARD_DATA_DIR": str(tmp_path / "var"), "REGARD_POLICIES_DIR": str(SOURCE.parents[1] / "policies")}
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    migrate(read_settings(said))
    monkeypatch.chdir(tmp_path)
    lines = re.findall(r"```sh\n(.*?)```", (SOURCE / "README.md").read_text(), re.DOTALL)
    for line, client in zip(lines, ("my-holder", "my-component", "my-app"), strict=True):
        program, *words = shlex.split(line.replace("\\\n", ""))
        done = CliRunner().invoke(main, words)
        assert (program, done.exit_code) == ("regard", 0), done.output
        assert done.output.startswith(f"registered {client} for ")
        assert read_key(f"{client}.pem")


def test_the_readme_s_partner_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at = Setting(tmp_path)
    example = re.findall(r"```python\n(.*?)```", (SOURCE / "README.md").read_text(), re.DOTALL)[1]
    for_overview(at)
    binding, web = new_key(), at.house.web
    inside = httpx.Client(transport=httpx.WSGITransport(app=web.application))
    partner = Authority(ISSUER, "partner", at.house.partner.key, binding=binding, http=inside, clock=at.house.clock.now)
    monkeypatch.setitem(sys.modules, "regard_sdk", app.sdk)

    def authority(issuer: str, client: str, key: Any, *, binding: Any) -> Any:
        assert (issuer, client, key) == (ISSUER, "my-app", at.house.partner.key)
        return partner if binding is names["binding_key"] else None

    monkeypatch.setattr(app.sdk, "Authority", authority, raising=False)
    names: dict[str, Any] = {
        "ISSUER": ISSUER,
        "HOLDER_ADDRESS": HOLDER,
        "private_key": at.house.partner.key,
        "binding_key": binding,
    }
    exec(compile(example.replace("https://my-app.example/back", CALLBACK), "README.md", "exec"), names)
    session: dict[str, Any] = {}
    opened = web.get(names["connect"](session).removeprefix(ISSUER))
    said = at.house.complete(opened.location.rsplit("/", 1)[1])
    consent, subject, refresh = names["back"](session, f"{CALLBACK}?{urlencode(said)}")
    assert (consent, session) == (at.house.consent, {})
    assert names["partner"].renew(refresh).subject == subject


def test_the_readme_s_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at = Setting(tmp_path)
    permit = at.permit()
    stored = [Row("r1", at.sealer.seal_json(permit, BALANCES, "r1", {"amount": "12.50"}))]
    for_overview(at)
    example = re.findall(r"```python\n(.*?)```", (SOURCE / "README.md").read_text(), re.DOTALL)[0]
    monkeypatch.setitem(sys.modules, "regard_sdk", app.sdk)

    def authority(issuer: str, client: str, key: Any, *, resource: str) -> Any:
        assert (issuer, client) == (ISSUER, "my-holder")
        return at.authority if resource == HOLDER else None

    monkeypatch.setattr(app.sdk, "Authority", authority, raising=False)
    names: dict[str, Any] = {
        "ISSUER": ISSUER,
        "MY_ADDRESS": HOLDER,
        "private_key": at.house.holder.key,
        "journal": tmp_path / "reads",
        "my_rows": lambda subject: stored if subject == permit.subject else [],
    }
    exec(compile(example, "README.md", "exec"), names)
    token = at.reader.token(at.house.consent, HOLDER)
    url = HOLDER + "/balances"
    status, body = names["balances"](Wire("GET", url, at.reader.headers(token, "GET", url)))
    assert (status, body) == (200, {"balances": [{"amount": "12.50"}]})
    assert names["disclosures"].flush().accepted == 1
    at.house.facts.withdraw(at.house.consent)
    refused = names["balances"](Wire("GET", url, at.reader.headers(token, "GET", url)))
    assert refused == (401, {"code": Reason.INACTIVE})
