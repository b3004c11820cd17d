"""The register of identity proofs, one file each; a method that is not listed here proves nothing."""

from __future__ import annotations

from collections.abc import Mapping

from dsar.proofs.call_back import CALL_BACK
from dsar.proofs.email_link import EMAIL_LINK
from dsar.proofs.id_document import ID_DOCUMENT
from dsar.proofs.mandate import MANDATE
from dsar.proofs.passkey import PASSKEY
from dsar.proofs.printed_code import PRINTED_CODE
from dsar.proofs.registered_letter import REGISTERED_LETTER
from dsar.proofs.shape import ProofMethod
from dsar.proofs.sms_code import SMS_CODE
from dsar.vocabulary import Method

METHODS: Mapping[Method, ProofMethod] = {
    Method.EMAIL_LINK: EMAIL_LINK,
    Method.SMS_CODE: SMS_CODE,
    Method.PRINTED_CODE: PRINTED_CODE,
    Method.CALL_BACK: CALL_BACK,
    Method.PASSKEY: PASSKEY,
    Method.REGISTERED_LETTER: REGISTERED_LETTER,
    Method.ID_DOCUMENT: ID_DOCUMENT,
    Method.MANDATE: MANDATE,
}
