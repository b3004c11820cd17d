"""What an authority is handed after a real run: every kind of bundle, and an outsider's check of an erasure.

The run is a case on a wired house: access, erasure with one thing kept, certificate. The auditor's script knows the
published formats and nothing else; each file that was tampered with has to fail (issue 3, shows 6).
"""

from __future__ import annotations

import ast
import json
import random
import subprocess
import sys
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from app.cli.main import main as commands
from app.ledger.bundle import About, Selection
from app.profiles import Profile
from app.sdk.evidence import Entry, verify_bundle
from app.vault.certificate import canonical
from app.vault.keys import KeyClass, Target
from app.wiring import House, add_staff
from app.wiring.evidence import certificate_key, evidence, opened_evidence
from consent.vocabulary import Locale, SubjectRef
from tests.contract import case_house as town
from tests.databases import sqlite_database
from tests.doors.api_house import ApiHouse
from tests.journeys import auditor
from tests.waiting import wait

SCRIPT = Path(auditor.__file__)
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("auditor")]


@dataclass
class Run:
    """A finished case, and what is handed out about it."""

    house: House
    story: town.Story
    vkey: str
    public: str
    certificate: bytes
    bundle: bytes
    auditor: str

    @property
    def erasure(self) -> str:
        return f"era_{self.story.gone}"

    def handed(self, **other: object) -> str:
        """Let the auditor's script check; raises what it finds wrong."""
        given = {"bundle": self.bundle, "vkey": self.vkey, "certificate": self.certificate, "public": self.public}
        return str(auditor.main(**{**given, **other}))

    def entries(self, data: bytes) -> list[Entry]:
        report = verify_bundle(data, self.vkey)
        assert report.faults == ()
        return list(report.entries)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    folder = tmp_path_factory.mktemp("auditor")
    records, keys = sqlite_database(folder / "records.sqlite", None), sqlite_database(folder / "keys.sqlite", None)
    built = town.open_house(folder, records, keys, fresh=True)
    built.work.migrate()
    house = town.quick(built, first=timedelta(seconds=0.1), longest=timedelta(seconds=0.1))
    house.work.launch(poll_seconds=0.02)
    story = _erased(house)
    _somebody_else(house)
    erasure = f"era_{story.gone}"
    (certificate,) = house.vault.erasures.certificates(erasure)
    by = _auditor(house)
    bundle = opened_evidence(house, Selection(About.ERASURE, (erasure,)), by=by, without=[story.subject])
    made = certificate_key(house.settings)
    yield Run(house, story, house.ledger.verifier_key, made, canonical(certificate), bundle, by)
    house.close()


def _auditor(house: House) -> str:
    return add_staff(house, "Lou Martin", ["auditor"], [house.controller])[0]


def _erased(house: House) -> town.Story:
    story = town.begin(house, rows=5)
    assert story.answer_all() == 2
    town.decide(story)
    wait(lambda: _case(story, lambda case: any(one.dispatched_at for one in case.messages.values())))
    town.order_erasure(story)
    wait(lambda: not house.vault.erasures.pending())
    # they pull until it is done: what there is to do may come to be between one holder's look and the other's
    wait(lambda: _case(story, lambda case: case.lines[story.gone].carried_out), story.answer_all)
    return story


def _case(story: town.Story, ask: Callable[[object], object]) -> object:
    with story.desk() as desk:
        return ask(desk.cases.get(story.case))


def _somebody_else(house: House) -> None:
    """Another person's entries, which belong in no bundle about the first."""
    bruno = house.profiles.enrol(house.controller, Profile("Bruno Outro", "bruno@example.org"), Locale.PT)
    with house.units.writing() as unit:
        unit.journal.record(
            "session.opened", actor=bruno, controller=house.controller, subject=bruno, payload={"level": 2}
        )
        unit.commit()


# -- the outsider's check ----------------------------------------------------------------------------------------------


