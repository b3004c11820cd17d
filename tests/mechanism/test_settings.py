"""Settings: every fault at once, unknown names refused, nothing secret shown (operations.md section 4)."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.settings import SettingsFaultsError, read_settings


def test_defaults_are_the_embedded_mode() -> None:
    settings = read_settings({})
    assert settings.records_url.reveal() == "sqlite:///var/records.sqlite"
    assert settings.keys_url.reveal() == "sqlite:///var/keys.sqlite"
    assert settings.port == 8000


def test_every_fault_is_named_at_once() -> None:
    with pytest.raises(SettingsFaultsError) as caught:
        read_settings(
            {
                "REGARD_ISSUR": "x",
                "REGARD_SMTP_PORT": "many",
                "REGARD_PRODUCTION": "yes",
                "REGARD_MAIL": "pigeon",
                "REGARD_SENDGRID_KEY_FILE": "/nowhere",
                "REGARD_RECORDS_URL": "sqlite:///one",
                "REGARD_KEYS_URL": "sqlite:///one",
            }
        )
    named = {fault.split(":")[0] for fault in caught.value.faults}
    assert named == {
        "REGARD_ISSUR",
        "REGARD_SMTP_PORT",
        "REGARD_SENDGRID_KEY_FILE",
        "REGARD_KEYS_URL",
        "REGARD_MAIL",
        "REGARD_ISSUER",
    }


def test_a_file_is_read_and_the_environment_stands_over_it(tmp_path: Path) -> None:
    config = tmp_path / "regard.toml"
    config.write_text('mail = "smtp"\nsmtp_host = "mail.internal"\nsmtp_port = 25\nproduction = false\n')
    settings = read_settings({"REGARD_CONFIG": str(config), "REGARD_SMTP_PORT": "26"})
    assert (settings.mail, settings.smtp_host, settings.smtp_port) == ("smtp", "mail.internal", 26)


@pytest.mark.parametrize("alone", [{"REGARD_SMTP_USER": "regard"}, {"REGARD_SMTP_PASSWORD": "word"}])
def test_half_of_a_log_in_to_the_mail_server_is_no_log_in(alone: dict[str, str]) -> None:
    smtp = {"REGARD_MAIL": "smtp", "REGARD_SMTP_HOST": "mail.internal"}
    assert faults({**smtp, **alone}) == {"REGARD_SMTP_USER"}
    read_settings({**smtp, "REGARD_SMTP_USER": "regard", "REGARD_SMTP_PASSWORD": "word"})


def test_a_secret_comes_from_a_file_and_is_never_shown(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("very-secret\n")
    settings = read_settings({"REGARD_MAIL": "sendgrid", "REGARD_SENDGRID_KEY_FILE": str(key)})
    assert settings.sendgrid_key.reveal() == "very-secret"
    assert "very-secret" not in repr(settings)


@pytest.mark.parametrize(
    "url",
    [
        "foo",
        "sqlite://",
        "sqlite:///",
        "/var/lib/regard/keys.sqlite",
        "postgresql://regard@db/keys",
        "postgresql+psycopg://regard@db",
        "postgresql+psycopg://regard@db/",
        "postgresql+psycopg://regard@db:many/keys",
        "postgresql+psycopg://regard:s[cret@db/keys",
        "postgresql+psycopg://localhost#cret@db/keys",
        "mysql://regard@db/keys",
    ],
)
@pytest.mark.parametrize("production", ["no", "yes"])
def test_what_is_no_address_of_a_database_is_refused_in_a_sentence(url: str, production: str) -> None:
    others = {"REGARD_PRODUCTION": production, "REGARD_ISSUER": "https://regard.example", "REGARD_MAIL": "smtp"}
    others["REGARD_SMTP_HOST"] = "mail.internal"
    assert faults({**others, "REGARD_KEYS_URL": url}) == {"REGARD_KEYS_URL"}
    assert faults({**others, "REGARD_RECORDS_URL": url}) == {"REGARD_RECORDS_URL"}
    with pytest.raises(SettingsFaultsError) as caught:
        read_settings({**others, "REGARD_KEYS_URL": url})
    assert "cret" not in str(caught.value), "an address may hold a password"


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///keys.sqlite",
        "sqlite:////var/lib/regard/keys.sqlite",
        "sqlite:///file:/var/keys.sqlite?uri=true",
        "postgresql+psycopg://regard_keys:p%5Bw@db:5432/keys?sslmode=verify-full",
        "postgresql+psycopg:///keys?host=/run/postgresql",
    ],
)
def test_addresses_of_databases_are_taken(url: str) -> None:
    assert read_settings({"REGARD_KEYS_URL": url}).keys_url.reveal() == url


@pytest.mark.parametrize(
    "issuer",
    [
        "http://localhost:8000/",
        "https://regard.example/sub/path",
        "https://regard.example?x=1",
        "https://regard.example#top",
        "https://me:sekret@regard.example",
        "http://localhost:abc",
        "http://localhost:99999",
        "http://localhost:0",
        "http://localhost:",
        "http://[localhost",
        "http://",
        "https://regard.example:443",
        "https://Regard.example",
        "HTTPS://regard.example",
        "https://regárd.example",
        "https://regard example",
        "https://regard.example.",
        "localhost:8000",
    ],
)
def test_the_address_of_the_service_is_an_origin(issuer: str) -> None:
    """Else links read //en/... and no passkey's answer names it (RFC 6454, WebAuthn section 7)."""
    assert faults({"REGARD_ISSUER": issuer}) == {"REGARD_ISSUER"}


