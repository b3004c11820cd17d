"""The copy of a line: JSON with everything, CSV by category, documents, a PDF to read, a manifest with their digests.

GDPR art. 12(1), 15(1), 15(3) (dsar rules 37-42). Made from what holders uploaded, sealed, and sealed again at rest
under the subject's key. The PDF layers: what was found, then at most `SHOWN_ROWS` rows a category, the rest in the
CSV. CSV cells that a spreadsheet would run as a formula get an apostrophe (OWASP "CSV Injection"); the JSON keeps them
as they are. What a holder excluded is in no file, and an anti-money-laundering exclusion is not told from nothing held
(rule 42). A copy to take elsewhere has no PDF (art. 20(1); rule 45). Leaves out redaction of third parties and signing;
words are handed in.
"""

from __future__ import annotations

import csv
import hashlib
import html
import io
import json
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Final

from app.outbound.household import KIND
from app.outbound.pdf import render_pdf
from app.outbound.typography import typeset
from app.outbound.uploads import File, Files, Record, Upload, Value, Vault, Whose, with_files
from app.vault.keys import Scope
from consent.vocabulary import CategoryId, ComponentId, Locale
from dsar.package import (
    Checklist,
    Filled,
    HolderAnswer,
    Manifest,
    PackageFile,
    Section,
    document,
    manifest_digest,
)
from dsar.vocabulary import CaseId, LineId

SHOWN_ROWS: Final = 300
"""Rows of a category that are typeset; 300 take about three seconds (design page, section 5)."""
HOLDER: Final = "regard"
CATEGORY: Final = "case.copies"
_DANGEROUS: Final = ("=", "+", "-", "@", "\t", "\r", "\n")
_BEFORE_SIGN: Final = re.compile(r'(?<![;\s"])[;\s"]+(?=[=+\-@])')
"""What may end a cell and begin the next: spaces and quotation marks before a sign do not disarm it."""
_SEPARATORS: Final = frozenset(";\t\r\n")
_ZIP_EPOCH: Final = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True, repr=False)
class Words:
    """What the PDF says, in the person's language; its `repr` shows nothing."""

    locale: Locale
    title: str
    found: str
    """Heading of the summary."""
    rows: Callable[[int], str]
    """How many records."""
    rest: Callable[[int, int, str], str]
    """(shown, count, file): where the rest is."""
    sections: Mapping[Section, str]
    nothing: str
    """Said of a section with nothing to report."""
    categories: Mapping[CategoryId, str] = field(default_factory=dict)
    kinds: Mapping[str, str] = field(default_factory=dict)
    """Headings of the kinds of records in which the house keeps its trail."""
    fields: Mapping[str, str] = field(default_factory=dict)
    """Headings of fields we know; others keep the name their holder gave them."""
    holders: Mapping[str, str] = field(default_factory=dict)
    about: Sequence[tuple[str, str]] = ()
    """Label and value: whose copy, of whom, when, under which reference."""
    introduction: str = ""
    rights: str = ""
    """Heading of the answers of art. 15(1)."""
    data: str = ""
    """Heading of the rows."""
    none: Mapping[Section, str] = field(default_factory=dict)
    """Said of this section when there is nothing to report; `nothing` of the others."""
    kept_by: Callable[[str], str] = str
    """Under the heading of records that one holder has."""
    day: Callable[[date], str] = date.isoformat
    moment: Callable[[datetime], str] = datetime.isoformat

    def __repr__(self) -> str:
        return "Words(hidden)"


@dataclass(frozen=True, slots=True, repr=False)
class Table:
    """Records that are alike, the title people read above them, and the file that has them all."""

    title: str
    file: str
    records: Sequence[Record]
    ours: bool = False
    """Written by this service: codes have their words beside them."""


@dataclass(frozen=True, slots=True, repr=False)
class Copy:
    """A finished copy: its manifest, and the archive of all its files with `manifest.json`; `repr` shows neither."""

    manifest: Manifest
    archive: bytes

    def __repr__(self) -> str:
        return "Copy(hidden)"


# --- files


