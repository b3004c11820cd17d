"""The vault as the settings describe it: which key provider, which key store, what signs its certificates.

A provider's module is loaded only when the settings ask for it, since its library is an optional extra.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from datetime import timedelta
from pathlib import Path

from sqlalchemy import Engine

from app.machine import SystemClock
from app.servicekeys import certificate_signer, kept_service_key
from app.settings import KeyProviderKind, Settings
from app.store.keystore import SqlKeyStore
from app.vault.core import Vault
from app.vault.guarding import Terms
from app.vault.moving import JoinedProviders
from app.vault.ports import KeyProvider
from app.vault.providers.file import FileKeyring
from app.vault.tombstones import Tombstones
from app.vault.watched import Noted, WatchedProvider
from app.wiring.founding import CERTIFICATE_KEY, KEYRING, ExtraMissing

_OURS = frozenset({"app", "consent", "dsar"})
"""Packages whose absence is no missing extra, but a fault."""


def vault_over(
    settings: Settings,
    keys: Engine,
    clock: SystemClock,
    *,
    unnamed: Collection[str] = (),
    worker: str | None = None,
    noted: Noted | None = None,
) -> Vault:
    """Return a vault on a key store, with the provider of the settings; `worker` where it is not the executor's own.

    `noted` is told of each call to the provider.
    """
    folder = settings.data_dir
    provider = key_provider(settings, clock)
    return Vault(
        SqlKeyStore(keys),
        WatchedProvider(provider, noted) if noted is not None else provider,
        clock=clock,
        random=os.urandom,
        tombstones=tombstones_of(settings),
        sign=certificate_signer(kept_service_key(folder / CERTIFICATE_KEY)),
        worker=worker or settings.executor,
        unnamed=unnamed,
        terms=terms_of(settings),
    )


def terms_of(settings: Settings) -> Terms:
    """Return when the physical part of an erasure happens here, and how many may be erased without being asked."""
    return Terms(
        batch=timedelta(minutes=settings.erasure_batch_minutes),
        cooling=timedelta(hours=settings.erasure_cooling_hours),
        window=timedelta(hours=settings.key_backup_window),
        provider_delay=max(_delay(settings, settings.key_provider), _delay(settings, settings.key_provider_before)),
        guard=settings.erasure_guard_subjects,
    )


def _delay(settings: Settings, kind: str) -> timedelta:
    """Return how long a provider keeps a key that it was told to destroy."""
    # AWS deletes within a day after the waiting period; the certificate then has the date it gave for the key.
    days = {KeyProviderKind.AWS: settings.aws_waiting_days + 1, KeyProviderKind.GCP: settings.gcp_destroy_days}
    return timedelta(days=days.get(KeyProviderKind(kind), 0)) if kind else timedelta(0)


def tombstones_of(settings: Settings) -> Tombstones:
    """Return the log of what was shredded; it lies beside both databases and belongs in neither one's backup."""
    return Tombstones(settings.data_dir / "tombstones")


def key_provider(settings: Settings, clock: SystemClock) -> KeyProvider:
    """Return where the root keys of this deployment live; during a move, the new place joined with the one before.

    Raises `ExtraMissing`, and what the provider's own opening raises.
    """
    present = _opened(KeyProviderKind(settings.key_provider), settings, clock)
    if not settings.key_provider_before:
        return present
    return JoinedProviders(present, _opened(KeyProviderKind(settings.key_provider_before), settings, clock))


def _opened(kind: KeyProviderKind, settings: Settings, clock: SystemClock) -> KeyProvider:
    try:
        return _OPENERS[kind](settings, clock)
    except ModuleNotFoundError as missing:
        if (missing.name or "").split(".")[0] in _OURS:
            raise
        raise ExtraMissing(kind) from None


def _file(settings: Settings, clock: SystemClock) -> KeyProvider:
    return FileKeyring(settings.data_dir / KEYRING, clock=clock, random=os.urandom)


def _pkcs11(settings: Settings, clock: SystemClock) -> KeyProvider:
    from app.vault.providers.pkcs11 import Pkcs11Tokens  # noqa: PLC0415 - an optional extra

    return Pkcs11Tokens(
        settings.pkcs11_module or Path(),
        settings.pkcs11_token,
        settings.pkcs11_pin.reveal(),
        hardware=settings.pkcs11_hardware,
        clock=clock,
        random=os.urandom,
    )


def _openbao(settings: Settings, clock: SystemClock) -> KeyProvider:
    from app.vault.providers.openbao import OpenBaoTransit  # noqa: PLC0415 - an optional extra

    return OpenBaoTransit(
        settings.openbao_url,
        settings.openbao_token.reveal,
        mount=settings.openbao_mount.strip("/"),
        ca=settings.openbao_ca,
        clock=clock,
        random=os.urandom,
    )


def _aws(settings: Settings, clock: SystemClock) -> KeyProvider:
    from app.vault.providers.aws import AwsKms  # noqa: PLC0415 - an optional extra

    endpoint = settings.aws_endpoint or None
    return AwsKms(settings.aws_region, clock=clock, waiting_days=settings.aws_waiting_days, endpoint=endpoint)


def _gcp(settings: Settings, _clock: SystemClock) -> KeyProvider:
    from app.vault.providers.gcp import GcpKms  # noqa: PLC0415 - an optional extra

    return GcpKms(
        settings.gcp_key_ring,
        hardware=settings.gcp_hardware,
        destroy_window=timedelta(days=settings.gcp_destroy_days),
        endpoint=settings.gcp_endpoint or None,
    )


_OPENERS: Mapping[KeyProviderKind, Callable[[Settings, SystemClock], KeyProvider]] = {
    KeyProviderKind.FILE: _file,
    KeyProviderKind.PKCS11: _pkcs11,
    KeyProviderKind.OPENBAO: _openbao,
    KeyProviderKind.AWS: _aws,
    KeyProviderKind.GCP: _gcp,
}
