"""The erasure certificate as a page: "keys destroyed", never "anonymised" (vault.md section 5; dsar rules 48, 49, 54).

It says in words what the signed JSON says in data, and carries that JSON, signature and all, as its attachment: the
PDF itself proves nothing. Opaque ids only, so that it may be read by whoever holds its link. Leaves out checking the
signature, and what is held solely against money laundering (dsar rule 42).
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import Final, cast

from babel.dates import format_datetime

from app.outbound.package import STYLE
from app.outbound.pdf import render_pdf
from app.outbound.typography import cited, labelled, typeset
from app.outbound.wording import CertificateWords, Kept
from app.vault.certificate import canonical
from app.vault.ports import Json

ATTACHED: Final = "certificate.json"
Certificate = Mapping[str, Json]


class CertificateUnreadable(ValueError):
    """Not a certificate of an erasure in the one version known here."""

    code = "certificate_unreadable"


def certificate_pdf(certificate: Certificate, words: CertificateWords) -> bytes:
    """Return the PDF; the same certificate and words give the same bytes. Raises CertificateUnreadable."""
    if certificate.get("type") != "regard.erasure" or certificate.get("version") != 1:
        raise CertificateUnreadable("not an erasure certificate of version 1")
    page = _Page(certificate, words)
    attached = (ATTACHED, canonical(certificate), "application/json", page.gettext("The signed certificate, as data"))
    made = datetime.fromisoformat(str(certificate["certified_at"]))
    return render_pdf(page.html(), [attached], identifier=str(certificate["erasure"]), created=made)


class _Page:
    def __init__(self, certificate: Certificate, words: CertificateWords) -> None:
        self._certificate = certificate
        self._words = words
        self._speech = words.speech

    def gettext(self, text: str, **values: object) -> str:
        """Return our words, set; the name is the one the extractor of words knows."""
        return typeset(self._speech.gettext(text, **values), self._speech.locale)

    def html(self) -> str:
        title = self._titles()["title"]
        parts = (
            f"<h1>{_esc(title)}</h1>",
            self._facts(self._about()),
            *(f"<p>{_esc(sentence)}</p>" for sentence in self._statement()),
            self._chapter("destroyed", self._list(self._destroyed())),
            self._chapter("kept", self._list(self._kept())),
            self._chapter("proof", f"<p>{_esc(self._attached())}</p>{self._sites()}"),
            self._chapter("limits", self._list(self._limits())),
        )
        return (
            f'<!DOCTYPE html><html lang="{self._speech.locale.value}"><head><meta charset="utf-8">'
            f"<title>{_esc(title)}</title><style>{STYLE}</style></head><body>{''.join(parts)}</body></html>"
        )

    def _titles(self) -> Mapping[str, str]:
        speech = self._speech
        said = {
            "title": speech.gettext("Certificate of erasure"),
            "destroyed": speech.gettext("What was destroyed"),
            "kept": speech.gettext("What is kept, until when and why"),
            "proof": speech.gettext("How it can be checked"),
            "limits": speech.gettext("What this does not prove"),
        }
        return {name: typeset(text, speech.locale) for name, text in said.items()}

    def _chapter(self, name: str, content: str) -> str:
        return f"<h2>{_esc(self._titles()[name])}</h2>{content}"

    def _about(self) -> Iterable[tuple[str, str]]:
        found, speech = self._certificate, self._speech
        yield speech.gettext("Issued by"), self._words.controller
        yield speech.gettext("Erasure"), str(found["erasure"])
        yield speech.gettext("Person, by reference"), str(found["subject"])
        yield speech.gettext("Asked for"), self._moment("requested_at")
        yield speech.gettext("Carried out"), self._moment("committed_at")
        label = (
            speech.gettext("Cannot be undone from") if self._kept_until() else speech.gettext("Cannot be undone since")
        )
        yield label, self._moment("irrevocable_at")
        yield speech.gettext("Certified"), self._moment("certified_at")

    def _moment(self, name: str) -> str:
        said = self._certificate.get(name)
        if not isinstance(said, str):
            return self.gettext("not known yet")
        return self._at(datetime.fromisoformat(said))

    def _at(self, at: datetime) -> str:
        speech = self._speech
        return f"{speech.moment(at)} ({format_datetime(at, 'OOOO', tzinfo=speech.zone, locale=speech.locale.value)})"

    def _statement(self) -> Iterable[str]:
        until = self._kept_until()
        if until is None:
            yield self.gettext(
                "The keys that opened the data of this person are destroyed. "
                "Without them the data cannot be read, in the service, in its copies or in its backups."
            )
        else:
            yield self.gettext(
                "The keys that opened the data of this person are removed: the service cannot read the data any more. "
                "An old backup of the keys would still open it until %(until)s, when the root keys it needs are "
                "destroyed. A second signed document says so once it is done.",
                until=self._at(until),
            )
        yield self.gettext("Destroying keys is not making anything anonymous, and nothing here says so.")

    def _kept_until(self) -> datetime | None:
        """Return until when an old root key lives on for backups; None where none does (`key_backup_window`)."""
        roots = [cast("Mapping[str, Json]", site["old_root"]) for site in _maps(self._certificate["partitions"])]
        told = [root["kept_until"] for root in roots if root["state"] == "active" and "kept_until" in root]
        return max((datetime.fromisoformat(str(at)) for at in told), default=None)

    def _destroyed(self) -> Iterable[str]:
        """By category: people read what, not which key; the ids are in the attached data."""
        counts: dict[str, int] = {}
        for target in _maps(self._certificate["destroyed"]):
            for key in _maps(target["data_keys"]):
                name = self._category(str(key["category"]))
                counts[name] = counts.get(name, 0) + 1
        for name, count in sorted(counts.items()):
            keys = self._speech.ngettext("%(num)s key", "%(num)s keys", count)
            yield self._set(labelled(name, keys, self._speech.locale))

    def _category(self, category: str) -> str:
        """What the pack has no word for is the service's own upkeep: profile, messages, copies."""
        return self._words.categories.get(category, self.gettext("Records of this service about the person"))

    def _kept(self) -> Iterable[str]:
        for one in dict.fromkeys(self._words.kept):
            yield self._set(
                self._speech.gettext(
                    "%(name)s: until %(until)s. %(reason)s Source: %(source)s.",
                    name=self._words.categories.get(one.category, one.category),
                    until=self._speech.day(date.fromisoformat(one.until)),
                    reason=one.reason,
                    source=cited(one.legal_ref, self._speech.locale),
                )
            )

    def _attached(self) -> str:
        checked = self.gettext(
            "The signed certificate is attached to this file as %(name)s. "
            "Its signature can be checked with the public key in it.",
            name=ATTACHED,
        )
        sealed = self.gettext("The ledger entry that holds its fingerprint is sealed; it is opened for an auditor.")
        return f"{checked} {sealed}"

    def _sites(self) -> str:
        return "".join(self._facts(self._site(site)) for site in _maps(self._certificate["partitions"]))

    def _site(self, site: Mapping[str, Json]) -> Iterable[tuple[str, str]]:
        speech = self._speech
        root = cast("Mapping[str, Json]", site["old_root"])
        generations = speech.gettext(
            "from %(before)s to %(after)s", before=site["generation_before"], after=site["generation_after"]
        )
        counted = speech.gettext("from %(before)s to %(after)s", before=site["keys_before"], after=site["keys_after"])
        yield speech.gettext("Key partition"), f"{site['class']}/{site['partition']}"
        yield speech.gettext("Root key generation"), generations
        yield speech.gettext("Keys of persons in it"), counted
        yield speech.gettext("Fingerprint before"), str(site["inventory_before"])
        yield speech.gettext("Fingerprint after"), str(site["inventory_after"])
        yield speech.gettext("Old root key"), self._root(str(root["state"]))
        yield speech.gettext("Assurance of the key store"), str(root["assurance"])

    def _root(self, state: str) -> str:
        known = {
            "destroyed": self._speech.gettext("destroyed"),
            "scheduled": self._speech.gettext("out of use, its destruction is scheduled"),
            "active": self._speech.gettext("kept for backups of the keys, its destruction is scheduled"),
        }
        return known.get(state, state)

    def _limits(self) -> Iterable[str]:
        """The sentences of the certificate itself, in the reader's language (`app.vault.certificate`)."""
        yield self.gettext("That nobody copied readable data elsewhere before the keys were destroyed.")
        yield self.gettext(
            "That nobody kept a copy of the key provider’s own keys from before, "
            "together with an old copy of the key store: the two together would open the data."
        )
        yield self.gettext(
            "That the unreadable records themselves were deleted. "
            "Those who keep them were told to delete them, and answer for it separately."
        )
        yield self.gettext(
            "Anything about data that serves only against money laundering: "
            "no certificate speaks of it, whoever it is for."
        )
        yield self.gettext("Anything about the memory of running programs before the time given in the attached data.")

    def _facts(self, facts: Iterable[tuple[str, str]]) -> str:
        rows = "".join(
            f'<tr><th scope="row">{_esc(self._set(label))}</th><td>{_esc(value)}</td></tr>' for label, value in facts
        )
        return f'<table class="about"><tbody>{rows}</tbody></table>'

    def _list(self, entries: Iterable[str]) -> str:
        listed = "".join(f"<li>{_esc(entry)}</li>" for entry in entries)
        nothing = self.gettext("Nothing.")
        return f"<ul>{listed}</ul>" if listed else f"<p>{_esc(nothing)}</p>"

    def _set(self, text: str) -> str:
        return typeset(text, self._speech.locale)


def _maps(value: Json) -> Sequence[Mapping[str, Json]]:
    return cast("Sequence[Mapping[str, Json]]", value)


def _esc(text: str) -> str:
    return html.escape(text)


__all__ = ["ATTACHED", "Certificate", "CertificateUnreadable", "CertificateWords", "Kept", "certificate_pdf"]
