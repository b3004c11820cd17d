"""One exchange for each JSON door, and the codes it refuses with: what the schemas alone do not say of the wire.

A literal table: whoever adds a door adds a line, and the tests fail otherwise. Every name in it is invented. Bodies fit
the schemas of their doors, codes are those of `app.http.problems`. Leaves out the doors whose shapes are other texts'
(OAuth, health): `protocols` has those.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

Codes = Mapping[int, tuple[str, ...]]

CONSENT: Final = "con_4f2qk7mzr6wdxjv3"
HANDLE: Final = "pw_n3k8t5yq2v7r4m6c"
PRESENTED: Final = "rgt_Zk3v0mQ8f1yT5sXb7nRw2cLd9hGj4pKa6eUi0oVtS8M"
AT: Final = "2026-11-02T09:30:00+00:00"
TASK: Final = "tsk_6m4q9x2r7v3k8w5t"


@dataclass(frozen=True, slots=True)
class Exchange:
    """What is sent and what comes back; `more` is what the summary leaves out."""

    answer: Any = None
    asked: Any = None
    media: str = "application/json"
    """The content type of `asked`."""
    path: Mapping[str, str | int] = field(default_factory=dict)
    query: Mapping[str, str | int] = field(default_factory=dict)
    codes: Codes = field(default_factory=dict)
    """Status -> the codes this door answers with beyond the usual one of the status."""
    more: str = ""


USUAL: Final[Mapping[int, str]] = {
    400: "bad_request",
    401: "token_invalid",
    403: "scope_missing",
    404: "not_found",
    406: "not_acceptable",
    412: "precondition_failed",
    413: "body_too_large",
    415: "media_type_unsupported",
    422: "body_invalid",
}
"""The code that goes with a status wherever a door names no other in its place."""

_KEYS: Final[Codes] = {
    400: ("idempotency_not_offered",),
    403: ("presented_token_refused", "access_refused"),
    404: ("handle_unknown", "unknown_key", "unknown_subject"),
    410: ("erased",),
    503: ("key_provider_unavailable", "key_store_unavailable"),
}
_ASK: Final = {"presented_token": PRESENTED, "category": "accounts.balances", "handle": HANDLE}
_CONSENT: Final = {
    "id": CONSENT,
    "version": 3,
    "state": "active",
    "sub": HANDLE,
    "party": "patrivue",
    "purpose": "wealth_overview",
    "basis": "consent",
    "categories": ["accounts.balances", "accounts.details"],
    "needed": ["accounts.balances", "accounts.details"],
    "optional": ["investments.positions"],
    "recipients": ["collecte"],
    "requested_at": "2026-11-01T18:02:11+00:00",
    "given_at": "2026-11-01T18:04:57+00:00",
    "valid_until": "2027-04-30T18:04:57+00:00",
    "history_from": "2024-11-01",
    "frequency_per_day": 4,
    "attended_only": False,
    "institution": None,
    "suspended_for": [],
    "supersedes": None,
    "superseded_by": None,
    "ended": None,
}
_PARTY: Final = {
    "id": "collecte",
    "controller": "ormelune",
    "role": "processor",
    "legal_name": "Collecte Nord SAS",
    "brand_name": "Collecte",
    "register_numbers": {"REGAFI": "99502", "RCS": "000502117"},
    "country": "FR",
    "does": "Collecte reads your accounts at your bank and keeps them encrypted.",
    "parent": None,
    "transfer_mechanism": None,
    "notice_url": None,
    "in_force": True,
    "reason": None,
    "grants": [
        {
            "purpose": "account_information",
            "category": "accounts.balances",
            "action": "read",
            "justification": "Collecte reads the accounts you chose, and only those.",
            "start": "2025-01-01",
            "until": None,
            "live": True,
        }
    ],
}
_QUESTION: Final = {
    "subject": {"type": "component", "id": "reader-1"},
    "action": {"name": "read"},
    "resource": {"type": "category", "id": "accounts.balances", "properties": {"handle": HANDLE}},
    "context": {"purpose": "wealth_overview"},
}
_PERMIT: Final = {
    "decision": True,
    "context": {
        "obligations": {
            "keep": "until",
            "keep_until": "2027-04-30T18:04:57+00:00",
            "where": ["EU"],
            "mask": [],
            "history_from": "2024-11-01",
            "reads_per_hour": None,
        },
        "consent": {"id": CONSENT, "version": 3},
    },
}
_DENY: Final = {"decision": False, "context": {"reason": "category_not_consented"}}
_AUTHZEN: Final = (
    "Subject: type `component`, id the client id of the asking component. Action: name `read`, `hold`, `transmit` or "
    "`use_credential`. Resource: type `category`, id the category, `properties.handle` what the caller's own party "
    "calls the person. Context: `purpose`, optionally `consent` and `recipient`. What is not named here is ignored. "
    "Every question is taken as an unattended one. A caller may ask about another party's component only where it may "
    "itself hold the same data for the same purpose. A no carries its one reason in `context.reason`."
)

EXCHANGES: Final[Mapping[tuple[str, str], Exchange]] = {
    ("get", "/api/v1/processors"): Exchange(
        {"processors": [_PARTY], "next": "collecte"},
        query={"limit": 1},
        more="Texts are in the language of `Accept-Language`; the entity tag changes with pack, language and day. "
        "`Link` names the next page.",
    ),
    ("get", "/api/v1/processors/{party}"): Exchange(_PARTY, path={"party": "collecte"}),
    ("get", "/ledger/checkpoint"): Exchange(
        "regard.ledger\n93\nMJ8GubY9eBEZ+sqMO7crw48z0px8xObqdqSfMNEkhWI=\n\n"
        "— regard.ledger ZyV2TMsSHyuBz4iYPB7gvk9n4bCFrY7UDis3uNNKUnk6epwrxYu4c+kd"
        "yLm0LfAfGT6XptWmtR/c6C/6Z2YJCKoPXgY=\n",
        more="A signed note as C2SP tlog-checkpoint has it: the name of the log, the size of the tree, its root, a "
        "blank line, signatures (Ed25519). `regard ledger key` prints the key that verifies it. `size` asks for an "
        "earlier one, `witnessed=true` for the newest that a witness has cosigned (C2SP tlog-cosignature).",
        codes={404: ("ledger.position_unknown",), 429: ("too_many_tries",)},
    ),
    ("post", "/ledger/cosignatures"): Exchange(
        "regard.ledger\n93\nMJ8GubY9eBEZ+sqMO7crw48z0px8xObqdqSfMNEkhWI=\n\n"
        "— regard.ledger ZyV2TMsSHyuBz4iYPB7gvk9n4bCFrY7UDis3uNNKUnk6epwrxYu4c+kd"
        "yLm0LfAfGT6XptWmtR/c6C/6Z2YJCKoPXgY=\n"
        "— witness.example/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJs"
        "X3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n",
        asked={
            "size": 93,
            "line": "— witness.example/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJs"
            "X3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n",
        },
        codes={404: ("ledger.position_unknown",), 422: ("ledger.witness_refused",), 429: ("too_many_tries",)},
        more="Only of witnesses that the settings name (`REGARD_LEDGER_WITNESSES`); the first cosignature of each "
        "stands. `python -m regard_sdk.witness` makes and sends them.",
    ),
    ("get", "/ledger/proof/inclusion"): Exchange(
        {
            "leaf": 3,
            "size": 4,
            "hashes": [
                "kV1SgRAEbz2FDT5lDi7adKc/gy+lV+wd6jL+XkUdD3k=",
                "YWJubZ2NYsxqye3j888ucpv+Aft3+N0Bt6S7NFqGwf8=",
            ],
        },
        query={"leaf": 3, "size": 4},
        codes={404: ("ledger.position_unknown",), 429: ("too_many_tries",)},
        more="The audit path of RFC 9162 section 2.1.3. Hashes only: no entry leaves through here. It never changes.",
    ),
    ("get", "/ledger/proof/consistency"): Exchange(
        {"old": 4, "new": 8, "hashes": ["ZBtX+MKxl7Zyh2a1aGMFNjcLSGxelQfmhmMKTyVXf8I="]},
        query={"old": 4, "new": 8},
        codes={404: ("ledger.position_unknown",), 429: ("too_many_tries",)},
        more="The proof of RFC 9162 section 2.1.4. It never changes.",
    ),
    ("post", "/api/v1/keys/lease"): Exchange(
        {
            "key_id": "h2vQ8s1kT0aXr5mYc7nWbg",
            "key": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8",
            "expires_at": "2026-11-02T09:31:00+00:00",
            "expires_in": 60,
            "messages": 16384,
            "handle": HANDLE,
        },
        {**_ASK, "seconds": 60},
        codes=_KEYS,
        more="A holder comes with its own token and with the one that was presented to it. The lease never outlives "
        "the presented token. Every lease is in the person's log and in the ledger before the key leaves; so is every "
        "refusal, in the ledger. Never cached.",
    ),
    ("post", "/api/v1/keys/seal"): Exchange(
        {"sealed": "UkdEAQAA"},
        {**_ASK, "record_id": "balance-2026-11", "plaintext": "eyJhbW91bnQiOiIxMi4zMCJ9"},
        codes={**_KEYS, 422: ("key_worn_out",)},
    ),
    ("post", "/api/v1/keys/open"): Exchange(
        {"plaintext": "eyJhbW91bnQiOiIxMi4zMCJ9"},
        {**_ASK, "record_id": "balance-2026-11", "sealed": "UkdEAQAA"},
        codes={**_KEYS, 422: ("not_sealed", "unknown_version", "wrong_key", "commitment_mismatch", "altered")},
    ),
    ("post", "/api/v1/disclosures"): Exchange(
        {"written": 1, "known": 0},
        {
            "disclosures": [
                {
                    "id": "read-000042",
                    "handle": HANDLE,
                    "categories": ["accounts.balances"],
                    "records": 2,
                    "purpose": "wealth_overview",
                    "consent": CONSENT,
                    "attended": False,
                    "reader": "reader-1",
                    "at": AT,
                }
            ]
        },
        more="All or nothing: one fault refuses the batch and `fields` names every place. Repeating an id changes "
        "nothing. `reader` is the component a holder read for; without it the reporter itself looked.",
    ),
    ("post", "/access/v1/evaluation"): Exchange(_PERMIT, _QUESTION, more=_AUTHZEN),
    ("post", "/access/v1/evaluations"): Exchange(
        {"evaluations": [_PERMIT, _DENY]},
        {
            **_QUESTION,
            "evaluations": [
                {},
                {"resource": {"type": "category", "id": "income.payslips", "properties": {"handle": HANDLE}}},
            ],
            "options": {"evaluations_semantic": "execute_all"},
        },
        more="At most 100 questions. What is said at the top holds for each item that does not say otherwise. "
        "`options.evaluations_semantic` is `execute_all`, `deny_on_first_deny` or `permit_on_first_permit`. An item "
        "that cannot be read is a no with the reason `request_invalid`.",
    ),
    ("get", "/api/v1/consents"): Exchange({"consents": [_CONSENT], "next": None}, query={"limit": 50}),
    ("get", "/api/v1/consents/{consent}"): Exchange(
        _CONSENT,
        path={"consent": CONSENT},
        codes={404: ("consent_not_found",)},
        more="Another party's consent and one that never was look alike.",
    ),
    ("get", "/api/v1/consents/{consent}/receipt"): Exchange(
        {
            "id": "rcp_8w3t6k1m9x5q2v7r",
            "version": 3,
            "made_at": "2026-11-01T18:04:59+00:00",
            "jws": "eyJhbGciOiJFUzI1NiJ9.eyJzY2hlbWEiOiJyZWdhcmQvaXNvLTI3NTYwLXJlY2VpcHQvMSJ9.c2lnbmF0dXJl",
            "receipt": {"schema": "regard/iso-27560-receipt/1"},
        },
        path={"consent": CONSENT},
        codes={404: ("consent_not_found", "not_found", "unknown_key"), 410: ("erased",)},
        more="Ask for `application/jose` to get the signed file alone. It verifies with the keys at `/oauth/jwks`.",
    ),
    ("post", "/api/v1/consents/{consent}/withdraw"): Exchange(
        {
            **_CONSENT,
            "version": 4,
            "state": "withdrawn",
            "ended": {"at": AT, "by": "party", "channel": "phone"},
        },
        {"channel": "phone"},
        path={"consent": CONSENT},
        codes={404: ("consent_not_found",)},
        more="Stopping twice changes nothing and is no error. `channel` is `api`, `page`, `mail` or `phone`.",
    ),
    ("post", "/api/v1/holder/heartbeat"): Exchange(None, {}),
    ("get", "/api/v1/holder/tasks"): Exchange(
        {
            "tasks": [
                {
                    "id": TASK,
                    "kind": "erase",
                    "subject": HANDLE,
                    "instructions": [
                        {"category": "accounts.balances", "purpose": "wealth_overview", "fate": "erase"},
                        {
                            "category": "transactions.recent",
                            "purpose": "aml_duties",
                            "fate": "retain",
                            "until": "2031-11-02",
                            "legal_ref": "AML Directive art. 40",
                        },
                    ],
                }
            ]
        },
        query={"limit": 100},
        more="`subject` is what the component's own party calls the person. Another component's tasks do not exist.",
    ),
    ("put", "/api/v1/holder/tasks/{task}/parts/{number}"): Exchange(
        None,
        '{"category": "accounts.balances", "record_id": "balance-2026-11", "sealed": "UkdEAQAA"}\n',
        media="application/x-ndjson",
        path={"task": TASK, "number": 1},
        codes={409: ("task_answered", "upload_not_expected", "part_out_of_order")},
        more="Records go as they lie in the holder's database, sealed (base64), one JSON object a line; nothing is "
        "opened here. Parts are numbered from 1 and hold at most 12 MiB each.",
    ),
    ("post", "/api/v1/holder/tasks/{task}/result"): Exchange(
        None,
        {
            "status": "found",
            "categories": [{"category": "accounts.balances", "status": "found", "count": 1}],
            "digest": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        },
        path={"task": TASK},
        codes={409: ("upload_differs", "move_refused"), 503: ("unavailable",)},
        more="The same answer twice is one. `digest` is the hexadecimal SHA-256 over the parts in order; a search that "
        "found records needs it.",
    ),
}
"""(method, path as OpenAPI writes it) -> the exchange."""
