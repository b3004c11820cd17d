"""The demo's people are fictional, whole and always the same (design: the main job on input that is real in shape)."""

from __future__ import annotations

import csv
import itertools
import json
import subprocess
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from pathlib import Path

import pytest

from app.demo.generator import (
    CATEGORIES,
    Record,
    Standing,
    analysable,
    balances,
    documents,
    iban,
    make_subject,
    make_subjects,
    records,
    transactions,
    wealth_cents,
    write_pdf,
)
from app.exports.profile import Profile

TODAY = date(2026, 3, 5)
PACK = Path(__file__).parents[2] / "policies"
EVERYBODY = list(make_subjects(7, TODAY))


def written(made: Iterator[Record]) -> bytes:
    return b"\n".join(
        record.content if isinstance(record.content, bytes) else json.dumps([record.id, record.content]).encode()
        for record in made
    )


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    again = list(make_subjects(7, TODAY))
    assert again == EVERYBODY
    assert written(records(again[4])) == written(records(EVERYBODY[4]))
    assert written(records(make_subject(8, 5, TODAY))) != written(records(EVERYBODY[4]))


def test_one_subject_is_made_without_the_others_and_in_any_order() -> None:
    late = make_subject(7, 250, TODAY)
    assert late == EVERYBODY[249]
    first = next(transactions(late))
    list(documents(late))
    assert first == next(transactions(late))


def test_three_hundred_subjects_of_whom_a_hundred_and_twenty_are_gone() -> None:
    assert Counter(subject.standing for subject in EVERYBODY) == {
        Standing.PRESENT: 180,
        Standing.ERASED: 60,
        Standing.RETIRED: 60,
    }
    assert sum(subject.gone for subject in EVERYBODY) == 120


def test_people_speak_three_languages_and_can_be_told_apart() -> None:
    assert {subject.locale for subject in EVERYBODY} == {"fr", "es", "pt"}
    assert len({subject.email for subject in EVERYBODY}) == 300
    assert all(subject.email.isascii() and subject.email.endswith("@example.org") for subject in EVERYBODY)
    assert all(subject.phone.startswith("+33 6 39 98 ") for subject in EVERYBODY)
    assert all(18 <= subject.age <= 90 for subject in EVERYBODY)


def valid_iban(number: str) -> bool:
    """ISO 13616: the four first signs to the end, letters as 10-35, rest one modulo 97."""
    return int("".join(str(int(sign, 36)) for sign in number[4:] + number[:4])) % 97 == 1


def test_ibans_are_valid_and_of_no_bank() -> None:
    numbers = [account.iban for subject in EVERYBODY for account in subject.accounts]
    assert all(valid_iban(number) for number in numbers)
    assert len(set(numbers)) == len(numbers)
    lengths = {"FR": 27, "ES": 24, "PT": 25}
    assert {number[:2] for number in numbers} == set(lengths)
    assert all(len(number) == lengths[number[:2]] for number in numbers)
    assert {(number[:2], number[4:8]) for number in numbers} == {("FR", "9990"), ("ES", "9991"), ("PT", "9991")}


def test_national_check_digits_are_those_of_the_published_examples() -> None:
    """ES and PT: the examples of the IBAN registry. FR: its example has letters, so the key's own definition."""
    assert iban("ES", "2100", 418, 200051332) == "ES9121000418450200051332"
    assert iban("PT", "0002", 123, 12345678901) == "PT50000201231234567890154"
    assert iban("FR", "30006", 1, 1234567789) == _french_reference(30006, 1, 1234567789)


def _french_reference(bank: int, branch: int, account: int) -> str:
    """The RIB key by its definition: the 23 digits are a multiple of 97."""
    (key,) = [key for key in range(1, 98) if int(f"{bank:05}{branch:05}{account:011}{key:02}") % 97 == 0]
    national = f"{bank:05}{branch:05}{account:011}{key:02}"
    (check,) = [check for check in range(2, 99) if valid_iban(f"FR{check:02}{national}")]
    return f"FR{check:02}{national}"


def valid_isin(number: str) -> bool:
    digits = [int(digit) for digit in "".join(str(int(sign, 36)) for sign in number)]
    return sum(sum(divmod(d * 2, 10)) if at % 2 else d for at, d in enumerate(reversed(digits))) % 10 == 0


def test_isins_are_valid_and_unassigned() -> None:
    numbers = {position.isin for subject in EVERYBODY for position in subject.positions}
    assert len(numbers) == 4
    assert all(len(number) == 12 and number.startswith("ZZ") and valid_isin(number) for number in numbers)


