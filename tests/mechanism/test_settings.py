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


def test_a_secret_comes_from_a_file_and_is_never_shown(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("very-secret\n")
    settings = read_settings({"REGARD_MAIL": "sendgrid", "REGARD_SENDGRID_KEY_FILE": str(key)})
    assert settings.sendgrid_key.reveal() == "very-secret"
    assert "very-secret" not in repr(settings)
