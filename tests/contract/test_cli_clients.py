"""`regard clients`: who may be registered, what is refused in which words, and what the ledger remembers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import select

from app.cli.main import main
from app.sdk.dpop import new_key, public_jwk, thumbprint
from app.sdk.keyfile import read_key
from app.settings import read_settings
from app.store.rows.base import RecordsBase
from app.wiring import House, build, migrate

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    said = {"REGARD_DATA_DIR": str(tmp_path / "var"), "REGARD_POLICIES_DIR": str(ROOT / "policies")}
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    migrate(read_settings(said))
    house = build(read_settings(said))
    yield house
    house.close()


def run(*words: str) -> Result:
    return CliRunner().invoke(main, ["clients", *words])


def add(tmp_path: Path, *words: str, client: str = "safe", party: str = "collecte") -> Result:
    key = ["--key-out", str(tmp_path / f"{client}.pem")] if "--jwk" not in words else []
    named = [] if "--grant" in words else ["--grant", "client_credentials"]
    return run("add", client, "--party", party, "--name", "The safe", *named, *words, *key)


def kinds(house: House) -> list[str]:
    table = RecordsBase.metadata.tables["ledger_entries"]
    with house.records.connect() as connection:
        return [kind for kind in connection.scalars(select(table.c.kind)) if kind.startswith("client.")]


def test_a_holder_is_registered_with_a_key_of_its_own(at: House, tmp_path: Path) -> None:
    done = add(
        tmp_path,
        *("--scope", "keys.lease", "--scope", "cases.fulfil", "--resource", "http://127.0.0.1:8101"),
        *("--country", "FR", "--honours", "call", "--honours", "until"),
    )
    assert done.exit_code == 0, done.stderr
    with at.units.reading() as unit:
        client = unit.clients.find("safe")
        assert [each.id for each in unit.clients.holders(at.controller)] == ["safe"]
    assert client is not None
    assert (client.party, client.controller, client.resource) == ("collecte", "ormelune", "http://127.0.0.1:8101")
    assert (client.country, client.honours) == ("FR", {"call", "until"})
    key = read_key(tmp_path / "safe.pem")  # refuses a file that others may read
    assert client.jwks["keys"] == [{**public_jwk(key), "kid": thumbprint(public_jwk(key))}]
    assert str(key.private_numbers().private_value) not in done.output
    assert kinds(at) == ["client.registered"]
    assert (
        run("list").output
        == "safe\tcollecte\tlive\tclient_credentials\thttp://127.0.0.1:8101\tkeys.lease cases.fulfil\n"
    )


def test_a_partner_brings_its_own_public_key(at: House, tmp_path: Path) -> None:
    file = tmp_path / "public.json"
    file.write_text(json.dumps({**public_jwk(new_key()), "kid": "theirs", "use": "sig"}))
    more = (
        "--grant",
        "authorization_code",
        "--grant",
        "refresh_token",
        "--redirect-uri",
        "https://patrivue.example/back",
    )
    done = add(tmp_path, "--jwk", str(file), *more, "--scope", "consents.read", client="patrivue-app", party="patrivue")
    assert done.exit_code == 0, done.stderr
    with at.units.reading() as unit:
        client = unit.clients.find("patrivue-app")
    assert client is not None
    assert client.redirect_uris == ("https://patrivue.example/back",)
    assert set(client.jwks["keys"][0]) == {"kty", "crv", "x", "y", "kid"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--scope", "everything"], "no scope 'everything'"),
        (["--grant", "password"], "no grant 'password'"),
        (["--grant", "refresh_token"], "come with the grant authorization_code alone"),
        (["--grant", "authorization_code"], "needs a redirect URI"),
        (["--redirect-uri", "https://a.example/back"], "authorization_code alone"),
        (["--grant", "authorization_code", "--redirect-uri", "http://a.example/back"], "redirect URI"),
        (["--grant", "authorization_code", "--redirect-uri", "https://a.example/#x"], "redirect URI"),
        (["--grant", "authorization_code", "--redirect-uri", "https://*.a.example/"], "redirect URI"),
        (["--grant", "authorization_code", "--redirect-uri", "https://u:p@a.example/"], "redirect URI"),
        (["--grant", "authorization_code", "--redirect-uri", "https://a.example:x/"], "redirect URI"),
        (["--resource", "http://holder.example"], "resource"),
        (["--resource", "https://holder.example/"], "resource"),
        (["--resource", "https://holder.example?a=b"], "resource"),
        (["--resource", "holder"], "resource"),
        (["--country", "France"], "two capital letters"),
        (["--honours", "wishes"], "no way of keeping 'wishes'"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(at: House, tmp_path: Path, words: list[str], said: str) -> None:
    done = add(tmp_path, *words)
    assert (done.exit_code, said in done.stderr) == (2, True), done.stderr
    assert not (tmp_path / "safe.pem").exists(), "no key stays behind for a client that is not there"
    assert kinds(at) == []
    assert run("list").output == ""


def test_all_faults_are_told_at_once(at: House, tmp_path: Path) -> None:
    done = add(tmp_path, "--scope", "x", "--country", "f", client="Safe One", party="nobody")
    assert done.exit_code == 2
    assert "'nobody' is not on ormelune's processor list" in done.stderr
    assert len(done.stderr.splitlines()) == 4


def test_a_party_of_another_controller_is_not_on_the_list(at: House, tmp_path: Path) -> None:
    """dsar rule P1: not on the list means no access."""
    done = add(tmp_path, party="collecte_pour_valombree")
    assert done.exit_code == 2
    assert "is not on ormelune's processor list" in done.stderr


def test_an_id_and_a_resource_are_one_client_s(at: House, tmp_path: Path) -> None:
    assert add(tmp_path, "--resource", "https://safe.example").exit_code == 0
    key = (tmp_path / "safe.pem").read_bytes()
    again = add(tmp_path)
    assert (again.exit_code, "no key is ever replaced" in again.stderr) == (2, True)
    assert (tmp_path / "safe.pem").read_bytes() == key
    file = tmp_path / "public.json"
    file.write_text(json.dumps(public_jwk(new_key())))
    taken = add(tmp_path, "--jwk", str(file))
    assert (taken.exit_code, "there is a client 'safe' already" in taken.stderr) == (2, True)
    other = add(tmp_path, "--resource", "https://safe.example", client="other")
    assert (other.exit_code, "is another client's" in other.stderr) == (2, True)
    assert kinds(at) == ["client.registered"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{}", "not a public P-256 key"),
        ("[]", "holds no JWK"),
        ("key", "holds no JWK"),
        (json.dumps({"kty": "oct", "k": "c2VjcmV0"}), "private one"),
        (json.dumps({**public_jwk(new_key()), "d": "AAAA"}), "private one"),
        (json.dumps({**public_jwk(new_key()), "x": "AAAA"}), "not a public P-256 key"),
        (json.dumps({"kty": "RSA", "n": "AQAB", "e": "AQAB"}), "not a public P-256 key"),
    ],
    ids=["empty", "list", "text", "secret", "private", "off-the-curve", "rsa"],
)
def test_only_a_public_p_256_key_is_taken(at: House, tmp_path: Path, content: str, said: str) -> None:
    file = tmp_path / "public.json"
    file.write_text(content)
    done = add(tmp_path, "--jwk", str(file))
    assert (done.exit_code, said in done.stderr) == (2, True), done.stderr
    assert kinds(at) == []


def test_one_of_the_two_ways_to_a_key_is_said(at: House, tmp_path: Path) -> None:
    assert run("add", "safe", "--party", "collecte", "--name", "x", "--grant", "client_credentials").exit_code == 2


def test_no_key_is_made_for_a_service_that_does_not_open(
    at: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is there is never written over: the next try would be refused for it."""
    monkeypatch.setenv("REGARD_CONTROLLER", "nobody")
    assert add(tmp_path).stderr.startswith("unknown_controller: ")
    assert not (tmp_path / "safe.pem").exists()
    monkeypatch.delenv("REGARD_CONTROLLER")
    with monkeypatch.context() as broken:
        broken.setattr("app.cli.clients.registrations.register", lambda *_args, **_more: 1 / 0)
        assert isinstance(add(tmp_path).exception, ZeroDivisionError)
    assert not (tmp_path / "safe.pem").exists()
    assert add(tmp_path).exit_code == 0


def test_suspending_and_resuming_is_remembered(at: House, tmp_path: Path) -> None:
    assert run("suspend", "safe").stderr == "there is no client 'safe'\n"
    add(tmp_path)
    assert run("resume", "safe").exit_code == 2
    assert run("suspend", "safe", "--by", "stf_one").exit_code == 0
    assert "\tsuspended\t" in run("list").output
    assert run("suspend", "safe").stderr == "the client 'safe' is suspended already\n"
    assert run("resume", "safe").exit_code == 0
    assert "\tlive\t" in run("list").output
    assert kinds(at) == ["client.registered", "client.suspended", "client.resumed"]
