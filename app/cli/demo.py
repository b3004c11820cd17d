"""`regard demo`: as much of the main job as is built, on generated people, each step with evidence to check.

Pages are asked over HTTP from a server of its own; what an operator does (adopting, erasing, releasing) runs here, in
the operator's process. Steps of the main job that are not built are named as such at the end, not imitated.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import click
import httpx

from app.demo.generator import Standing, Subject, analysable, make_subjects, records
from app.exports.attacks import outline
from app.exports.cells import read_cells
from app.exports.gate import Approval, Refused, judge_release, prepare
from app.exports.profile import Profile as ReleaseProfile
from app.ledger.bundle import About, Selection
from app.profiles import Profile
from app.sdk.evidence import verify_bundle
from app.settings import Settings
from app.vault.errors import VaultError
from app.vault.keys import Basis, KeyClass, Scope, Target
from app.vault.ports import ErasureState
from app.wiring import House, build, hold_back, migrate, pool, restored_vault, sealed_cohort
from consent.adoption import adopt
from consent.vocabulary import Locale, SubjectRef

SEED = 20_260_101
HOLDER = "collecte"
RELEASE = "portfolio_statistics"
NOT_BUILT = (
    "2 (consent pages) and 3 (holder's gate and lease) as one journey",
    "4 who looked, after a real read",
    "5 withdrawal felt by a component",
    "6 access package",
    "7 erasure by a case; here it is the operator's act",
)
_STARTING_SECONDS = 60


@dataclass
class Show:
    """Prints what happens; keeps what later steps need."""

    house: House
    folder: Path
    people: list[Subject]
    refs: dict[int, SubjectRef] = field(default_factory=dict)

    def step(self, number: int, words: str) -> None:
        click.secho(f"\n{number}. {words}", bold=True)

    def evidence(self, name: str, value: object) -> None:
        click.echo(f"   {name:<22} {value}")

    def leaf(self, name: str, entry: str) -> None:
        """Integrate the entry and print where it stands in the ledger."""
        self.house.ledger.integrate()
        self.evidence(name, f"ledger entry {entry}, leaf {self.house.ledger.position(entry)}")


def run(settings: Settings, *, once: bool) -> None:
    """Run the demo in a fresh folder below the data folder; keep serving until interrupted unless `once`."""
    folder = settings.data_dir
    if folder.exists():
        shutil.rmtree(folder)
    began = time.monotonic()
    migrate(settings)
    house = build(settings)
    try:
        people = list(make_subjects(SEED, house.units.clock.now().date()))
        show = Show(house, folder, people)
        with _served(settings):
            _tell(show, settings.issuer)
            click.echo(f"\nDone in {time.monotonic() - began:.1f} s. Not built yet, and not shown: ")
            for missing in NOT_BUILT:
                click.echo(f"   step {missing}")
            _addresses(settings.issuer, folder)
            if not once:
                _until_interrupted()
    finally:
        house.close()


def _tell(show: Show, issuer: str) -> None:
    _adopt(show, issuer)
    _enrol(show)
    _sign_in(show, issuer)
    _erase(show)
    _release(show)
    _verify(show)


def _adopt(show: Show, issuer: str) -> None:
    show.step(1, "The policy pack is adopted")
    house = show.house
    with house.units.writing() as unit:
        entry = adopt(unit, house.policy, controller=house.controller, by="demo", at=house.units.clock.now())
    show.evidence("digest", house.policy.digest)
    if entry is not None:
        show.leaf("adopted", entry)
    for locale in Locale:
        page = httpx.get(f"{issuer}/{locale.value}/processors").raise_for_status()
        heading = re.search(r"<h1[^>]*>([^<]+)", page.text)
        show.evidence(f"processors, {locale.value}", f"HTTP {page.status_code}, {heading.group(1) if heading else '?'}")


def _enrol(show: Show) -> None:
    house = show.house
    click.secho("\nPeople are enrolled: keys, sealed profile, blind index", bold=True)
    for person in (each for each in show.people if each.standing is Standing.PRESENT):
        profile = Profile(f"{person.given_name} {person.family_name}", person.email)
        show.refs[person.number] = house.profiles.enrol(house.controller, profile, Locale(person.locale))
    show.evidence("present", f"{len(show.refs)} of {len(show.people)}; the others are gone already")


def _sign_in(show: Show, issuer: str) -> None:
    show.step(2, "A person signs in by an e-mail link (first half of step 2)")
    person = next(each for each in show.people if each.number in show.refs)
    with httpx.Client(base_url=issuer, follow_redirects=True, timeout=20) as browser:
        form = _fields(browser.get("/en/sign-in").text) | {"email": person.email}
        browser.post("/en/sign-in", data=form).raise_for_status()
        link = _mailed_link(browser, issuer)
        looked = browser.get(link).raise_for_status()
        show.evidence("link opened", "GET changes nothing, shows a button")
        space = browser.post(link, data=_fields(looked.text)).raise_for_status()
        show.evidence("button pressed", f"signed in, at {space.url.path}")
        again = httpx.post(link, data=_fields(looked.text), cookies=browser.cookies)
        show.evidence("link used again", f"refused, HTTP {again.status_code}")


def _fields(page: str) -> dict[str, str]:
    return dict(re.findall(r'name="([^"]+)"[^>]*value="([^"]*)"', page))


def _mailed_link(browser: httpx.Client, issuer: str) -> str:
    """Wait for the mail: it is sent by durable work, a moment after the form was answered."""
    ends = time.monotonic() + _STARTING_SECONDS
    while time.monotonic() < ends:
        mails = re.findall(r'href="(/outbox/\w+)"', browser.get("/outbox").text)
        if mails:
            found = re.search(rf'href="({re.escape(issuer)}/[^"]+)"', browser.get(mails[0]).text)
            if found:
                return found.group(1)
        time.sleep(0.1)
    raise click.ClickException("the sign-in mail did not arrive in the outbox")


def _erase(show: Show) -> None:
    show.step(7, "A person's keys are destroyed, and a restored backup opens nothing")
    house = show.house
    erased, survivor = [each for each in show.people if each.number in show.refs][:2]
    kept = {each.number: _seal(show, each) for each in (erased, survivor)}
    backup = show.folder / "keys-backup.sqlite"
    _back_up(show.folder / "keys.sqlite", backup)
    ref = show.refs[erased.number]
    with house.units.writing() as unit:
        entry = unit.journal.record(
            "erasure.requested", actor="demo", controller=house.controller, subject=ref, payload={"erasure": "era_demo"}
        )
        unit.commit()
    show.leaf("requested", entry)
    _drive(show, "era_demo", ref)
    certificate = house.vault.erasures.certificates("era_demo")[0]
    file = show.folder / "certificate.json"
    file.write_text(json.dumps(certificate, indent=2))
    show.evidence("certificate", f"{certificate['statement']}: {file}")
    show.evidence("erased, live", _opening(show, erased, kept))
    show.evidence("survivor, live", _opening(show, survivor, kept))
    restored = restored_vault(house.settings, f"sqlite:///{backup}")
    show.evidence("erased, backup", _opening(show, erased, kept, restored.open))


Sealed = dict[int, tuple[Scope, str, bytes]]


def _seal(show: Show, person: Subject) -> tuple[Scope, str, bytes]:
    record = next(each for each in records(person) if each.category == "accounts.balances")
    scope = Scope(show.house.controller, show.refs[person.number], HOLDER, record.category, Basis.CONSENT)
    plain = json.dumps(record.content).encode()
    return scope, record.id, show.house.vault.seal(scope, record.id, plain)


def _back_up(live: Path, copy: Path) -> None:
    with sqlite3.connect(live) as source, sqlite3.connect(copy) as target:
        source.backup(target)


def _drive(show: Show, erasure: str, ref: SubjectRef) -> None:
    vault = show.house.vault
    state = vault.shred(erasure, [Target(show.house.controller, ref)])
    passed = [state.value]
    while state is not ErasureState.CERTIFIED:
        vault.erasures.acknowledge(erasure)
        state = vault.erasures.advance(erasure)
        passed.append(state.value)
    with show.house.units.writing() as unit:
        unit.subjects.forget(ref, show.house.units.clock.now())
        entry = unit.journal.record(
            "key.shredded", actor="demo", controller=show.house.controller, subject=None, payload={"erasure": erasure}
        )
        unit.commit()
    show.evidence("states", " > ".join(dict.fromkeys(passed)))
    show.leaf("shredded", entry)


def _opening(show: Show, person: Subject, kept: Sealed, opener: object = None) -> str:
    scope, record, sealed = kept[person.number]
    open_ = opener if callable(opener) else show.house.vault.open
    try:
        return f"opens, {len(open_(scope, record, sealed))} bytes"
    except VaultError as refused:
        return f"refused: {refused.code}"


def _release(show: Show) -> None:
    show.step(8, "A sealed cohort leaves as a k-anonymous table")
    house = show.house
    export = house.policy.exports[RELEASE]
    profile = ReleaseProfile.from_plain(export.plain, house.policy.hierarchies)
    gone = [each for each in show.people if each.standing is not Standing.PRESENT]
    held = list(_pooled(show, profile, gone))
    shuffler = random.SystemRandom()
    cells = read_cells(profile, held, shuffler)
    present = ((str(each.number), analysable(each)) for each in show.people if each.standing is Standing.PRESENT)
    live = read_cells(profile, present, shuffler)
    candidate = prepare(profile, cells, house.policy.digest)
    approval = Approval("demo", candidate.output.digest)
    verdict = judge_release(candidate, live=live, earlier=(), approval=approval)
    if isinstance(verdict, Refused):
        raise click.ClickException("the gate refused: " + ", ".join(each.ground.value for each in verdict.reasons))
    entry = sealed_cohort(house, profile, verdict, outline(candidate.table), [SubjectRef(ref) for ref, _ in held])
    file = show.folder / "table.csv"
    file.write_bytes(verdict.output.csv)
    manifest = json.loads(verdict.output.manifest)
    show.evidence("subjects", f"{len(held)}, k = {profile.k}, every column a quasi-identifier")
    show.evidence("table", f"{verdict.output.csv.count(b'%c' % 10) - 1} classes: {file}")
    show.evidence("manifest", ", ".join(sorted(manifest)))
    show.leaf("released", entry)


def _pooled(show: Show, profile: ReleaseProfile, gone: list[Subject]) -> Iterator[tuple[str, dict[str, int | str]]]:
    """Seal each one's values under their pool key, put them in the pool, and read back what waits there."""
    house = show.house
    refs = {each.number: SubjectRef(house.units.ids.new("sub")) for each in gone}
    house.vault.create_subjects(house.controller, list(refs.values()))
    vault = house.vault
    held = [
        (ref, vault.seal(_pool_scope(house, ref), RELEASE, _plain(each)))
        for each, ref in zip(gone, refs.values(), strict=True)
    ]
    hold_back(house, profile, held)
    for ref, sealed in pool(house, profile):
        yield ref, json.loads(vault.open(_pool_scope(house, ref), RELEASE, sealed))


