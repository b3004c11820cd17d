"""An evidence bundle as a page: what an authority reads, with the bundle itself attached (ledger.md).

It says what happened in order, what that proves and what it does not, and how to check it; the proof is the attached
file, never the page. Opaque ids and codes only, and what was opened, as text. Leaves out bundles too long to be read on
paper: those are handed over as data alone.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from app.letters import Speech
from app.outbound.package import STYLE
from app.outbound.pdf import render_pdf
from app.outbound.typography import typeset
from app.sdk.evidence import Entry, Form, Report, verify_bundle
from app.sdk.notes import Checkpoint

ATTACHED: Final = "evidence.json"
MOST_ENTRIES: Final = 2_000
_MOST_TEXT: Final = 400
"""Characters of one opened field that are printed; the attachment has all."""
_OWN_STYLE: Final = (
    "td.n, td.t { white-space: nowrap } td { vertical-align: top } "
    ".said { font-size: 85%; overflow-wrap: anywhere } code { font-size: 85%; overflow-wrap: anywhere }"
)


class EvidenceUnprintable(ValueError):
    """A bundle that does not verify, or that is too long for paper; the message says which."""

    code = "evidence_unprintable"


@dataclass(frozen=True, slots=True)
class EvidenceWords:
    """In which language, and whose ledger it is."""

    speech: Speech
    controller: str


def evidence_pdf(bundle: bytes, key: str, words: EvidenceWords) -> bytes:
    """Return the PDF; the same bundle and words give the same bytes. `key`: the ledger's verifier key.

    Raises EvidenceUnprintable.
    """
    report = verify_bundle(bundle, key)
    head = report.checkpoint
    if not report.ok or head is None:
        raise EvidenceUnprintable("the bundle does not verify")
    if len(report.entries) > MOST_ENTRIES:
        raise EvidenceUnprintable(f"more than {MOST_ENTRIES} entries: hand over the file, or ask about less")
    page = _Page(report, head, key, words)
    attached = (ATTACHED, bundle, "application/json", page.gettext("The evidence itself, as data"))
    made = datetime.fromisoformat(report.made_at)
    return render_pdf(page.html(), [attached], identifier=f"{head.origin} {head.size} {report.made_at}", created=made)


class _Page:
    def __init__(self, report: Report, head: Checkpoint, key: str, words: EvidenceWords) -> None:
        self._report = report
        self._head = head
        self._key = key
        self._words = words
        self._speech = words.speech

    def gettext(self, text: str, **values: object) -> str:
        """Return our words, set; the name is the one the extractor of words knows."""
        return typeset(self._speech.gettext(text, **values), self._speech.locale)

    def html(self) -> str:
        title = self.gettext("Evidence from the ledger")
        parts = (
            f"<h1>{_esc(title)}</h1>",
            self._facts(),
            self._chapter(self.gettext("What happened, in order"), self._table()),
            self._chapter(self.gettext("What this proves"), _list(self._proves())),
            self._chapter(self.gettext("What this evidence does not prove"), _list(self._limits())),
            self._chapter(self.gettext("How it can be checked"), _list(self._checks()) + f"<p>{_code(self._key)}</p>"),
        )
        return (
            f'<!DOCTYPE html><html lang="{self._speech.locale.value}"><head><meta charset="utf-8">'
            f"<title>{_esc(title)}</title><style>{STYLE}{_OWN_STYLE}</style></head><body>{''.join(parts)}</body></html>"
        )

    def _chapter(self, title: str, content: str) -> str:
        return f"<h2>{_esc(title)}</h2>{content}"

    def _facts(self) -> str:
        rows = "".join(f'<tr><th scope="row">{_esc(name)}</th><td>{said}</td></tr>' for name, said in self._about())
        return f'<table class="about"><tbody>{rows}</tbody></table>'

    def _about(self) -> Iterable[tuple[str, str]]:
        asked = self._report.selection
        yield self.gettext("Issued by"), _esc(self._words.controller)
        yield self.gettext("About"), _esc(self._subject(str(asked.get("about"))))
        if asked.get("refs"):
            yield self.gettext("Reference"), "<br>".join(_code(str(ref)) for ref in asked["refs"])
        if asked.get("from"):
            yield self.gettext("From this moment on"), _esc(self._moment(str(asked["from"])))
        if asked.get("until"):
            yield self.gettext("Before this moment"), _esc(self._moment(str(asked["until"])))
        yield self.gettext("Put together"), _esc(self._moment(self._report.made_at))
        yield self.gettext("Entries"), str(len(self._report.entries))
        yield self.gettext("Ledger"), _code(self._head.origin)
        yield self.gettext("Its length and fingerprint then"), f"{self._head.size}<br>{_code(self._head.root.hex())}"

    def _subject(self, about: str) -> str:
        known: Mapping[str, str] = {
            "all": self.gettext("everything that was recorded"),
            "period": self.gettext("a period"),
            "subject": self.gettext("a person, by reference"),
            "case": self.gettext("a request"),
            "consent": self.gettext("an agreement"),
            "erasure": self.gettext("an erasure"),
            "export": self.gettext("an anonymous table"),
        }
        return known.get(about, about)

    def _moment(self, text: str) -> str:
        return self._speech.moment(datetime.fromisoformat(text))

    def _table(self) -> str:
        names = (self.gettext("No."), self.gettext("When"), self.gettext("What"), self.gettext("By whom"))
        heads = "".join(f'<th scope="col">{_esc(name)}</th>' for name in names)
        rows = "".join(map(self._row, self._report.entries))
        nothing = self.gettext("Nothing was recorded about this.")
        table = f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"
        return table if rows else f"<p>{_esc(nothing)}</p>"

    def _row(self, entry: Entry) -> str:
        one = entry.envelope
        what = f"{_esc(self._topic(one.kind))} {_code(one.kind)}<div class=said>{self._payload(entry)}</div>"
        when = f"{_esc(self._moment(one.at))}<div class=said>{_esc(one.at)}</div>"
        return f'<tr><td class="n">{one.sequence}</td><td>{when}</td><td>{what}</td><td>{_code(one.actor)}</td></tr>'

    def _payload(self, entry: Entry) -> str:
        if entry.form is Form.BARE:
            return _esc(self.gettext("The contents are no longer kept."))
        if entry.opened is None:
            return _esc(self.gettext("The contents are sealed."))
        hidden = self.gettext("(not shown)")
        own = (field for field in entry.opened if field.name.startswith("payload.") or field.name == "subject")
        said = ((f.name.removeprefix("payload."), hidden if f.text is None else _cut(f.text)) for f in own)
        return "<br>".join(f"{_esc(name)} = {_esc(text)}" for name, text in said)

    def _topic(self, kind: str) -> str:
        """What the first word of a kind is about; an unknown one is left to speak for itself."""
        known: Mapping[str, str] = {
            "policy": self.gettext("Policy"),
            "party": self.gettext("Organisation on the list"),
            "consent": self.gettext("Agreement"),
            "receipt": self.gettext("Receipt"),
            "token": self.gettext("Access token"),
            "client": self.gettext("Connected program"),
            "key": self.gettext("Key"),
            "record": self.gettext("Sealed record"),
            "disclosure": self.gettext("Reading of data"),
            "case": self.gettext("Request"),
            "mail": self.gettext("Mail"),
            "session": self.gettext("Sign-in"),
            "passkey": self.gettext("Passkey"),
            "enrolment": self.gettext("Printed code"),
            "staff": self.gettext("Member of staff"),
            "export": self.gettext("Anonymous table"),
            "pool": self.gettext("Values held back for statistics"),
            "evidence": self.gettext("Evidence"),
        }
        return known.get(kind.partition(".")[0], "")

    def _proves(self) -> Iterable[str]:
        yield self.gettext(
            "Each line above was recorded at its number, and nothing in it was changed since: "
            "the fingerprint of the whole ledger, which was signed, depends on every one of them."
        )
        yield self.gettext("No line was taken out of this file, put in or moved after it was signed.")
        yield self.gettext("Contents that are shown are those that were sealed when the line was recorded.")

    def _limits(self) -> Iterable[str]:
        yield self.gettext("That what was recorded is true: the ledger shows what was said, and when.")
        yield self.gettext(
            "That nothing else was recorded about the same matter: "
            "for that, this file has the signed word of the issuer."
        )
        yield self.gettext(
            "That the issuer shows everyone the same ledger. Witnesses outside, where there are any, answer for that."
        )

    def _checks(self) -> Iterable[str]:
        yield self.gettext(
            "The proof is the file %(name)s, which is attached to this document. This page only says what is in it.",
            name=ATTACHED,
        )
        yield self.gettext(
            "It is checked without any access to the service: by the command %(command)s, "
            "or by any program written from the published format.",
            command=f"regard-verify {ATTACHED} --key KEY",
        )
        yield self.gettext(
            "KEY is the public key of the ledger. It is printed below; compare it with one from another source."
        )


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_TEXT else text[:_MOST_TEXT] + " …"


def _list(entries: Iterable[str]) -> str:
    return f"<ul>{''.join(f'<li>{_esc(entry)}</li>' for entry in entries)}</ul>"


def _code(text: str) -> str:
    return f"<code>{_esc(text)}</code>"


def _esc(text: str) -> str:
    return html.escape(text)
