"""What goes wrong in the exports room; each leaf has a stable `code` and carries no personal data."""

from __future__ import annotations

from collections.abc import Sequence


class ExportError(Exception):
    """The family of this room."""

    code = "export_error"


class ProfileFaults(ExportError):
    """A release profile is not usable; `faults` lists everything wrong with it, not only the first."""

    code = "profile_faults"

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(self.faults))


class UnknownColumns(ExportError):
    """Rows carry columns that the profile does not name: nothing is released (exports.md rule 1)."""

    code = "unknown_columns"

    def __init__(self, columns: Sequence[str]) -> None:
        self.columns = tuple(columns)
        super().__init__("columns outside the release profile: " + ", ".join(self.columns))


class SubjectAlreadyExported(ExportError):
    """A subject enters one cohort once (exports.md rule 4)."""

    code = "subject_already_exported"


class PoolChanged(ExportError):
    """The pool is no longer what was judged (somebody was erased, added or sealed meanwhile); judge again."""

    code = "pool_changed"
