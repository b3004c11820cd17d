"""What can go wrong with the ledger, each with a stable code."""

from __future__ import annotations


class LedgerError(Exception):
    """The family; a sentence never carries personal data."""

    code = "ledger"


class LedgerCorrupted(LedgerError):
    """What is stored does not hash to what was signed: stop, and read the runbook on a forked ledger."""

    code = "ledger.corrupted"


class LedgerForked(LedgerError):
    """Another integrator extended the tree first; nothing was written."""

    code = "ledger.forked"


class PositionUnknown(LedgerError):
    """A position or size beyond the tree, or an entry not yet integrated."""

    code = "ledger.position_unknown"


class EntryRefused(LedgerError):
    """What was to be recorded is not an entry: a kind that is no `noun.past_participle`, a payload that is not JSON."""

    code = "ledger.entry_refused"


class WitnessRefused(LedgerError):
    """A cosignature that does not verify, or that is not over the ledger's own checkpoint."""

    code = "ledger.witness_refused"
