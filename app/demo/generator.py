"""Fictional subjects for the demo and the tests: identity, accounts, 24 months of transactions, positions, a loan file.

Pure and seeded: the same seed, number and day give the same bytes. One subject is made without making the others, and
their records are made as they are asked for. Bank codes are ones no bank has (check digits are valid), ISINs begin
with the unassigned `ZZ`, addresses are at example.org and telephone numbers lie in the range France keeps for fiction.
Leaves out any real person, bank or merchant. Standard library only.

Shapes: money is whole cents (`*_cents`) unless the analysable values say euros; days are ISO dates, none after `today`.
"""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum

Json = None | bool | int | str | Sequence["Json"] | Mapping[str, "Json"]

CATEGORIES: Mapping[str, str] = {
    "identity": "identity.civil",
    "contact": "contact.details",
    "accounts": "accounts.details",
    "balances": "accounts.balances",
    "recent": "transactions.recent",
    "older": "transactions.older",
    "positions": "investments.positions",
    "income": "income.earnings",
    "payslips": "income.payslips",
    "tax": "tax.notices",
    "household": "household.composition",
    "property": "project.property",
    "financing": "project.financing",
    "wealth": "wealth.summary",
}
"""What the generator makes -> category of the policy pack (`policies/categories.toml`)."""

SUBJECTS = 300
MONTHS = 24
RECENT_DAYS = 90
"""Transactions up to so many days old are `recent` (RTS art. 10a: without strong authentication)."""


class Standing(StrEnum):
    """Where the demo finds the subject."""

    PRESENT = "present"
    ERASED = "erased"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True)
class Account:
    """A bank account; `opening_cents` is the balance before the first transaction."""

    iban: str
    institution: str
    kind: str
    opening_cents: int


@dataclass(frozen=True, slots=True)
class Transaction:
    """One booked movement; money out is negative."""

    id: str
    iban: str
    booked: date
    amount_cents: int
    kind: str
    counterparty: str


@dataclass(frozen=True, slots=True)
class Position:
    """A holding: `units` whole units, at `price_cents` each."""

    isin: str
    name: str
    units: int
    price_cents: int

    @property
    def value_cents(self) -> int:
        return self.units * self.price_cents


@dataclass(frozen=True, slots=True)
class LoanFile:
    """What the subject wants to finance."""

    project: str
    property_kind: str
    price_cents: int
    own_funds_cents: int
    loan_cents: int
    years: int


@dataclass(frozen=True, slots=True)
class Record:
    """One record of one category: JSON `content`, or the bytes of a document (`media_type` application/pdf)."""

    category: str
    id: str
    content: Json | bytes
    media_type: str = "application/json"


@dataclass(frozen=True, slots=True)
class Subject:
    """One fictional person. `number` counts from 1; it is the only link between the parts, and it says nothing."""

    seed: int
    number: int
    today: date
    standing: Standing
    locale: str
    given_name: str
    family_name: str
    email: str
    phone: str
    street: str
    birth_date: date
    region: str
    employment: str
    monthly_income_cents: int
    adults: int
    children: int
    tenant: bool
    accounts: tuple[Account, ...]
    positions: tuple[Position, ...]
    loan_file: LoanFile

    @property
    def gone(self) -> bool:
        """Erased or retired: what may be kept of them is in the hold-back pool."""
        return self.standing is not Standing.PRESENT

    @property
    def age(self) -> int:
        born = self.birth_date
        return self.today.year - born.year - ((self.today.month, self.today.day) < (born.month, born.day))


@dataclass(frozen=True, slots=True)
class _Flavour:
    locale: str
    given: tuple[str, ...]
    family: tuple[str, ...]
    banks: tuple[tuple[str, str, str], ...]
    """(country, bank code that no bank has, institution of the pack)."""


