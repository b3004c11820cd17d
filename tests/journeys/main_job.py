"""The main job, done by an outsider: nine steps over HTTP, each with evidence, and a failure where one is not kept.

Imports nothing of the project: an HTTP client, a software passkey and the SDK wheel. It plays whoever is outside: a
partner's app, a person at a browser, an aggregation component, the DPO at a console, an auditor. What it was handed on
paper (addresses, client keys, printed codes) it reads from one file; the operator's own acts (a backup of the key
store, the export's release) are asked for as an operator would: by command.

    python -m tests.journeys.main_job HANDOUTS.json
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import sqlite3
import subprocess
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import jwt
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from regard_sdk import Authority
from regard_sdk.errors import Refused
from regard_sdk.evidence import verify_bundle
from regard_sdk.partner import Partner

from tests.journeys.outsider import Browser, Mailbox, NotAsPromised, Page, until

LOCALES = ("fr", "en", "es", "pt")
PURPOSE = "wealth_overview"
ASKED = ("accounts.details", "accounts.balances", "transactions.recent", "investments.positions")
READ = "accounts.balances"
OPENS = "opens"
K = 10
TOLD = 24
"""Columns before the evidence."""


@dataclass
class Agreed:
    """What a partner holds after a person agreed."""

    person: Browser
    who: str
    consent: str


@dataclass
class Run:
    """Everything the outsider was handed and learns on the way."""

    said: dict[str, Any]
    began: float = field(default_factory=time.monotonic)

    @property
    def issuer(self) -> str:
        return str(self.said["issuer"])

    @property
    def folder(self) -> Path:
        return Path(self.said["folder"])

    def key(self, who: str) -> Any:
        return load_pem_private_key(Path(self.said[who]["key"]).read_bytes(), None)

    def authority(self, who: str) -> Authority:
        return Authority(self.issuer, self.said[who]["client_id"], self.key(who))

    def holder(self) -> Authority:
        """The holder's own line to the authority: another process than the reference holder, the same client."""
        safe = self.said["safe"]
        return Authority(self.issuer, safe["client_id"], self.key("safe"), resource=safe["resource"])

    def operator(self, *words: str) -> str:
        """Ask the operator to run a command; returns what it prints."""
        code, told, complaint = self.commanded(*words)
        if code != 0:
            raise NotAsPromised(f"the operator's {' '.join(words[:2])} failed: {complaint[-400:]}")
        return told

    def operator_refused(self, *words: str) -> str:
        """Ask for what has to be refused; returns the complaint."""
        code, told, complaint = self.commanded(*words)
        if code == 0:
            raise NotAsPromised(f"the operator's {' '.join(words[:2])} was not refused: {told[-200:]}")
        return complaint

    def commanded(self, *words: str) -> tuple[int, str, str]:
        """Return (exit code, standard output, standard error) of an operator's command."""
        done = subprocess.run([*self.said["operator"], *words], capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr.strip()


def step(number: int, words: str) -> None:
    print(f"\n{number}. {words}", flush=True)


def evidence(name: str, value: object) -> None:
    print(f"   {name:<{TOLD}} {value}", flush=True)


def _first_words(told: str, most: int = 100) -> str:
    """Cut a long text where a word ends."""
    return told if len(told) <= most else told[:most].rsplit(" ", 1)[0] + " ..."


def expect(held: bool, what: str) -> None:
    if not held:
        raise NotAsPromised(what)


def main(handouts: Path) -> None:
    """Do the main job. Raises NotAsPromised at the first promise that is not kept."""
    run = Run(json.loads(handouts.read_text()))
    adopted(run)
    ana = agree(run, "person")
    ben = agree(run, "neighbour", quietly=True)
    fetch(run, ana)
    fetch(run, ben, quietly=True)
    who_looked(run, ana)
    withdraw(run, ana)
    dpo = _console(run)
    drill = Drill(run, ana)
    erasure(run, dpo, copy(run, ana, ben, dpo), drill)
    cohort(run, dpo)
    audit(run)


# 1


def adopted(run: Run) -> None:
    step(1, "The policy pack is adopted: categories, purposes, notices, the processor list")
    listed = httpx.get(f"{run.issuer}/api/v1/processors").raise_for_status().json()
    evidence("processors", f"{len(listed['processors'])} parties on the lists of all controllers")
    for locale in LOCALES:
        page = Browser(run.issuer, locale).get(f"/{locale}/processors")
        evidence(f"page in {locale}", f"HTTP {page.status}, {page.title}")
    evidence("pack", run.said["policy"])


# 2


def agree(run: Run, who: str, *, quietly: bool = False) -> Agreed:
    if not quietly:
        step(2, "A partner asks; the person signs in, reads eight facts, agrees; the partner gets a code, then a token")
    partner = _partner(run)
    pushed = partner.push(purpose=PURPOSE, categories=ASKED, scopes=("consents.read",))
    person = Browser(run.issuer, run.said[who].get("locale", "en"))
    page = _signed_in(run, person, who, partner.authorize_url(pushed))
    page = _answered(person, page)
    consent = page.marked["reference"].strip()
    agreed = partner.exchange(pushed, person.follow_out(page.link(r"/consent/\w+/return")))
    expect(consent == agreed.consent_id, "the token is bound to another consent than the page says")
    if not quietly:
        evidence("consent", consent)
        evidence("token", f"bound to it and to the partner's key, for {', '.join(sorted(agreed.categories))}")
        _show_receipt(run, person, consent)
    return Agreed(person, who, consent)


def _partner(run: Run) -> Partner:
    return Partner(run.authority("partner"), run.said["partner"]["redirect_uri"])


def _signed_in(run: Run, person: Browser, who: str, address: str) -> Page:
    """Open the partner's address, sign in by the link in the mail, add a passkey with the printed code."""
    mailbox = Mailbox(run.issuer)
    page = person.get(address)
    page = person.send(page, page.form(has="email"), email=run.said[who]["email"])
    link = mailbox.wait("/sign-in/link/")
    looked = person.get(link)
    again = person.get(link)
    expect(bool(again.forms), "looking at the link used it up")
    question = person.send(looked, looked.form())
    _add_passkey(run, person, who)
    return person.get(question.url)


def _add_passkey(run: Run, person: Browser, who: str) -> None:
    security = person.get(f"/{person.locale}/me/security")
    add = person.send(security, security.form(has="code"), code=run.said[who]["printed_code"])
    person.prove(add)
    person.prove(person.get(f"/{person.locale}/me/step-up"))


def _answered(person: Browser, page: Page) -> Page:
    """Press "I agree" through every stage, for everything asked, for 180 days, until there is a reference."""
    for _ in range(8):
        if "reference" in page.marked:
            return page
        form = page.form(button=("answer", "agree"))
        chosen: dict[str, Any] = {"optional": form.choices.get("optional", [])}
        chosen |= {"period": "180"} if "period" in form.names else {}
        page = person.send(page, form, answer="agree", **chosen)
    raise NotAsPromised(f"the question does not end: {page.url}: {page.words[:300]}")


def _show_receipt(run: Run, person: Browser, consent: str) -> None:
    """Fetch the signed receipt from the space and verify it with the published key."""
    space = f"/{person.locale}/me/consents/{consent}"
    receipt = until(lambda: _with_link(person.get(space), r"/receipts/"), "the receipt in the space")
    signed = person.get(person.get(receipt).link(r"\.jws$")).body.decode().strip()
    kid = jwt.get_unverified_header(signed)["kid"]
    keys = {key["kid"]: key for key in httpx.get(f"{run.issuer}/oauth/jwks").json()["keys"]}
    told = jwt.decode(
        signed, jwt.PyJWK(keys[kid]).key, algorithms=["ES256"], options={"verify_aud": False, "verify_exp": False}
    )
    evidence(
        "receipt",
        f"ES256 verifies with the published key {kid[:16]}, schema {told.get('schema_version', told.get('schema'))}",
    )


def _with_link(page: Page, pattern: str) -> str | None:
    try:
        return page.link(pattern)
    except NotAsPromised:
        return None


# 3


def fetch(run: Run, agreed: Agreed, *, quietly: bool = False) -> None:
    """The reference component fetches from the bank and puts it, sealed, into the holder's own database."""
    if not quietly:
        step(3, "A component gets a token bound to that consent; the holder's gate permits; it leases a key and seals")
    asked = {"consent_id": agreed.consent, "connection": run.said[agreed.who]["connection"]}
    answer = _component(run, "/fetch", asked)
    expect(answer.status_code == httpx.codes.OK, f"the component was refused: {answer.text[:300]}")
    if quietly:
        return
    for category, count in sorted(answer.json()["stored"].items()):
        evidence(category, f"{count} records sealed")
    evidence("not agreed to", ", ".join(answer.json()["not_agreed"]) + ": left at the bank")
    lying = sealed_records(run)
    expect(all(each.startswith(b"RGD") for *_, each in lying), "a record in the holder's database is not sealed")
    evidence("holder's database", f"{len(lying)} records, every one sealed: {run.said['safe']['database']}")


def _component(run: Run, door: str, asked: dict[str, str]) -> httpx.Response:
    return httpx.post(run.said["collector"]["address"] + door, json=asked, timeout=60)


def sealed_records(run: Run) -> list[tuple[str, str, str, bytes]]:
    """What lies in the holder's own database: handle, category, record id, sealed bytes."""
    with sqlite3.connect(f"file:{run.said['safe']['database']}?mode=ro", uri=True) as base:
        return list(base.execute("SELECT handle, category, record_id, sealed FROM records"))


def handles(run: Run) -> dict[str, str]:
    """What the holder calls the person of each consent."""
    with sqlite3.connect(f"file:{run.said['safe']['database']}?mode=ro", uri=True) as base:
        return dict(base.execute("SELECT DISTINCT consent, handle FROM records"))


# 4


def who_looked(run: Run, agreed: Agreed) -> None:
    step(4, 'A read shows up, with date, data and reader, in the person\'s "who looked" page')
    read = _component(run, "/read", {"consent_id": agreed.consent, "category": READ})
    expect(read.status_code == httpx.codes.OK, f"the component could not read: {read.text[:300]}")
    evidence("read", f"{read.json()['records']} records of {READ}")
    look = until(lambda: _look(agreed.person, read.json()["records"]), "the read in the log")
    evidence("who looked", look)


def _look(person: Browser, records: int) -> str | None:
    """Return the newest look as the page tells it, once it is the one with so many records."""
    told = person.get(f"/{person.locale}/me/access-log").marked.get("look", "")
    return told if f"{records} record" in told else None


# 5


def withdraw(run: Run, agreed: Agreed) -> None:
    step(5, "The person withdraws; the very next presentation of the token and the next lease are refused")
    holder, component = run.holder(), run.authority("collector")
    held = component.token(agreed.consent, run.said["safe"]["resource"])
    handle = handles(run)[agreed.consent]
    holder.lease(held.secret, handle, READ, seconds=5)
    evidence("before", f"the token opens the holder ({_asked(run, agreed).status_code}), a key is lent")
    person = agreed.person
    looked = person.get(f"/{person.locale}/me/consents/{agreed.consent}")
    asked = person.get(looked.link(r"/withdraw$"))
    stopped = person.send(asked, asked.form(has="delete"))
    evidence("two clicks", stopped.marked["status"])
    refused = _asked(run, agreed)
    expect(refused.status_code in (401, 403), f"the holder's gate answered {refused.status_code} after the withdrawal")
    evidence("token, presented", f"refused, HTTP {refused.status_code} {refused.json()['code']}")
    evidence("key, asked for", _refusal(lambda: holder.lease(held.secret, handle, READ)))
    evidence("new token", _refusal(lambda: component.token(agreed.consent, run.said["safe"]["resource"])))


def _asked(run: Run, agreed: Agreed) -> httpx.Response:
    return _component(run, "/read", {"consent_id": agreed.consent, "category": READ})


def _refusal(attempt: Callable[[], object]) -> str:
    try:
        attempt()
    except Refused as refused:
        return f"refused, HTTP {refused.status} {refused.error}{f': {refused.reason}' if refused.reason else ''}"
    raise NotAsPromised("it was not refused")


# 6


def _console(run: Run) -> Browser:
    """The DPO: a passkey by the printed code of an administrator, then the console."""
    dpo = Browser(run.issuer, "en")
    door = dpo.get("/en/staff/enrol")
    dpo.prove(dpo.send(door, door.form(has="code"), code=run.said["dpo"]["printed_code"]))
    home = dpo.prove(dpo.get("/en/sign-in/passkey"))
    expect("/dpo/" in home.url, f"the DPO does not come to the console but to {home.url}")
    return dpo


def copy(run: Run, ana: Agreed, ben: Agreed, dpo: Browser) -> str:
    step(6, "The person asks for a copy (and to be erased): holders asked, package sealed, approved, handed over")
    case = _ask(ana.person)
    evidence("case", f"{case}, to be answered by {_due(ana.person, case)}")
    stranger = ben.person.get(f"/{ben.person.locale}/me/requests/{case}", expect=404)
    evidence("another person", f"HTTP {stranger.status} for the same address")
    waiting = until(lambda: _waits_for_approval(dpo, case), "the case at the DPO")
    evidence("DPO's queue", dpo.get("/dpo/cases").marked["case"])
    evidence("holders", _first_words(waiting.marked["holder"]))
    _approve(dpo, waiting)
    ready = until(lambda: _with(ana.person, case, "copy"), "the copy in the space")
    _download(ana.person, ready)
    return case


def _ask(person: Browser) -> str:
    choose = person.get(f"/{person.locale}/me/requests/new")
    check = person.send(choose, choose.form(has="right"), right=["access", "erasure"])
    sent = person.send(check, check.form(has="text"), text="Everything you have about me, then delete it.")
    return sent.marked["reference"]


def _due(person: Browser, case: str) -> str:
    return person.get(f"/{person.locale}/me/requests/{case}").marked["due"]


def _waits_for_approval(dpo: Browser, case: str) -> Page | None:
    page = dpo.get(f"/dpo/cases/{case}")
    return page if "approve" in page.marked else None


def _approve(dpo: Browser, shown: Page) -> None:
    asked = dpo.get(shown.link(r"/approve$"))
    done = dpo.send(asked, asked.form(has="version"))
    evidence("approved", done.marked["state"])


def _with(person: Browser, case: str, mark: str) -> Page | None:
    page = person.get(f"/{person.locale}/me/requests/{case}")
    return page if mark in page.marked else None


def _download(person: Browser, ready: Page) -> None:
    """Prove again, look at the list, take the archive, check every digest of its manifest."""
    person.prove(person.get(f"/{person.locale}/me/step-up"))
    listed = person.get(ready.link(r"/copy/.*files$"))
    archive = zipfile.ZipFile(io.BytesIO(person.get(listed.link(r"/copy/\w+$")).body))
    manifest = json.loads(archive.read("manifest.json"))
    for each in manifest["files"]:
        found = hashlib.sha256(archive.read(each["name"])).hexdigest()
        expect(found == each["sha256"], f"{each['name']} is not the file the manifest names")
    kinds = Counter(name.rsplit(".", 1)[-1] for name in archive.namelist())
    evidence("package", ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())))
    evidence("manifest", f"{len(manifest['files'])} digests match")


