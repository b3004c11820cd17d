"""The shape of every table in the policy pack, as marshmallow schemas that build the dataclasses of `consent`.

Strict: unknown keys are refused, nothing is coerced (a quoted number is no number). Leaves out meaning: whether a name
refers to something, and whether a text is there in all four languages, is `consent.policy.check`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from typing import Any, ClassVar, get_args

from marshmallow import Schema, ValidationError, fields, post_load, validates_schema
from marshmallow.validate import Length, OneOf, Regexp

from consent import parties, policy
from consent.vocabulary import Action, LegalBasis, Locale
from dsar.rights import RIGHTS
from dsar.vocabulary import Ground, Right


class Exact(fields.Field[Any]):
    """A value of exactly this type: TOML has whole numbers, booleans and dates of its own."""

    def __init__(self, kind: type, words: str, **options: Any) -> None:
        super().__init__(**options)
        self._kind, self._words = kind, words

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Any:
        if type(value) is not self._kind:
            raise ValidationError(f"{self._words} is wanted here")
        return value


class Words(fields.Field[Any]):
    """A sentence in each language, by its two letters."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Any:
        if not isinstance(value, dict):
            raise ValidationError("a sentence per language is wanted here")
        faults: dict[str | int, Any] = {key: ["unknown language"] for key in value if key not in list(Locale)}
        faults |= {key: ["words are wanted here"] for key, words in value.items() if not isinstance(words, str)}
        if faults:
            raise ValidationError(faults)
        return {Locale(key): words for key, words in value.items()}


class Several(fields.List[Any]):
    """A list without repetition, kept as a tuple or, where order says nothing, as a frozenset."""

    def __init__(self, each: fields.Field[Any], *, into: type = tuple, **options: Any) -> None:
        super().__init__(each, **options)
        self._into = into

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Any:
        read = super()._deserialize(value, attr, data, **kwargs)
        if len(set(map(str, read))) != len(read):
            raise ValidationError("named twice")
        return self._into(read)


def _string(*, optional: bool = False) -> fields.String:
    if optional:
        return fields.String(load_default=None, validate=Length(min=1))
    return fields.String(required=True, validate=Length(min=1))


def _strings(into: type = tuple) -> Several:
    return Several(_string(), into=into, required=True)


def _map() -> fields.Dict:
    return fields.Dict(keys=fields.String(), values=fields.String(), required=True)


def _one_of(*values: str) -> fields.String:
    return fields.String(required=True, validate=OneOf(values, error="one of {choices}"))


def _words() -> Words:
    return Words(required=True)


def _whole() -> Exact:
    return Exact(int, "a whole number", required=True)


def _flag() -> Exact:
    return Exact(bool, "true or false", required=True)


def _day() -> Exact:
    return Exact(date, "a date", required=True)


def _maybe_day() -> Exact:
    return Exact(date, "a date", load_default=None)


class Shape(Schema):
    """A table that builds one dataclass."""

    makes: ClassVar[type]

    @post_load
    def make(self, data: dict[str, Any], **_: Any) -> Any:
        """Build what the table says."""
        return self.makes(**data)


class PackShape(Schema):
    """`pack.toml`."""

    version = fields.String(required=True, validate=Regexp(r"\d{4}\.\d+", error="a version such as 2026.1"))


class ExceptionShape(Shape):
    """`[[security_exceptions]]` of a controller."""

    makes = parties.SecurityException
    party = _string()
    reason = _string()
    signed_by = _string()
    signed_on = _day()
    until = _day()


class BaselineShape(Shape):
    """`[security_baseline]` of a controller."""

    makes = parties.Baseline
    certifications = _strings()
    encryption_at_rest = _flag()
    encryption_in_transit = _flag()
    breach_notice_hours = _whole()
    penetration_test_days = _whole()


class ControllerShape(Shape):
    """`controllers/<id>.toml`."""

    makes = policy.Controller
    id = _string()
    legal_name = _string()
    brand_name = _string()
    register_numbers = _map()
    address = _string()
    country = _string()
    dpo_email = _string()
    authority = _words()
    authority_url = fields.Url(required=True, schemes={"https"})
    locales = Several(fields.Enum(Locale, by_value=True), required=True)
    time_zone = _string()
    holiday_country = _string()
    holiday_subdivision = _string(optional=True)
    capacity = _one_of("controller", "processor")
    regions = _strings()
    baseline = fields.Nested(BaselineShape, data_key="security_baseline", load_default=None)
    exceptions = Several(fields.Nested(ExceptionShape), data_key="security_exceptions", load_default=())

    @post_load
    def make(self, data: dict[str, Any], **_: Any) -> Any:
        """Put the signed exceptions where they are looked for: on the baseline."""
        exceptions, baseline = data.pop("exceptions"), data.pop("baseline")
        if exceptions and baseline is None:
            raise ValidationError("an exception needs a baseline", "security_exceptions")
        return policy.Controller(**data, baseline=baseline and replace(baseline, exceptions=exceptions))


class ClusterShape(Shape):
    """`[[clusters]]`."""

    makes = policy.Cluster
    id = _string()
    names = _words()


class CategoryShape(Shape):
    """`[[categories]]`."""

    makes = policy.Category
    id = _string()
    parent = _string(optional=True)
    cluster = _string()
    names = _words()
    special = Exact(bool, "true or false", load_default=False)
    sensitivity = _whole()
    key_class = _one_of(*get_args(policy.KeyClass))
    origin = _one_of(*get_args(policy.Origin))
    aml_only = Exact(bool, "true or false", load_default=False)
    dpo_approval = _string(optional=True)


