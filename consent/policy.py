"""The policy pack as data: categories, purposes, retention, notices, controllers (GDPR arts 5, 6, 13, 30).

`check(policy)` returns *all* problems, never only the first. Reading files is `app.policyfiles`' work. Categories form
a tree: what is read, held and consented to are its leaves; what stands above them are headings.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from typing import Final, Literal

from consent.parties import (
    ARTICLE_28_BOXES,
    Active,
    Baseline,
    Grant,
    NotActive,
    NotActiveReason,
    Party,
    PartyRole,
    active,
    chain,
    uncovered_transfer,
)
from consent.vocabulary import CategoryId, ControllerId, LegalBasis, Locale, PurposeId, Text

KeyClass = Literal["data", "audit", "pool", "index"]
Origin = Literal["provided", "observed", "inferred"]


@dataclass(frozen=True, slots=True)
class Controller:
    """A firm that decides why data is processed (GDPR art. 4(7))."""

    id: ControllerId
    legal_name: str
    brand_name: str
    register_numbers: Mapping[str, str]
    """Register -> number, e.g. {"ORIAS": "...", "REGAFI": "..."}."""
    address: str
    country: str
    dpo_email: str
    authority: Text
    authority_url: str
    locales: tuple[Locale, ...]
    time_zone: str
    holiday_country: str
    holiday_subdivision: str | None
    capacity: Literal["controller", "processor"]
    """The deploying firm's own role towards this controller's subjects."""
    regions: tuple[str, ...]
    """Where data may be kept: country codes, or `EU`, in order of preference."""
    baseline: Baseline | None = None
    """`[security_baseline]` of its file. Without one no party of this controller is active."""


@dataclass(frozen=True, slots=True)
class Category:
    """A kind of data; shown to people in clusters (consent rule 10)."""

    id: CategoryId
    parent: CategoryId | None
    cluster: str
    names: Text
    special: bool
    sensitivity: int
    """1 contact-like, 2 personal, 3 financial or identity papers (drives the identity level, dsar rule 26)."""
    key_class: KeyClass
    origin: Origin = "provided"
    """Where it comes from: portability covers what is provided or observed, never inferred (dsar rule 44)."""
    aml_only: bool = False
    """Held solely for anti-money-laundering duties: never in a reply (dsar rule 42)."""
    dpo_approval: str | None = None
    """Reference of the DPO's approval, without which no special category is registered (dsar rule 23)."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """The heading under which people see categories ("Your accounts")."""

    id: str
    names: Text


@dataclass(frozen=True, slots=True)
class Purpose:
    """Why data is processed, with its legal basis (GDPR arts 5(1)(b), 6)."""

    id: PurposeId
    controller: ControllerId
    names: Text
    why: Text
    """The sentence a person reads for "why"."""
    consequence: Text
    """What stops when the person refuses or withdraws (consent rules 8, 45)."""
    basis: LegalBasis
    needed: frozenset[CategoryId]
    optional: frozenset[CategoryId]
    longest_days: int
    periods_days: tuple[int, ...]
    """The short list the person chooses from; 1 = one time (consent rule 13)."""
    history_days: int
    reads_per_day: int
    """Unattended reads in 24 h, at most 4 (RTS art. 36(5)(b))."""
    needs_sca: bool
    needs_mandate: bool
    notice_version: int
    sells_data: bool = False
    marketing: bool = False
    """Direct marketing: an objection to it cannot be refused (GDPR art. 21(2)-(3), dsar rule 8)."""


AGREED: Final = "consent_ended"
"""The trigger of what is kept for as long as an agreement."""


@dataclass(frozen=True, slots=True)
class Retention:
    """How long a category is kept for a purpose after its trigger, and on which text (GDPR art. 5(1)(e))."""

    category: CategoryId
    purpose: PurposeId
    days: int
    trigger: str
    legal_ref: str
    on_erasure: Literal["erase", "retain", "anonymise"]
    reason: Text


@dataclass(frozen=True, slots=True)
class Notice:
    """The immutable text a person was shown, one language of one version."""

    purpose: PurposeId
    version: int
    locale: Locale
    body: str
    digest: str
    """Lower-case hex SHA-256 of the UTF-8 body."""