_FRENCH = _Flavour(
    "fr",
    ("Amélie", "Bastien", "Chloé", "Damien", "Élodie", "Florian", "Gaëlle", "Hugo", "Inès", "Jérôme", "Léa", "Maël"),
    ("Auvrelin", "Bretillac", "Corsenaud", "Dervigny", "Estournel", "Fauvergne", "Grandlieux", "Hautecroix", "Jolimay"),
    (("FR", "99901", "banque_armorel"), ("FR", "99902", "credit_sauvelin")),
)
_SPANISH = _Flavour(
    "es",
    ("Alba", "Bruno", "Carmen", "Diego", "Elena", "Íñigo", "Lucía", "Martín", "Nuria", "Pablo", "Rocío", "Sergio"),
    (
        "Albornuez",
        "Buendalga",
        "Castrillán",
        "Dueñasol",
        "Escorijo",
        "Fontalba",
        "Garmilla",
        "Montesuero",
        "Peñarrobla",
    ),
    (("ES", "9991", "caja_tormel"), ("FR", "99901", "banque_armorel")),
)
_PORTUGUESE = _Flavour(
    "pt",
    (
        "Afonso",
        "Beatriz",
        "Catarina",
        "Duarte",
        "Eva",
        "Gonçalo",
        "Inês",
        "João",
        "Leonor",
        "Mafalda",
        "Simão",
        "Tomás",
    ),
    ("Alvorães", "Bragançal", "Carvalhosa", "Douradinho", "Esteveira", "Figueirol", "Lameirinho", "Montalvão"),
    (("PT", "9991", "banco_vilarinho"), ("FR", "99902", "credit_sauvelin")),
)
_FLAVOURS = (_FRENCH, _FRENCH, _FRENCH, _SPANISH, _PORTUGUESE)

_REGIONS = (
    *("ile-de-france",) * 5,
    *("auvergne-rhone-alpes",) * 4,
    *("nouvelle-aquitaine",) * 2,
    *("occitanie",) * 2,
    *("provence-alpes-cote-d-azur",) * 2,
    *("hauts-de-france", "grand-est", "bretagne", "normandie", "pays-de-la-loire", "centre-val-de-loire"),
    *("bourgogne-franche-comte", "corse", "la-reunion", "martinique"),
)
_STREETS = ("rue des Tilleuls", "avenue du Belvédère", "impasse des Glycines", "chemin des Vignes", "place du Lavoir")
_WORK: tuple[tuple[str, int, int], ...] = (
    ("permanent", 190_000, 520_000),
    ("permanent", 210_000, 640_000),
    ("permanent", 180_000, 380_000),
    ("fixed-term", 150_000, 260_000),
    ("temporary-agency", 140_000, 230_000),
    ("civil-servant", 180_000, 420_000),
    ("craft-or-trade", 160_000, 450_000),
    ("liberal-profession", 250_000, 1_100_000),
    ("company-head", 220_000, 1_300_000),
    ("farmer", 120_000, 300_000),
    ("job-seeker", 90_000, 160_000),
)
"""(employment as in the pack's hierarchy, lowest and highest monthly income in cents)."""
_PROPERTIES = (
    "main-home-flat",
    "main-home-flat",
    "main-home-house",
    "main-home-house",
    "let-flat",
    "second-home",
    "works",
)
_FUNDS = ("Fonds Actions Monde Clairval", "Obligations Euro Beaulac", "Immobilier Rendement Orsan", "Monétaire Valdoré")