def assemble(
    case: CaseId,
    line: LineId,
    answers: Sequence[HolderAnswer],
    data: Mapping[ComponentId, Upload],
    checklist: Checklist,
    *,
    words: Words,
    made_at: datetime,
    readable: bool = True,
    enclosed: Sequence[File] = (),
) -> Copy:
    """Return the copy; the same arguments make the same files. Raises PackageIncomplete with every gap (rules 37, 40).

    `readable`: with a PDF; `enclosed`: files that are handed over as they are, such as signed receipts.
    """
    told, documents = with_files(data)
    tables = tabled(told, words)
    files: list[File] = [("data.json", "application/json", _everything(told))]
    files += [(table.file, "text/csv", to_csv(table.records)) for table in tables]
    files += [*documents, *enclosed]
    if readable:
        page = _page(tables, checklist, words)
        files.append(("copy.pdf", "application/pdf", render_pdf(page, (), identifier=line, created=made_at)))
    listed = tuple(PackageFile(name, kind, len(raw), hashlib.sha256(raw).hexdigest()) for name, kind, raw in files)
    manifest = Manifest(case, line, made_at, tuple(answers), checklist, listed)
    manifest_digest(manifest, {answer.holder for answer in answers})
    said = json.dumps(document(manifest), ensure_ascii=False, indent=2, sort_keys=True).encode()
    return Copy(manifest, _archive([("manifest.json", said), *((name, raw) for name, _, raw in files)]))


def tabled(data: Mapping[ComponentId, Upload], words: Words) -> Sequence[Table]:
    """Return the records by category, each saying which holder has it; the house's trail by what it records."""
    found: dict[tuple[CategoryId, str], list[Record]] = {}
    for holder in sorted(data):
        for category, records in data[holder].items():
            for one in records:
                kind = str(one.get(KIND, "")) if one.get(KIND) in words.kinds else ""
                found.setdefault((category, kind), []).append({"holder": holder, **one})
    return [
        Table(_title(category, kind, words), _csv_name(number, category, kind), records, ours=bool(kind))
        for number, ((category, kind), records) in enumerate(sorted(found.items(), key=lambda one: one[0]), start=1)
    ]


def _title(category: CategoryId, kind: str, words: Words) -> str:
    return words.kinds[kind] if kind else words.categories.get(category, category)


def _everything(data: Mapping[ComponentId, Upload]) -> bytes:
    return json.dumps({"version": 1, "holders": data}, ensure_ascii=False, indent=2, sort_keys=True).encode()


def _csv_name(number: int, category: CategoryId, kind: str) -> str:
    """Name a file by number and category, so that no category can name a file outside the archive."""
    named = f"{category}.{kind}" if kind else category
    return f"{number:02d}-{''.join(c if c.isascii() and c.isalnum() else '-' for c in named)}.csv"


def to_csv(records: Sequence[Record]) -> bytes:
    """Return the records as CSV (RFC 4180, UTF-8 with a mark), every field of any record a column."""
    columns = list(dict.fromkeys(name for record in records for name in record))
    target = io.StringIO()
    writer = csv.writer(target, quoting=csv.QUOTE_ALL)
    writer.writerow([_cell(name) for name in columns])
    for record in records:
        writer.writerow([_cell(record.get(name)) for name in columns])
    return target.getvalue().encode("utf-8-sig")


def _cell(value: Value) -> str:
    """Return a cell no spreadsheet takes for a formula; numbers stay numbers."""
    if value is None:
        return ""
    if not isinstance(value, str):
        return _guarded(json.dumps(value, ensure_ascii=False))
    # Spaces before the sign do not disarm it in every spreadsheet.
    return _guarded(f"'{value}" if value.startswith(_DANGEROUS) or value.lstrip().startswith(_DANGEROUS) else value)


def _guarded(text: str) -> str:
    """Return a text that is no formula where a spreadsheet begins a new cell inside it, as French Excel does at `;`."""
    return _BEFORE_SIGN.sub(lambda run: run[0] if _SEPARATORS.isdisjoint(run[0]) else f"{run[0]}'", text)


