"""The closed lists of the law of requests: rights, channels, outcomes, grounds of refusal (GDPR arts 12, 15-22).

Leaves out sentences for people: each value is a stable code, its words live in the catalogues.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import NewType

CaseId = NewType("CaseId", str)
"""`case_...`; also the reference number people see."""
LineId = NewType("LineId", str)
TaskId = NewType("TaskId", str)
PackageId = NewType("PackageId", str)
MessageId = NewType("MessageId", str)
NoteId = NewType("NoteId", str)


class Right(StrEnum):
    """What a person can ask for; one line of a case each."""

    ACCESS = "access"
    RECTIFICATION = "rectification"
    ERASURE = "erasure"
    RESTRICTION = "restriction"
    PORTABILITY = "portability"
    OBJECTION = "objection"
    MARKETING_OBJECTION = "marketing_objection"
    WITHDRAWAL = "withdrawal"
    AUTOMATED_DECISION = "automated_decision"


class CaseKind(StrEnum):
    """Who speaks (dsar rules 33-35)."""

    SUBJECT = "subject"
    REPRESENTATIVE = "representative"
    PARENTAL = "parental"
    POST_MORTEM = "post_mortem"


class Channel(StrEnum):
    """Any reasonable channel starts the clock (dsar rule 1)."""

    SPACE = "space"
    FORM = "form"
    EMAIL = "email"
    PHONE = "phone"
    LETTER = "letter"
    COUNTER = "counter"
    FORWARDED = "forwarded"
    """Passed on by a processor: `received_at` is the processor's own receipt (dsar rule 10)."""
    API = "api"


class Outcome(StrEnum):
    """How a line ended. Lines carry outcomes, the case carries clocks."""

    GRANTED = "granted"
    PARTLY_GRANTED = "partly_granted"
    REFUSED = "refused"
    NO_DATA = "no_data"
    """"We hold nothing" is a reply, not a closure reason (dsar rule 5)."""
    CORRECTED = "corrected"
    COMPLETED = "completed"
    STATEMENT_ADDED = "statement_added"
    UNPROVEN = "unproven"
    WITHDRAWN_BY_SUBJECT = "withdrawn_by_subject"
    CANNOT_IDENTIFY = "cannot_identify"


REFUSALS = frozenset({Outcome.REFUSED, Outcome.PARTLY_GRANTED, Outcome.UNPROVEN, Outcome.CANNOT_IDENTIFY})
"""Outcomes that refuse something: a reasoned letter within one month (GDPR art. 12(4); dsar rules 18, 57)."""


DONE_FIRST = frozenset(
    {Outcome.GRANTED, Outcome.PARTLY_GRANTED, Outcome.CORRECTED, Outcome.COMPLETED, Outcome.STATEMENT_ADDED}
)
"""Outcomes whose reply says that something is done: it waits until it is (dsar rule 53)."""


class Ground(StrEnum):
    """Every ground of refusal the software accepts; which right accepts which is `dsar.rights` (dsar rule 57)."""

    THIRD_PARTY_RIGHTS = "third_party_rights"
    AML_CARVE_OUT = "aml_carve_out"
    UNFOUNDED_OR_EXCESSIVE = "unfounded_or_excessive"
    """Art. 12(5)."""
    ARTICLE_11 = "article_11"
    ARTICLE_23_LAW = "article_23_law"
    NOT_IDENTIFIED = "not_identified"
    NOT_PROVEN = "not_proven"
    EXPRESSION = "freedom_of_expression"
    """Art. 17(3)(a)."""
    LEGAL_OBLIGATION = "legal_obligation"
    """Art. 17(3)(b)."""
    PUBLIC_HEALTH = "public_health"
    """Art. 17(3)(c)."""
    ARCHIVES = "archives_and_research"
    """Art. 17(3)(d)."""
    LEGAL_CLAIMS = "legal_claims"
    """Arts 17(3)(e), 21(1)."""
    NO_ERASURE_GROUND = "no_erasure_ground"
    NO_RESTRICTION_GROUND = "no_restriction_ground"
    WRONG_BASIS = "wrong_basis"
    NOT_AUTOMATED = "not_automated"
    NOT_PROVIDED_BY_SUBJECT = "not_provided_by_subject"
    PUBLIC_TASK = "public_task"
    """Art. 20(3)."""
    OTHERS_FREEDOMS = "others_freedoms"
    """Art. 20(4)."""
    COMPELLING_GROUNDS = "compelling_grounds"
    BASIS_NOT_OBJECTABLE = "basis_not_6_1_e_or_f"
    NOT_SOLELY_AUTOMATED = "not_solely_automated"
    NO_SIGNIFICANT_EFFECT = "no_significant_effect"