# 7


class Drill:
    """What somebody kept from before the erasure: a copy of the key store, and of the holder's sealed records."""

    def __init__(self, run: Run, erased: Agreed) -> None:
        self._run = run
        self._store = run.folder / "keys-backup.sqlite"
        run.operator("keys", "backup", str(self._store))
        self.files = self._split(handles(run)[erased.consent])
        opening = {what for where in self.tried().values() for counts in where.values() for what in counts}
        expect(opening == {OPENS}, "the records do not open beforehand")

    def _split(self, erased: str) -> dict[str, Path]:
        """Write one file of records for each of the two people."""
        found: dict[str, list[str]] = {"erased": [], "survivor": []}
        for handle, category, record, sealed in sealed_records(self._run):
            line = {"handle": handle, "category": category, "record_id": record}
            whose = "erased" if handle == erased else "survivor"
            found[whose].append(json.dumps({**line, "sealed": base64.b64encode(sealed).decode()}))
        return {whose: self._written(whose, lines) for whose, lines in found.items()}

    def _written(self, whose: str, lines: list[str]) -> Path:
        file = self._run.folder / f"kept-{whose}.ndjson"
        file.write_text("\n".join(lines) + "\n")
        return file

    def tried(self) -> dict[str, dict[str, dict[str, int]]]:
        """Ask the operator how many of each person's records open: `live` or `restored`, then whose, then what."""
        _, told, complaint = self._run.commanded(
            "keys", "try", *map(str, self.files.values()), "--store", str(self._store)
        )
        expect(bool(told), f"the operator cannot try: {complaint[-300:]}")
        found = json.loads(told)
        return {where: {whose: found[where][file.name] for whose, file in self.files.items()} for where in found}


