"""A real PKCS#11 token for tests: SoftHSM 2, one token directory a folder, made by its own tool."""

from __future__ import annotations

import os
import subprocess
from hashlib import sha256
from pathlib import Path
from typing import Final

from app.vault.providers.pkcs11 import Pkcs11Tokens
from tests.mechanism.vaults import SetClock
from tests.waiting import PATIENCE

MODULE: Final = Path("/usr/lib/softhsm/libsofthsm2.so")
PIN: Final = "2468-pin-of-the-test"


def label_of(folder: Path) -> str:
    """A label of its own for each folder: one test process sees many tokens, one after the other."""
    return "t" + sha256(str(folder).encode()).hexdigest()[:30]


def token_folder(folder: Path) -> Path:
    """Where SoftHSM keeps the files of this folder's token."""
    return folder / "tokens"


def use_token(folder: Path) -> str:
    """Point SoftHSM at this folder, make its token when there is none, return its label.

    The module reads SOFTHSM2_CONF when it is initialised; the provider initialises it anew for a label it cannot see.
    """
    conf = folder / "softhsm2.conf"
    os.environ["SOFTHSM2_CONF"] = str(conf)
    if not conf.exists():
        token_folder(folder).mkdir()
        lines = f"directories.tokendir = {token_folder(folder)}", "objectstore.backend = file", "log.level = ERROR"
        conf.write_text("\n".join(lines) + "\n")
        tool = [
            "softhsm2-util",
            "--init-token",
            "--free",
            "--label",
            label_of(folder),
            "--so-pin",
            "13579",
            "--pin",
            PIN,
        ]
        subprocess.run(tool, check=True, capture_output=True, timeout=PATIENCE)
    return label_of(folder)


def open_token(folder: Path, *, clock: SetClock | None = None, pin: str = PIN, hardware: bool = False) -> Pkcs11Tokens:
    """Open the provider on this folder's token."""
    token = use_token(folder)
    return Pkcs11Tokens(MODULE, token, pin, hardware=hardware, clock=clock or SetClock(), random=os.urandom)
