"""What a copy and a certificate say on paper: words of four languages, spaces of French, tables that can be read.

Dsar rules 37-42, 45, 49; vault.md section 5.
"""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import zipfile
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pikepdf
import pytest

from app import policyfiles
from app.outbound import household
from app.outbound.certificate import CertificateUnreadable, certificate_pdf
from app.outbound.checklist import Tailored, checklist, period
from app.outbound.package import Copy, assemble, tabled, to_csv
from app.outbound.typography import cited, labelled, listed, typeset
from app.outbound.uploads import Record, Value
from app.outbound.wording import Heading, Kept, certificate_words, code_words, package_words, speech_of
from app.profiles import Profile
from app.vault.certificate import canonical
from consent.vocabulary import CategoryId, ComponentId, ControllerId, Locale, PartyId, PurposeId
from dsar.package import Filled, NoneToReport, Section
from dsar.retention import Holding
from dsar.vocabulary import CaseId, LineId

PACK = policyfiles.load(Path(__file__).parents[2] / "policies")
ORMELUNE, SAFE = ControllerId("ormelune"), ComponentId("safe")
BALANCES, OVERVIEW = CategoryId("accounts.balances"), PurposeId("wealth_overview")
MADE = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)
ABOUT = Tailored(ORMELUNE, [Holding(SAFE, BALANCES, OVERVIEW)], [PartyId("patrivue")], ["banque_armorel"])


def copy(
    locale: Locale, records: list[Mapping[str, object]], *, category: str = BALANCES, readable: bool = True
) -> Copy:
    speech = speech_of(PACK, ORMELUNE, locale)
    words = package_words(PACK, ORMELUNE, speech, Heading(CaseId("case_1"), "Zoé Noël", MADE), {SAFE: "Collecte"})
    told = checklist(PACK, ABOUT, speech)
    data = {SAFE: {BALANCES: records}}
    return assemble(CaseId("case_1"), LineId("line_1"), (), data, told, words=words, made_at=MADE, readable=readable)


def text_of(pdf: bytes) -> str:
    run = ["pdftotext", "-layout", "-", "-"]
    return subprocess.run(run, input=pdf, capture_output=True, check=True).stdout.decode()


def opened(made: Copy) -> zipfile.ZipFile:
    return zipfile.ZipFile(io.BytesIO(made.archive))


# --- setting


@pytest.mark.parametrize(
    ("plain", "set_"),
    [
        ("Source : loi", "Source\u00a0: loi"),
        ("Pourquoi ? Parce que !", "Pourquoi\u202f? Parce que\u202f!"),
        ("« oui » ; non", "«\u00a0oui\u00a0»\u202f; non"),
        ("10:30, http://x.example", "10:30, http://x.example"),
    ],
)
def test_french_has_spaces_that_do_not_break(plain: str, set_: str) -> None:
    assert typeset(plain, Locale.FR) == set_
    assert typeset(plain, Locale.EN) == plain


def test_lists_labels_and_laws_are_written_as_the_language_does() -> None:
    assert listed(["a", "b, c"], Locale.FR) == "a ; b, c"
    assert listed(["a", "b, c"], Locale.ES) == "a; b, c"
    assert labelled("Nom", "Zoé", Locale.FR) == "Nom : Zoé"
    assert cited("GDPR art. 15; Reg. (EU) 2024/1624", Locale.FR) == "RGPD art. 15; Règl. (UE) 2024/1624"
    assert cited("GDPR art. 15", Locale.EN) == "GDPR art. 15"


@pytest.mark.parametrize(
    ("days", "words"),
    [(1, "1 jour"), (30, "30 jours"), (395, "13 mois"), (365, "1 an"), (1096, "3 ans"), (1826, "5 ans")],
)
def test_periods_are_told_in_the_unit_people_use(days: int, words: str) -> None:
    assert period(days, speech_of(PACK, ORMELUNE, Locale.FR)) == words


def test_no_text_of_law_in_the_pack_tells_people_how_sure_we_are_of_it() -> None:
    assert not [rule.legal_ref for rule in PACK.retentions if "tag" in rule.legal_ref or "dsar" in rule.legal_ref]