def erasure(run: Run, dpo: Browser, case: str, drill: Drill) -> None:
    step(7, "The person is erased: what goes, what stays and why; keys destroyed; a restored backup opens nothing")
    link = Mailbox(run.issuer, old=True).wait("/certificates/")
    evidence("link in the last mail", link)
    page = until(lambda: _certificate(run, link), "the certificate")
    evidence("kept", _first_words(page.marked["retained"]))
    _certified(run, link)
    _nothing_opens(drill)
    left = sealed_records(run)
    expect(len({each[0] for each in left}) == 1, "the holder still has records of the erased person")
    evidence("holder's database", f"{len(left)} records left, all of the other person")
    told = until(lambda: _told(dpo, case), "the end of the case")
    evidence("recipients told", told)


def _certificate(run: Run, link: str) -> Page | None:
    page = Page(httpx.get(link, timeout=60))
    return page if "retained" in page.marked else None


def _certified(run: Run, link: str) -> None:
    """Fetch the signed data and the page to print."""
    signed = Browser(run.issuer).get(f"{link}/certificate.json").body
    told, file = json.loads(signed), run.folder / "certificate.json"
    file.write_bytes(signed)
    expect(told["statement"] == "keys destroyed", f"the certificate says {told['statement']}")
    evidence("certificate", f"{told['statement']}, irrevocable at {told['irrevocable_at']}: {file}")
    printed = Browser(run.issuer).get(f"{link}/certificate.pdf").body
    expect(printed.startswith(b"%PDF"), "the certificate to print is no PDF")
    (run.folder / "certificate.pdf").write_bytes(printed)