@pytest.mark.parametrize(
    ("issuer", "port"),
    [
        ("http://localhost:8000", 8000),
        ("http://127.0.0.1", 80),
        ("https://regard.example", 443),
        ("https://xn--regrd-xqa.example:8443", 8443),
        ("http://[::1]:8000", 8000),
    ],
)
def test_origins_are_taken_with_their_port(issuer: str, port: int) -> None:
    assert read_settings({"REGARD_ISSUER": issuer}).port == port


def test_a_file_that_is_no_text_is_named_and_not_quoted(tmp_path: Path) -> None:
    latin = tmp_path / "latin"
    latin.write_bytes(b"smtp_password = 'sekr\xe9t'")
    for variable in ("REGARD_CONFIG", "REGARD_SMTP_PASSWORD_FILE", "REGARD_METRICS_TOKEN_FILE"):
        assert faults({variable: str(latin)}) == {variable}
        with pytest.raises(SettingsFaultsError) as caught:
            read_settings({variable: str(latin)})
        assert "sekr" not in f"{caught.value!r} {caught.value.__context__!r}"


def test_a_setting_given_twice_is_refused(tmp_path: Path) -> None:
    """One of the two would be a secret that was meant to be gone."""
    (tmp_path / "token").write_text("new")
    twice = {"REGARD_METRICS_TOKEN": "old", "REGARD_METRICS_TOKEN_FILE": str(tmp_path / "token")}
    assert faults(twice) == {"REGARD_METRICS_TOKEN"}
    assert faults(dict(reversed(twice.items()))) == {"REGARD_METRICS_TOKEN"}


# Where root keys live (vault.md section 4)

SOUND = {
    "file": {},
    "pkcs11": {
        "REGARD_PKCS11_MODULE": __file__,
        "REGARD_PKCS11_TOKEN": "regard",
        "REGARD_PKCS11_PIN": "1234",
    },
    "openbao": {"REGARD_OPENBAO_URL": "https://bao.internal:8200", "REGARD_OPENBAO_TOKEN": "s.secret"},
    "aws": {"REGARD_AWS_REGION": "eu-west-3"},
    "gcp": {"REGARD_GCP_KEY_RING": "projects/firm/locations/europe-west9/keyRings/regard"},
}