@dataclass(frozen=True, slots=True)
class RightRule:
    """What the pack says of one data-subject right."""

    right: str
    article: str
    months: int
    level: int
    """Identity level 0-4 (dsar rules 1.3)."""
    names: Text
    level_sensitive: int | None = None
    """Where categories of sensitivity 3 are concerned, if higher."""
    level_third_party: int | None = None
    """Where the data goes straight to somebody else, if higher."""
    refusals: tuple[str, ...] = ()
    """Codes of the grounds this right may be refused on; none means never (dsar rules 1.2)."""


@dataclass(frozen=True, slots=True)
class Institution:
    """A bank, insurer or custodian and the ways its data is reached."""

    id: str
    name: str
    country: str
    paths: tuple[str, ...]
    sca_methods: tuple[str, ...]
    feed_formats: tuple[str, ...]
    reads_per_hour: int
    categories: frozenset[CategoryId]


@dataclass(frozen=True, slots=True)
class Role:
    """An internal team's role: which categories it may see once assigned to the file."""

    id: str
    names: Text
    categories: frozenset[CategoryId]


class FigureName(StrEnum):
    """Every number that practice or national law settles (tags P and N): the pack must state each."""

    ACKNOWLEDGE_WORKING_DAYS = "acknowledge_working_days"
    ASK_WITHIN_WORKING_DAYS = "ask_within_working_days"
    NO_ANSWER_DAYS = "no_answer_days"
    TARGET_WORKING_DAYS = "target_working_days"
    RECENT_CONTACT_DAYS = "recent_contact_days"
    DOCUMENT_HOURS = "document_hours"
    RECIPIENT_WORKING_DAYS = "recipient_working_days"
    PACKAGE_DAYS = "package_days"
    COPY_WAIT_DAYS = "copy_wait_days"
    BREACH_HOURS = "breach_hours"
    ALERT_PERCENTS = "alert_percents"
    ALERT_DAYS_BEFORE = "alert_days_before"
    HEALTH_DAYS = "health_days"
    PROOF_LINK_HOURS = "proof_link_hours"
    CODE_MINUTES = "code_minutes"
    CODE_TRIES = "code_tries"
    CHANNEL_COOLING_HOURS = "channel_cooling_hours"
    ADULT_AGE = "adult_age"
    DIGITAL_CONSENT_AGE = "digital_consent_age"
    OBJECTION_DAYS = "objection_days"
    LONGEST_CONSENT_DAYS = "longest_consent_days"
    ASK_AGAIN_MONTHS = "ask_again_months"
    SENTENCE_WORDS = "sentence_words"
    SIGN_IN_LINK_MINUTES = "sign_in_link_minutes"
    ENDED_VISIBLE_DAYS = "ended_visible_days"
    OFFLINE_WITHDRAWAL_WORKING_DAYS = "offline_withdrawal_working_days"
    RENEWAL_NOTICE_DAYS = "renewal_notice_days"
    REMINDER_DAYS = "reminder_days"
    SIMULATION_HOURS = "simulation_hours"
    POOL_DAYS = "pool_days"
    MASS_ERASURE_PER_DAY = "mass_erasure_per_day"


PRACTICE = (
    FigureName.ACKNOWLEDGE_WORKING_DAYS,
    FigureName.ASK_WITHIN_WORKING_DAYS,
    FigureName.NO_ANSWER_DAYS,
    FigureName.TARGET_WORKING_DAYS,
    FigureName.RECENT_CONTACT_DAYS,
    FigureName.DOCUMENT_HOURS,
    FigureName.RECIPIENT_WORKING_DAYS,
    FigureName.PACKAGE_DAYS,
    FigureName.COPY_WAIT_DAYS,
    FigureName.BREACH_HOURS,
)
"""The figures the clock of requests reads (`dsar.practice`)."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One number (or a short list of them) of the firm's own practice, in the unit its name says."""

    id: FigureName
    values: tuple[int, ...]
    tag: Literal["T", "C", "G", "N", "P"]
    """On what footing the rules put it; N: counsel must confirm, P: the firm's choice."""
    source: str


class StageKind(StrEnum):
    """What a stage of a journey is (consent rule 1; consent.md section 6)."""

    SIMULATION = "simulation"
    SIGN_UP = "sign_up"
    INSTITUTION = "institution"
    FACTS = "facts"
    CHECK = "check"
    STEP_UP = "step_up"
    LEAVING = "leaving"
    DOCUMENTS = "documents"
    MANDATE = "mandate"
    CONFIRM_SEND = "confirm_send"
    RESULT = "result"


