"""Consents' follow-up work on a real house: what `app.workflows.consents` stands on."""

from __future__ import annotations

from app.http.places import Places
from app.profiles import Profiles
from app.receipts import Receipts
from app.servicekeys import kept_service_key
from app.settings import Secret, Settings
from app.store.unit import Units
from app.tokens.records import SigningKeyRows
from app.tokens.signing import SigningKeys
from app.vault.core import Vault
from app.wiring.faces import LONGEST_SIGNED, OwnSeal
from app.wiring.founding import FORMS_KEY
from app.workflows.consents import ConsentWork
from consent.policy import Policy


def forms_key(settings: Settings) -> Secret:
    """Return the server key of forms and of links that are keys in themselves."""
    return Secret(kept_service_key(settings.data_dir / FORMS_KEY).hex())


def consent_work(
    settings: Settings,
    units: Units,
    policy: Policy,
    vault: Vault,
    *,
    profiles: Profiles,
    seal_key: OwnSeal,
    open_key: OwnSeal,
) -> ConsentWork:
    """Return the work of consents; receipts are signed with the authorization server's keys (tokens.md section 5)."""

    def signing(rows: SigningKeyRows) -> SigningKeys:
        return SigningKeys(rows, seal_key, open_key, LONGEST_SIGNED)

    return ConsentWork(
        unit=units.writing,
        policy=policy,
        clock=units.clock,
        ids=units.ids,
        profiles=profiles,
        receipts=Receipts(vault),
        signing=signing,
        eraser=vault.erasures,
        places=Places(settings.issuer, forms_key(settings)),
    )