def faults(said: dict[str, str]) -> set[str]:
    with pytest.raises(SettingsFaultsError) as caught:
        read_settings(said)
    assert all(len(fault.split(": ", 1)[1]) > 15 for fault in caught.value.faults), "each says what to do"
    return {fault.split(":")[0] for fault in caught.value.faults}


@pytest.mark.parametrize("kind", sorted(SOUND))
def test_each_key_provider_is_taken_with_what_it_needs(kind: str) -> None:
    settings = read_settings({"REGARD_KEY_PROVIDER": kind, **SOUND[kind]})
    assert settings.key_provider == kind
    assert not {"1234", "s.secret"} & set(repr(settings).replace("'", " ").split())


@pytest.mark.parametrize(
    ("kind", "missing"),
    [
        ("pkcs11", {"REGARD_PKCS11_MODULE", "REGARD_PKCS11_TOKEN", "REGARD_PKCS11_PIN"}),
        ("openbao", {"REGARD_OPENBAO_URL", "REGARD_OPENBAO_TOKEN"}),
        ("aws", {"REGARD_AWS_REGION"}),
        ("gcp", {"REGARD_GCP_KEY_RING"}),
    ],
)
def test_what_a_key_provider_lacks_is_named_at_once(kind: str, missing: set[str]) -> None:
    assert faults({"REGARD_KEY_PROVIDER": kind}) == missing
    assert faults({"REGARD_KEY_PROVIDER_BEFORE": kind}) == missing, "during a move both are needed"


@pytest.mark.parametrize(
    "wrong",
    [
        {"REGARD_KEY_PROVIDER": "vault"},
        {"REGARD_KEY_PROVIDER_BEFORE": "hsm"},
        {"REGARD_KEY_PROVIDER_BEFORE": "file"},
        {**SOUND["pkcs11"], "REGARD_KEY_PROVIDER": "pkcs11", "REGARD_PKCS11_MODULE": "/nowhere.so"},
        {**SOUND["pkcs11"], "REGARD_KEY_PROVIDER": "pkcs11", "REGARD_PKCS11_HARDWARE": "perhaps"},
        {**SOUND["openbao"], "REGARD_KEY_PROVIDER": "openbao", "REGARD_OPENBAO_URL": "bao.internal"},
        {**SOUND["openbao"], "REGARD_KEY_PROVIDER": "openbao", "REGARD_OPENBAO_URL": "https://bao:many"},
        {**SOUND["openbao"], "REGARD_KEY_PROVIDER": "openbao", "REGARD_OPENBAO_URL": "https://[bao"},
        {**SOUND["openbao"], "REGARD_KEY_PROVIDER": "openbao", "REGARD_OPENBAO_MOUNT": "/"},
        {**SOUND["openbao"], "REGARD_KEY_PROVIDER": "openbao", "REGARD_OPENBAO_CA": "/nowhere.pem"},
        {**SOUND["aws"], "REGARD_KEY_PROVIDER": "aws", "REGARD_AWS_WAITING_DAYS": "6"},
        {**SOUND["aws"], "REGARD_KEY_PROVIDER": "aws", "REGARD_AWS_WAITING_DAYS": "31"},
        {**SOUND["aws"], "REGARD_KEY_PROVIDER": "aws", "REGARD_AWS_ENDPOINT": "kms"},
        {**SOUND["gcp"], "REGARD_KEY_PROVIDER": "gcp", "REGARD_GCP_KEY_RING": "projects/firm/keyRings/regard"},
        {**SOUND["gcp"], "REGARD_KEY_PROVIDER": "gcp", "REGARD_GCP_DESTROY_DAYS": "0"},
        {**SOUND["gcp"], "REGARD_KEY_PROVIDER": "gcp", "REGARD_GCP_ENDPOINT": "ftp://kms"},
    ],
    ids=lambda wrong: "-".join(list(wrong)[-1:] + list(wrong.values())[-1:]),
)
def test_what_a_key_provider_cannot_take_is_refused(wrong: dict[str, str]) -> None:
    assert len(faults(wrong)) == 1


