"""Receipts, telling, reminders and deletion carried out on a wired house: real vault, real store, queued mail."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import jwt
import pytest
from sqlalchemy import update

from app.profiles import Profile
from app.receipts import TYPE, said_in
from app.sdk.claims import AggregationConsent
from app.sdk.payloads import split
from app.store.rows.consents import ConsentEventRow
from app.tokens.minting import digest
from app.tokens.records import Refresh, TokenGrant
from app.vault.errors import Erased, ProviderUnavailable
from app.vault.keys import Basis, Scope, Target
from app.vault.ports import ErasureState
from app.wiring.sweeping import BATCH, lapse_all, sweeps
from app.workflows.consents import ConsentWork, UnknownConsent
from consent import usecases
from consent.errors import BrokenChainError
from consent.events import Actor, ActorKind, Authorisers, Channel, EndReason, Evidence, SuspensionReason, chain_head
from consent.journey import Agreement
from consent.limits import LimitId, RestrictionGround, RestrictionRecord, Whose
from consent.policy import Policy
from consent.proposal import Proposal
from consent.receipt import RECEIPT_SCHEMA
from consent.record import Consent, State
from consent.vocabulary import CategoryId, ConsentId, Locale, Shredded, SubjectRef
from tests.contract.case_house import jobs
from tests.doors.api_house import HOLDER, ISSUER, PURPOSE, READER, START, Agreed, ApiHouse
from tests.waiting import wait

DAY = timedelta(days=1)
SYSTEM = Actor(ActorKind.SYSTEM, "clock")
PARTY = Actor(ActorKind.PARTY, READER)


class Straight:
    """Runs each step at once and remembers what it said."""

    def __init__(self) -> None:
        self.said: list[tuple[str, Any]] = []

    def run(self, name: str, effect: Callable[[], Any]) -> Any:
        self.said.append((name, effect()))
        return self.said[-1][1]


@dataclass
class Town:
    at: ApiHouse
    run: set[str] = field(default_factory=set)

    @property
    def work(self) -> ConsentWork:
        return self.at.house.consentwork

    def asked(self, kind: str = "consent.") -> list[str]:
        """The references of committed work of consents, as the engine keeps them."""
        found = [line.split("'")[1] for line in jobs(self.at.house.records) if line.startswith("('consent.")]
        return sorted(ref for ref in found if ref.startswith(kind))

    def carry_out(self, kind: str = "consent.") -> list[tuple[str, Any]]:
        """Do all that is asked for and was not done; returns what each step said."""
        steps = Straight()
        for asked in self.asked(kind):
            if asked not in self.run and not asked.startswith("consent.reminder"):
                self.run.add(asked)
                name, _, ref = asked.partition(":")
                self.work.handlers()[name](ref, steps)
        return steps.said

    def one(self, kind: str, ref: str) -> list[tuple[str, Any]]:
        steps = Straight()
        self.work.handlers()[kind](ref, steps)
        return steps.said

    def mails(self, kind: str | None = None) -> list[dict[str, str]]:
        house = self.at.house
        rows = [row for row in self.at.rows("queued_mail") if kind in (None, row["kind"])]
        return [json.loads(house.seals.open_mail(row["controller"], row["id"], row["sealed"])) for row in rows]

    def receipts(self, agreed: Agreed) -> list[Any]:
        with self.at.house.units.reading() as unit:
            return list(unit.receipts.of_consent(self.at.house.controller, agreed.consent))

    def record(self, agreed: Agreed) -> Consent:
        with self.at.house.units.reading() as unit:
            found = unit.consents.find(self.at.house.controller, agreed.consent)
        assert found is not None
        return found

    def kinds(self) -> list[str]:
        return [row["kind"] for row in self.at.rows("ledger_entries")]

    def shred(self, subject: SubjectRef) -> None:
        vault, name = self.at.house.vault, f"era_{subject}"
        state = vault.shred(name, [Target(self.at.house.controller, subject)])
        for _ in range(20):
            if state is ErasureState.CERTIFIED:
                return
            vault.erasures.acknowledge(name)
            state = vault.erasures.advance(name)
        raise AssertionError("the erasure did not end")


@pytest.fixture
def town(tmp_path: Path, laid_records_url: str, laid_keys_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Town]:
    built = ApiHouse(tmp_path, laid_records_url, laid_keys_url, monkeypatch)
    yield Town(built)
    built.house.close()


def verified(town: Town, signed: str) -> Mapping[str, Any]:
    """What a receipt says, checked with PyJWT against the published keys alone."""
    header = jwt.get_unverified_header(signed)
    assert (header["typ"], header["alg"]) == (TYPE, "ES256")
    keys = {key["kid"]: key for key in town.at.web.get("/oauth/jwks").json["keys"]}
    payload = jwt.PyJWS().decode(signed, jwt.PyJWK(keys[header["kid"]]).key, algorithms=["ES256"])
    return dict(json.loads(payload))


def opened(town: Town, agreed: Agreed, at: int = 0) -> str:
    signed = town.work.receipts.open(town.receipts(agreed)[at])
    assert isinstance(signed, str)
    return signed


# Receipts


def test_a_receipt_is_signed_sealed_and_announced(town: Town) -> None:
    """Consent rules 56, 57; tokens.md section 5."""
    agreed = town.at.agree()
    assert town.asked("consent.receipt") == [f"consent.receipt:{agreed.consent}/3"]
    assert town.carry_out() == [("receipt", "done")]
    (stored,) = town.receipts(agreed)
    signed = opened(town, agreed)
    said = verified(town, signed)
    assert said == said_in(signed)
    assert (said["schema_version"], said["receipt_id"]) == (RECEIPT_SCHEMA, stored.id)
    assert said["record"]["header"]["record_id"] == agreed.consent
    assert said["record"]["header"]["pii_principal_id"] == town.at.handle(agreed, READER), "the asking party's name"
    assert said["record"]["regard"]["state"] == "active"
    assert agreed.subject not in signed
    assert b"wealth" not in stored.sealed
    head = town.at.rows("consents")[0]["head"]
    assert said["record"]["regard"]["chain_head"] == head
    assert town.kinds()[-1] == "receipt.issued"
    (mail,) = town.mails("receipt")
    assert mail["to"] == "ana@example.org"
    assert (mail["locale"], mail["subject"]) == ("en", "A receipt is waiting in your space at Ormelune")
    assert f"{ISSUER}/en/me/consents/{agreed.consent}/receipts/{stored.id}" in mail["text"]
    assert f"{ISSUER}/en/stop/" in mail["text"]
    for word in ("ana@", "Ana", "Collecte", agreed.subject, "wealth"):
        assert word not in mail["text"] + mail["html"] + mail["subject"]
    assert "/stop/" not in signed, "the asking party may read the receipt; it must not stop in the person's name"


def test_a_changed_byte_is_found(town: Town) -> None:
    agreed = town.at.agree()
    town.carry_out()
    head, body, mark = opened(town, agreed).split(".")
    with pytest.raises(jwt.InvalidSignatureError):
        verified(town, f"{head}.{body[:-4]}AAAA.{mark}")


def test_the_ledger_holds_the_receipts_digest(town: Town) -> None:
    agreed = town.at.agree()
    town.carry_out()
    entry = next(row for row in town.at.rows("ledger_entries") if row["kind"] == "receipt.issued")
    house = town.at.house
    scope = Scope(house.controller, agreed.subject, "regard", "ledger", key_class=_audit())
    payload = json.loads(house.vault.open(scope, "receipt.issued", split(entry["sealed"])[1]))["payload"]
    assert payload["digest"] == sha256(opened(town, agreed).encode()).hexdigest()
    assert (payload["consent"], payload["version"]) == (agreed.consent, 3)


def _audit() -> Any:
    from app.vault.keys import KeyClass

    return KeyClass.AUDIT


def test_a_repeated_run_makes_no_second_receipt_and_sends_no_second_mail(town: Town) -> None:
    """Operations.md section 3: at least once, and nothing twice that matters."""
    agreed = town.at.agree()
    town.carry_out()
    before = (len(town.receipts(agreed)), len(town.mails()), len(town.kinds()))
    assert town.one(usecases.RECEIPT, f"{agreed.consent}/3") == [("receipt", "done before")]
    assert town.one(usecases.RECEIPT, f"{agreed.consent}/3/2") == [("receipt", "done before")]
    assert (len(town.receipts(agreed)), len(town.mails()), len(town.kinds())) == before


def test_killed_before_the_commit_means_nothing_happened(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    agreed = town.at.agree()

    def breaks(*_: Any, **__: Any) -> str:
        raise ConnectionError("killed")

    with monkeypatch.context() as broken:
        broken.setattr("app.store.mailqueue.MailQueue.send", breaks)
        with pytest.raises(ConnectionError):
            town.carry_out()
    assert (town.receipts(agreed), town.mails()) == ([], [])
    assert "receipt.issued" not in town.kinds()
    assert town.one(usecases.RECEIPT, f"{agreed.consent}/3") == [("receipt", "done")]


def test_each_change_has_its_own_receipt_however_late_it_is_made(town: Town) -> None:
    """Consent rule 57: after each give, amendment and end; each says how it stood then."""
    agreed = town.at.agree()
    town.at.withdraw(agreed)
    assert town.asked("consent.receipt") == [f"consent.receipt:{agreed.consent}/{version}" for version in (3, 4)]
    town.carry_out()
    ended, given = (verified(town, opened(town, agreed, at))["record"]["regard"] for at in (0, 1))
    assert (given["state"], given["version"], len(given["history"])) == ("active", 3, 3)
    assert (ended["state"], ended["version"], len(ended["history"])) == ("withdrawn", 4, 4)
    with town.at.house.units.reading() as unit:
        events = unit.consents.events(town.at.house.controller, agreed.consent)
    assert given["chain_head"] == chain_head(agreed.consent, events[:3])
    assert ended["chain_head"] == chain_head(agreed.consent, events)
    stops = ["/stop/" in mail["text"] for mail in town.mails("receipt")]
    assert sorted(stops) == [False, True], "there is nothing left to stop after the end"


def test_after_the_erasure_a_receipt_opens_no_more(town: Town) -> None:
    """Vault.md section 2: what is destroyed is the key."""
    agreed, bea = town.at.agree(), town.at.agree("bea@example.org")
    town.carry_out()
    town.shred(agreed.subject)
    assert isinstance(town.work.receipts.open(town.receipts(agreed)[0]), Shredded)
    assert verified(town, opened(town, bea))["record"]["header"]["record_id"] == bea.consent


def test_what_a_person_was_is_not_written_down_again(town: Town) -> None:
    agreed = town.at.agree()
    town.shred(agreed.subject)
    assert town.carry_out() == [("receipt", "erased")]
    town.at.erase(agreed)
    assert town.one(usecases.RECEIPT, f"{agreed.consent}/3") == [("receipt", "erased")]
    assert (town.receipts(agreed), town.mails()) == ([], [])


def test_while_the_keys_are_out_of_reach_it_waits_and_then_is_done(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """Operations.md section 6: fail to nothing, never to a half; issue 2, "key provider unavailable"."""
    agreed = town.at.agree()

    def away(*_: Any, **__: Any) -> bytes:
        raise ProviderUnavailable

    with monkeypatch.context() as gone:
        gone.setattr(town.at.house.vault, "seal", away)
        assert town.carry_out() == [("receipt", "waiting"), ("receipt again", "waiting")]
    assert (town.receipts(agreed), town.mails()) == ([], [])
    assert f"consent.receipt:{agreed.consent}/3/2" in town.asked()
    assert town.carry_out() == [("receipt", "done")]


@pytest.mark.parametrize("ref", ["con_nobody/1", "{}/9", "{}/0"])
def test_work_about_what_is_not_there_is_refused(town: Town, ref: str) -> None:
    agreed = town.at.agree()
    with pytest.raises(UnknownConsent):
        town.one(usecases.RECEIPT, ref.format(agreed.consent))


# Telling


def test_the_mail_speaks_the_language_the_person_was_asked_in(town: Town) -> None:
    """Consent rule 24."""
    agreed = agree(town, page=Locale.PT)
    town.carry_out()
    (mail,) = town.mails("receipt")
    assert mail["locale"] == "pt"
    assert mail["subject"] == "Um recibo espera por si no seu espaço Ormelune"
    assert "/pt/me/consents/" in mail["text"]
    assert verified(town, opened(town, agreed))["record"]["processing"]["language"] == "pt"


def test_everyone_who_agreed_is_told_of_an_end_once(town: Town) -> None:
    """Consent rules 46, 57: the subject has the receipt, the other authoriser a mail, who did it none."""
    bea = town.at.house.profiles.enrol(town.at.house.controller, Profile("Bea", "bea@example.org"), Locale.ES)
    agreed = agree(town, with_others=(bea,))
    town.carry_out()
    town.at.withdraw(agreed)
    town.carry_out()
    (told,) = town.mails("agreement-ended")
    assert (told["to"], told["locale"]) == ("bea@example.org", "es")
    assert f"/es/me/consents/{agreed.consent}" in told["text"]
    assert town.one(usecases.ENDED, f"{agreed.consent}/{town.record(agreed).version}")[0] == ("tell", "done before")
    assert len(town.mails("agreement-ended")) == 1


def test_a_pause_by_somebody_else_is_told_and_ones_own_is_not(town: Town) -> None:
    agreed, house = town.at.agree(), town.at.house
    town.carry_out()
    common = {"controller": house.controller, "consent": agreed.consent, "channel": Channel.API}
    due, own = SuspensionReason.SCA_DUE, SuspensionReason.PAUSED_BY_SUBJECT
    me = Actor(ActorKind.SUBJECT, agreed.subject)
    for reason, by in ((due, SYSTEM), (own, me)):
        usecases.suspend(house.units.writing(), reason=reason, by=by, at=town.at.clock.now(), **common)
    for reason, by in ((own, me), (due, SYSTEM)):
        usecases.resume(house.units.writing(), reason=reason, by=by, at=town.at.clock.now(), **common)
    town.carry_out("consent.changed")
    assert [len(town.mails(kind)) for kind in ("agreement-paused", "agreement-resumed", "receipt")] == [1, 1, 1]
    assert town.mails("agreement-paused")[0]["to"] == "ana@example.org"


def test_a_narrowed_agreement_brings_a_receipt_and_no_second_mail(town: Town) -> None:
    agreed, house = town.at.agree(), town.at.house
    usecases.narrow(
        house.units.writing(),
        controller=house.controller,
        consent=agreed.consent,
        categories=town.record(agreed).terms.needed,
        by=SYSTEM,
        channel=Channel.API,
        at=town.at.clock.now(),
    )
    town.carry_out()
    assert len(town.receipts(agreed)) == 2
    assert town.mails("agreement-changed") == []


# Deleting what a withdrawal lets go


def keep(town: Town, agreed: Agreed, category: str, basis: Basis) -> Callable[[], bool]:
    """Seal something as a holder does; returns whether it still opens."""
    vault, scope = town.at.house.vault, Scope(town.at.house.controller, agreed.subject, HOLDER, category, basis=basis)
    sealed = vault.seal(scope, "row_1", b"42.17")

    def opens() -> bool:
        try:
            return vault.open(scope, "row_1", sealed) == b"42.17"
        except Erased:
            return False

    return opens


def test_the_choice_to_delete_destroys_what_nothing_needs_any_more(town: Town) -> None:
    """Consent rule 45, GDPR art. 17(1)(b)."""
    agreed = town.at.agree()
    category = sorted(town.record(agreed).categories)[0]
    gone, other = keep(town, agreed, category, Basis.CONSENT), keep(town, agreed, category, Basis.OTHER)
    foreign = keep(town, agreed, "household", Basis.CONSENT)
    withdraw(town, agreed, delete_data=True)
    town.carry_out("consent.ended")
    assert (gone(), other(), foreign()) == (False, True, True)
    (certificate,) = town.at.house.vault.erasures.certificates(f"era_{agreed.consent}")
    assert certificate["statement"] == "keys destroyed"
    assert town.kinds().count("consent.data_destroyed") == 1
    said = town.one(usecases.ENDED, f"{agreed.consent}/{town.record(agreed).version}")
    assert said[-1] == ("record", "done before")
    assert town.kinds().count("consent.data_destroyed") == 1


def by_itself(town: Town, agreed: Agreed) -> tuple[str, int]:
    """A category that goes with its agreement, and how many days after."""
    record = town.record(agreed)
    return sorted(town.at.house.policy.kept_while_agreed(record.terms.purpose, record.categories).items())[0]


def test_what_the_pack_keeps_while_the_agreement_runs_goes_by_itself(town: Town) -> None:
    """GDPR art. 5(1)(e): the receipt says for how long, the page says when; nobody has to ask."""
    agreed = town.at.agree()
    category, days = by_itself(town, agreed)
    gone, other = keep(town, agreed, category, Basis.CONSENT), keep(town, agreed, category, Basis.OTHER)
    withdraw(town, agreed, delete_data=False)
    assert town.carry_out("consent.ended")[-1] == ("later", "waiting")
    town.at.clock.forward(seconds=days * 86_400 - 1)
    assert town.carry_out("consent.ended")[-1] == ("later", "waiting")
    assert gone(), "not a moment sooner"
    town.at.clock.forward(seconds=1)
    assert town.carry_out("consent.ended")[-1] == ("record", "done")
    assert (gone(), other()) == (False, True)
    assert len(town.mails("agreement-ended")) <= 1, "the end was told once"


def test_what_time_has_ended_goes_by_itself_too(town: Town) -> None:
    agreed = town.at.agree()
    category, days = by_itself(town, agreed)
    gone = keep(town, agreed, category, Basis.CONSENT)
    town.at.clock.at = town.record(agreed).valid_until
    assert lapse_all(town.at.house.units) == 1
    town.carry_out("consent.ended")
    town.at.clock.forward(days=days)
    town.carry_out("consent.ended")
    assert not gone()


def test_who_asks_for_storage_only_keeps_what_is_there(town: Town) -> None:
    """GDPR art. 18(1)(b): a restriction asked for instead of the deletion."""
    agreed, house = town.at.agree(), town.at.house
    category, days = by_itself(town, agreed)
    kept = keep(town, agreed, category, Basis.CONSENT)
    withdraw(town, agreed, delete_data=False)
    with house.units.writing() as unit:
        whose, now = Whose(house.controller, agreed.subject), town.at.clock.now()
        unit.limits.add_restriction(
            RestrictionRecord(LimitId("lim_1"), whose, RestrictionGround.UNLAWFUL_PROCESSING, now)
        )
        unit.commit()
    town.at.clock.forward(days=days)
    assert town.carry_out("consent.ended")[-1] == ("later", "waiting")
    assert kept()


def test_what_no_text_lets_go_with_the_agreement_stays_without_the_choice(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    agreed = town.at.agree()
    kept = keep(town, agreed, by_itself(town, agreed)[0], Basis.CONSENT)
    monkeypatch.setattr(Policy, "kept_while_agreed", lambda *_: {})
    withdraw(town, agreed, delete_data=False)
    assert town.carry_out("consent.ended")[-1] == ("due", "nothing to do")
    assert kept()


def test_what_another_live_agreement_covers_stays(town: Town) -> None:
    agreed = town.at.agree()
    other = town.at.agree(party=HOLDER)
    assert (other.subject, town.record(other).state) == (agreed.subject, State.ACTIVE)
    category = sorted(town.record(agreed).categories & town.record(other).categories)[0]
    kept = keep(town, agreed, category, Basis.CONSENT)
    withdraw(town, agreed, delete_data=True)
    said = dict(town.carry_out("consent.ended"))
    assert kept()
    assert said["request"] == "nothing to do" or town.record(agreed).categories - town.record(other).categories


def test_a_lease_that_runs_is_waited_for(town: Town) -> None:
    """Vault.md section 5: an erasure waits for leases; the next attempt is asked for with a delay."""
    agreed = town.at.agree()
    category = sorted(town.record(agreed).categories)[0]
    gone = keep(town, agreed, category, Basis.CONSENT)
    scope = Scope(town.at.house.controller, agreed.subject, HOLDER, category, basis=Basis.CONSENT)
    town.at.house.vault.lease(scope, 60)
    withdraw(town, agreed, delete_data=True)
    assert town.carry_out("consent.ended")[-1] == ("again", "waiting")
    anew = town.at.agree()
    assert category in town.record(anew).categories, "a new agreement meanwhile does not bring the old copy back"
    town.at.clock.forward(seconds=61)
    town.carry_out("consent.ended")
    assert not gone()
    assert town.kinds().count("consent.data_destroyed") == 1


def test_destroying_waits_while_the_provider_is_away(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """Issue 2: key provider unavailable, erasures queue; nothing says it was done before it was."""
    agreed = town.at.agree()
    gone = keep(town, agreed, sorted(town.record(agreed).categories)[0], Basis.CONSENT)
    withdraw(town, agreed, delete_data=True)

    def away(*_: Any, **__: Any) -> ErasureState:
        raise ProviderUnavailable

    with monkeypatch.context() as broken:
        broken.setattr(town.at.house.vault.erasures, "advance", away)
        assert town.carry_out("consent.ended")[-1] == ("again", "waiting")
    assert "consent.data_destroyed" not in town.kinds()
    assert town.carry_out("consent.ended")[-1] == ("record", "done")
    assert not gone()


# Reminders and the end


def test_reminders_come_every_90_days_and_14_and_3_days_before_the_end(town: Town) -> None:
    """Consent rules 48, 50: who, purpose, end date, link; silence ends and never renews."""
    agreed = town.at.agree()
    until = town.record(agreed).valid_until
    assert until == START + 180 * DAY
    days = [START + 90 * DAY, until - 14 * DAY, until - 3 * DAY]
    for place, due in enumerate(days):
        assert town.asked("consent.reminder")[place:] == [f"consent.reminder:{agreed.consent}/{due:%Y-%m-%d}"]
        town.at.clock.at = due
        ref = f"{agreed.consent}/{due:%Y-%m-%d}"
        assert town.one(usecases.REMINDER, ref) == [("remind", "done")]
        assert town.one(usecases.REMINDER, ref) == [("remind", "done before")]
    assert len(town.asked("consent.reminder")) == 3
    (early,), soon = town.mails("reminder"), town.mails("ends-soon")
    assert len(soon) == 2
    for mail in (early, *soon):
        for word in ("Collecte", "August 29, 2026", f"{ISSUER}/en/me/consents/{agreed.consent}"):
            assert word in mail["text"], mail["text"]
            assert word in mail["html"]
        assert town.at.house.policy.purposes[PURPOSE].names[Locale.EN] in mail["text"]
        assert not any(word in mail["text"] for word in ("ana@", "Ana", agreed.subject))
    assert town.record(agreed).state is State.ACTIVE, "a reminder renews nothing"
    town.at.clock.at = until
    assert lapse_all(town.at.house.units) == 1
    assert town.record(agreed).state is State.EXPIRED


def test_nobody_is_reminded_of_what_has_ended_or_rests(town: Town) -> None:
    agreed, other, house = town.at.agree(), town.at.agree("bea@example.org"), town.at.house
    town.at.withdraw(agreed)
    usecases.suspend(
        house.units.writing(),
        controller=house.controller,
        consent=other.consent,
        reason=SuspensionReason.SCA_DUE,
        by=SYSTEM,
        channel=Channel.SCHEDULE,
        at=town.at.clock.now(),
    )
    town.at.clock.forward(days=90)
    day = f"{town.at.clock.now():%Y-%m-%d}"
    assert town.one(usecases.REMINDER, f"{agreed.consent}/{day}") == [("remind", "nothing to do")]
    assert town.one(usecases.REMINDER, f"{other.consent}/{day}") == [("remind", "nothing to do")]
    assert town.mails("reminder") == []
    assert f"consent.reminder:{other.consent}/2026-08-15" in town.asked(), "the next one stands for when it resumes"
    assert not [ref for ref in town.asked("consent.reminder") if agreed.consent in ref and day not in ref]


def test_a_late_worker_skips_the_reminders_that_passed_meanwhile(town: Town) -> None:
    agreed = town.at.agree()
    town.at.clock.at = START + 170 * DAY
    town.one(usecases.REMINDER, f"{agreed.consent}/{START + 90 * DAY:%Y-%m-%d}")
    assert len(town.mails("ends-soon")) == 1
    assert town.asked("consent.reminder")[-1].endswith(f"/{START + 177 * DAY:%Y-%m-%d}")


def test_a_renewed_agreement_is_not_reminded_of(town: Town) -> None:
    agreed = town.at.agree()
    renewed = agree(town, supersedes=agreed.consent)
    assert (town.record(agreed).state, town.record(renewed).state) == (State.REPLACED, State.ACTIVE)
    town.at.clock.forward(days=90)
    assert town.one(usecases.REMINDER, f"{agreed.consent}/{town.at.clock.now():%Y-%m-%d}")[0][1] == "nothing to do"


def test_the_sweep_records_every_end_and_asks_for_its_receipt(town: Town) -> None:
    """Operations.md section 3, rule 6; consent rule 57."""
    agreed, asked = town.at.agree(), propose(town, "bea@example.org")
    assert lapse_all(town.at.house.units) == 0
    town.at.clock.forward(days=200)
    assert {name: sweep() for name, sweep in sweeps(town.at.house.units).items()}["consents"] == 2
    assert lapse_all(town.at.house.units) == 0
    assert town.record(agreed).state is State.EXPIRED
    assert f"consent.receipt:{agreed.consent}/4" in town.asked()
    assert not [ref for ref in town.asked() if asked in ref], "nobody had agreed: nobody is told"
    town.carry_out()
    assert verified(town, opened(town, agreed))["record"]["events"][-1]["event_state"] == "expired"


def test_what_stands_on_an_ended_consent_is_swept_a_month_later(town: Town) -> None:
    """Tokens.md section 2: the absolute end of a refresh token is the end of the consent."""
    agreed, units, at = town.at.agree(), town.at.house.units, town.at.clock
    client, detail = town.at.reader.record, AggregationConsent(consent_id=agreed.consent)
    who = (client.id, client.controller, client.party, agreed.consent)
    grant = TokenGrant("gnt_1", *who, frozenset(), ISSUER, detail, at.now())
    with units.writing() as unit:
        unit.tokens.add_grant(grant)
        unit.tokens.add_refresh(Refresh(digest("r"), grant, "jkt", at.now()))
        unit.commit()
    sweep = sweeps(units)["grants"]
    at.forward(days=200)
    assert (lapse_all(units), sweep()) == (1, 0)
    at.forward(days=31)
    assert [sweep(), sweep()] == [1, 0]
    with units.reading() as unit:
        assert unit.tokens.refresh(digest("r")) is None


def test_more_than_a_batch_is_swept_at_once(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    assert BATCH > 3
    monkeypatch.setattr("app.wiring.sweeping.BATCH", 2)
    for number in range(5):
        propose(town, f"p{number}@example.org")
    town.at.clock.forward(days=31)
    assert lapse_all(town.at.house.units) == 5


def test_a_tampered_history_holds_up_nobody_elses_end(town: Town) -> None:
    """Consent rule 56: it is found wherever it is read, and the sweep goes on."""
    agreed, other = town.at.agree(), town.at.agree("bea@example.org")
    with town.at.house.records.begin() as connection:
        broken = ConsentEventRow.consent == agreed.consent
        connection.execute(update(ConsentEventRow).where(broken, ConsentEventRow.version == 2).values(digest="0" * 64))
    town.at.clock.forward(days=200)
    assert lapse_all(town.at.house.units) == 1
    assert town.record(other).state is State.EXPIRED
    with pytest.raises(BrokenChainError):
        town.record(agreed)


def test_ended_by_the_controller_is_told_with_the_receipt(town: Town) -> None:
    agreed, house = town.at.agree(), town.at.house
    usecases.end_by_controller(
        house.units.writing(),
        controller=house.controller,
        consent=agreed.consent,
        reason=EndReason.SERVICE_ENDED,
        by=SYSTEM,
        channel=Channel.SCHEDULE,
        at=town.at.clock.now(),
    )
    town.carry_out()
    assert len(town.mails("receipt")) == 2
    assert verified(town, opened(town, agreed))["record"]["regard"]["state"] == "ended_by_controller"


# The whole, by the durable engine


@pytest.mark.slow
def test_by_itself_from_the_agreement_to_the_outbox(
    town: Town, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The job tables hold opaque ids only; the mail says its language; a sweep ends what has run out."""
    house, clock = town.at.house, town.at.clock
    agreed = town.at.agree()
    house.work.launch(poll_seconds=0.05, sweep_when="* * * * * *")
    wait(lambda: outbox(tmp_path))
    (mail,) = outbox(tmp_path)
    assert (mail["template"], mail["locale"]) == ("receipt", "en")
    clock.forward(days=181)
    wait(lambda: len(outbox(tmp_path)) == 2)
    assert town.record(agreed).state is State.EXPIRED
    told = "".join(jobs(house.records))
    assert not any(word in told for word in ("Ana", "example.org", agreed.subject))


