"""What can be done with a case, one function each; all of it within the caller's unit of work.

Every function reads the case, decides by the law (`clock`, `identity`, `rights`, `case`), and writes events with their
ledger entries and follow-up work together: leaving without commit means that nothing happened. Leaves out effects
(sending, sealing bytes, shredding keys), which are the follow-up work of `app.workflows`.
"""

from __future__ import annotations

from dsar.usecases.asking import acknowledge, ask_clarification, ask_identity, extend, prove_identity, resume
from dsar.usecases.deciding import EVIDENCED, TWO_PEOPLE, Decision, approve, decide_line, refuse, send_back, submit
from dsar.usecases.erasing import begin_erasure, carry_out, end_retentions, record_recipient, verify_erasure
from dsar.usecases.fetching import copies_elsewhere, erasure_begins, erasure_begins_if_sent, ready_copies, record_fetch
from dsar.usecases.limiting import CARRIED_OUT_AT_ONCE, LIMITING, carry_out_limit
from dsar.usecases.opening import SERVED, AlreadyOpen, Intake, Opened, open_case
from dsar.usecases.reading import queue, timeline
from dsar.usecases.replying import bounce_message, close, dispatch_message, hindrance, overtaken, prepare_reply
from dsar.usecases.revoking import expire_copy
from dsar.usecases.searching import record_answer, seal_package, search_gaps, start_review, start_search
from dsar.usecases.stopping import close_unanswered, leave_to_staff, reopen, withdraw_request
from dsar.usecases.writing import (
    ASK_HOLDER,
    DROP_UPLOADS,
    END_RETENTION,
    PROCEED,
    RUN_ERASURE,
    SEND,
    TELL_RECIPIENT,
    dates_of,
    identity_of,
)

__all__ = [
    "ASK_HOLDER",
    "CARRIED_OUT_AT_ONCE",
    "DROP_UPLOADS",
    "END_RETENTION",
    "EVIDENCED",
    "LIMITING",
    "PROCEED",
    "RUN_ERASURE",
    "SEND",
    "SERVED",
    "TELL_RECIPIENT",
    "TWO_PEOPLE",
    "AlreadyOpen",
    "Decision",
    "Intake",
    "Opened",
    "acknowledge",
    "approve",
    "ask_clarification",
    "ask_identity",
    "begin_erasure",
    "bounce_message",
    "carry_out",
    "carry_out_limit",
    "close",
    "close_unanswered",
    "copies_elsewhere",
    "dates_of",
    "decide_line",
    "dispatch_message",
    "end_retentions",
    "erasure_begins",
    "erasure_begins_if_sent",
    "expire_copy",
    "extend",
    "hindrance",
    "identity_of",
    "leave_to_staff",
    "open_case",
    "overtaken",
    "prepare_reply",
    "prove_identity",
    "queue",
    "ready_copies",
    "record_answer",
    "record_fetch",
    "record_recipient",
    "refuse",
    "reopen",
    "resume",
    "seal_package",
    "search_gaps",
    "send_back",
    "start_review",
    "start_search",
    "submit",
    "timeline",
    "verify_erasure",
    "withdraw_request",
]
