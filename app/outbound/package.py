"""The copy of an access line: JSON with everything, CSV by category, a PDF to read, a manifest with their digests.

GDPR art. 12(1), 15(1), 15(3) (dsar rules 37-42). Made from what holders uploaded, sealed, and sealed again at rest
under the subject's key. The PDF layers: what was found, then at most `SHOWN_ROWS` rows a category, the rest in the
CSV. CSV cells that a spreadsheet would run as a formula get an apostrophe (OWASP "CSV Injection"); the JSON keeps them
as they are. What a holder excluded is in no file, and an anti-money-laundering exclusion is not told from nothing held
(rule 42). Leaves out redaction of third parties, signing, and translations: words are handed in.
"""

from __future__ import annotations

import csv
import hashlib
import html
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from app.outbound.pdf import render_pdf
from app.outbound.uploads import Files, Record, Upload, Value, Vault, Whose, with_files
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
_ZIP_EPOCH: Final = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Words:
    """What the PDF says, in the person's language."""

    locale: Locale
    title: str
    found: str
    """Heading of the summary."""
    rows: str
    """With `{count}`: how many records."""
    rest: str
    """With `{shown}`, `{count}`, `{file}`: where the rest is."""
    sections: Mapping[Section, str]
    nothing: str
    """Said of a section with nothing to report."""
    categories: Mapping[CategoryId, str] = field(default_factory=dict)


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
) -> Copy:
    """Return the copy. Raises PackageIncomplete with every gap (dsar rules 37, 40)."""
    told, documents = with_files(data)
    tables = by_category(told)
    names = _csv_names(tables)
    files = [("data.json", "application/json", _everything(told))]
    files += [(names[category], "text/csv", to_csv(records)) for category, records in tables.items()]
    page = _page(tables, names, checklist, words)
    files += documents
    files.append(("copy.pdf", "application/pdf", render_pdf(page, (), identifier=line, created=made_at)))
    listed = tuple(PackageFile(name, kind, len(raw), hashlib.sha256(raw).hexdigest()) for name, kind, raw in files)
    manifest = Manifest(case, line, made_at, tuple(answers), checklist, listed)
    manifest_digest(manifest, {answer.holder for answer in answers})
    said = json.dumps(document(manifest), ensure_ascii=False, indent=2, sort_keys=True).encode()
    return Copy(manifest, _archive([("manifest.json", said), *((name, raw) for name, _, raw in files)]))


def by_category(data: Mapping[ComponentId, Upload]) -> Mapping[CategoryId, Sequence[Record]]:
    """Return the records of each category, each saying which holder has it."""
    tables: dict[CategoryId, list[Record]] = {}
    for holder in sorted(data):
        for category, records in data[holder].items():
            tables.setdefault(category, []).extend({"holder": holder, **one} for one in records)
    return dict(sorted(tables.items()))


def _everything(data: Mapping[ComponentId, Upload]) -> bytes:
    return json.dumps({"version": 1, "holders": data}, ensure_ascii=False, indent=2, sort_keys=True).encode()


def _csv_names(tables: Mapping[CategoryId, Sequence[Record]]) -> Mapping[CategoryId, str]:
    """Name files by number and category, so that no category can name a file outside the archive."""
    return {
        category: f"{number:02d}-{''.join(c if c.isascii() and c.isalnum() else '-' for c in category)}.csv"
        for number, category in enumerate(tables, start=1)
    }


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
        return json.dumps(value, ensure_ascii=False)
    # Spaces before the sign do not disarm it in every spreadsheet.
    return f"'{value}" if value.startswith(_DANGEROUS) or value.lstrip().startswith(_DANGEROUS) else value


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


def _page(
    tables: Mapping[CategoryId, Sequence[Record]],
    names: Mapping[CategoryId, str],
    checklist: Checklist,
    words: Words,
) -> str:
    """First what was found and the answers of art. 15(1), then the rows: the layers of the page (art. 12(1))."""
    said = html.escape
    summary = "".join(
        f"<li>{said(words.categories.get(category, category))}: {said(words.rows.format(count=len(records)))}</li>"
        for category, records in tables.items()
    )
    found = f"<ul>{summary}</ul>" if summary else f"<p>{said(words.nothing)}</p>"
    sections = "".join(_section(section, checklist, words) for section in Section)
    rows = "".join(_rows(category, records, names[category], words) for category, records in tables.items())
    return (
        f'<!DOCTYPE html><html lang="{said(words.locale.value)}"><head><meta charset="utf-8">'
        f"<title>{said(words.title)}</title><style>{_STYLE}</style></head><body><h1>{said(words.title)}</h1>"
        f"<h2>{said(words.found)}</h2>{found}{sections}{rows}</body></html>"
    )


_STYLE = (
    "@page{size:A4;margin:2cm}body{font:10pt/1.4 sans-serif}"
    "table{border-collapse:collapse;width:100%;font-size:8pt}th,td{border:.5pt solid #666;padding:2pt;text-align:left;"
    "overflow-wrap:anywhere}"
)


def _section(section: Section, checklist: Checklist, words: Words) -> str:
    content = checklist.get(section)
    entries = content.entries if isinstance(content, Filled) else (words.nothing,)
    listed = "".join(f"<li>{html.escape(entry)}</li>" for entry in entries)
    return f"<h2>{html.escape(words.sections[section])}</h2><ul>{listed}</ul>"


def _rows(category: CategoryId, records: Sequence[Record], file: str, words: Words) -> str:
    shown = records[:SHOWN_ROWS]
    columns = list(dict.fromkeys(name for record in shown for name in record))
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(_shown(record.get(name)))}</td>" for name in columns) + "</tr>"
        for record in shown
    )
    rest = words.rest.format(shown=len(shown), count=len(records), file=file) if len(records) > len(shown) else ""
    note = f"<p>{html.escape(rest)}</p>" if rest else ""
    title = html.escape(words.categories.get(category, category))
    return f"<h2>{title}</h2><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{note}"


def _shown(value: Value) -> str:
    if value is None:
        return ""
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
