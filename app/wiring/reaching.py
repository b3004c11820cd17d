"""Whether what the settings name answers, and a start would go through (operations.md section 5).

Asked are both databases and each key provider; looked at are the schema, the policy pack with the controller in it, and
the sender of mail.

A provider that holds roots of this deployment opens one partition. One that holds none yet, as before a move, makes a
root in the range of drills (`app.vault.apart`), wraps and opens a key with it, and destroys it: its credentials have to
permit all of that. Makes no database. Leaves out whether every partition opens, which a start and `regard keys status`
look at.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from sqlalchemy import Engine

from app import policyfiles
from app.machine import SystemClock
from app.settings import Settings
from app.store.engine import open_engine
from app.store.foundations import is_laid
from app.store.restores import partitions
from app.vault.apart import ApartProvider
from app.vault.epochs import Epochs
from app.vault.errors import KeyDamaged, VaultError
from app.vault.keys import KeyClass
from app.vault.moving import kind_of
from app.vault.ports import KeyProvider, Partition, RootName
from app.vault.wrapping import KEY_BYTES, wipe
from app.wiring.founding import UnfitDeployment, look, reach
from app.wiring.mail import mailer
from app.wiring.pack import controller_of, practice_of
from app.wiring.vaults import key_provider

_TRIED: Final = RootName(KeyClass.DATA, 0, 1)
_NAME: Final = b"regard.reach"


def unreached(settings: Settings) -> tuple[str, ...]:
    """Return a sentence for each thing that does not answer, or would keep the service from starting; empty: none."""
    records = open_engine(settings.records_url.reveal())
    keys = open_engine(settings.keys_url.reveal(), keys=True)
    try:
        no_records, no_keys = _silent("REGARD_RECORDS_URL", records), _silent("REGARD_KEYS_URL", keys)
        unfit = [] if no_records or no_keys else _unfit(settings, records, keys)
        held = {} if no_keys else _one_each(keys)
        return (*no_records, *no_keys, *unfit, *_refusing(settings, held), *_pack(settings), *_sender(settings))
    finally:
        records.dispose()
        keys.dispose()


def look_whole(settings: Settings) -> None:
    """Raise `UnfitDeployment` when the deployment itself, and not its key provider, is why nothing opens."""
    records = open_engine(settings.records_url.reveal())
    keys = open_engine(settings.keys_url.reveal(), keys=True)
    try:
        if not _silent("", records) and not _silent("", keys):
            look(settings, records, keys)
    finally:
        records.dispose()
        keys.dispose()


def _silent(name: str, database: Engine) -> list[str]:
    try:
        reach(name, database)
    except UnfitDeployment as unfit:
        return [str(unfit)]
    return []


def _unfit(settings: Settings, records: Engine, keys: Engine) -> list[str]:
    try:
        look(settings, records, keys)
    except UnfitDeployment as unfit:
        return [f"{unfit.code}: {unfit}"]
    return []


def _pack(settings: Settings) -> list[str]:
    try:
        policy = policyfiles.load(settings.policies_dir)
        controller_of(settings, policy)
        practice_of(policy)
    except policyfiles.PolicyFaults as faulty:
        return [f"{faulty.code}: {line}" for line in str(faulty).splitlines()]
    except UnfitDeployment as unfit:
        return [f"{unfit.code}: {unfit}"]
    return []


def _sender(settings: Settings) -> list[str]:
    try:
        mailer(settings, SystemClock())
    except UnfitDeployment as unfit:
        return [f"{unfit.code}: {unfit}"]
    return []


def _one_each(keys: Engine) -> Mapping[str, Partition]:
    """One partition under each provider that the key store has roots with."""
    return {kind_of(each.root): each for each in partitions(keys)} if is_laid(keys) else {}


def _refusing(settings: Settings, held: Mapping[str, Partition]) -> list[str]:
    found = []
    for name in ("key_provider", "key_provider_before"):
        kind = str(getattr(settings, name))
        if not kind:
            continue
        try:
            _try(key_provider(replace(settings, key_provider=kind, key_provider_before=""), SystemClock()), held)
        except (VaultError, UnfitDeployment) as fault:
            said = str(fault) or inspect.getdoc(type(fault))
            found.append(f"REGARD_{name.upper()}: {kind} does not answer as it should: {fault.code}: {said}")
    return found


def _try(provider: KeyProvider, held: Mapping[str, Partition]) -> None:
    partition = held.get(provider.kind)
    if partition is None:
        _try_new(ApartProvider(provider, os.urandom))
    else:
        Epochs(provider, SystemClock(), os.urandom).fetch(partition)


def _try_new(provider: ApartProvider) -> None:
    try:
        root = provider.create_root(_TRIED)
        key = bytearray(os.urandom(KEY_BYTES))
        opened = provider.unwrap(root, provider.wrap(root, key, _NAME), _NAME)
        same = opened == key
        wipe(key)
        wipe(opened)
        if not same:
            raise KeyDamaged
    finally:
        provider.clear()