def _nothing_opens(drill: Drill) -> None:
    """What was kept from before opens nothing of the erased; everything of the other person still opens, live."""
    found = drill.tried()
    live, restored, other = found["live"]["erased"], found["restored"]["erased"], found["live"]["survivor"]
    expect(OPENS not in live and OPENS not in restored, "a record of the erased person still opens")
    expect(set(other) == {OPENS}, "a record of somebody else does not open any more")
    evidence("erased, live keys", _counted(live))
    evidence("erased, restored backup", _counted(restored))
    evidence("somebody else, live", _counted(other))


def _counted(found: dict[str, int]) -> str:
    return ", ".join(f"{count} {what}" for what, count in found.items())


def _told(dpo: Browser, case: str) -> str | None:
    """Note at the console that each recipient was told; return who, once the case is closed."""
    page = dpo.get(f"/dpo/cases/{case}")
    waiting = [form for form in page.forms if "answer" in form.names]
    if waiting:
        page = dpo.send(page, waiting[0], answer="acked")
    return page.marked.get("recipient", "nobody was to be told") if _closed(page) else None


def _closed(page: Page) -> bool:
    return page.marked["state"].lower() in ("closed", "answered", "done", "ended")


# 8


def cohort(run: Run, dpo: Browser) -> None:
    step(8, "What may be kept for statistics enters a sealed cohort and leaves as a k-anonymous table")
    export = run.said["export"]
    planned = json.loads(run.operator("exports", "plan", export["profile"], "--live", export["live"], "--json"))
    evidence("planned", f"{planned['candidate']}, digest {planned['digest'][:16]}")
    release = ("exports", "release", planned["candidate"], "--live", export["live"])
    early = run.operator_refused(*release, "--out", str(run.folder / "never"))
    evidence("released unapproved", f"refused: {early[:90]}")
    dpo.prove(dpo.get("/en/me/step-up"))
    asked = dpo.get(f"/dpo/exports/{planned['candidate']}/approve")
    dpo.send(asked, asked.form(has="digest"))
    out = run.folder / "table"
    gone = json.loads(run.operator(*release, "--out", str(out), "--json"))
    rows = list(csv.DictReader((out / "table.csv").open(encoding="utf-8")))
    smallest = min(int(row["count"]) for row in rows)
    expect(smallest >= K, f"a class of {smallest} left")
    evidence("cohort", f"{gone['cohort']}: {gone['subjects']} subjects, approved by {gone['approved_by']}")
    evidence("table", f"{len(rows)} classes, the smallest of {smallest} people: {out / 'table.csv'}")
    evidence("ledger", f"leaf {gone['leaf']}")