class PurposeShape(Shape):
    """`[[purposes]]`."""

    makes = policy.Purpose
    id = _string()
    controller = _string()
    names = _words()
    why = _words()
    consequence = _words()
    basis = fields.Enum(LegalBasis, by_value=True, required=True)
    needed = _strings(frozenset)
    optional = _strings(frozenset)
    longest_days = _whole()
    periods_days = Several(_whole(), required=True)
    history_days = _whole()
    reads_per_day = _whole()
    needs_sca = _flag()
    needs_mandate = _flag()
    notice_version = _whole()
    sells_data = Exact(bool, "true or false", load_default=False)
    marketing = Exact(bool, "true or false", load_default=False)


class RetentionShape(Schema):
    """`[[retentions]]`: one row may name several categories."""

    categories = _strings()
    purpose = _string()
    days = _whole()
    trigger = _string()
    legal_ref = _string()
    on_erasure = _one_of("erase", "retain", "anonymise")
    reason = _words()

    @post_load
    def make(self, data: dict[str, Any], **_: Any) -> tuple[policy.Retention, ...]:
        """One retention per category."""
        categories = data.pop("categories")
        return tuple(policy.Retention(category=category, **data) for category in categories)


class RightShape(Shape):
    """`[[rights]]`; the names of rights and grounds are those the law of requests knows."""

    makes = policy.RightRule
    right = _one_of(*Right)
    article = _string()
    months = _whole()
    level = _whole()
    level_sensitive = Exact(int, "a whole number", load_default=None)
    level_third_party = Exact(int, "a whole number", load_default=None)
    names = _words()
    refusals = Several(_one_of(*Ground), required=True)

    @validates_schema(skip_on_field_errors=True)
    def within_the_law(self, data: dict[str, Any], **_: Any) -> None:
        """A pack may give up a ground of refusal, never add one (dsar rules 1.2, closed matrix)."""
        if added := sorted(set(data["refusals"]) - set(RIGHTS[Right(data["right"])].grounds)):
            raise ValidationError(f"{data['right']} cannot be refused for {', '.join(added)}", "refusals")


class FigureShape(Shape):
    """`[[figures]]`."""

    makes = policy.Figure
    id = fields.Enum(policy.FigureName, by_value=True, required=True)
    values = Several(_whole(), required=True)
    tag = _one_of("T", "C", "G", "N", "P")
    source = _string()


class RoleShape(Shape):
    """`[[roles]]`."""

    makes = policy.Role
    id = _string()
    names = _words()
    categories = _strings(frozenset)


class InstitutionShape(Shape):
    """`[[institutions]]`."""

    makes = policy.Institution
    id = _string()
    name = _string()
    country = _string()
    paths = _strings()
    sca_methods = _strings()
    feed_formats = _strings()
    reads_per_hour = _whole()
    categories = _strings(frozenset)


class SecurityShape(Shape):
    """`[security]` of a party."""

    makes = parties.Security
    certification = fields.String(required=True)
    encryption_at_rest = _flag()
    encryption_in_transit = _flag()
    breach_notice_hours = _whole()
    last_penetration_test = _maybe_day()


class GrantShape(Schema):
    """`[[grants]]` of a party: one justification may stand for several categories and actions."""

    purpose = _string()
    categories = _strings()
    actions = Several(fields.Enum(Action, by_value=True), load_default=(Action.READ,), validate=Length(min=1))
    justification = _words()
    start = _day()
    until = _maybe_day()

    @post_load
    def make(self, data: dict[str, Any], **_: Any) -> tuple[parties.Grant, ...]:
        """One grant per category and action."""
        categories, actions = data.pop("categories"), data.pop("actions")
        return tuple(parties.Grant(category=each, action=action, **data) for each in categories for action in actions)


class PartyShape(Shape):
    """`parties/<id>.toml`."""

    makes = parties.Party
    id = _string()
    controller = _string()
    role = fields.Enum(parties.PartyRole, by_value=True, required=True)
    legal_name = _string()
    brand_name = _string()
    register_numbers = _map()
    country = _string()
    contact = _string()
    dpo = _string()
    does = _words()
    parent = _string(optional=True)
    contract_ref = _string()
    contract_start = _day()
    contract_end = _maybe_day()
    article_28 = fields.Dict(keys=fields.String(), values=fields.String(), load_default=dict)
    transfer_mechanism = _string(optional=True)
    transfer_assessment = _string(optional=True)
    security = fields.Nested(SecurityShape, required=True)
    objection_until = _maybe_day()
    notice_url = fields.Url(load_default=None, schemes={"https"})
    suspended_since = _maybe_day()
    authorisation = fields.String(load_default="general", validate=OneOf(("general", "specific")))
    authorised_on = _maybe_day()
    objected_on = _maybe_day()
    joint_essence = Words(load_default=None)
    grants = fields.List(fields.Nested(GrantShape), required=True)

    @post_load
    def make(self, data: dict[str, Any], **_: Any) -> parties.Party:
        """Lay the grants of all rows side by side."""
        rows = data.pop("grants")
        return parties.Party(**data, grants=tuple(grant for row in rows for grant in row))


class StageShape(Shape):
    """`[[stages]]` of a journey."""

    makes = policy.Stage
    kind = fields.Enum(policy.StageKind, by_value=True, required=True)
    names = _words()


class JourneyShape(Shape):
    """`journeys/<id>.toml`."""

    makes = policy.Journey
    id = _string()
    names = _words()
    purposes = _strings()
    stages = Several(fields.Nested(StageShape), required=True)


class ExportShape(Schema):
    """`exports/<id>.toml`, the law's two keys; the rest is for `app.exports.profile` to judge."""

    purpose = _string()
    sources = _map()