def _pool_scope(house: House, ref: SubjectRef) -> Scope:
    return Scope(house.controller, ref, "regard", "statistics.pool", key_class=KeyClass.POOL)


def _plain(person: Subject) -> bytes:
    return json.dumps(analysable(person)).encode()


def _verify(show: Show) -> None:
    show.step(9, "An auditor verifies the ledger offline")
    house = show.house
    house.ledger.integrate()
    bundle = house.ledger.bundle(Selection(About.ALL))
    file = show.folder / "evidence.json"
    file.write_bytes(bundle)
    (show.folder / "ledger.vkey").write_text(house.ledger.verifier_key + "\n")
    report = verify_bundle(bundle, house.ledger.verifier_key)
    show.evidence("bundle", f"{len(report.entries)} entries, {'sound' if report.ok else 'FAULTY'}: {file}")
    at = bundle.index(b'"kind":"') + len(b'"kind":"')
    edited = bundle[:at] + (b"x" if bundle[at : at + 1] != b"x" else b"y") + bundle[at + 1 :]
    found = verify_bundle(edited, house.ledger.verifier_key)
    show.evidence("one byte changed", "found: " + found.faults[0].sentence if found.faults else "NOT FOUND")
    show.evidence("check it yourself", f"regard ledger verify {file} --key {show.folder / 'ledger.vkey'}")
    if not report.ok or found.ok:
        raise click.ClickException("the ledger does not verify as it should")