# 9

TOKEN = "token.issued"
STEPS = {
    "policy.adopted": 1,
    "consent.given": 2,
    TOKEN: 3,
    "key.leased": 3,
    "disclosure.reported": 4,
    "consent.withdrawn": 5,
    "case.received": 6,
    "case.package_sealed": 6,
    "case.erasure_started": 7,
    "case.carried_out": 7,
    "export.released": 8,
}
"""A kind of entry for each step, which the auditor looks for."""


def audit(run: Run) -> None:
    step(9, "An auditor verifies the ledger offline, with no access to the service, and finds each of these steps")
    file, key = run.folder / "evidence.json", run.said["ledger_key"]
    run.operator("ledger", "export", str(file))
    (run.folder / "ledger.vkey").write_text(key + "\n")
    bundle = file.read_bytes()
    report = verify_bundle(bundle, key)
    expect(report.ok, f"the bundle does not verify: {report.faults[:1]}")
    evidence("bundle", f"{len(report.entries)} entries, sound: {file}")
    # the first of each kind: the second person comes after the one whose story is told; nobody's own tokens count
    own = run.said["safe"]["client_id"]
    told = [entry.envelope for entry in report.entries if (entry.envelope.kind, entry.envelope.actor) != (TOKEN, own)]
    leaves = {envelope.kind: envelope.sequence for envelope in reversed(told)}
    for kind, number in STEPS.items():
        expect(kind in leaves, f"the ledger has no {kind}")
        evidence(f"step {number}", f"{kind}, leaf {leaves[kind]}")
    _one_byte(bundle, key)
    _outsiders_check(run)
    evidence("check it yourself", f".venv/bin/regard-verify {file} --key {run.folder / 'ledger.vkey'}")


