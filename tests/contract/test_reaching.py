"""What the settings name answers, or a sentence says so: `config check --reach`, a start, the demonstration.

See operations.md sections 5 and 6.
"""

from __future__ import annotations

import os
import runpy
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack, closing, nullcontext
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from structlog.testing import capture_logs

from app.cli.demo import DemoFailed, _staged
from app.cli.main import main
from app.demo.addresses import addresses
from app.profiles import Profile
from app.settings import read_settings
from app.wiring import application, build
from consent.vocabulary import Locale
from tests.cluster import free_port
from tests.contract import openbao_provider as bao
from tests.databases import found_deployment

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "REGARD_OPENBAO_TOKEN"


@pytest.fixture
def said(tmp_path: Path) -> dict[str, str]:
    paths = {"REGARD_DATA_DIR": str(tmp_path / "var"), "REGARD_POLICIES_DIR": str(ROOT / "policies")}
    found_deployment(read_settings(paths))
    return paths


@pytest.fixture
def moving(said: dict[str, str], request: pytest.FixtureRequest) -> dict[str, str]:
    """The settings with which root keys would be moved to an OpenBao server."""
    mount = bao.server().mount(f"reach-{abs(hash(request.node.name))}")
    server = {"REGARD_OPENBAO_URL": bao.server().url, TOKEN: bao.server().token, "REGARD_OPENBAO_MOUNT": mount}
    return {**said, **server, "REGARD_KEY_PROVIDER": "openbao", "REGARD_KEY_PROVIDER_BEFORE": "file"}


def check(said: dict[str, str], *words: str) -> Result:
    return CliRunner(env=said).invoke(main, ["config", "check", *words])


def test_everything_answers(said: dict[str, str]) -> None:
    done = check(said, "--reach")
    assert (done.exit_code, done.stderr) == (0, "")
    assert "both databases and the key provider answer" in done.stdout
    house = build(read_settings(said))
    house.profiles.enrol(house.controller, Profile("Ana Exemplo", "ana@example.org"), Locale.PT)
    house.close()
    assert check(said, "--reach").exit_code == 0


def test_without_it_nothing_is_asked_and_that_is_said(moving: dict[str, str]) -> None:
    done = check({**moving, TOKEN: "wrong"})
    assert done.exit_code == 0
    assert "nothing was asked of the databases or the key provider: --reach does" in done.stdout


def test_a_provider_that_takes_the_roots_next_is_tried_and_keeps_nothing(moving: dict[str, str]) -> None:
    done = check(moving, "--reach")
    assert (done.exit_code, done.stderr) == (0, "")
    mount = moving["REGARD_OPENBAO_MOUNT"]
    names = bao.server().api("GET", f"{mount}/keys?list=true")["keys"]
    assert len(names) == 1, "it really made one"
    assert bao.server().api("GET", f"{mount}/keys/{names[0]}")["min_available_version"] > 1, "and trimmed it away"


def test_a_token_that_may_not_destroy_is_found_out_before_the_move(moving: dict[str, str]) -> None:
    mount = moving["REGARD_OPENBAO_MOUNT"]
    allowed = (
        f'path "{mount}/{where}" {{ capabilities = [{may}] }}'
        for where, may in {
            "keys/+": '"create", "read", "update"',
            "encrypt/+": '"create", "update"',
            "decrypt/+": '"create", "update"',
        }.items()
    )
    done = check({**moving, TOKEN: bao.server().limited_token("\n".join(allowed))}, "--reach")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "key_provider_unavailable" in done.stderr