# --- the answers of art. 15(1)


@pytest.mark.parametrize("locale", list(Locale))
def test_every_section_is_filled_or_explicitly_none(locale: Locale) -> None:
    """Dsar rules 37, 38, 42."""
    told = checklist(PACK, ABOUT, speech_of(PACK, ORMELUNE, locale))
    assert set(told) == set(Section)
    assert told[Section.AUTOMATED_DECISIONS] == NoneToReport()
    filled = {section: content.entries for section, content in told.items() if isinstance(content, Filled)}
    assert [PACK.purposes[OVERVIEW].why[locale] in entry for entry in filled[Section.PURPOSES]] == [True]
    assert any("Patrivue SAS" in entry for entry in filled[Section.RECIPIENTS]), "by name"
    assert any("L.561-45" in entry for entry in filled[Section.COMPLAINT]), "in every copy (rule 42)"
    assert any("Banque Armorel" in entry for entry in filled[Section.SOURCE])
    assert len(filled[Section.RIGHTS]) == len(PACK.rights)


def test_what_is_held_against_laundering_only_is_in_no_section() -> None:
    """Dsar rule 42: with or without it, the same words."""
    speech = speech_of(PACK, ORMELUNE, Locale.FR)
    secret = Holding(SAFE, CategoryId("aml.file"), PurposeId("aml_duties"))
    more = Tailored(ORMELUNE, [*ABOUT.holdings, secret], ABOUT.recipients, ABOUT.institutions)
    assert checklist(PACK, more, speech) == checklist(PACK, ABOUT, speech)


# --- the copy


@pytest.mark.parametrize("locale", list(Locale))
def test_the_pdf_speaks_the_persons_language(locale: Locale) -> None:
    said = text_of(opened(copy(locale, [{"iban": "FR76", "balance": 12, "as_of": "2026-11-20"}])).read("copy.pdf"))
    title = {
        Locale.FR: "Une copie de vos données",
        Locale.EN: "A copy of your data",
        Locale.ES: "Una copia de sus datos",
        Locale.PT: "Uma cópia dos seus dados",
    }
    assert title[locale] in said
    assert "Zoé Noël" in said
    assert "2026-11-20" not in said, "dates are told in words; the files beside it keep them as they are"


def test_the_same_copy_is_made_again_byte_for_byte() -> None:
    """A step that was killed makes the copy anew: what was recorded of it still holds."""
    records = [{"iban": "FR76", "balance": n} for n in range(3)]
    assert copy(Locale.FR, records).archive == copy(Locale.FR, records).archive


def test_records_too_wide_for_paper_are_cards_and_no_field_is_lost() -> None:
    """Dsar rule 39."""
    wide = {f"field_{n}": f"value-{n}" for n in range(12)}
    said = text_of(opened(copy(Locale.EN, [wide])).read("copy.pdf"))
    assert all(f"field_{n}" in said and f"value-{n}" in said for n in range(12))


def test_a_field_called_kind_is_the_holders_own() -> None:
    said = text_of(opened(copy(Locale.EN, [{"kind": "passport", "number": "X1"}])).read("copy.pdf"))
    assert re.search(r"kind\s+number\s+passport\s+X1", said)


def test_taken_elsewhere_there_is_no_pdf() -> None:
    """Dsar rule 45."""
    names = opened(copy(Locale.EN, [{"a": 1}], readable=False)).namelist()
    assert sorted(names) == ["01-accounts-balances.csv", "data.json", "manifest.json"]


