"""What the demonstration needs before its curtain: a pack in force, people, clients, a DPO, a pool, things on paper.

Everything an onboarding, a contract or a letter would have handed to somebody outside (addresses, client keys, printed
codes) is written to one file, `handouts.json`; whoever plays the outsiders has that and nothing else. The people and
their bank records are generated.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from app.demo.addresses import Addresses
from app.demo.bank import write_connection
from app.demo.generator import Standing, Subject, analysable, make_subjects
from app.exports.profile import Profile as ReleaseProfile
from app.profiles import Profile
from app.sdk.dpop import public_jwk
from app.sdk.keyfile import write_key
from app.tokens.registration import Registration
from app.wiring import House, add_staff, hold_back, issue_code, registrations
from app.wiring.operator import OPERATOR
from app.wiring.releases import release_profile, seal_for_pool
from consent.adoption import adopt
from consent.vocabulary import Locale, SubjectRef

SEED = 20_260_101
RELEASE = "portfolio_statistics"
_ACTS = ("person", "neighbour", "visitor")
"""The first people who are present: two the outsider plays, one for whoever looks around afterwards."""


def set_stage(house: House, folder: Path, at: Addresses) -> Path:
    """Prepare everything in a fresh house; returns the file of what was handed out."""
    people = list(make_subjects(SEED, house.units.clock.now().date()))
    with house.units.writing() as unit:
        adopt(unit, house.policy, controller=house.controller, by=OPERATOR, at=house.units.clock.now())
    house.ledger.integrate()
    said = {
        "issuer": at.issuer,
        "folder": str(folder),
        "policy": house.policy.digest,
        "ledger_key": house.ledger.verifier_key,
        "operator": [sys.executable, "-m", "app.cli.entry"],
        **_persons(house, folder, [each for each in people if each.standing is Standing.PRESENT]),
        **_clients(house, folder, at),
        "dpo": {"printed_code": add_staff(house, "Camille Renard", ["dpo"], [house.controller])[1]},
        "auditor": {"staff": add_staff(house, "Lou Martin", ["auditor"], [house.controller])[0]},
        "export": _pool(house, folder, people),
    }
    file = folder / "handouts.json"
    file.touch(mode=0o600)
    file.write_text(json.dumps(said, indent=2))
    return file


def _persons(house: House, folder: Path, present: Sequence[Subject]) -> Mapping[str, object]:
    """Enrol everybody who is present; the first ones get their printed code and a connection to their bank."""
    profiles = [(Profile(f"{each.given_name} {each.family_name}", each.email), Locale(each.locale)) for each in present]
    refs = house.profiles.enrol_all(house.controller, profiles)
    return {
        act: {
            "email": each.email,
            "printed_code": issue_code(house, "subject", ref),
            "connection": write_connection(folder / "bank", each),
        }
        for act, each, ref in zip(_ACTS, present, refs, strict=False)
    }


def _clients(house: House, folder: Path, at: Addresses) -> Mapping[str, object]:
    """Register the partner's app, the reference component and the reference holder, each with a key of its own."""
    asked = {
        "partner": {
            "party": "patrivue",
            "name": "Patrivue",
            "scopes": ("consents.read", "consents.withdraw"),
            "grants": ("authorization_code", "refresh_token", "client_credentials"),
            "redirect_uris": (at.partner_return,),
        },
        "collector": {
            "party": "collecte",
            "name": "Collecte, component",
            "scopes": ("decisions.evaluate",),
            "grants": ("client_credentials",),
        },
        "safe": {
            "party": "collecte",
            "name": "Collecte, holder",
            "scopes": ("keys.lease", "disclosures.write", "cases.fulfil", "decisions.evaluate"),
            "grants": ("client_credentials",),
            "resource": at.safe,
        },
    }
    return {who: _client(house, folder, who, said) | _where(who, folder, at) for who, said in asked.items()}


def _client(house: House, folder: Path, who: str, said: Mapping[str, object]) -> dict[str, str]:
    keys = folder / "clients"
    keys.mkdir(mode=0o700, exist_ok=True)
    file = keys / f"{who}.pem"
    jwk = public_jwk(write_key(file))
    honours = ("nothing", "call", "until")
    asked = Registration(id=f"demo-{who}", jwk=jwk, country="FR", honours=honours, **said)  # type: ignore[arg-type]
    registrations.register(house, asked, by=OPERATOR)
    return {"client_id": asked.id, "key": str(file)}


def _where(who: str, folder: Path, at: Addresses) -> dict[str, str]:
    return {
        "partner": {"redirect_uri": at.partner_return},
        "collector": {"address": at.collector},
        "safe": {"resource": at.safe, "database": str(folder / "safe" / "safe.sqlite")},
    }[who]


def _pool(house: House, folder: Path, people: Sequence[Subject]) -> Mapping[str, object]:
    """Put what may be kept of those who are gone into the pool; write the live base of those who are not."""
    profile = release_profile(house, RELEASE)
    gone = [each for each in people if each.standing is not Standing.PRESENT]
    refs = [SubjectRef(house.units.ids.new("sub")) for _ in gone]
    house.vault.create_subjects(house.controller, refs)
    hold_back(house, profile, [_held(house, ref, each, profile) for ref, each in zip(refs, gone, strict=True)])
    live = folder / "bank" / "live.ndjson"
    with live.open("w", encoding="utf-8") as lines:
        for each in people:
            if each.standing is Standing.PRESENT:
                lines.write(json.dumps({"subject": f"live-{each.number}", **analysable(each)}) + "\n")
    return {"profile": RELEASE, "live": str(live), "subjects": len(gone)}


def _held(house: House, ref: SubjectRef, person: Subject, profile: ReleaseProfile) -> tuple[SubjectRef, bytes]:
    return ref, seal_for_pool(house, ref, profile, analysable(person))
