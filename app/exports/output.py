"""What leaves the house: the class x count table as CSV (RFC 4180) and Parquet, and the JSON manifest.

Sorted by generalised values; no row id, no moment, no name, no writer metadata (exports.md rule 5). The same table
gives the same bytes. The only module that knows pyarrow.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from app.exports.errors import ExportError
from app.exports.profile import Column, Profile
from app.exports.table import Table, loss

COUNT = "count"
MANIFEST_VERSION = 1


class UnreadableOutput(ExportError):
    """The bytes are not a table this room writes."""

    code = "unreadable_output"


@dataclass(frozen=True, slots=True)
class Output:
    """The three files of a release. `digest` is what an approval names."""

    csv: bytes
    parquet: bytes
    manifest: bytes

    @property
    def digest(self) -> str:
        """Hex SHA-256 over the digests of the three files."""
        parts = (hashlib.sha256(part).digest() for part in (self.csv, self.parquet, self.manifest))
        return hashlib.sha256(b"".join(parts)).hexdigest()


def write_output(table: Table, policy_digest: str) -> Output:
    """Return the files of `table`; `policy_digest` is the digest of the policy pack it was made under."""
    as_csv, as_parquet = _csv(table), _parquet(table)
    manifest = _manifest(table, policy_digest, as_csv, as_parquet)
    return Output(as_csv, as_parquet, _json(manifest))


def read_csv(content: bytes) -> tuple[tuple[str, ...], list[tuple[tuple[str, ...], int]]]:
    """Return (column names, [(labels, count)]) of a released CSV. Raises UnreadableOutput."""
    try:
        header, *lines = list(csv.reader(io.StringIO(content.decode())))
        rows = [(tuple(line[:-1]), int(line[-1])) for line in lines]
    except (UnicodeDecodeError, ValueError, IndexError) as fault:
        raise UnreadableOutput("not a released CSV table") from fault
    return tuple(header), rows


def read_parquet(content: bytes) -> tuple[tuple[str, ...], list[tuple[tuple[str, ...], int]]]:
    """Return (column names, [(labels, count)]) of a released Parquet file. Raises UnreadableOutput."""
    try:
        read = pq.read_table(io.BytesIO(content))
    except pa.ArrowInvalid as fault:
        raise UnreadableOutput("not a released Parquet table") from fault
    columns = [read.column(at).to_pylist() for at in range(read.num_columns)]
    return tuple(read.column_names), [(tuple(row[:-1]), int(row[-1])) for row in zip(*columns, strict=True)]


def parquet_is_bare(content: bytes) -> bool:
    """Return whether the file carries no metadata of its writer's choosing."""
    footer = pq.read_metadata(io.BytesIO(content))
    return footer.metadata is None and footer.schema.to_arrow_schema().metadata is None


def _csv(table: Table) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow((*table.profile.names, COUNT))
    writer.writerows((*labels, count) for labels, count in zip(table.labels(), table.rows.tolist(), strict=True))
    return text.getvalue().encode()


def _parquet(table: Table) -> bytes:
    labels = table.labels()
    columns = {name: [row[at] for row in labels] for at, name in enumerate(table.profile.names)}
    arrays = [pa.array(values, type=pa.string()) for values in columns.values()]
    content = pa.table([*arrays, pa.array(table.rows, type=pa.int64())], names=[*columns, COUNT])
    sink = io.BytesIO()
    # store_schema=False leaves out Arrow's own schema blob; nothing else is written beside the columns.
    pq.write_table(content.replace_schema_metadata(None), sink, store_schema=False, compression="zstd")
    return sink.getvalue()


def _manifest(table: Table, policy_digest: str, as_csv: bytes, as_parquet: bytes) -> dict[str, object]:
    profile = table.profile
    return {
        "manifest": MANIFEST_VERSION,
        "profile": profile.id,
        "schema_version": profile.schema_version,
        "profile_digest": profile.digest,
        "policy_digest": policy_digest,
        "why": profile.why,
        "k": profile.k,
        "k_counts": "distinct subjects",
        **_demands(profile),
        "columns": [_column(column) for column in profile.columns],
        "subjects_in": table.subjects_in,
        "rows_in": len(table.places),
        "rows_out": int(table.rows.sum()),
        "classes": table.classes,
        "suppressed": {cause.value: count for cause, count in sorted(table.suppressed.items())},
        "suppressed_rows": table.suppressed_rows,
        "loss": round(loss(table), 6),
        "files": {
            "table.csv": hashlib.sha256(as_csv).hexdigest(),
            "table.parquet": hashlib.sha256(as_parquet).hexdigest(),
        },
    }


def _demands(profile: Profile) -> dict[str, object]:
    asked = {column.name: column.sensitive for column in profile.columns if column.sensitive is not None}
    return {
        "l": {name: {"distinct": s.l_distinct, "entropy": s.l_entropy} for name, s in asked.items()},
        "t": {name: s.t for name, s in asked.items() if s.t is not None},
    }


def _column(column: Column) -> dict[str, object]:
    return {"name": column.name, "why": column.why, "kind": column.kind.value, "leaves": column.scale.size}


def _json(plain: Mapping[str, object]) -> bytes:
    return (json.dumps(plain, ensure_ascii=False, sort_keys=True, indent=2) + "\n").encode()