def test_the_erasure_is_proved_to_an_outsider(run: Run, tmp_path: Path) -> None:
    """As a command, isolated from the project: standard library and `cryptography` alone."""
    files = {"bundle.json": run.bundle, "ledger.vkey": run.vkey.encode(), "certificate.json": run.certificate}
    for name, content in {**files, "certificate.pub": run.public.encode()}.items():
        (tmp_path / name).write_bytes(content)
    words = [sys.executable, "-I", str(SCRIPT), "bundle.json", "ledger.vkey", "certificate.json", "certificate.pub"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"keys destroyed, {run.erasure}: certified in leaf ")
    (tmp_path / "certificate.json").write_bytes(run.certificate.replace(b"keys destroyed", b"keys destroyeD"))
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.strip() == "does not hold: a signature is false"
    keys = [*words[:4], run.vkey, words[5], run.public]
    (tmp_path / "certificate.json").write_bytes(run.certificate)
    assert subprocess.run(keys, cwd=tmp_path, capture_output=True, check=False).returncode == 0, "keys as text"
    for given, told in (
        (words[:3], "usage: python auditor.py"),
        ([*words[:6], "gone.pub"], "read gone.pub: No"),
    ):
        done = subprocess.run(given, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert (done.returncode, told in done.stderr, "Traceback" in done.stderr) == (1, True, False)


def test_what_the_operators_commands_hand_out_is_proved_to_the_outsider(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`keys erasures show --to`, `ledger export`, `ledger key`: three commands, then the outsider's script."""

    @contextmanager
    def here() -> Iterator[House]:
        yield run.house

    for module in ("app.cli.erasures", "app.cli.ledger"):
        monkeypatch.setattr(f"{module}.opened", here)
    certificate, bundle = tmp_path / "certificate.json", tmp_path / "bundle.json"
    shown = ["keys", "erasures", "show", run.erasure, "--to", str(certificate)]
    asked = ["--about", "erasure", "--ref", run.erasure, "--open", "--by", run.auditor, "--hide", "subject"]
    for each in ([*shown], ["ledger", "export", str(bundle), *asked]):
        done = CliRunner().invoke(commands, each)
        assert done.exit_code == 0, done.output
    public = CliRunner().invoke(commands, ["ledger", "key", "--certificates"]).stdout.strip()
    told = run.handed(bundle=bundle.read_bytes(), certificate=certificate.read_bytes(), public=public)
    assert told.startswith(f"keys destroyed, {run.erasure}: certified in leaf ")
    certificate.unlink()
    other = CliRunner().invoke(commands, [*shown, "--subject", "sub_other"])
    assert (other.exit_code, certificate.exists()) == (2, False)
    assert f"no certificate fits; say --subject, one of {run.story.subject}" in other.stderr


def test_the_script_is_an_outsiders_and_short() -> None:
    lines = SCRIPT.read_text().splitlines()
    assert len(lines) <= 100
    found = [node for node in ast.walk(ast.parse(SCRIPT.read_text())) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {getattr(node, "module", None) or node.names[0].name for node in found}
    roots = {name.split(".")[0] for name in names}
    assert roots <= {"cryptography"} | set(sys.stdlib_module_names), roots


FAILS = (ValueError, KeyError, TypeError, IndexError, auditor.InvalidSignature)


def refused(run: Run, **other: object) -> None:
    with pytest.raises(FAILS):
        run.handed(**other)


def test_no_byte_of_the_bundle_or_the_certificate_can_change(run: Run) -> None:
    source = random.Random(8)
    for name in ("bundle", "certificate"):
        good = getattr(run, name)
        places = source.sample(range(len(good)), 400)
        for at in places:
            bad = good[:at] + bytes([good[at] ^ (1 << source.randrange(8))]) + good[at + 1 :]
            refused(run, **{name: bad})
        for cut in (0, 1, len(good) // 2, len(good) - 1):
            refused(run, **{name: good[:cut]})
        refused(run, **{name: good + b"\n"})


def _respelled(run: Run, change: Callable[[dict[str, list[object]]], None]) -> bytes:
    told = json.loads(run.bundle)
    change(told)
    return json.dumps(told, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


MUTATIONS: dict[str, Callable[[dict[str, list[object]]], object]] = {
    "an entry removed": lambda told: told["entries"].pop(1),
    "the last entry removed": lambda told: told["entries"].pop(),
    "an entry inserted": lambda told: told["entries"].insert(1, told["entries"][0]),
    "two entries swapped": lambda told: told["entries"].insert(0, told["entries"].pop()),
    "a proof hash removed": lambda told: told["proof"].pop(),
    "a proof hash added": lambda told: told["proof"].append(b64encode(bytes(32)).decode()),
}


@pytest.mark.parametrize("what", MUTATIONS)
def test_what_was_taken_out_put_in_or_moved_is_found(run: Run, what: str) -> None:
    assert run.handed()
    refused(run, bundle=_respelled(run, lambda told: MUTATIONS[what](told) and None))


def test_an_opened_payload_that_says_something_else_is_found(run: Run) -> None:
    def lie(told: dict[str, list[object]]) -> None:
        for entry in told["entries"]:
            for field in entry["opened"]:  # type: ignore[index]
                if field[0] == "payload.evidence":
                    field[2] = field[2].replace("era_", "ere_")

    refused(run, bundle=_respelled(run, lie))


def test_a_signature_of_somebody_else_is_found(run: Run) -> None:
    """A certificate and a ledger made up whole, both well formed."""
    own = Ed25519PrivateKey.from_private_bytes(b"\x09" * 32)
    public = b64encode(own.public_key().public_bytes_raw()).decode()
    told = json.loads(run.certificate)
    del told["signature"]
    value = b64encode(own.sign(canonical(told))).decode()
    forged = canonical({**told, "signature": {"algorithm": "Ed25519", "public_key": public, "value": value}})
    refused(run, certificate=forged)
    refused(run, certificate=forged, public=public)  # a valid certificate, of which the ledger knows nothing
    refused(run, public=public)
    refused(run, vkey=run.vkey.replace("regard.ledger", "other.ledger"))


def test_a_bundle_that_does_not_have_the_certificate_does_not_prove_it(run: Run) -> None:
    refused(run, bundle=evidence(run.house, Selection(About.ERASURE, (run.erasure,))))


# -- each kind of bundle has all that belongs to it, and nothing else ---------------------------------------------


def everything(run: Run) -> list[Entry]:
    data = opened_evidence(run.house, Selection(About.ALL), by=run.auditor)
    return run.entries(data)


def said(entry: Entry, name: str) -> object:
    return next(field.value() for field in entry.opened or () if field.name == name)


def words(entry: Entry) -> str:
    return " ".join(field.text or "" for field in entry.opened or () if field.name.startswith("payload."))


def test_every_payload_opens_and_none_is_lost(run: Run) -> None:
    entries = everything(run)
    assert len(entries) == run.house.ledger.integrate() + entries[-1].envelope.sequence + 1
    assert len({entry.envelope.kind for entry in entries}) > 12
    assert [entry.envelope.kind for entry in entries if entry.opened is None] == []


@pytest.mark.parametrize("about", [About.CASE, About.ERASURE])
def test_a_bundle_has_all_that_belongs_to_it_and_only_that(run: Run, about: About) -> None:
    """Compared with what the opened payloads of the whole ledger say: whoever names the id belongs, nobody else."""
    ref, named = (run.story.case, run.story.case) if about is About.CASE else (run.erasure, run.story.gone)
    due = [entry.envelope.id for entry in everything(run) if named in words(entry)]
    assert [e.envelope.id for e in run.entries(evidence(run.house, Selection(about, (ref,))))] == due
    assert len(due) > 3


def test_a_bundle_about_a_consent_has_all_that_belongs_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records, keys = (sqlite_database(tmp_path / f"{tree}.sqlite", tree) for tree in ("records", "keys"))
    at = ApiHouse(tmp_path, records, keys, monkeypatch)
    ana, bea = at.agree(), at.agree("bea@example.org")
    for agreed in (ana, bea):
        at.lease(agreed, at.token(agreed))
    whole = verify_bundle(opened_evidence(at.house, Selection(About.ALL), by=_auditor(at.house)), None).entries
    for agreed in (ana, bea):
        due = [entry.envelope.id for entry in whole if agreed.consent in words(entry)]
        bundle = evidence(at.house, Selection(About.CONSENT, (agreed.consent,)))
        assert [entry.envelope.id for entry in verify_bundle(bundle, None).entries] == due
        kinds = {entry.envelope.kind for entry in whole if entry.envelope.id in due}
        assert kinds >= {"consent.given", "key.leased"}
    at.house.close()


def test_a_bundle_about_a_person_has_that_persons_alone(run: Run) -> None:
    got = run.entries(evidence(run.house, Selection(About.SUBJECT, (run.story.subject,))))
    due = [e.envelope.id for e in everything(run) if said(e, "subject") == run.story.subject]
    assert [e.envelope.id for e in got] == due
    assert len(due) > 10


def test_a_bundle_of_a_period_has_what_happened_in_it(run: Run) -> None:
    entries = everything(run)
    first, last = entries[3].envelope.at, entries[9].envelope.at
    start, until = datetime.fromisoformat(first), datetime.fromisoformat(last)
    got = run.entries(evidence(run.house, Selection(About.PERIOD, start=start, until=until)))
    assert [e.envelope.id for e in got] == [e.envelope.id for e in entries if first <= e.envelope.at < last]
    assert got


def test_whoever_opens_is_recorded_and_the_hidden_stays_hidden(run: Run) -> None:
    entries = run.entries(run.bundle)
    look = entries[-1]
    assert (look.envelope.kind, look.envelope.actor) == ("evidence.opened", run.auditor)
    assert said(look, "payload.refs") == [run.erasure]
    fields = [field for entry in entries for field in entry.opened or ()]
    assert not [field for field in fields if field.text and run.story.subject in field.text]
    assert {field.name for field in fields if field.text is None} >= {"subject", "payload.by"}


def test_where_the_audit_key_is_gone_the_payload_stays_shut(run: Run) -> None:
    """Last, since it destroys: the proofs hold as before, and what is shown is what still opens (ledger.md)."""
    whose = Target(run.house.controller, SubjectRef(run.story.subject), classes=(KeyClass.AUDIT,))
    run.house.vault.shred("era_" + "q" * 26, [whose])
    entries = everything(run)
    shut = [entry for entry in entries if entry.opened is None]
    assert len(shut) > 10
    assert all(said(entry, "subject") != run.story.subject for entry in entries if entry.opened is not None)
    assert all(entry.sealed is not None for entry in shut)
