"""Passkeys (WebAuthn level 2, py_webauthn): enrolment permitted by a printed code or an older passkey, and assertion.

User verification is required in both ceremonies, so a passkey is two factors and opens level 3 (consent rule 33, dsar
rules 1.3). A mailbox alone never enrols one: the printed code travelled by another channel (consent.md section 6). Each
challenge lives in the server session and is taken out before anything is verified. Attestation is not asked for.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Literal, Protocol
from urllib.parse import urlsplit

from webauthn import (
    generate_authentication_options,
    generate_registration_options,
    options_to_json,
    verify_authentication_response,
    verify_registration_response,
)
from webauthn.helpers import base64url_to_bytes, bytes_to_base64url
from webauthn.helpers.exceptions import WebAuthnException
from webauthn.helpers.structs import (
    AuthenticatorSelectionCriteria,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from app.http.doors import Doors, DoorUnit, Enrolments, PasskeyFacts
from app.http.errors import CodeWrong, PasskeyRefused, PasskeyTooNew
from app.http.forms import keyed
from app.http.sessions import digest as sha256
from consent.ports import Clock
from consent.vocabulary import ControllerId, SubjectRef

Kind = Literal["subject", "staff"]
LEVEL_BY_PASSKEY = 3
CODE_LETTERS = "ABCDEFGHJKMNPQRSTVWXYZ23456789"
CODE_LENGTH = 20
CODE_LIFE = timedelta(days=60)
_LARGEST = 16_384


class Press(Protocol):
    """What prints a code: the time and randomness; the doors have both, and so has the operator."""

    @property
    def clock(self) -> Clock: ...
    @property
    def entropy(self) -> Callable[[int], bytes]: ...


class CodeBook(Protocol):
    """A unit that keeps codes."""

    @property
    def enrolments(self) -> Enrolments: ...


def issue_code(
    of: Press, unit: CodeBook, *, kind: Kind, person: str, controller: ControllerId, cooling: timedelta
) -> str:
    """Return a fresh printed code (98 bits, five groups of four) that permits one passkey; only its hash is stored.

    `cooling` is zero for a code handed over when the relation began, days for one sent after a loss.
    """
    letters = [CODE_LETTERS[byte % len(CODE_LETTERS)] for byte in of.entropy(CODE_LENGTH * 8) if byte < 240]
    code = "".join(letters[:CODE_LENGTH])
    now = of.clock.now()
    unit.enrolments.issue(
        _code_digest(code),
        kind=kind,
        person=person,
        controller=controller,
        now=now,
        expires_at=now + CODE_LIFE,
        cooling=cooling,
    )
    return "-".join(code[at : at + 4] for at in range(0, CODE_LENGTH, 4))


def _code_digest(code: str) -> str:
    plain = "".join(letter for letter in code.upper() if letter.isalnum())
    return sha256(f"enrolment {plain}")


def permit(of: Doors, unit: DoorUnit, session: str, code: str, *, kind: Kind, person: str) -> None:
    """Let this session enrol a passkey if the printed code was issued for this person. Raises CodeWrong."""
    unit.sessions.permit_enrolment(session, permission(of, unit, code, kind=kind, person=person))


def permission(of: Doors, unit: DoorUnit, code: str, *, kind: Kind, person: str | None) -> str:
    """Return the digest of a printed code that was issued for this person, changing nothing. Raises CodeWrong.

    With `person` None (staff without a session yet) the code alone says whose passkey it will be.
    """
    named = _code_digest(code)
    found = unit.enrolments.find(named, of.clock.now())
    if found is None or found.kind != kind or (person is not None and found.person != person):
        raise CodeWrong
    return named


def creation_options(of: Doors, unit: DoorUnit, session: str, *, kind: Kind, person: str, label: str) -> str:
    """Return the JSON the browser's `create()` takes and keep its challenge in the session."""
    challenge = _challenge(of, unit, session)
    options = generate_registration_options(
        rp_id=rp_id(of),
        rp_name=label,
        user_name=label,
        user_id=bytes.fromhex(keyed(f"webauthn-{kind}", person)),
        challenge=challenge,
        authenticator_selection=AuthenticatorSelectionCriteria(
            resident_key=ResidentKeyRequirement.REQUIRED, user_verification=UserVerificationRequirement.REQUIRED
        ),
        exclude_credentials=[_descriptor(passkey) for passkey in unit.passkeys.of(kind, person)],
    )
    return options_to_json(options)