@dataclass(frozen=True, slots=True)
class Stage:
    """One named stage, shown to the person as "n of N" (consent rule 1)."""

    kind: StageKind
    names: Text


@dataclass(frozen=True, slots=True)
class Journey:
    """The stages in order, and the purposes asked on the way, one question per page (consent rules 1-3)."""

    id: str
    names: Text
    purposes: tuple[PurposeId, ...]
    stages: tuple[Stage, ...]


@dataclass(frozen=True, slots=True)
class ExportProfile:
    """The law's side of a release profile: for which purpose, and which category each column comes from.

    `plain` is the profile as `app.exports.profile.Profile.from_plain` takes it, with `Policy.hierarchies`.
    """

    id: str
    purpose: PurposeId
    sources: Mapping[str, CategoryId]
    plain: Mapping[str, object]


class FigureUnknown(LookupError):
    """The pack does not state this figure, or states a list where one number is asked for."""

    code = "figure_unknown"


@dataclass(frozen=True, slots=True)
class Policy:
    """A whole pack. `digest` = hex SHA-256 over every file of the pack, path by path in order."""

    version: str
    digest: str
    controllers: Mapping[ControllerId, Controller]
    clusters: Mapping[str, Cluster]
    categories: Mapping[CategoryId, Category]
    purposes: Mapping[PurposeId, Purpose]
    parties: Mapping[str, Party]
    retentions: tuple[Retention, ...]
    rights: Mapping[str, RightRule]
    roles: Mapping[str, Role]
    institutions: Mapping[str, Institution]
    notices: Mapping[tuple[PurposeId, int, Locale], Notice]
    figures: Mapping[FigureName, Figure] = field(default_factory=dict)
    journeys: Mapping[str, Journey] = field(default_factory=dict)
    exports: Mapping[str, ExportProfile] = field(default_factory=dict)
    hierarchies: Mapping[str, tuple[tuple[str, ...], ...]] = field(default_factory=dict)
    """Name -> rows, leaf first, `*` last."""

    def figure(self, name: FigureName) -> int:
        """Return one number of the firm's practice. Raises FigureUnknown when the pack does not state exactly one."""
        values = self.figures[name].values if name in self.figures else ()
        if len(values) != 1:
            raise FigureUnknown(name)
        return values[0]

    def practice(self) -> Mapping[str, int]:
        """Return the figures of the clock of requests by name, as `dsar.practice.read_practice` takes them."""
        return {name.value: self.figure(name) for name in PRACTICE}

    def kept_while_agreed(self, purpose: PurposeId, categories: Collection[CategoryId]) -> Mapping[CategoryId, int]:
        """Return what is kept only as long as the agreement, with the days it may stay after (GDPR art. 5(1)(e))."""
        rules = (rule for rule in self.retentions if rule.purpose == purpose and rule.category in categories)
        return {rule.category: rule.days for rule in rules if (rule.trigger, rule.on_erasure) == (AGREED, "erase")}

    def standing(self, party: str, on: date) -> Active | NotActive:
        """Say whether the party of that id is in force on the day `on`; who is not listed is not (rule P1)."""
        entry = self.parties.get(party)
        controller = self.controllers.get(entry.controller) if entry else None
        if entry is None or controller is None:
            return NotActive(NotActiveReason.NOT_LISTED)
        return active(entry, on, controller.baseline, self.parties)

    def aml_only(self) -> frozenset[CategoryId]:
        """Return what is kept solely against money laundering: no person is told of it (dsar rule 42)."""
        return frozenset(category.id for category in self.categories.values() if category.aml_only)

    def leaves(self) -> frozenset[CategoryId]:
        """Return the categories that are no heading of others."""
        headings = {category.parent for category in self.categories.values()}
        return frozenset(self.categories.keys() - headings)


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault of a pack: the file, the key in it, and the sentence that says how to mend it."""

    file: str
    key: str
    sentence: str


def check(policy: Policy, faulty: frozenset[str] = frozenset()) -> tuple[Problem, ...]:
    """Return every problem of a pack, by file and key; an empty tuple means that it may be adopted.

    `faulty` names entries (`category:accounts.balances`, `party:*`) that a reader has reported and left out already,
    so that what refers to them is not reported a second time.
    """
    view = _View(policy, faulty)
    found = (problem for part in _PARTS for problem in part(view))
    return tuple(sorted(dict.fromkeys(found), key=lambda problem: (problem.file, problem.key, problem.sentence)))


def sentence_words(text: str) -> float:
    """Return the average number of words in a sentence of `text`; 0 for an empty one (consent rule 23)."""
    sentences = [sentence.split() for sentence in re.split(r"[.!?…]+(?:\s|$)|\n\s*\n", text) if sentence.split()]
    return sum(map(len, sentences)) / len(sentences) if sentences else 0.0


CATEGORIES, PURPOSES, RETENTION, RIGHTS = "categories.toml", "purposes.toml", "retention.toml", "rights.toml"
ROLES, INSTITUTIONS = "roles.toml", "institutions.toml"
ACCESS_PATHS = ("poa_login", "poa_feed", "own_credentials")
"""How data is reached at an institution (consent.md section 3)."""
MOST_UNATTENDED_READS = 4
"""In 24 hours (RTS art. 36(5)(b); consent rule 14)."""
TWELVE_MONTHS = 365
"""No consent is longer, whatever the pack says (consent rule 13)."""

_COUNTRY = re.compile(r"[A-Z]{2}")
_ID = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*")
_REGISTERS = {"ORIAS": re.compile(r"\d{8}"), "REGAFI": re.compile(r"\d{5}"), "RCS": re.compile(r"\d{9}")}
_NAMELESS = ("our partners", "nos partenaires", "nuestros socios", "os nossos parceiros")
_PROCESSORS = (PartyRole.PROCESSOR, PartyRole.SUB_PROCESSOR)

_Found = Iterator[Problem]


@dataclass(frozen=True, slots=True)
class _View:
    """The pack under check, with what was left out of it."""

    policy: Policy
    faulty: frozenset[str]

    def lacks(self, kind: str, name: str, known: Container[str]) -> bool:
        return name not in known and not self.faulty & {f"{kind}:{name}", f"{kind}:*"}

    def whole(self, kind: str) -> bool:
        """No entry of this kind was left out, so absence can be judged."""
        return not any(entry.startswith(f"{kind}:") for entry in self.faulty)

    def category(self, file: str, key: str, name: CategoryId) -> _Found:
        """Whatever is read, held or consented to is a leaf: a heading would silently grow with its children."""
        if self.lacks("category", name, self.policy.categories):
            yield Problem(file, key, f"there is no category {name}; add it to {CATEGORIES} or mend the name")
        elif name in self.policy.categories and name not in self.policy.leaves():
            yield Problem(file, key, f"{name} is a heading; name the categories under it one by one")

    def words(self, file: str, key: str, text: Text) -> _Found:
        for locale in Locale:
            if not text.get(locale, "").strip():
                yield Problem(file, f"{key}.{locale}", f"write it in {locale} too")

    def plain_words(self, file: str, key: str, text: Text) -> _Found:
        """Consent rule 23."""
        yield from self.words(file, key, text)
        limit = self.policy.figures.get(FigureName.SENTENCE_WORDS)
        for locale, body in text.items():
            if limit and limit.values and sentence_words(body) > limit.values[0]:
                yield Problem(file, f"{key}.{locale}", f"shorten the sentences to {limit.values[0]} words on average")


def _controllers(view: _View) -> _Found:
    for controller in view.policy.controllers.values():
        file = f"controllers/{controller.id}.toml"
        yield from view.words(file, "authority", controller.authority)
        yield from _registers(file, controller.register_numbers)
        yield from _places(file, controller)
        if controller.baseline is None:
            yield Problem(file, "security_baseline", "state the baseline; without it no party is active")
        else:
            yield from _exceptions(view, file, controller.baseline)
    own = any(controller.capacity == "controller" for controller in view.policy.controllers.values())
    if not own and view.whole("controller"):
        yield Problem("controllers", "capacity", "one controller is the operator itself: capacity = controller")


def _places(file: str, controller: Controller) -> _Found:
    if not controller.regions or any(not _COUNTRY.fullmatch(region) for region in controller.regions):
        yield Problem(file, "regions", "name where data may be kept: two-letter country codes, or EU")
    if not _COUNTRY.fullmatch(controller.country):
        yield Problem(file, "country", "use a two-letter country code")
    if not controller.locales:
        yield Problem(file, "locales", "name at least one language")
    if "@" not in controller.dpo_email:
        yield Problem(file, "dpo_email", "give the address at which the DPO is reached")


def _registers(file: str, numbers: Mapping[str, str]) -> _Found:
    for register, number in numbers.items():
        shape = _REGISTERS.get(register)
        if shape and not shape.fullmatch(number):
            yield Problem(file, f"register_numbers.{register}", f"a number of {register} has the shape {shape.pattern}")


def _exceptions(view: _View, file: str, baseline: Baseline) -> _Found:
    for signed in baseline.exceptions:
        key = f"security_exceptions[{signed.party}]"
        if view.lacks("party", signed.party, view.policy.parties):
            yield Problem(file, key, f"there is no party {signed.party}")
        if not signed.reason.strip() or not signed.signed_by.strip():
            yield Problem(file, key, "an exception needs a reason and a signature")
        if signed.until <= signed.signed_on:
            yield Problem(file, key, "an exception ends after it was signed")


def _categories(view: _View) -> _Found:
    for cluster in view.policy.clusters.values():
        yield from view.words(CATEGORIES, f"clusters[{cluster.id}].names", cluster.names)
    for category in view.policy.categories.values():
        key = f"categories[{category.id}]"
        yield from view.words(CATEGORIES, f"{key}.names", category.names)
        yield from _tree(view, key, category)
        if view.lacks("cluster", category.cluster, view.policy.clusters):
            yield Problem(CATEGORIES, f"{key}.cluster", f"there is no cluster {category.cluster}")
        if category.sensitivity not in (1, 2, 3):
            yield Problem(CATEGORIES, f"{key}.sensitivity", "the sensitivity is 1, 2 or 3")
        if category.special and not category.dpo_approval:  # dsar rule 23
            yield Problem(CATEGORIES, f"{key}.dpo_approval", "a special category needs the DPO's approval first")


def _tree(view: _View, key: str, category: Category) -> _Found:
    if not _ID.fullmatch(category.id):
        yield Problem(CATEGORIES, f"{key}.id", "an id is made of small letters, digits, underscores and dots")
    if category.parent is None:
        return
    if view.lacks("category", category.parent, view.policy.categories):
        yield Problem(CATEGORIES, f"{key}.parent", f"there is no category {category.parent}")
    if not category.id.startswith(f"{category.parent}."):
        # The prefix law also keeps the tree free of circles: an id is always longer than its parent's.
        yield Problem(CATEGORIES, f"{key}.parent", f"the id of a child begins with {category.parent} and a dot")


def _purposes(view: _View) -> _Found:
    for purpose in view.policy.purposes.values():
        key = f"purposes[{purpose.id}]"
        yield from view.words(PURPOSES, f"{key}.names", purpose.names)
        yield from view.plain_words(PURPOSES, f"{key}.why", purpose.why)
        yield from view.plain_words(PURPOSES, f"{key}.consequence", purpose.consequence)
        yield from _purpose_facts(view, key, purpose)
        yield from _purpose_categories(view, key, purpose)
        yield from _periods(view, key, purpose)
        yield from _accountable(view, key, purpose)


def _purpose_facts(view: _View, key: str, purpose: Purpose) -> _Found:
    if purpose.sells_data:
        yield Problem(PURPOSES, f"{key}.sells_data", "a purpose that sells or rents data is refused")
    if view.lacks("controller", purpose.controller, view.policy.controllers):
        yield Problem(PURPOSES, f"{key}.controller", f"there is no controller {purpose.controller}")
    if not 0 <= purpose.reads_per_day <= MOST_UNATTENDED_READS:
        yield Problem(PURPOSES, f"{key}.reads_per_day", f"at most {MOST_UNATTENDED_READS} reads a day unattended")
    if purpose.history_days < 0:
        yield Problem(PURPOSES, f"{key}.history_days", "the history is a number of days, 0 for none")


def _purpose_categories(view: _View, key: str, purpose: Purpose) -> _Found:
    for name, categories in (("needed", purpose.needed), ("optional", purpose.optional)):
        for category in sorted(categories):
            yield from view.category(PURPOSES, f"{key}.{name}[{category}]", category)
    for category in sorted(purpose.needed & purpose.optional):
        yield Problem(PURPOSES, f"{key}.optional[{category}]", f"{category} is needed or optional, not both")
    if not purpose.needed:
        yield Problem(PURPOSES, f"{key}.needed", "a purpose needs at least one category; without any, drop it")


def _periods(view: _View, key: str, purpose: Purpose) -> _Found:
    """Consent rule 13: a short list, and never more than twelve months."""
    periods, longest = purpose.periods_days, purpose.longest_days
    if longest < 1:
        yield Problem(PURPOSES, f"{key}.longest_days", "the longest period is a number of days from 1 on")
    if any(not 1 <= period <= longest for period in periods) or list(periods) != sorted(set(periods)):
        yield Problem(PURPOSES, f"{key}.periods_days", "the periods rise and none is longer than the longest")
    if purpose.basis is not LegalBasis.CONSENT:
        return
    figure = view.policy.figures.get(FigureName.LONGEST_CONSENT_DAYS)
    most = min((TWELVE_MONTHS, *(figure.values if figure else ())))
    if longest > most:
        yield Problem(PURPOSES, f"{key}.longest_days", f"a consent lasts at most {most} days")
    if not periods:
        yield Problem(PURPOSES, f"{key}.periods_days", "offer at least one period to choose from")


def _accountable(view: _View, key: str, purpose: Purpose) -> _Found:
    """Rule P6: no purpose without its retention, its recipients and its notice (GDPR arts 13, 30)."""
    kept = {row.category for row in view.policy.retentions if row.purpose == purpose.id}
    if view.whole("retention"):
        for category in sorted((purpose.needed | purpose.optional) - kept):
            if category in view.policy.categories:
                yield Problem(RETENTION, f"{purpose.id}.{category}", "say how long this is kept for this purpose")
    granted = {grant.purpose for party in view.policy.parties.values() for grant in party.grants}
    if purpose.id not in granted and view.whole("party"):
        yield Problem(PURPOSES, key, "nobody on the processor list serves this purpose; grant it or drop it")
    for locale in Locale:
        shown = (purpose.id, purpose.notice_version, locale)
        if shown not in view.policy.notices and view.whole("notice"):
            file = f"notices/{purpose.id}/v{purpose.notice_version}.{locale}.md"
            yield Problem(file, "notice", "write this notice: the purpose shows it")


def _retentions(view: _View) -> _Found:
    seen: set[tuple[CategoryId, PurposeId]] = set()
    for row in view.policy.retentions:
        key = f"{row.purpose}.{row.category}"
        if (row.category, row.purpose) in seen:
            yield Problem(RETENTION, key, "this category has two periods for this purpose; keep one")
        seen.add((row.category, row.purpose))
        yield from view.words(RETENTION, f"{key}.reason", row.reason)
        yield from view.category(RETENTION, key, row.category)
        yield from _served(view, RETENTION, key, row.purpose, row.category)
        if row.days < 1:  # dsar rule 49
            yield Problem(RETENTION, f"{key}.days", "every retention has an end: a number of days from 1 on")
        if not row.trigger.strip() or not row.legal_ref.strip():
            yield Problem(RETENTION, key, "name what starts the period and the text it rests on")


def _served(view: _View, file: str, key: str, name: PurposeId, category: CategoryId) -> _Found:
    """The purpose exists and uses this category (GDPR art. 5(1)(c))."""
    purpose = view.policy.purposes.get(name)
    if purpose is None:
        if view.lacks("purpose", name, view.policy.purposes):
            yield Problem(file, key, f"there is no purpose {name}")
    elif category in view.policy.leaves() and category not in purpose.needed | purpose.optional:
        yield Problem(file, key, f"the purpose {name} does not use {category}")


def _parties(view: _View) -> _Found:
    for party in view.policy.parties.values():
        file = f"parties/{party.id}.toml"
        yield from view.plain_words(file, "does", party.does)
        yield from _registers(file, party.register_numbers)
        yield from _named(view, file, party)
        yield from _footing(file, party)
        yield from _lineage(view, file, party)
        yield from _grants(view, file, party)
        yield from _team(view, file, party)


def _named(view: _View, file: str, party: Party) -> _Found:
    """Consent rule 15: a name, a role, a country; a group name fails."""
    if view.lacks("controller", party.controller, view.policy.controllers):
        yield Problem(file, "controller", f"there is no controller {party.controller}")
    for key, value in (("legal_name", party.legal_name), ("brand_name", party.brand_name), ("contact", party.contact)):
        if not value.strip() or value.strip().casefold() in _NAMELESS:
            yield Problem(file, key, "name this one organisation; a group or nothing is no name")
    if not _COUNTRY.fullmatch(party.country):
        yield Problem(file, "country", "use a two-letter country code")
    if party.role is PartyRole.RECIPIENT and not party.notice_url:  # consent rule 16
        yield Problem(file, "notice_url", "say where the recipient's own rules are read")


def _footing(file: str, party: Party) -> _Found:
    """What would keep the entry from ever being active is said here; an empty art. 28 box only keeps it waiting."""
    for box in sorted(set(party.article_28) - set(ARTICLE_28_BOXES)):
        yield Problem(file, f"article_28.{box}", "the boxes of art. 28(3) are a to h")
    if party.article_28 and party.role not in _PROCESSORS:
        yield Problem(file, "article_28", "these boxes are for processors; a recipient decides for itself")
    if uncovered_transfer(party):
        yield Problem(file, "transfer_mechanism", "outside the EEA: name the mechanism and its assessment")
    if party.role is PartyRole.JOINT_CONTROLLER and not party.joint_essence:
        yield Problem(file, "joint_essence", "say what people are told of the joint arrangement (art. 26)")
    if party.contract_end is not None and party.contract_end <= party.contract_start:
        yield Problem(file, "contract_end", "the contract ends after it begins")
    if party.security.breach_notice_hours < 1:
        yield Problem(file, "security.breach_notice_hours", "a number of hours from 1 on")


def _lineage(view: _View, file: str, party: Party) -> _Found:
    """Rule P4: the whole chain is known, and nobody passes on more than it may do itself."""
    if (party.role is PartyRole.SUB_PROCESSOR) != (party.parent is not None):
        yield Problem(file, "parent", "a sub-processor names whom it works for, and nobody else does")
        return
    if party.parent is None:
        return
    parent = view.policy.parties.get(party.parent)
    if parent is None:
        if view.lacks("party", party.parent, view.policy.parties):
            yield Problem(file, "parent", f"there is no party {party.parent}")
        return
    above = chain(party, view.policy.parties)
    if not above or above[-1].role is not PartyRole.PROCESSOR or parent.controller != party.controller:
        yield Problem(file, "parent", "the chain has to end at a processor of the same controller")
    may = {(grant.purpose, grant.category, grant.action) for grant in parent.grants}
    for grant in party.grants:
        if (grant.purpose, grant.category, grant.action) not in may:
            yield Problem(file, _grant_key(grant), f"{parent.id} may not do this itself, so it cannot pass it on")


def _grant_key(grant: Grant) -> str:
    return f"grants[{grant.purpose}.{grant.category}.{grant.action}]"


def _grants(view: _View, file: str, party: Party) -> _Found:
    keys = [_grant_key(grant) for grant in party.grants]
    for key in sorted({key for key in keys if keys.count(key) > 1}):
        yield Problem(file, key, "granted twice; keep one")
    for grant, key in zip(party.grants, keys, strict=True):
        yield from view.plain_words(file, f"{key}.justification", grant.justification)
        yield from view.category(file, key, grant.category)
        yield from _served(view, file, key, grant.purpose, grant.category)
        purpose = view.policy.purposes.get(grant.purpose)
        if purpose is not None and purpose.controller != party.controller:
            yield Problem(file, key, f"{grant.purpose} is another controller's purpose")
        if grant.until is not None and grant.until <= grant.start:
            yield Problem(file, f"{key}.until", "a grant ends after it begins")


def _team(view: _View, file: str, party: Party) -> _Found:
    """Least access inside the firm: a team sees at most what its role says (consent.md section 4)."""
    if party.role is not PartyRole.INTERNAL_TEAM:
        return
    role = view.policy.roles.get(party.id)
    if role is None:
        if view.lacks("role", party.id, view.policy.roles):
            yield Problem(ROLES, f"roles[{party.id}]", "an internal team has a role of the same name")
        return
    for category in sorted({grant.category for grant in party.grants} - role.categories):
        if category in view.policy.categories:
            yield Problem(file, f"grants[{category}]", f"the role {role.id} may not see {category}")


def _roles(view: _View) -> _Found:
    for role in view.policy.roles.values():
        yield from view.words(ROLES, f"roles[{role.id}].names", role.names)
        for category in sorted(role.categories):
            yield from view.category(ROLES, f"roles[{role.id}].categories[{category}]", category)


def _institutions(view: _View) -> _Found:
    for institution in view.policy.institutions.values():
        key = f"institutions[{institution.id}]"
        if not institution.paths or set(institution.paths) - set(ACCESS_PATHS):
            yield Problem(INSTITUTIONS, f"{key}.paths", f"offer some of {', '.join(ACCESS_PATHS)}")
        if "own_credentials" in institution.paths and not institution.sca_methods:
            yield Problem(INSTITUTIONS, f"{key}.sca_methods", "own_credentials needs a strong-authentication method")
        if "poa_feed" in institution.paths and not institution.feed_formats:
            yield Problem(INSTITUTIONS, f"{key}.feed_formats", "poa_feed needs a feed format")
        if institution.reads_per_hour < 1 or not _COUNTRY.fullmatch(institution.country):
            yield Problem(INSTITUTIONS, key, "give a country code and a read ceiling from 1 on")
        for category in sorted(institution.categories):
            yield from view.category(INSTITUTIONS, f"{key}.categories[{category}]", category)


def _rights(view: _View) -> _Found:
    for rule in view.policy.rights.values():
        key = f"rights[{rule.right}]"
        yield from view.words(RIGHTS, f"{key}.names", rule.names)
        levels = [level for level in (rule.level, rule.level_sensitive, rule.level_third_party) if level is not None]
        if any(not 0 <= level <= 4 for level in levels) or levels != sorted(levels):
            yield Problem(RIGHTS, f"{key}.level", "levels go from 0 to 4, and harder cases ask for no less")
        if rule.months not in (0, 1):  # GDPR art. 12(3); extensions are not a policy's to give.
            yield Problem(RIGHTS, f"{key}.months", "the limit is one month, or 0 for at once")


def _figures(view: _View) -> _Found:
    for name in FigureName:
        figure = view.policy.figures.get(name)
        key = f"figures[{name}]"
        if figure is None:
            if view.lacks("figure", name, view.policy.figures):
                yield Problem(RIGHTS, key, "the pack states this number")
        elif not figure.values or min(figure.values) < 1 - (name is FigureName.ALERT_DAYS_BEFORE):
            yield Problem(RIGHTS, f"{key}.values", "whole numbers from 1 on")
        elif not figure.source.strip():
            yield Problem(RIGHTS, f"{key}.source", "say which rule or text it rests on")


def _journeys(view: _View) -> _Found:
    for journey in view.policy.journeys.values():
        file = f"journeys/{journey.id}.toml"
        yield from view.words(file, "names", journey.names)
        for purpose in journey.purposes:
            if view.lacks("purpose", purpose, view.policy.purposes):
                yield Problem(file, "purposes", f"there is no purpose {purpose}")
        for stage in journey.stages:
            yield from view.words(file, f"stages[{stage.kind}].names", stage.names)
        kinds = [stage.kind for stage in journey.stages]
        if [kind for kind in kinds if kind in _SPINE] != list(_SPINE):
            yield Problem(file, "stages", "facts, check and result each come once, in this order (consent rules 1, 25)")


_SPINE = (StageKind.FACTS, StageKind.CHECK, StageKind.RESULT)


def _exports(view: _View) -> _Found:
    for profile in view.policy.exports.values():
        file = f"exports/{profile.id}.toml"
        for column in sorted(set(_columns(profile)) ^ set(profile.sources)):
            yield Problem(file, f"sources.{column}", "each column, and nothing else, names its category")
        for column, category in profile.sources.items():
            yield from view.category(file, f"sources.{column}", category)
            yield from _served(view, file, f"sources.{column}", profile.purpose, category)


def _columns(profile: ExportProfile) -> Iterator[str]:
    columns = profile.plain.get("columns")
    for column in columns if isinstance(columns, Sequence) else ():
        if isinstance(column, Mapping):
            yield str(column.get("name"))


def _notices(view: _View) -> _Found:
    for notice in view.policy.notices.values():
        file = f"notices/{notice.purpose}/v{notice.version}.{notice.locale}.md"
        if view.lacks("purpose", notice.purpose, view.policy.purposes):
            yield Problem(file, "notice", f"there is no purpose {notice.purpose}")
        if notice.digest != hashlib.sha256(notice.body.encode()).hexdigest():
            yield Problem(file, "digest", "the digest is not that of the text")
        limit = view.policy.figures.get(FigureName.SENTENCE_WORDS)
        if not notice.body.strip():
            yield Problem(file, "notice", "the notice is empty")
        elif limit and limit.values and sentence_words(notice.body) > limit.values[0]:  # consent rule 23
            yield Problem(file, "notice", f"shorten the sentences to {limit.values[0]} words on average")


_PARTS = (
    _controllers,
    _categories,
    _purposes,
    _retentions,
    _parties,
    _roles,
    _institutions,
    _rights,
    _figures,
    _journeys,
    _exports,
    _notices,
)