def make_subject(seed: int, number: int, today: date) -> Subject:
    """Return subject `number` (from 1) of `seed` as of `today`; takes a fraction of a millisecond."""
    draw = _draw(seed, number, "subject")
    flavour = draw.choice(_FLAVOURS)
    given, family = draw.choice(flavour.given), draw.choice(flavour.family)
    age = draw.triangular(21, 84, 44)
    birth_date = today - timedelta(days=int(age * 365.25) + draw.randrange(300))
    employment, low, high = _work(draw, age)
    income = int(draw.triangular(low, high, low + (high - low) // 4)) // 100 * 100
    adults, children = draw.choice((1, 2, 2)), draw.choice((0, 0, 1, 2, 3)) if age < 60 else 0
    abroad = flavour.locale != "fr" and draw.random() < 0.25
    return Subject(
        seed=seed,
        number=number,
        today=today,
        standing=_standing(number),
        locale=flavour.locale,
        given_name=given,
        family_name=family,
        email=f"{_plain(given)}.{_plain(family)}.{number}@example.org",
        phone=f"+33 6 39 98 {draw.randrange(100):02} {draw.randrange(100):02}",
        street=f"{draw.randint(1, 90)} {draw.choice(_STREETS)}",
        birth_date=birth_date,
        region="outside-france" if abroad else draw.choice(_REGIONS),
        employment=employment,
        monthly_income_cents=income,
        adults=adults,
        children=children,
        tenant=draw.random() < 0.55,
        accounts=_accounts(draw, flavour, income),
        positions=_positions(draw, income, age),
        loan_file=_loan_file(draw, income),
    )


def make_subjects(seed: int, today: date, count: int = SUBJECTS) -> Iterator[Subject]:
    """Yield `count` subjects in order of their number; of the default 300, exactly 120 are gone."""
    return (make_subject(seed, number, today) for number in range(1, count + 1))


def transactions(subject: Subject) -> Iterator[Transaction]:
    """Yield the subject's 24 months of transactions, oldest first, ids rising."""
    draw = _draw(subject.seed, subject.number, "transactions")
    begin = _months_before(subject.today, MONTHS)
    number = 0
    for month in range(MONTHS, -1, -1):
        first = _months_before(subject.today.replace(day=1), month)
        for day, iban, cents, kind, counterparty in sorted(_month(draw, subject)):
            booked = first.replace(day=day)
            if begin < booked <= subject.today:
                number += 1
                yield Transaction(f"trx_{subject.number:04}_{number:05}", iban, booked, cents, kind, counterparty)


def balances(subject: Subject) -> dict[str, int]:
    """Return IBAN -> balance in cents as of `today`: what was there before, and every transaction since."""
    totals = {account.iban: account.opening_cents for account in subject.accounts}
    for transaction in transactions(subject):
        totals[transaction.iban] += transaction.amount_cents
    return totals


def wealth_cents(subject: Subject) -> int:
    """Return what the subject owns at banks and in positions, in cents; debts on an account count against it."""
    return sum(balances(subject).values()) + sum(position.value_cents for position in subject.positions)


def analysable(subject: Subject) -> dict[str, int | str]:
    """Return the values the release profile `portfolio_statistics` may use; amounts in whole euros, income a year."""
    return {
        "age": subject.age,
        "region": subject.region,
        "income": subject.monthly_income_cents * 12 // 100,
        "employment": subject.employment,
        "loan_amount": subject.loan_file.loan_cents // 100,
        "property_kind": subject.loan_file.property_kind,
        "wealth": wealth_cents(subject) // 100,
    }


def records(subject: Subject) -> Iterator[Record]:
    """Yield every record a holder keeps of the subject, category by category; documents are made when reached."""
    yield from _personal_records(subject)
    yield from _account_records(subject)
    yield from _transaction_records(subject)
    yield from _loan_records(subject)
    yield from documents(subject)


def documents(subject: Subject) -> Iterator[Record]:
    """Yield the papers of the loan file as PDF: the last three income statements, then the last tax notice."""
    for back in range(1, 4):
        month = _months_before(subject.today.replace(day=1), back)
        yield Record(
            CATEGORIES["payslips"],
            f"doc_{subject.number:04}_pay_{month:%Y_%m}",
            write_pdf(_payslip(subject, month)),
            "application/pdf",
        )
    year = subject.today.year - 1
    content = write_pdf(_tax_notice(subject, year))
    yield Record(CATEGORIES["tax"], f"doc_{subject.number:04}_tax_{year}", content, "application/pdf")


def write_pdf(lines: Sequence[str]) -> bytes:
    """Return a one-page A4 PDF 1.4 with `lines` in Helvetica, the first as heading; characters of Windows-1252 only."""
    text = b"\n".join(
        b"/F1 %d Tf 1 0 0 1 56 %d Tm (%s) Tj" % (16 if at == 0 else 11, 780 - 20 * at, _pdf_string(line))
        for at, line in enumerate(lines)
    )
    stream = b"BT\n" + text + b"\nET"
    objects = (
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R /Resources <</Font <</F1 5 0 R>>>> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
    )
    return _pdf_file(objects)


def iban(country: str, bank: str, branch: int, account: int) -> str:
    """Return an IBAN (ISO 13616) with national and international check digits right; FR, ES or PT."""
    national = {"FR": _french, "ES": _spanish, "PT": _portuguese}[country](bank, branch, account)
    return f"{country}{98 - _mod97(national + country + '00'):02}{national}"


def _draw(seed: int, number: int, what: str) -> random.Random:
    # A generator of its own for each part: making one part never shifts another. Fiction needs no secrecy.
    return random.Random(f"{seed}:{number}:{what}")  # noqa: S311


def _standing(number: int) -> Standing:
    """Two in five are gone, one erased and one retired: 60 and 60 of 300."""
    return {2: Standing.ERASED, 0: Standing.RETIRED}.get(number % 5, Standing.PRESENT)


def _plain(name: str) -> str:
    letters = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return "".join(letter for letter in letters.lower() if letter.isalnum())


def _work(draw: random.Random, age: float) -> tuple[str, int, int]:
    if age > 64:
        return "retired", 110_000, 330_000
    if age < 25 and draw.random() < 0.4:
        return "student", 60_000, 110_000
    return draw.choice(_WORK)


def _accounts(draw: random.Random, flavour: _Flavour, income: int) -> tuple[Account, ...]:
    kinds = ("current", "savings") if draw.random() < 0.7 else ("current", "savings", "joint")
    made = []
    for kind in kinds:
        country, bank, institution = draw.choice(flavour.banks)
        number = iban(country, bank, draw.randrange(10_000), draw.randrange(10**9, 10**10))
        opening = draw.randint(income // 4, income * 2) if kind == "current" else draw.randint(0, income * 12)
        made.append(Account(number, institution, kind, opening))
    return tuple(made)


def _positions(draw: random.Random, income: int, age: float) -> tuple[Position, ...]:
    held = draw.sample(_FUNDS, draw.choice((0, 1, 2, 3, 4)))
    most = max(2, int(income * (age - 18) / 40_000))
    return tuple(
        Position(_isin(_FUNDS.index(name) + 1), name, draw.randint(1, most), draw.randint(4_000, 30_000))
        for name in held
    )


def _loan_file(draw: random.Random, income: int) -> LoanFile:
    kind = draw.choice(_PROPERTIES)
    years = draw.choice((10, 15, 20, 20, 25))
    # About a third of income for the repayment, as lenders ask, brought to whole thousands of euros.
    loan = max(20, int(income * draw.uniform(0.18, 0.35) * 12 * years * 0.75) // 100_000) * 100_000
    own = int(loan * draw.uniform(0.05, 0.4)) // 100_000 * 100_000
    project = {"works": "renovation", "second-home": "purchase of a second home"}.get(kind, "purchase")
    return LoanFile(project, kind, loan + own, own, loan, years)


_Movement = tuple[int, str, int, str, str]
"""(day of the month 1-28, IBAN, cents, kind, counterparty)."""


def _month(draw: random.Random, subject: Subject) -> list[_Movement]:
    """Return one month's movements: what comes in, what is due, what is spent, what is put by."""
    current, income = subject.accounts[0].iban, subject.monthly_income_cents
    spent = [(draw.randint(1, 28), current, -cents, kind, name) for cents, kind, name in _spendings(draw, income)]
    return [*_fixed(draw, subject), *spent, *_put_by(draw, subject)]


_PAYERS = {
    "retired": ("pension", "Caisse de retraite Montclar"),
    "job-seeker": ("benefit", "Agence de l'emploi fictive"),
    "student": ("grant", "Bourse universitaire fictive"),
}


def _fixed(draw: random.Random, subject: Subject) -> list[_Movement]:
    current, income = subject.accounts[0].iban, subject.monthly_income_cents
    kind, payer = _PAYERS.get(subject.employment, ("salary", "Ateliers Roqueval"))
    housing = ("rent", "Régie Belmarais") if subject.tenant else ("loan_repayment", "Crédit Sauvelin")
    return [
        (draw.randint(26, 28), current, income, kind, payer),
        (5, current, -(income * 28 // 100), *housing),
        (10, current, -draw.randint(4_500, 14_000), "energy", "Énergie Solane"),
        (12, current, -2_999, "telephone", "Télécom Ligéria"),
        (15, current, -draw.randint(3_500, 6_000), "insurance", "Mutuelle Vertpré"),
    ]


_SHOPS: tuple[tuple[str, str, int, int, int], ...] = (
    ("groceries", "Marché Laurelin", 8, 1_200, 9_500),
    ("transport", "Transports du Val", 4, 190, 4_500),
    ("restaurant", "Chez Odalie", 4, 1_100, 6_000),
    ("leisure", "Librairie du Phare", 2, 800, 7_000),
    ("health", "Pharmacie des Halles", 1, 400, 5_000),
    ("cash", "Distributeur", 2, 2_000, 8_000),
)
"""(kind, counterparty, times a month, lowest and highest cents for a monthly income of 2,500 euros)."""


def _spendings(draw: random.Random, income: int) -> Iterator[tuple[int, str, str]]:
    for kind, name, times, low, high in _SHOPS:
        for _ in range(draw.randint(max(1, times - 2), times + 2)):
            yield max(100, draw.randint(low, high) * min(income, 500_000) // 250_000), kind, name


def _put_by(draw: random.Random, subject: Subject) -> list[_Movement]:
    """A transfer to savings: two movements that are each other's opposite."""
    amount = subject.monthly_income_cents * draw.randint(2, 12) // 100
    current, savings = subject.accounts[0].iban, subject.accounts[1].iban
    return [(27, current, -amount, "saving", "Own savings"), (27, savings, amount, "saving", "Own account")]


def _months_before(day: date, months: int) -> date:
    """Return the day `months` before, on the 28th at the latest."""
    count = day.year * 12 + day.month - 1 - months
    return date(count // 12, count % 12 + 1, min(day.day, 28))


def _personal_records(subject: Subject) -> Iterator[Record]:
    tag = f"{subject.number:04}"
    identity: Json = {
        "given_name": subject.given_name,
        "family_name": subject.family_name,
        "birth_date": subject.birth_date.isoformat(),
    }
    yield Record(CATEGORIES["identity"], f"idn_{tag}", identity)
    contact: Json = {
        "email": subject.email,
        "phone": subject.phone,
        "street": subject.street,
        "region": subject.region,
        "language": subject.locale,
    }
    yield Record(CATEGORIES["contact"], f"ctc_{tag}", contact)
    household: Json = {"adults": subject.adults, "children": subject.children, "tenant": subject.tenant}
    yield Record(CATEGORIES["household"], f"hsh_{tag}", household)
    income: Json = {"employment": subject.employment, "monthly_net_cents": subject.monthly_income_cents}
    yield Record(CATEGORIES["income"], f"inc_{tag}", income)


def _account_records(subject: Subject) -> Iterator[Record]:
    tag, held = f"{subject.number:04}", balances(subject)
    for at, account in enumerate(subject.accounts, start=1):
        details: Json = {
            "iban": account.iban,
            "institution": account.institution,
            "kind": account.kind,
            "currency": "EUR",
        }
        yield Record(CATEGORIES["accounts"], f"acc_{tag}_{at}", details)
        balance: Json = {
            "iban": account.iban,
            "balance_cents": held[account.iban],
            "as_of": subject.today.isoformat(),
        }
        yield Record(CATEGORIES["balances"], f"bal_{tag}_{at}", balance)
    for at, position in enumerate(subject.positions, start=1):
        holding: Json = {
            "isin": position.isin,
            "name": position.name,
            "units": position.units,
            "price_cents": position.price_cents,
            "value_cents": position.value_cents,
        }
        yield Record(CATEGORIES["positions"], f"pos_{tag}_{at}", holding)
    total = sum(held.values()) + sum(position.value_cents for position in subject.positions)
    yield Record(CATEGORIES["wealth"], f"wth_{tag}", {"total_cents": total, "as_of": subject.today.isoformat()})


def _transaction_records(subject: Subject) -> Iterator[Record]:
    edge = subject.today - timedelta(days=RECENT_DAYS)
    for transaction in transactions(subject):
        content: Json = {
            "iban": transaction.iban,
            "booked": transaction.booked.isoformat(),
            "amount_cents": transaction.amount_cents,
            "currency": "EUR",
            "kind": transaction.kind,
            "counterparty": transaction.counterparty,
        }
        yield Record(CATEGORIES["recent" if transaction.booked >= edge else "older"], transaction.id, content)


def _loan_records(subject: Subject) -> Iterator[Record]:
    loan, tag = subject.loan_file, f"{subject.number:04}"
    wanted: Json = {"kind": loan.property_kind, "project": loan.project, "price_cents": loan.price_cents}
    yield Record(CATEGORIES["property"], f"prp_{tag}", wanted)
    financing: Json = {"loan_cents": loan.loan_cents, "own_funds_cents": loan.own_funds_cents, "years": loan.years}
    yield Record(CATEGORIES["financing"], f"fin_{tag}", financing)


def _payslip(subject: Subject, month: date) -> list[str]:
    kind, payer = _PAYERS.get(subject.employment, ("salary", "Ateliers Roqueval"))
    title = "Bulletin de paie" if kind == "salary" else "Attestation de versement"
    net = subject.monthly_income_cents
    return [
        f"{title} (document fictif)",
        f"Période : {month:%m/%Y}",
        f"Versé par : {payer}",
        f"Bénéficiaire : {subject.given_name} {subject.family_name}",
        f"Situation : {subject.employment}",
        f"Brut : {_euros(net * 128 // 100)}",
        f"Net à payer : {_euros(net)}",
    ]


def _tax_notice(subject: Subject, year: int) -> list[str]:
    yearly = subject.monthly_income_cents * 12
    parts = subject.adults * 2 + min(subject.children, 2) + max(0, subject.children - 2) * 2
    return [
        f"Avis d'impôt sur les revenus de {year} (document fictif)",
        f"Déclarant : {subject.given_name} {subject.family_name}",
        f"Adresse : {subject.street}",
        f"Nombre de parts : {parts // 2},{5 * (parts % 2)}",
        f"Revenu fiscal de référence : {_euros(yearly * 90 // 100)}",
        f"Impôt : {_euros(max(0, yearly - 1_600_000) * 11 // 100)}",
    ]


def _euros(cents: int) -> str:
    return f"{cents // 100:,}".replace(",", " ") + f",{cents % 100:02} €"


def _pdf_string(line: str) -> bytes:
    raw = line.encode("cp1252")
    return raw.replace(b"\\", rb"\\").replace(b"(", rb"\(").replace(b")", rb"\)")


def _pdf_file(objects: Sequence[bytes]) -> bytes:
    """Return header, numbered objects, cross-reference table and trailer (ISO 32000-1, 7.5)."""
    # The four high bytes tell transfer programs that the file is binary.
    content, places = b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n", []
    for number, body in enumerate(objects, start=1):
        places.append(len(content))
        content += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    return (
        content
        + b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
        + table
        + b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, len(content))
    )


def _mod97(text: str) -> int:
    return int("".join(str(int(sign, 36)) for sign in text)) % 97


def _french(bank: str, branch: int, account: int) -> str:
    """Bank 5, branch 5, account 11, key 2 (the RIB key)."""
    key = 97 - (89 * int(bank) + 15 * branch + 3 * account) % 97
    return f"{bank}{branch:05}{account:011}{key:02}"


def _spanish(bank: str, branch: int, account: int) -> str:
    """Bank 4, branch 4, two check digits, account 10 (the CCC)."""
    digits = _ccc_digit(f"00{bank}{branch:04}"), _ccc_digit(f"{account:010}")
    return f"{bank}{branch:04}{digits[0]}{digits[1]}{account:010}"


def _ccc_digit(ten: str) -> int:
    weights = (1, 2, 4, 8, 5, 10, 9, 7, 3, 6)
    rest = 11 - sum(int(digit) * weight for digit, weight in zip(ten, weights, strict=True)) % 11
    return {10: 1, 11: 0}.get(rest, rest)


def _portuguese(bank: str, branch: int, account: int) -> str:
    """Bank 4, branch 4, account 11, check 2 (the NIB, mod 97 like the IBAN)."""
    body = f"{bank}{branch:04}{account:011}"
    return f"{body}{98 - int(body + '00') % 97:02}"


def _isin(number: int) -> str:
    """Return an ISIN (ISO 6166) under the unassigned prefix ZZ, with its check digit."""
    body = f"ZZ000000{number:03}"
    digits = "".join(str(int(sign, 36)) for sign in body)
    total = sum(sum(divmod(int(digit) * (2 if at % 2 == 0 else 1), 10)) for at, digit in enumerate(reversed(digits)))
    return f"{body}{-total % 10}"
