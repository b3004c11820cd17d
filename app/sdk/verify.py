"""`python -m regard_sdk.verify FILE --key KEY`: examine an evidence bundle with no access to the service.

Exit codes: 0 everything holds, 1 something is wrong (each thing is named), 2 the file or a key cannot be read.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from .evidence import Report, verify_bundle
from .notes import NoteError
from .printing import printable

OK, FAULTY, UNREADABLE = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Examine the file named on the command line, print the report, return the exit code."""
    asked = _parser().parse_args(arguments)
    try:
        data = Path(asked.file).read_bytes()
        key = None if asked.key is None else _key_text(asked.key)
        report = verify_bundle(data, key, witnesses=[_key_text(text) for text in asked.witness])
    except (OSError, NoteError, UnicodeDecodeError) as fault:
        print(printable(f"cannot examine: {fault}"), file=sys.stderr)
        return UNREADABLE
    print(json.dumps(as_data(report)) if asked.json else as_text(report))
    return OK if report.ok else FAULTY


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="regard-verify", description="Examine an evidence bundle offline.")
    parser.add_argument("file", help="the bundle")
    parser.add_argument("--key", help="the ledger's verifier key (name+id+base64), or a file that holds it")
    parser.add_argument("--witness", action="append", default=[], help="a witness' verifier key, or a file; repeatable")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    return parser


def _key_text(text: str) -> str:
    """Take a verifier key as it is, or read it from the file of that name."""
    if Path(text).is_file():
        return Path(text).read_text("utf-8").strip()
    if text.count("+") < 2:
        raise NoteError("note.key", f"neither a verifier key nor a file that holds one: {text}")
    return text


def as_data(report: Report) -> dict[str, object]:
    """Return the report as JSON data."""
    head = report.checkpoint
    return {
        "ok": report.ok,
        "authenticated": report.authenticated,
        "origin": head.origin if head else None,
        "size": head.size if head else None,
        "root": head.root.hex() if head else None,
        "selection": dict(report.selection),
        "made_at": report.made_at,
        "witnesses": dict(report.witnesses),
        "faults": [
            {"finding": fault.finding.value, "sequences": list(fault.sequences), "sentence": fault.sentence}
            for fault in report.faults
        ],
        "entries": [entry.envelope.data() for entry in report.entries],
    }


def as_text(report: Report) -> str:
    """Return the report as lines for a person; what the file says cannot write to the terminal on its own."""
    lines = [f"{e.sequence:>9}  {e.at}  {e.kind}  {e.actor}  {e.id}" for e in (n.envelope for n in report.entries)]
    if report.checkpoint:
        lines.append(f"checkpoint: {report.checkpoint.origin}, {report.checkpoint.size} leaves")
        lines.append(f"root: {report.checkpoint.root.hex()}")
    lines += [f"witness: {name} at {time}" for name, time in report.witnesses.items()]
    if not report.authenticated:
        lines.append("WARNING: checked with the key inside the file; bring the ledger's own key with --key")
    lines += [f"FAULT {fault.finding}: {fault.sentence}" for fault in report.faults]
    lines.append("everything holds" if report.ok else f"{len(report.faults)} fault(s)")
    return "\n".join(map(printable, lines))


if __name__ == "__main__":
    sys.exit(main())