@pytest.mark.parametrize(
    "wrong", [{TOKEN: "wrong"}, {"REGARD_OPENBAO_MOUNT": "elsewhere"}, {"REGARD_OPENBAO_URL": "closed"}], ids=str
)
def test_a_provider_that_refuses_is_named(moving: dict[str, str], wrong: dict[str, str]) -> None:
    if "REGARD_OPENBAO_URL" in wrong:
        wrong = {"REGARD_OPENBAO_URL": f"http://127.0.0.1:{free_port()}"}
    done = check({**moving, **wrong}, "--reach")
    assert (done.exit_code, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("REGARD_KEY_PROVIDER: openbao does not answer as it should: key_provider_unavailable: ")
    assert moving[TOKEN] not in line


def test_databases_that_do_not_answer_are_named(said: dict[str, str], tmp_path: Path) -> None:
    closed = f"postgresql+psycopg://regard:sekret@127.0.0.1:{free_port()}/records"
    missing = tmp_path / "missing.sqlite"
    done = check({**said, "REGARD_RECORDS_URL": closed, "REGARD_KEYS_URL": f"sqlite:///{missing}"}, "--reach")
    assert done.exit_code == 1
    records, keys = done.stderr.splitlines()
    assert records.startswith("REGARD_RECORDS_URL: the database does not answer: ")
    assert "sekret" not in records
    assert keys.startswith("REGARD_KEYS_URL: there is no database yet: `regard db upgrade` makes it. ")
    assert not missing.exists()


def test_a_lost_keyring_and_another_provider_are_told_as_at_a_start(said: dict[str, str]) -> None:
    house = build(read_settings(said))
    house.profiles.enrol(house.controller, Profile("Ana Exemplo", "ana@example.org"), Locale.PT)
    house.close()
    (Path(said["REGARD_DATA_DIR"]) / "keyring").unlink()
    assert "roots_lost: " in check(said, "--reach").stderr
    drill = CliRunner(env=said).invoke(main, ["keys", "drill"])
    assert (drill.exit_code, drill.stderr.splitlines()[-1].split(":")[0]) == (1, "roots_lost")
    away = {**said, "REGARD_KEY_PROVIDER": "aws", "REGARD_AWS_REGION": "eu-west-3"}
    away["REGARD_AWS_ENDPOINT"] = f"http://127.0.0.1:{free_port()}"
    assert "other_key_provider: " in check(away, "--reach").stderr


def test_a_new_deployment_does_not_begin_while_its_provider_refuses(moving: dict[str, str]) -> None:
    """Nothing could be sealed: said once and ended, instead of started again and again."""
    alone = {**moving, "REGARD_KEY_PROVIDER_BEFORE": "", TOKEN: "wrong"}
    done = CliRunner(env=alone).invoke(main, ["worker"])
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("key_provider_unavailable: the key provider refuses: openbao: ")
    assert "Traceback" not in done.stderr


def test_a_service_that_starts_while_its_provider_refuses_says_so_in_its_log(moving: dict[str, str]) -> None:
    """It starts: what needs no key is served, and it is ready as soon as the provider answers."""
    alone = {**moving, "REGARD_KEY_PROVIDER_BEFORE": ""}
    house = build(read_settings(alone))
    application(house)
    house.close()
    refused = build(read_settings({**alone, TOKEN: "wrong"}))
    with capture_logs() as told:
        refused.start()
    ready = application(refused).test_client().get("/health/ready")
    refused.close()
    (line,) = [each for each in told if each["event"] == "keys.provider_refused"]
    assert (line["code"], line["provider"]) == ("key_provider_unavailable", "openbao")
    assert line["said"].startswith("openbao: ")
    assert ready.status_code == 503
    again = build(read_settings(alone))
    with capture_logs() as told:
        again.start()
    again.close()
    assert "keys.provider_refused" not in [each["event"] for each in told]


def set_revision(said: dict[str, str], name: str, revision: str) -> None:
    with closing(sqlite3.connect(Path(said["REGARD_DATA_DIR"]) / f"{name}.sqlite")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = ?", (revision,))


def away(said: dict[str, str], name: str) -> None:
    said[f"REGARD_{name.upper()}_URL"] = f"postgresql+psycopg://regard:sekret@127.0.0.1:{free_port()}/one"


UNFIT: dict[str, tuple[str, Callable[[dict[str, str]], object]]] = {
    "controller": ("unknown_controller", lambda said: said.update(REGARD_CONTROLLER="nobody")),
    "sender": ("mail_unfit", lambda said: said.update(REGARD_MAIL_FROM="nobody")),
    "password": (
        "mail_unfit",
        lambda said: said.update(
            REGARD_MAIL="smtp", REGARD_SMTP_HOST="mail", REGARD_SMTP_USER="u", REGARD_SMTP_PASSWORD="sekret-é"
        ),
    ),
    "newer records": ("schema_ahead", lambda said: set_revision(said, "records", "9999")),
    "newer keys": ("schema_ahead", lambda said: set_revision(said, "keys", "9999")),
    "no pack": ("policy_faults", lambda said: said.update(REGARD_POLICIES_DIR="/nowhere")),
    "records away": ("database_unavailable", lambda said: away(said, "records")),
    "keys away": ("database_unavailable", lambda said: away(said, "keys")),
}


@pytest.mark.parametrize("fault", UNFIT)
def test_what_keeps_the_service_from_starting_is_told_in_a_line_and_before(
    said: dict[str, str], fault: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """operations.md section 5: what `--reach` calls sound starts; `serve` and `status` say why they do not."""
    code, spoil = UNFIT[fault]
    spoil(said)
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    asked, status = check(said, "--reach"), CliRunner().invoke(main, ["status"])
    with pytest.raises(SystemExit) as left:
        runpy.run_module("app.wsgi")  # what `serve` loads
    served = capfd.readouterr().err
    assert (asked.exit_code, asked.stdout, status.exit_code, status.stdout, left.value.code) == (1, "", 1, "", 1)
    for told in (status.stderr, served):
        assert told.splitlines()[-1].startswith(f"{code}: ")
    assert len(asked.stderr.splitlines()) == 1
    assert asked.stderr.startswith((f"{code}: ", "REGARD_RECORDS_URL: the data", "REGARD_KEYS_URL: the data"))
    assert not any(word in asked.stderr + status.stderr + served for word in ("Traceback", "sekret"))


@pytest.mark.parametrize("words", [["status"], ["config", "check", "--reach"]], ids=" ".join)
def test_records_that_are_gone_are_not_made_by_looking(said: dict[str, str], words: list[str]) -> None:
    records = Path(said["REGARD_DATA_DIR"]) / "records.sqlite"
    records.unlink()
    done = CliRunner(env=said).invoke(main, words)
    assert (done.exit_code, done.stdout, type(done.exception)) == (1, "", SystemExit)
    assert "REGARD_RECORDS_URL: there is no database yet: `regard db upgrade` makes it. Where there was" in done.stderr
    assert not records.exists()
    records.touch()
    done = CliRunner(env=said).invoke(main, words)
    assert done.stderr == "not_founded: the records have no tables yet: `regard db upgrade` makes them\n"


@pytest.mark.parametrize("name", ["records", "keys"])
def test_an_older_schema_is_told_by_what_may_not_change_it(said: dict[str, str], name: str) -> None:
    set_revision(said, name, "0001")
    for words in (["status"], ["config", "check", "--reach"]):
        done = CliRunner(env=said).invoke(main, words)
        assert (done.exit_code, done.stderr.split(":")[0]) == (1, "schema_behind")


def demo(**said: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "REGARD_ISSUER": f"http://localhost:{free_port()}", **said}
    command = [sys.executable, "-m", "app.cli.entry", "demo", "--once"]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_the_stage_of_a_demonstration_tells_that_the_provider_refuses(
    moving: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.cli.demo._service", lambda _folder: nullcontext())  # it says so in a log of its own
    read = read_settings({**moving, "REGARD_KEY_PROVIDER_BEFORE": "", TOKEN: "wrong"})
    monkeypatch.setattr("app.wiring.migrate", found_deployment)
    with pytest.raises(DemoFailed, match="key_provider_unavailable: openbao: "), ExitStack() as stack:
        stack.enter_context(_staged(read, read.data_dir, addresses(read.issuer)))


def test_the_demonstration_is_not_founded_within_another(tmp_path: Path) -> None:
    (tmp_path / "handouts.json").write_text("{}")
    done = demo(REGARD_DATA_DIR=str(tmp_path))
    assert (done.returncode, "is a demonstration's own folder" in done.stderr) == (1, True)
    assert [each.name for each in tmp_path.iterdir()] == ["handouts.json"]