def outbox(tmp_path: Path) -> list[dict[str, str]]:
    files = (tmp_path / "var/outbox").glob("*.json")
    return [json.loads(file.read_bytes())["message"] for file in files]


# What a person and a party do


def propose(town: Town, email: str, **more: Any) -> ConsentId:
    house = town.at.house
    subject = house.profiles.enrol(house.controller, Profile("Ana", email), Locale.EN)
    asked = usecases.propose(
        house.units.writing(),
        house.policy,
        Proposal(
            house.controller, subject, PURPOSE, READER, categories=frozenset({CategoryId("loans.running")}), **more
        ),
        ids=house.units.ids,
        by=PARTY,
        channel=Channel.API,
        at=town.at.clock.now(),
    )
    return asked.id


def agree(
    town: Town,
    *,
    page: Locale = Locale.EN,
    with_others: tuple[SubjectRef, ...] = (),
    supersedes: ConsentId | None = None,
) -> Agreed:
    house, at = town.at.house, town.at.clock.now()
    subject = house.profiles.enrol(house.controller, Profile("Ana", "ana@example.org"), Locale.EN)
    people = Authorisers((subject, *with_others)) if with_others else None
    consent = propose(town, "ana@example.org", authorisers=people, supersedes=supersedes)
    who = {"controller": house.controller, "consent": consent, "channel": Channel.PAGE, "at": at}
    shown = {"template_digest": "a" * 64, "catalogue_digest": "b" * 64, "gpc": False}
    for person in (subject, *with_others):
        me = Actor(ActorKind.SUBJECT, person)
        locale = page if person == subject else Locale.ES
        usecases.show(house.units.writing(), house.policy, **who, **shown, by=me, locale=locale)
        usecases.give(
            house.units.writing(),
            house.policy,
            Agreement(frozenset(), 180, attended_only=False, institution=None, access_path=None),
            **who,
            by=me,
            evidence=Evidence(1, None, None, None, gpc=False),
        )
    return Agreed(subject, consent)


def withdraw(town: Town, agreed: Agreed, *, delete_data: bool) -> None:
    usecases.withdraw(
        town.at.house.units.writing(),
        controller=town.at.house.controller,
        consent=agreed.consent,
        by=Actor(ActorKind.SUBJECT, agreed.subject),
        channel=Channel.PAGE,
        at=town.at.clock.now(),
        delete_data=delete_data,
    )
