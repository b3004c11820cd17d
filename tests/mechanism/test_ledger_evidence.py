"""The page that goes with an evidence bundle: four languages, nothing that is sealed or hidden, the proof attached."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from io import BytesIO
from zoneinfo import ZoneInfo

import pikepdf
import pytest
from pypdf import PdfReader

from app.ledger.bundle import About, Selection, build_bundle
from app.ledger.tree import extend, root
from app.letters import Speech
from app.outbound.evidence import MOST_ENTRIES, EvidenceUnprintable, EvidenceWords, evidence_pdf
from app.sdk.evidence import Entry, Envelope
from app.sdk.payloads import bind, shown
from consent.vocabulary import Locale
from tests.mechanism.test_ledger_mutations import Ledger as Many
from tests.mechanism.test_ledger_payloads import KEY, RECORD, SIGNER, payload
from tests.mechanism.test_merkle import Memory

AT = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
CASE = "case_" + "c" * 26


class Ledger(Memory):
    """One entry opened but for the subject, one sealed, one whose payload is gone."""

    def __init__(self) -> None:
        super().__init__()
        plain = payload("case.received", reason="<b>late & sorry</b>")
        blob = bind(plain, RECORD)
        self.entries = [
            Entry(self._envelope(0, "case.received", blob), blob, shown(blob, plain, ("subject",))),
            Entry(self._envelope(1, "key.leased", blob), blob),
            Entry(self._envelope(2, "unheard.of", blob), None),
        ]
        self.held = dict(extend(0, {}, [entry.envelope.leaf_hash() for entry in self.entries]))

    def _envelope(self, n: int, kind: str, blob: bytes) -> Envelope:
        digest = hashlib.sha256(blob).digest()
        return Envelope(n, f"led_{n}", "2026-11-21T09:00:00.000000Z", kind, "stf_<1>", "atlas", "k", digest)

    def select(self, selection: Selection, size: int) -> list[Entry]:
        return self.entries if selection.about is About.CASE else []

    def bundle(self, selection: Selection) -> bytes:
        return build_bundle(self, selection, SIGNER.checkpoint(3, root(self, 3)), SIGNER, AT)


BUNDLE = Ledger().bundle(Selection(About.CASE, (CASE,), start=AT))


def words(locale: Locale = Locale.EN) -> EvidenceWords:
    return EvidenceWords(Speech(locale, ZoneInfo("Europe/Paris")), "Ormelune & Cie")


def text_of(pdf: bytes) -> str:
    return " ".join(" ".join(page.extract_text() for page in PdfReader(BytesIO(pdf)).pages).split())


EXPECTED = {
    Locale.EN: ("Evidence from the ledger", "a request", "The contents are sealed.", "What this proves"),
    Locale.FR: ("Preuves tirées du registre", "une demande", "Le contenu est scellé.", "Ce que cela prouve"),
    Locale.ES: ("Pruebas extraídas del registro", "una solicitud", "El contenido está sellado.", "Lo que esto prueba"),
    Locale.PT: ("Provas extraídas do registo", "um pedido", "O conteúdo está selado.", "O que isto prova"),
}


@pytest.mark.parametrize("locale", list(Locale))
def test_it_tells_what_happened_in_the_readers_language(locale: Locale) -> None:
    pdf = evidence_pdf(BUNDLE, KEY, words(locale))
    said = text_of(pdf)
    for expected in (*EXPECTED[locale], "Ormelune & Cie", "case.received", "unheard.of", "stf_<1>", "evidence.json"):
        assert expected in said, expected
    squeezed = said.replace(" ", "")
    assert CASE in squeezed
    assert "2026-11-21T09:00:00.000000Z" in squeezed, "the very moment, whatever the reader's clock"
    assert KEY.replace(" ", "") in squeezed
    assert 'reason="<b>late&sorry</b>"' in squeezed
    assert "sub_1" not in said
    with pikepdf.open(BytesIO(pdf)) as opened:
        assert opened.attachments["evidence.json"].get_file().read_bytes() == BUNDLE


def test_the_same_evidence_gives_the_same_bytes() -> None:
    assert evidence_pdf(BUNDLE, KEY, words()) == evidence_pdf(BUNDLE, KEY, words())


def test_evidence_of_nothing_says_so() -> None:
    nothing = Ledger().bundle(Selection(About.CONSENT, ("con_" + "z" * 26,)))
    assert "Nothing was recorded about this." in text_of(evidence_pdf(nothing, KEY, words()))


def test_what_does_not_verify_is_not_printed() -> None:
    for bad in (BUNDLE.replace(b"case.received", b"case.closed__"), BUNDLE[:-9], b""):
        with pytest.raises(EvidenceUnprintable, match="does not verify"):
            evidence_pdf(bad, KEY, words())


def test_what_is_too_long_for_paper_is_handed_over_as_data() -> None:
    many = Many(MOST_ENTRIES + 1)
    head = SIGNER.checkpoint(MOST_ENTRIES + 1, root(many, MOST_ENTRIES + 1))
    with pytest.raises(EvidenceUnprintable, match="more than 2000 entries"):
        evidence_pdf(build_bundle(many, Selection(About.ALL), head, SIGNER, AT), KEY, words())