class HolderStatus(StrEnum):
    """What a holder says of one subject (dsar rule 40)."""

    FOUND = "found"
    NONE = "none"
    RETAINED = "retained"
    PARTIAL = "partial"
    EXCLUDED = "excluded"
    ERASED = "erased"
    ANONYMISED = "anonymised"
    ERROR = "error"


class TaskKind(StrEnum):
    """What a holder is asked to do."""

    SEARCH = "search"
    ERASE = "erase"
    VERIFY = "verify"
    """Search again after an erasure and find nothing but what is retained (dsar rule 53)."""


class FateKind(StrEnum):
    """What becomes of one category under one purpose (dsar rule 48)."""

    ERASE = "erase"
    RETAIN = "retain"
    ANONYMISE = "anonymise"


class RecipientOutcome(StrEnum):
    """Where the art. 19 notice to one recipient stands (dsar rule 56)."""

    PENDING = "pending"
    SENT = "sent"
    ACKED = "acked"
    IMPOSSIBLE = "impossible"
    DISPROPORTIONATE = "disproportionate"


class MessageKind(StrEnum):
    """What a message to the person is for."""

    ACKNOWLEDGEMENT = "acknowledgement"
    IDENTITY_QUESTION = "identity_question"
    CLARIFICATION = "clarification"
    EXTENSION_NOTICE = "extension_notice"
    REPLY = "reply"
    """Grants or says that nothing is held."""
    REFUSAL = "refusal"
    """Refuses in whole or in part (GDPR art. 12(4))."""
    END_NOTICE = "end_notice"
    """Confirms that the person took the request back."""


class LetterPart(StrEnum):
    """What a template must say; a linter compares templates with `REQUIRED_PARTS` (dsar rule 57)."""

    REFERENCE = "reference"
    DUE_DATE = "due_date"
    REASONS = "reasons"
    COMPLAINT = "complaint"
    JUDICIAL_REMEDY = "judicial_remedy"
    AML_INDIRECT_ACCESS = "aml_indirect_access"
    """The same sentence in every reply, whether or not a report exists (dsar rule 42)."""
    REDACTION_INSTRUCTIONS = "redaction_instructions"


REQUIRED_PARTS: dict[MessageKind, frozenset[LetterPart]] = {
    MessageKind.ACKNOWLEDGEMENT: frozenset({LetterPart.REFERENCE, LetterPart.DUE_DATE}),
    MessageKind.IDENTITY_QUESTION: frozenset({LetterPart.REFERENCE, LetterPart.REASONS}),
    MessageKind.CLARIFICATION: frozenset({LetterPart.REFERENCE, LetterPart.REASONS}),
    MessageKind.EXTENSION_NOTICE: frozenset(
        {LetterPart.REFERENCE, LetterPart.DUE_DATE, LetterPart.REASONS, LetterPart.COMPLAINT}
    ),
    MessageKind.REPLY: frozenset({LetterPart.REFERENCE, LetterPart.AML_INDIRECT_ACCESS}),
    MessageKind.REFUSAL: frozenset(
        {
            LetterPart.REFERENCE,
            LetterPart.REASONS,
            LetterPart.COMPLAINT,
            LetterPart.JUDICIAL_REMEDY,
            LetterPart.AML_INDIRECT_ACCESS,
        }
    ),
    MessageKind.END_NOTICE: frozenset({LetterPart.REFERENCE}),
}


class Level(IntEnum):
    """How sure we are who speaks (dsar rules, section 1.3)."""

    L0 = 0
    L1 = 1
    L2 = 2
    L3 = 3
    L4 = 4


class Method(StrEnum):
    """A way to prove who one is; one file each in `dsar.proofs`."""

    EMAIL_LINK = "email_link"
    SMS_CODE = "sms_code"
    PRINTED_CODE = "printed_code"
    CALL_BACK = "call_back"
    PASSKEY = "passkey"
    REGISTERED_LETTER = "registered_letter"
    ID_DOCUMENT = "id_document"
    MANDATE = "mandate"


class DoubtCode(StrEnum):
    """Why an agent doubts who speaks; no doubt, no question (GDPR art. 12(6); dsar rule 24)."""

    UNKNOWN_CONTACT = "unknown_contact"
    RECENT_CONTACT_CHANGE = "recent_contact_change"
    CONTRADICTING_FACTS = "contradicting_facts"
    SEVERAL_MATCHES = "several_matches"
    SUSPECTED_IMPERSONATION = "suspected_impersonation"
    LEVEL_TOO_LOW = "level_too_low"
    """What is asked for needs more proof than was given."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts: an opaque handle, never a name."""

    handle: str
    human: bool
    dpo: bool = False


SYSTEM = Actor("system", human=False)