def test_what_the_house_has_is_told_by_kind_with_codes_and_words() -> None:
    """Dsar rule 39: codes come with their words; in the PDF the words, in the CSV both."""
    own = household.Own(Profile("Zoé Noël", "zoe@example.org"), Locale.FR, MADE, (), (), ())
    speech = speech_of(PACK, ORMELUNE, Locale.FR)
    found = household.own_records(own, PACK, code_words(speech), MADE)
    assert found == {
        "identity.civil": [{"name": "Zoé Noël"}],
        "contact.details": [{"email": "zoe@example.org", "language": "fr", "since": MADE.isoformat()}],
    }
    words = package_words(PACK, ORMELUNE, speech, Heading(CaseId("case_1"), None, MADE), {})
    trail = [{"kind": "reading", "at": "x"}, {"kind": "agreement", "at": "y"}, {"kind": "reading", "at": "z"}]
    tables = tabled({ComponentId("regard"): {CategoryId("audit.trail"): trail}}, words)
    assert [(table.file, len(table.records)) for table in tables] == [
        ("01-audit-trail-agreement.csv", 1),
        ("02-audit-trail-reading.csv", 2),
    ]
    assert repr(own) == "Own(hidden)"
    assert repr(words) == "Words(hidden)"


# --- the certificate


def certificate() -> dict[str, object]:
    key = {"class": "data", "key": "aa", "holder": "collecte", "category": BALANCES, "basis": "consent", "life": ""}
    root = {"state": "destroyed", "irrevocable_at": MADE.isoformat(), "assurance": "A", "evidence": {}}
    site = {
        "class": "data",
        "partition": 3,
        "generation_before": 7,
        "generation_after": 8,
        "keys_before": 12,
        "keys_after": 11,
        "inventory_before": "ab" * 32,
        "inventory_after": "cd" * 32,
        "old_root": root,
    }
    moments = dict.fromkeys(("requested_at", "committed_at", "certified_at", "irrevocable_at"), MADE.isoformat())
    return {
        "type": "regard.erasure",
        "version": 1,
        "statement": "keys destroyed",
        "erasure": "era_line_1",
        "controller": "ormelune",
        "subject": "sub_1",
        **moments,
        "destroyed": [{"class": "data", "whole": True, "subject_key": "bb", "data_keys": [key, {**key, "key": "cc"}]}],
        "retained": [],
        "partitions": [site],
        "signature": {"alg": "ES256", "value": "x"},
    }


@pytest.mark.parametrize("locale", list(Locale))
def test_a_certificate_with_kept_roots_promises_nothing_of_today(locale: Locale) -> None:
    """Vault.md section 5: within the window the keys are removed, not destroyed; the page says until when."""
    found = certificate()
    root = found["partitions"][0]["old_root"]  # type: ignore[index]
    root |= {"state": "active", "kept_until": (MADE + timedelta(hours=24)).isoformat()}
    said = " ".join(text_of(certificate_pdf(found, certificate_words(PACK, ORMELUNE, locale, ()))).split())
    removed = {
        Locale.FR: "Une ancienne sauvegarde des clés les ouvrirait encore",
        Locale.EN: "An old backup of the keys would still open it until",
        Locale.ES: "Una copia de seguridad antigua de las claves aún los abriría",
        Locale.PT: "Uma cópia de segurança antiga das chaves ainda os abriria",
    }
    destroyed = {
        Locale.FR: "sont détruites. Sans elles",
        Locale.EN: "are destroyed. Without them",
        Locale.ES: "están destruidas",
        Locale.PT: "estão destruídas",
    }
    assert removed[locale] in said
    assert destroyed[locale] not in said
    assert str((MADE + timedelta(hours=24)).year) in said
    assert "active" not in said


@pytest.mark.parametrize("locale", list(Locale))
def test_the_certificate_says_keys_destroyed_and_never_anonymised(locale: Locale) -> None:
    """Vault.md section 5; dsar rules 48, 49."""
    kept = [
        Kept("identity.papers", "2031-11-21", "GDPR art. 17(3)(b)", "La loi nous y oblige."),
        Kept("aml.file", "2031-11-21", "L.561-12"),
    ]
    pdf = certificate_pdf(certificate(), certificate_words(PACK, ORMELUNE, locale, kept))
    said = " ".join(text_of(pdf).split())
    destroyed = {
        Locale.FR: "sont détruites",
        Locale.EN: "are destroyed",
        Locale.ES: "destruidas",
        Locale.PT: "destruídas",
    }
    assert destroyed[locale] in said
    assert "era_line_1" in said
    assert "data/3" in said
    assert "GMT+" in said or "UTC+" in said, "a time without its zone is no time"
    assert "cd" * 32 in said.replace(" ", "")
    assert PACK.categories[CategoryId("identity.papers")].names[locale] in said
    assert PACK.categories[CategoryId("aml.file")].names[locale] not in said, "dsar rule 42"
    assert not re.search(r"anonymi[sz]ed|anonymisées|anonimizad|anonimizados", said)