def request_options(of: Doors, unit: DoorUnit, session: str, passkeys: tuple[PasskeyFacts, ...] = ()) -> str:
    """Return the JSON the browser's `get()` takes; without `passkeys` the device offers what it has."""
    options = generate_authentication_options(
        rp_id=rp_id(of),
        challenge=_challenge(of, unit, session),
        allow_credentials=[_descriptor(passkey) for passkey in passkeys],
        user_verification=UserVerificationRequirement.REQUIRED,
    )
    return options_to_json(options)


def enrol(
    of: Doors,
    unit: DoorUnit,
    *,
    kind: Kind,
    person: str,
    controller: ControllerId,
    cooling: timedelta,
    challenge: bytes | None,
    answer: str,
) -> str:
    """Verify a registration, store the public key and return its credential id. Raises PasskeyRefused."""
    try:
        verified = verify_registration_response(
            credential=_parsed(answer),
            expected_challenge=_present(challenge),
            expected_rp_id=rp_id(of),
            expected_origin=of.origin,
            require_user_verification=True,
        )
    except (WebAuthnException, ValueError, KeyError, TypeError) as fault:
        raise PasskeyRefused from fault
    credential_id = bytes_to_base64url(verified.credential_id)
    if unit.passkeys.find(credential_id) is not None:
        raise PasskeyRefused
    now = of.clock.now()
    unit.passkeys.add(
        credential_id,
        kind=kind,
        person=person,
        controller=controller,
        public_key=verified.credential_public_key,
        sign_count=verified.sign_count,
        now=now,
        usable_from=now + cooling,
    )
    record(unit, "passkey.added", kind=kind, person=person, controller=controller, credential=credential_id)
    return credential_id


def recognise(of: Doors, unit: DoorUnit, *, challenge: bytes | None, answer: str) -> PasskeyFacts:
    """Verify an assertion and return whose passkey it was. Raises PasskeyRefused, PasskeyTooNew."""
    try:
        parsed = _parsed(answer)
        passkey = unit.passkeys.find(str(parsed["id"]))
        if passkey is None:
            raise PasskeyRefused
        verified = verify_authentication_response(
            credential=parsed,
            expected_challenge=_present(challenge),
            expected_rp_id=rp_id(of),
            expected_origin=of.origin,
            credential_public_key=passkey.public_key,
            credential_current_sign_count=passkey.sign_count,
            require_user_verification=True,
        )
    except (WebAuthnException, ValueError, KeyError, TypeError) as fault:
        raise PasskeyRefused from fault
    if not unit.passkeys.used(passkey.credential_id, verified.new_sign_count, of.clock.now()):
        raise PasskeyRefused  # a counter that does not rise is a copied key (WebAuthn section 6.1.1)
    if of.clock.now() < passkey.usable_from:
        raise PasskeyTooNew
    return passkey


def take_challenge(of: Doors, session: str) -> bytes | None:
    """Return the session's challenge and remove it for good, whatever the ceremony comes to."""
    with of.unit() as unit:
        challenge = unit.sessions.pop_challenge(session, of.clock.now())
        unit.commit()
    return challenge


def record(unit: DoorUnit, what: str, *, kind: Kind, person: str, controller: ControllerId, credential: str) -> None:
    """Write it to the ledger; the credential as a digest."""
    unit.journal.record(
        what,
        actor=f"{kind}:{person}",
        controller=controller,
        subject=SubjectRef(person) if kind == "subject" else None,
        payload={"credential": sha256(credential)},
    )


def rp_id(of: Doors) -> str:
    """Return the relying party id: the host name of our origin."""
    return urlsplit(of.origin).hostname or ""


def _challenge(of: Doors, unit: DoorUnit, session: str) -> bytes:
    challenge = of.entropy(32)
    unit.sessions.put_challenge(session, challenge, of.clock.now() + of.limits.challenge)
    return challenge


def _descriptor(passkey: PasskeyFacts) -> PublicKeyCredentialDescriptor:
    return PublicKeyCredentialDescriptor(id=base64url_to_bytes(passkey.credential_id))


def _parsed(answer: str) -> dict[str, object]:
    if len(answer) > _LARGEST:
        raise ValueError("a credential this long is none")
    parsed = json.loads(answer)
    if not isinstance(parsed, dict):
        raise TypeError("a credential is a JSON object")
    return parsed


def _present(challenge: bytes | None) -> bytes:
    if challenge is None:
        raise ValueError("no challenge is pending")
    return challenge