def _outsiders_check(run: Run) -> None:
    """Certificate, evidence and public keys, checked by a script written from the published formats alone."""
    certificate = run.folder / "certificate.json"
    erasure = json.loads(certificate.read_bytes())["erasure"]
    opened, public = run.folder / "erasure.json", run.folder / "certificate.pub"
    public.write_text(run.operator("ledger", "key", "--certificates"))
    again = run.folder / "certificate.operator.json"
    run.operator("keys", "erasures", "show", erasure, "--to", str(again))
    expect(again.read_bytes() == certificate.read_bytes(), "the operator hands out another certificate")
    by = run.said["auditor"]["staff"]
    asked = ("--about", "erasure", "--ref", erasure, "--open", "--by", by, "--hide", "subject")
    run.operator("ledger", "export", str(opened), *asked, "--pdf", str(run.folder / "erasure.pdf"))
    given = (str(opened), str(run.folder / "ledger.vkey"), str(certificate), str(public))
    script = Path(__file__).with_name("auditor.py")
    done = subprocess.run([sys.executable, "-I", str(script), *given], capture_output=True, text=True, check=False)
    expect(done.returncode == 0, f"the outsider's check fails: {done.stderr.strip()[:200]}")
    evidence("outsider's check", done.stdout.strip())


def _one_byte(bundle: bytes, key: str) -> None:
    at = bundle.index(b'"kind":"') + len(b'"kind":"')
    edited = bundle[:at] + (b"x" if bundle[at : at + 1] != b"x" else b"y") + bundle[at + 1 :]
    found = verify_bundle(edited, key)
    expect(not found.ok, "an edited bundle verifies")
    evidence("one byte changed", found.faults[0].sentence)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except NotAsPromised as broken:
        sys.exit(f"\nNot as promised: {broken}")