PRODUCTION = {"REGARD_PRODUCTION": "yes", "REGARD_ISSUER": "https://regard.example", "REGARD_MAIL": "smtp"}
PRODUCTION |= {"REGARD_SMTP_HOST": "mail.internal"}
TLS = "?sslmode=verify-full&sslrootcert=/etc/ca.pem"


@pytest.mark.parametrize("name", ["REGARD_RECORDS_URL", "REGARD_KEYS_URL"])
@pytest.mark.parametrize(
    "where",
    [
        "db/one",
        "db.example:5432/one?sslmode=prefer",
        "db/one?sslmode=disable",
        "db/one?sslmode=require",
        "db/one?sslmode=verify-ca",
        "db/one?sslmode=verify-full&sslmode=disable",
        "db/one?sslmode=",
        "/one",
        "localhost/one?host=db",
        "db/one?host=/run/postgresql",
        "127.0.0.1/one?hostaddr=192.0.2.7",
        "localhost/one?host=/run/postgresql&host=db",
        "localhost/one?host=localhost,db",
        "localhost/one?service=far",
        "localhost.example/one",
    ],
)
def test_production_tells_no_database_anything_in_clear(name: str, where: str) -> None:
    """operations.md section 2: production refuses plaintext links. What is not proven to be the server is a wiretap."""
    said = {name: f"postgresql+psycopg://regard:sekret@{where}"}
    assert faults({**PRODUCTION, **said}) == {name}
    read_settings(said)


@pytest.mark.parametrize(
    "where",
    [
        f"db:5432/one{TLS}",
        "db/one?application_name=regard&sslmode=verify-full",
        "localhost/one",
        "127.0.0.1:5432/one?sslmode=disable",
        "[::1]/one",
        "/one?host=/run/postgresql",
        "localhost/one?host=/run/postgresql",
    ],
)
def test_production_takes_a_proven_server_and_one_on_this_machine(where: str) -> None:
    read_settings({**PRODUCTION, "REGARD_RECORDS_URL": f"postgresql+psycopg://regard@{where}"})


@pytest.mark.parametrize("host", ["http://mail.example", "mail.example", "ftp://mail.example"])
def test_the_mail_service_is_asked_over_tls(host: str) -> None:
    sent = {**PRODUCTION, "REGARD_MAIL": "sendgrid", "REGARD_SENDGRID_KEY": "SG.k"}
    assert faults({**sent, "REGARD_SENDGRID_HOST": host}) == {"REGARD_SENDGRID_HOST"}
    read_settings({**sent, "REGARD_SENDGRID_HOST": "https://api.eu.sendgrid.com"})


def test_production_wants_secret_links_and_a_role_for_the_keys_alone() -> None:
    sound = {"REGARD_PRODUCTION": "yes", "REGARD_ISSUER": "https://regard.example", "REGARD_MAIL": "smtp"}
    sound |= {"REGARD_SMTP_HOST": "mail.internal", "REGARD_RECORDS_URL": f"postgresql+psycopg://regard@db/records{TLS}"}
    one_role = {**sound, "REGARD_KEYS_URL": f"postgresql+psycopg://regard:x@db:5432/keys{TLS}"}
    assert faults(one_role) == {"REGARD_KEYS_URL"}
    plain = {**SOUND["openbao"], "REGARD_KEY_PROVIDER": "openbao", "REGARD_OPENBAO_URL": "http://bao.internal:8200"}
    keys = {"REGARD_KEYS_URL": f"postgresql+psycopg://regard_keys@db/keys{TLS}"}
    assert faults({**sound, **keys, **plain}) == {"REGARD_OPENBAO_URL"}
    read_settings({**sound, **keys, **SOUND["openbao"], "REGARD_KEY_PROVIDER": "openbao"})
