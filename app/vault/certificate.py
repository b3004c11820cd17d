"""The erasure certificate as plain, versioned data (vault.md section 5; dsar rules 48, 49, 54).

Compatibility law: a field of version 1 keeps its meaning for ever; new fields may be added, a changed meaning is a new
version. The signature covers `canonical(certificate without "signature")`: JSON with sorted keys, no spaces, UTF-8.
One certificate names one subject, however many were erased together. Keys of categories that the house names to nobody
(dsar rule 42) are in no list of it; the erasure's journal in the key store has them all. It says "keys
destroyed"; destroying keys is not making anything anonymous, and the certificate does not say so.
Where old root keys are kept for backups (`key_backup_window`), it says "keys removed" and when nothing will bring them
back; a second signed document, the completion, names the certificate by its digest and says that it is so.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from hashlib import sha256

from app.vault.epochs import MEMORY_CLEAR
from app.vault.ports import Erasure, ErasureSite, ErasureTarget, Json, NamedKey, RootState, Sign

VERSION = 1
DESTROYED = "keys destroyed"
REMOVED = "keys removed; destroyed for good at irrevocable_at"
KEPT_FOR_BACKUPS = (
    "that a backup of the key store from before opens nothing: it does until each old root's kept_until, which the "
    "service itself refuses"
)
DOES_NOT_PROVE = (
    "that nobody copied plaintext out before the keys were destroyed",
    "that nobody kept the key provider's own keys from before together with an old copy of the key store",
    "that the sealed records themselves were deleted: holders are told to delete them, and answer for it separately",
    "anything about the few categories of data that this service names in no certificate, whoever it is for",
    "anything about memory of running processes: an epoch key may stay there until memory_clear_by",
)


def canonical(document: Mapping[str, Json]) -> bytes:
    """Return the bytes that are signed."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def certificates(
    erasure: Erasure, now: datetime, sign: Sign, unnamed: Collection[str] = ()
) -> tuple[Mapping[str, Json], ...]:
    """Return one signed certificate for each subject of the erasure; keys of `unnamed` categories are in no list."""
    told = [_without(each, unnamed) for each in erasure.targets]
    people = dict.fromkeys((target.controller, target.subject) for target in told)
    documents = (_document(replace(erasure, targets=tuple(told)), *person, now) for person in people)
    return tuple(_signed(document, sign) for document in documents)


def completions(erasure: Erasure, now: datetime, sign: Sign) -> tuple[Mapping[str, Json], ...]:
    """Return, for each certificate of an erasure, the signed word that the old roots kept for backups are gone."""
    return tuple(_signed(_completion(erasure, each, now), sign) for each in erasure.certificates)


def _completion(erasure: Erasure, certificate: Mapping[str, Json], now: datetime) -> dict[str, Json]:
    sites = _sites_of(erasure, str(certificate["controller"]), str(certificate["subject"]))
    return {
        "type": "regard.erasure.completion",
        "version": VERSION,
        "statement": DESTROYED,
        **{name: certificate[name] for name in ("erasure", "controller", "subject")},
        "certificate": sha256(canonical(certificate)).hexdigest(),
        "irrevocable_at": _irrevocable(sites),
        "completed_at": _moment(now),
        "partitions": [_site(site) for site in sites],
    }


def _sites_of(erasure: Erasure, controller: str, subject: str) -> list[ErasureSite]:
    targets = [each for each in erasure.targets if (each.controller, each.subject) == (controller, subject)]
    places = {(each.key_class, each.partition) for each in targets}
    return [site for site in erasure.sites if (site.key_class, site.partition) in places]


def _is_kept(site: ErasureSite) -> bool:
    return site.kept_until is not None and site.root_state == RootState.ACTIVE


def _without(target: ErasureTarget, unnamed: Collection[str]) -> ErasureTarget:
    def shown(keys: Sequence[NamedKey]) -> tuple[NamedKey, ...]:
        return tuple(key for key in keys if key.category not in unnamed)

    return replace(target, destroyed=shown(target.destroyed), retained=shown(target.retained))


def _signed(document: dict[str, Json], sign: Sign) -> Mapping[str, Json]:
    return {**document, "signature": sign(canonical(document))}


def _document(erasure: Erasure, controller: str, subject: str, now: datetime) -> dict[str, Json]:
    targets = [each for each in erasure.targets if (each.controller, each.subject) == (controller, subject)]
    sites = _sites_of(erasure, controller, subject)
    kept = any(map(_is_kept, sites))
    committed = erasure.committed_at or now
    return {
        "type": "regard.erasure",
        "version": VERSION,
        "statement": REMOVED if kept else DESTROYED,
        "erasure": erasure.id,
        "controller": controller,
        "subject": subject,
        "requested_at": _moment(erasure.requested_at),
        "committed_at": _moment(committed),
        "certified_at": _moment(now),
        "irrevocable_at": _irrevocable(sites) if sites else _moment(committed),
        "memory_clear_by": _moment(committed + MEMORY_CLEAR),
        "destroyed": [_target(each) for each in targets],
        "retained": [_named(key, each) for each in targets for key in each.retained],
        "partitions": [_site(site) for site in sites],
        "scan": _scan(erasure),
        "does_not_prove": [*DOES_NOT_PROVE, *([KEPT_FOR_BACKUPS] if kept else [])],
    }


def _target(target: ErasureTarget) -> Json:
    return {
        "class": target.key_class.value,
        "whole": target.whole,
        "subject_key": target.subject_key_id.hex(),
        "data_keys": [_named(key, target) for key in target.destroyed],
    }


def _named(key: NamedKey, target: ErasureTarget) -> Json:
    found: dict[str, Json] = {
        "class": target.key_class.value,
        "key": key.id.hex(),
        "holder": key.holder,
        "category": key.category,
        "basis": key.basis,
        "life": key.life,
    }
    if key.until is not None:
        found |= {"retained_until": key.until, "reason": key.reason}
    return found


def _site(site: ErasureSite) -> Json:
    return {
        "class": site.key_class.value,
        "partition": site.partition,
        "generation_before": site.old_generation,
        "generation_after": site.new_generation,
        "keys_before": site.keys_before,
        "keys_after": site.keys_after,
        "inventory_before": site.inventory_before,
        "inventory_after": site.inventory_after,
        "old_root": {
            "state": site.root_state,
            "irrevocable_at": _moment(site.irrevocable_at),
            "assurance": site.assurance,
            "evidence": site.evidence,
            **({} if site.kept_until is None else {"kept_until": _moment(site.kept_until)}),
        },
    }


def _irrevocable(sites: Sequence[ErasureSite]) -> str | None:
    """When the last of the old roots cannot come back; unknown as soon as one is unknown."""
    told = [site for site in sites if site.root_state in (RootState.DESTROYED, RootState.SCHEDULED) or _is_kept(site)]
    moments = [site.irrevocable_at for site in told]
    known = [moment for moment in moments if moment is not None]
    return _moment(max(known)) if known and len(known) == len(sites) else None


def _scan(erasure: Erasure) -> Json:
    scan = erasure.scan
    if scan is None:
        return None
    return {
        "files": scan.files,
        "bytes": scan.bytes_read,
        "traces_found": scan.hits,
        "log_truncated": scan.truncated,
        "not_searched": scan.reason,
    }


def _moment(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat(timespec="seconds")
