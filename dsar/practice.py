"""The controller's own numbers, those tagged N or P in the rules: they come from the policy pack, never from code.

Leaves out the months of GDPR art. 12(3), which are law and stand in `dsar.clock`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class Practice:
    """All of them, in the unit their names say."""

    acknowledge_working_days: int
    """Dsar rule 4."""
    ask_within_working_days: int
    """A question later than this after receipt does not stop the clock (dsar rule 19)."""
    no_answer_days: int
    """How long a question may stay unanswered before the case is closed with reasons (dsar rule 20)."""
    target_working_days: int
    """The internal target: the month is a ceiling (dsar rule 22)."""
    recent_contact_days: int
    """A contact point younger than this proves one level less (dsar rule 27)."""
    document_hours: int
    """Hard life of the copy of an identity document (dsar rule 29)."""
    recipient_working_days: int
    """Escalation of an art. 19 notice without answer (dsar rule 56)."""
    package_days: int
    """Life of a package from its reply's dispatch on; one not replied to goes as long after its sealing (rule 58)."""
    copy_wait_days: int
    """How long an erasure waits for the person to fetch the copy asked for in the same message (dsar rules 3, 53)."""
    breach_hours: int
    """72 unless the law changes (rule B1)."""


def read_practice(table: Mapping[str, object]) -> tuple[Practice | None, tuple[str, ...]]:
    """Return the practice in `table`, or None with *every* fault: a key missing or unknown, a value not positive."""
    names = tuple(field.name for field in fields(Practice))
    faults = [f"{name}: missing" for name in names if name not in table]
    faults += [f"{name}: unknown" for name in table if name not in names]
    numbers = {name: value for name, value in table.items() if type(value) is int and value > 0}
    faults += [f"{name}: not a positive whole number" for name in table if name in names and name not in numbers]
    return (None, tuple(sorted(faults))) if faults else (Practice(**numbers), ())