def _archive(files: Sequence[tuple[str, bytes]]) -> bytes:
    """Return a ZIP with fixed dates: the same files give the same bytes."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, raw in files:
            entry = zipfile.ZipInfo(name, _ZIP_EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, raw)
    return target.getvalue()


# --- the page to read


def _page(tables: Sequence[Table], checklist: Checklist, words: Words) -> str:
    """First what was found and the answers of art. 15(1), then the rows: the layers of the page (art. 12(1))."""
    say = _Say(words)
    about = "".join(
        f'<tr><th scope="row">{say(label)}</th><td>{html.escape(value)}</td></tr>' for label, value in words.about
    )
    body = (
        f"<h1>{say(words.title)}</h1>",
        f'<table class="about"><tbody>{about}</tbody></table>' if about else "",
        f"<p>{say(words.introduction)}</p>" if words.introduction else "",
        f"<h2>{say(words.found)}</h2>{_summary(tables, say)}",
        f"<h2>{say(words.rights)}</h2>" if words.rights else "",
        *(_section(section, checklist, say) for section in Section),
        f"<h2>{say(words.data)}</h2>" if words.data and tables else "",
        *(_rows(table, say) for table in tables),
    )
    return (
        f'<!DOCTYPE html><html lang="{html.escape(words.locale.value)}"><head><meta charset="utf-8">'
        f"<title>{say(words.title)}</title><style>{STYLE}</style></head><body>{''.join(body)}</body></html>"
    )


STYLE: Final = (
    '@page{size:A4;margin:18mm 18mm 20mm;@bottom-right{content:counter(page) " / " counter(pages);'
    "font:8pt 'Noto Sans','DejaVu Sans',sans-serif;color:#545e6b}}"
    "body{font:10pt/1.45 'Noto Sans','DejaVu Sans',sans-serif;color:#1d2530}"
    "h1{font-size:20pt;line-height:1.2;margin:0 0 4mm}"
    "h2{font-size:14pt;line-height:1.25;margin:9mm 0 2mm;border-bottom:.6pt solid #1f5e5b;padding-bottom:1mm}"
    "h3{font-size:11pt;margin:6mm 0 1.5mm}"
    "h2,h3{break-after:avoid}"
    "p,ul{margin:0 0 2mm}ul{padding-left:5mm}li{margin:0 0 1mm}"
    "table{border-collapse:collapse;width:100%;margin:0 0 2mm}"
    "th,td{text-align:left;vertical-align:top;padding:1mm 1.5mm;overflow-wrap:break-word}"
    "table.wide th,table.wide td,table.card td,table.about td{overflow-wrap:anywhere}"
    ".soft{color:#545e6b;break-after:avoid}"
    "table.about{width:auto}table.about th{color:#545e6b;font-weight:400;padding-left:0;white-space:nowrap}"
    "table.rows{font-size:8pt}table.rows th{background:#eef3f2;border-bottom:.6pt solid #1f5e5b}"
    "table.rows td{border-bottom:.3pt solid #c9cfd6}"
    "table.rows tr{break-inside:avoid}"
    "table.card{font-size:9pt;border:.3pt solid #c9cfd6;break-inside:avoid}"
    "table.card th{width:32%;background:#eef3f2;font-weight:400}"
    "td.number{text-align:right;white-space:nowrap}th.number{text-align:right}"
)
_CARD_COLUMNS: Final = 8
"""From more columns than this on, a record is a card of its own: a table would be unreadable on paper."""
_LINE: Final = 88
"""Letters on a line of a table: when its longest words need more, it is laid out as cards too."""
_CARDS: Final = 40
"""More records than this are a table all the same, with its words broken where they have to be."""
_MOMENT: Final = re.compile(r"\d{4}-\d{2}-\d{2}(T\d{2}:\d{2}.*)?")


class _Say:
    """Our words, set and escaped."""

    def __init__(self, words: Words) -> None:
        self.words = words

    def __call__(self, text: str) -> str:
        return html.escape(typeset(text, self.words.locale))

    def heading(self, name: str) -> str:
        return self(self.words.fields[name]) if name in self.words.fields else html.escape(name)

    def value(self, name: str, value: Value) -> str:
        """Return a value as it reads best; JSON and CSV have it as it is."""
        if name == "holder":
            return html.escape(self.words.holders.get(str(value), str(value)))
        if isinstance(value, str) and _MOMENT.fullmatch(value):
            return html.escape(_dated(value, self.words))
        return html.escape(_shown(value))


def _dated(value: str, words: Words) -> str:
    """Return an ISO date in words, where it has a time of day and a zone with it."""
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        return value
    if "T" not in value:
        return words.day(at.date())
    return words.moment(at) if at.tzinfo is not None else value


def _summary(tables: Sequence[Table], say: _Say) -> str:
    if not tables:
        return f"<p>{say(say.words.nothing)}</p>"
    rows = "".join(
        f"<tr><td>{say(table.title)}</td><td>{say(_had_by(table, say.words))}</td>"
        f'<td class="number">{say(say.words.rows(len(table.records)))}</td><td>{html.escape(table.file)}</td></tr>'
        for table in tables
    )
    return f'<table class="rows"><tbody>{rows}</tbody></table>'


def _had_by(table: Table, words: Words) -> str:
    holders = dict.fromkeys(str(record["holder"]) for record in table.records)
    return ", ".join(words.holders.get(holder, holder) for holder in holders)


def _section(section: Section, checklist: Checklist, say: _Say) -> str:
    content = checklist.get(section)
    heading = f"<h3>{say(say.words.sections[section])}</h3>"
    if not isinstance(content, Filled):
        return f"{heading}<p>{say(say.words.none.get(section, say.words.nothing))}</p>"
    return f"{heading}<ul>{''.join(f'<li>{say(entry)}</li>' for entry in content.entries)}</ul>"


def _rows(table: Table, say: _Say) -> str:
    shown = table.records[:SHOWN_ROWS]
    columns = _columns(table, shown)
    wide = len(columns) > _CARD_COLUMNS or _letters(shown, columns, say) > _LINE
    laid = _cards(shown, columns, say) if wide and len(shown) <= _CARDS else _table(shown, columns, say, wide=wide)
    cut = len(table.records) > len(shown)
    rest = say.words.rest(len(shown), len(table.records), table.file) if cut else ""
    note = f"<p>{say(rest)}</p>" if rest else ""
    by = f'<p class="soft">{say(say.words.kept_by(_had_by(table, say.words)))}</p>'
    return f"<h3>{say(table.title)}</h3>{by}{laid}{note}"


def _columns(table: Table, records: Sequence[Record]) -> list[str]:
    """Every field of any record; of ours, a code stays in the CSV where its words stand beside it (dsar rule 39).

    Which holder has a record stands above the table unless there are several.
    """
    names = dict.fromkeys(name for record in records for name in record)
    if len({record["holder"] for record in records}) == 1:
        names.pop("holder")
    if not table.ours:
        return list(names)
    return [name for name in names if f"{name}_in_words" not in names and name != KIND]


def _letters(records: Sequence[Record], columns: Sequence[str], say: _Say) -> int:
    """Return how many letters the longest words of all columns have together."""

    def longest(texts: Sequence[str]) -> int:
        return max((len(word) for text in texts for word in text.split()), default=0)

    return sum(
        longest([html.unescape(say.heading(name)), *(html.unescape(say.value(name, one.get(name))) for one in records)])
        for name in columns
    )


def _table(records: Sequence[Record], columns: Sequence[str], say: _Say, *, wide: bool) -> str:
    numeric = {name for name in columns if any(_is_number(record.get(name)) for record in records)}
    head = "".join(f'<th scope="col"{_NUMBER if name in numeric else ""}>{say.heading(name)}</th>' for name in columns)
    body = "".join(
        "<tr>" + "".join(_table_cell(name, record.get(name), say) for name in columns) + "</tr>" for record in records
    )
    kind = "rows wide" if wide else "rows"
    return f'<table class="{kind}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def _table_cell(name: str, value: Value, say: _Say) -> str:
    return f"<td{_NUMBER if _is_number(value) else ''}>{say.value(name, value)}</td>"


_NUMBER: Final = ' class="number"'


def _is_number(value: Value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _cards(records: Sequence[Record], columns: Sequence[str], say: _Say) -> str:
    return "".join(
        '<table class="card"><tbody>'
        + "".join(
            f'<tr><th scope="row">{say.heading(name)}</th><td>{say.value(name, record[name])}</td></tr>'
            for name in columns
            if record.get(name) not in (None, "", [], {})
        )
        + "</tbody></table>"
        for record in records
    )


def _shown(value: Value) -> str:
    if value is None:
        return ""
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return ", ".join(str(one) for one in value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


# --- at rest


class Copies:
    """Finished copies, sealed at rest under the subject's key: they die with it (dsar rule 53)."""

    def __init__(self, vault: Vault, files: Files) -> None:
        self._vault = vault
        self._files = files

    def keep(self, whose: Whose, line: LineId, copy: Copy) -> None:
        """Seal the archive of a line; another one for the same line replaces it."""
        self._files.write(line, self._vault.seal(_copy_scope(whose), line, copy.archive))

    def read(self, whose: Whose, line: LineId) -> bytes:
        """Return the archive; whether it may be shown (expiry, revocation) is the caller's. Raises as the vault."""
        return self._vault.open(_copy_scope(whose), line, self._files.read(line))


def _copy_scope(whose: Whose) -> Scope:
    return Scope(whose.controller, whose.subject, HOLDER, CATEGORY)