@contextmanager
def _served(settings: Settings) -> Iterator[None]:
    server = subprocess.Popen([sys.executable, "-m", "app.cli.main", "serve"], env=dict(os.environ))
    try:
        _wait_until_ready(settings.issuer, server)
        yield
    finally:
        server.terminate()
        server.wait()


def _wait_until_ready(issuer: str, server: subprocess.Popen[bytes]) -> None:
    ends = time.monotonic() + _STARTING_SECONDS
    while time.monotonic() < ends and server.poll() is None:
        try:
            if httpx.get(f"{issuer}/health/ready").status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise click.ClickException(f"the server did not become ready on {issuer}; is the port taken?")


def _addresses(issuer: str, folder: Path) -> None:
    click.secho("\nOpen", bold=True)
    for address, words in (
        (f"{issuer}/fr/", "the pages, in French; /en /es /pt too"),
        (f"{issuer}/fr/processors", "the processor list"),
        (f"{issuer}/fr/sign-in", "sign in; the mail is in the outbox"),
        (f"{issuer}/outbox", "the outbox"),
    ):
        click.echo(f"   {address:<38} {words}")
    click.echo(f"   files are in {folder}")


def _until_interrupted() -> None:
    click.echo("\nCtrl-C stops.")
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        click.echo("\nstopped")