@pytest.mark.parametrize("today", [TODAY, date(2024, 2, 29), date(2025, 1, 1), date(2025, 12, 31)])
def test_twenty_four_months_of_transactions_up_to_today(today: date) -> None:
    made = list(transactions(make_subject(7, 3, today)))
    days = [transaction.booked for transaction in made]
    assert days == sorted(days)
    assert len({transaction.id for transaction in made}) == len(made) > 400
    assert today - timedelta(days=735) < days[0] < today - timedelta(days=715)
    assert today - timedelta(days=10) < days[-1] <= today
    salaries = [transaction for transaction in made if transaction.kind in {"salary", "pension", "benefit", "grant"}]
    assert len(salaries) in {24, 25}
    assert {"groceries", "energy", "telephone", "insurance", "saving"} <= {transaction.kind for transaction in made}


def test_money_adds_up() -> None:
    subject = EVERYBODY[0]
    made = list(transactions(subject))
    assert sum(transaction.amount_cents for transaction in made if transaction.kind == "saving") == 0
    for account in subject.accounts:
        moved = sum(transaction.amount_cents for transaction in made if transaction.iban == account.iban)
        assert balances(subject)[account.iban] == account.opening_cents + moved
    shown = {record.category: record.content for record in records(subject) if record.category == CATEGORIES["wealth"]}
    assert shown == {
        CATEGORIES["wealth"]: {"total_cents": wealth_cents(subject), "as_of": TODAY.isoformat()},
    }
    assert all(s.loan_file.loan_cents + s.loan_file.own_funds_cents == s.loan_file.price_cents for s in EVERYBODY)


def test_recent_is_ninety_days_and_older_the_rest() -> None:
    edge = (TODAY - timedelta(days=90)).isoformat()
    for record in records(EVERYBODY[0]):
        if record.category.startswith("transactions."):
            assert isinstance(record.content, Mapping)
            assert (str(record.content["booked"]) >= edge) == (record.category == CATEGORIES["recent"])


def test_every_category_is_made_and_is_one_of_the_pack() -> None:
    pack = tomllib.loads((PACK / "categories.toml").read_text())
    known = {category["id"] for category in pack["categories"]}
    assert set(CATEGORIES.values()) <= known
    holder = next(subject for subject in EVERYBODY if subject.positions)
    made = list(records(holder))
    assert {record.category for record in made} == set(CATEGORIES.values())
    assert len({record.id for record in made}) == len(made)
    institutions = {i["id"] for i in tomllib.loads((PACK / "institutions.toml").read_text())["institutions"]}
    assert {account.institution for subject in EVERYBODY for account in subject.accounts} <= institutions


def test_analysable_values_are_what_the_profile_of_the_pack_places() -> None:
    plain = tomllib.loads((PACK / "exports" / "portfolio_statistics.toml").read_text())
    sources = plain.pop("sources")
    del plain["purpose"]
    trees = {
        path.stem: list(csv.reader(path.read_text().splitlines())) for path in (PACK / "generalisation").glob("*.csv")
    }
    profile = Profile.from_plain(plain, trees)
    assert set(sources.values()) <= set(CATEGORIES.values())
    rows = [analysable(subject) for subject in EVERYBODY]
    assert all(set(row) == set(profile.names) for row in rows)
    for column in profile.columns:
        codes = column.scale.encode(row[column.name] for row in rows)
        assert codes.min() >= 0
        assert len(set(codes.tolist())) > 3


def text_of(pdf: bytes) -> str:
    run = subprocess.run(["pdftotext", "-layout", "-", "-"], input=pdf, capture_output=True, check=True)
    assert run.stderr == b""
    return run.stdout.decode()


def test_loan_documents_are_pdfs_that_open_and_say_what_they_should() -> None:
    subject = next(subject for subject in EVERYBODY if subject.employment == "permanent")
    made = list(documents(subject))
    assert [record.category for record in made] == [CATEGORIES["payslips"]] * 3 + [CATEGORIES["tax"]]
    assert len({record.id for record in made}) == 4
    texts = [text_of(bytes(record.content)) for record in made if isinstance(record.content, bytes)]
    for text, month in zip(texts, ("02/2026", "01/2026", "12/2025"), strict=False):
        assert "Bulletin de paie" in text
        assert f"Période : {month}" in text
        assert f"{subject.given_name} {subject.family_name}" in text
        assert f",{subject.monthly_income_cents % 100:02} €" in text
    assert "Avis d'impôt sur les revenus de 2025" in texts[3]


def test_every_name_can_be_written_in_a_document() -> None:
    for subject in EVERYBODY:
        assert all(bytes(r.content).startswith(b"%PDF-1.4") for r in documents(subject) if isinstance(r.content, bytes))


def test_signs_that_mean_something_in_a_pdf_are_escaped() -> None:
    assert r"a (b) \ c) (" in text_of(write_pdf(["Heading", r"a (b) \ c) ("]))


def test_pdf_places_point_at_their_objects() -> None:
    pdf = write_pdf(["Heading", "x"])
    start = int(pdf.rsplit(b"startxref\n", 1)[1].split(b"\n")[0])
    lines = pdf[start:].split(b"\n")
    assert lines[0] == b"xref"
    for number, line in enumerate(itertools.islice(lines, 3, 8), start=1):
        assert pdf[int(line[:10]) :].startswith(b"%d 0 obj" % number)