@pytest.mark.parametrize("locale", list(Locale))
def test_nothing_on_the_certificate_is_wider_than_its_column(locale: Locale, tmp_path: Path) -> None:
    """A fingerprint wraps: A4 is 595.3 points wide, its margins 18 mm."""
    wide = certificate()
    wide["partitions"] = [{**wide["partitions"][0], "inventory_before": "0d" * 32, "inventory_after": "8" * 64}]
    file = tmp_path / "certificate.pdf"
    file.write_bytes(certificate_pdf(wide, certificate_words(PACK, ORMELUNE, locale)))
    drawn = subprocess.run(["pdftotext", "-bbox", str(file), "-"], capture_output=True, text=True, check=True).stdout
    ends = [float(found) for found in re.findall(r'<word [^>]*xMax="([\d.]+)"', drawn)]
    assert len(ends) > 100
    assert max(ends) <= 595.3 - 18 * 72 / 25.4


def test_the_signed_data_is_attached_to_the_certificate() -> None:
    pdf = certificate_pdf(certificate(), certificate_words(PACK, ORMELUNE, Locale.FR))
    with pikepdf.open(io.BytesIO(pdf)) as found:
        (attached,) = found.attachments.values()
        raw = attached.get_file().read_bytes()
    assert raw == canonical(certificate())
    assert json.loads(raw)["signature"]["alg"] == "ES256"


def test_what_is_no_certificate_is_not_laid_out_as_one() -> None:
    with pytest.raises(CertificateUnreadable):
        certificate_pdf({**certificate(), "version": 2}, certificate_words(PACK, ORMELUNE, Locale.FR))


def test_a_period_is_half_open_and_its_end_a_day() -> None:
    until = date(2026, 11, 21) + timedelta(days=1826)
    words = certificate_words(PACK, ORMELUNE, Locale.EN, [Kept("identity.papers", until.isoformat(), "x")])
    assert "November 21, 2031" in text_of(certificate_pdf(certificate(), words))


LABELS = [
    'VIR X;=HYPERLINK("http://x")',
    'VIR X;"=HYPERLINK(1)',
    "VIR X; \t+1",
    "VIR X\r\n@SUM(1)",
    "VIR X\t-1",
    ["VIR X;=1", {"VIR Y;@1": 2}],
    "=1;=1",
]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("label", LABELS)
def test_no_cell_is_a_formula_whatever_a_spreadsheet_takes_for_the_separator(separator: str, label: Value) -> None:
    """Dsar rule 39: French spreadsheets separate by `;`, and a quoted line break begins a new row in them."""
    raw = to_csv([{"holder": SAFE, "label": label, "amount": 3}]).decode("utf-8-sig")
    read = csv.reader(io.StringIO(raw, newline=""), delimiter=separator)
    parts = [part for row in read for cell in row for part in re.split(r"[\r\n]+", cell)]
    assert "VIR X" in "".join(parts) or "=1" in "".join(parts)
    assert not [part for part in parts if part.lstrip(' "').startswith(("=", "+", "-", "@"))]


def test_ordinary_words_and_numbers_stay_as_they_are_in_the_table() -> None:
    """Dsar rule 39: only what could be a formula is changed, and the copy's JSON has it as it was."""
    record: Record = {"label": 'Rent; "flat" - May, a=b', "amount": -3, "rate": 1.5, "none": None}
    (row,) = csv.DictReader(io.StringIO(to_csv([record]).decode("utf-8-sig")))
    assert row == {"label": 'Rent; "flat" - May, a=b', "amount": "-3", "rate": "1.5", "none": ""}
