"""A key store and a keyring in one folder, made and erased in by processes of their own: their disk can be taken away.

`make FOLDER` prints what to look for afterwards; `erase FOLDER` erases one of the two people and says whether the other
one's record opens. What is printed goes to a pipe, never to the disk that is searched.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from sqlalchemy import Engine

from app.store.engine import open_engine
from app.store.restores import partitions
from app.store.rows.base import KeysBase
from app.vault.core import Vault
from app.vault.keys import KeyClass, Target
from app.vault.wrapping import Wrapper, data_key_name, epoch_name, subject_key_name
from tests.mechanism.vaults import CONTROLLER, SetClock, keyring, open_vault, scope

GONE, STAYS = "sub_gone", "sub_stays"
RECORD = "record"


def main(phase: str, folder: Path) -> None:
    engine = open_engine(f"sqlite:///{folder / 'keys.sqlite'}", keys=True)
    KeysBase.metadata.create_all(engine)
    vault = open_vault(engine, folder, SetClock())
    said = made(vault, engine, folder) if phase == "make" else erased(vault, folder)
    engine.dispose()
    sys.stdout.write(json.dumps(said))


def made(vault: Vault, engine: Engine, folder: Path) -> dict[str, str]:
    for person in (GONE, STAYS):
        vault.create_subject(CONTROLLER, person)
        (folder / f"{person}.{RECORD}").write_bytes(vault.seal(scope(person), "r", b"sealed"))
    return tapped(vault, engine, folder)


def erased(vault: Vault, folder: Path) -> dict[str, object]:
    vault.shred("era_1", [Target(CONTROLLER, GONE)])
    state = vault.erasures.drive("era_1")
    (certificate,) = vault.erasures.certificates("era_1")
    other = vault.open(scope(STAYS), "r", (folder / f"{STAYS}.{RECORD}").read_bytes())
    return {"state": state, "other": other.decode(), "traces": certificate["scan"]["traces_found"]}


def tapped(vault: Vault, engine: Engine, folder: Path) -> dict[str, str]:
    """Every key on the way to the records of one who will be erased, in clear and wrapped, as the vault has them."""
    provider = keyring(folder, SetClock())
    (partition,) = [one for one in partitions(engine) if one.key_class is KeyClass.DATA]
    slots = (folder / "keyring").read_bytes()
    at = 128 * (1 + int(partition.root.split(":")[1]))
    epoch = provider.unwrap(partition.root, partition.epoch_wrapped, epoch_name(KeyClass.DATA, 0, 1))
    with vault._store.reading() as tx:
        subject = tx.subject_key(CONTROLLER, GONE, KeyClass.DATA)
        (data,) = tx.data_keys(subject.id)
    subject_key = Wrapper(epoch, os.urandom).unwrap(subject.wrapped, subject_key_name(subject))
    data_key = Wrapper(subject_key, os.urandom).unwrap(data.wrapped, data_key_name(data, subject.id))
    clear = {"root": slots[at + 49 : at + 81], "epoch": epoch, "subject": subject_key, "data": data_key}
    wrapped = {"epoch": partition.epoch_wrapped, "subject": subject.wrapped, "data": data.wrapped}
    return {f"clear {name}": bytes(key).hex() for name, key in clear.items()} | {
        f"wrapped {name}": key.hex() for name, key in wrapped.items()
    }


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
