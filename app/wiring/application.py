"""The Flask application of a house: pages and authorization server, each handed what its Protocols name."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from flask import Flask
from sqlalchemy.exc import SQLAlchemyError
from werkzeug.middleware.proxy_fix import ProxyFix

from app.factory import create_app
from app.http import api, health, metering, outbox
from app.http.authorizations import OwnUnits
from app.http.doors import Doors
from app.http.oauth import ConsentView, OAuthServices, PresentedTokens, blueprint
from app.http.oauth.services import Joined, Unit
from app.outbound.outbox import LocalOutbox
from app.servicekeys import kept_service_key
from app.store.engine import AWAY
from app.tokens.records import Client
from app.tokens.rfc9449 import Nonces
from app.vault.errors import VaultError
from app.wiring import proposing
from app.wiring.api import api_services
from app.wiring.consentwork import forms_key
from app.wiring.faces import OAuthFace, oauth_unit
from app.wiring.founding import NONCES_KEY
from app.wiring.house import House
from app.wiring.looked import LookedFace
from app.wiring.mail import mailer
from app.wiring.metering import measure
from app.wiring.rooms import DoorCopies, certificate_pdfs, certificates_of, door_desk
from consent import usecases
from consent.decision import Deny, Permit, Question, local_day
from consent.parties import Active
from consent.ports import Reading
from consent.vocabulary import ControllerId


def application(house: House) -> Flask:
    """Return the application of a house, its first signing keys made."""
    services = authorization_services(house)
    with services.units() as unit:
        unit.signing_keys.prepare(services.clock.now())
        unit.commit()
    rooms = [blueprint(services), health.blueprint(_checks(house)), *api.blueprint(api_services(house, services))]
    sent = mailer(house.settings, house.units.clock)
    if isinstance(sent, LocalOutbox):
        rooms.append(outbox.blueprint(sent))
    token = house.settings.metrics_token.reveal()
    if token:
        measure(house, house.metrics)
        rooms.append(metering.blueprint(house.metrics, token))
    app = create_app(page_doors(house, services), rooms, away=AWAY)
    metering.count_requests(app, house.metrics)
    if house.settings.trusted_proxies:
        # of what proxies say only where a request came from: our own address is in the settings
        app.wsgi_app = ProxyFix(  # type: ignore[method-assign]
            app.wsgi_app, x_for=house.settings.trusted_proxies, x_proto=0, x_host=0
        )
    return app


def _checks(house: House) -> dict[str, health.Check]:
    return {
        "records": lambda: _answers(lambda: house.ledger.waiting() >= 0),
        "ledger": lambda: house.integrator.sound,
        "keys": lambda: _answers(lambda: house.vault.erasures.pending() is not None),
        "partitions": house.restoring.sound,
        "key_provider": lambda: _answers(house.seals.probe),
    }


def _answers(ask: Callable[[], bool]) -> bool:
    try:
        return ask()
    except (VaultError, SQLAlchemyError):
        return False


def page_doors(house: House, services: OAuthServices) -> Doors:
    """Return what the pages stand on."""
    units = house.units
    return Doors(
        policy=house.policy,
        controller=house.controller,
        origin=house.settings.issuer,
        key=forms_key(house.settings),
        clock=units.clock,
        ids=units.ids,
        entropy=units.entropy,
        unit=units.writing,
        reading=units.reading,
        subjects=house.profiles,
        tokens=PresentedTokens(services),
        authorizations=OwnUnits(services),
        desk=door_desk(house),
        copies=DoorCopies(house),
        certificates=certificates_of(house),
        open_receipt=house.consentwork.receipts.open,
        certificate_pdf=certificate_pdfs(house),
    )


def authorization_services(house: House) -> OAuthServices:
    """Return what the authorization server stands on; the law is asked through `consent.usecases.judge`."""
    units = house.units

    def judge(unit: Joined, question: Question) -> Permit | Deny:
        found = usecases.judge(_law(unit), house.policy, question)
        house.metrics.decided(*(("deny", found.reason.value) if isinstance(found, Deny) else ("permit", "permitted")))
        return found

    def party_live(_unit: Joined, client: Client, at: datetime) -> bool:
        today = local_day(house.policy, ControllerId(client.controller), at)
        return isinstance(house.policy.standing(client.party, today), Active)

    def present(_unit: Unit, _view: ConsentView, _at: datetime) -> bool:
        # nobody is taken for present before the connection pages can see them: attended reads are refused
        return False

    return OAuthServices(
        issuer=house.settings.issuer,
        clock=units.clock,
        ids=units.ids,
        entropy=units.entropy,
        units=lambda: oauth_unit(units, house.seals.seal_key, house.seals.open_key),
        judge=judge,
        party_live=party_live,
        present=present,
        unfit=proposing.unfit(house.policy, units.clock),
        named=proposing.named(house.policy, units.clock),
        nonces=Nonces(kept_service_key(house.settings.data_dir / NONCES_KEY), required=False),
    )


def _law(unit: Joined) -> Reading:
    """What the law's judge reads where the authorization server reads `unit`."""
    if isinstance(unit, LookedFace):
        return unit
    if not isinstance(unit, OAuthFace):
        raise TypeError("the authorization server was handed a unit of another house")
    return unit.records
