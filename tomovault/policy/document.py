"""A policy: named rules, each a sentence over facts and the one result that it wants."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import datetime, timedelta
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from tomovault.core.life import Stage
from tomovault.core.replica import LEAST_COPIES, Form, ProductKind, TierClass
from tomovault.policy.address import problem_of_address, problem_of_folder
from tomovault.policy.calendar import parse_moment, show_moment
from tomovault.policy.expression import Expression, Leaf, WrongExpression, read_expression
from tomovault.policy.preset import problems_of_parameters
from tomovault.policy.quantity import show_found
from tomovault.policy.reading import asks_usage, leaves
from tomovault.policy.yaml_text import Duration, Fault, Percent, Size, Strict, Whole, Word, faults, nearest, parse

ActionName = Literal[
    "pack",
    "preview",
    "replicate",
    "archive",
    "reconstruct",
    "accept",
    "reduce",
    "export",
    "prune",
    "verify",
    "notify",
    "forbid",
]

#: The stage whose result an action brings; `verify` renews a fact, `notify` tells people, and `forbid` brings nothing.
STAGE_OF: Mapping[str, Stage] = {
    "preview": Stage.PREVIEWED,
    "pack": Stage.PACKED,
    "replicate": Stage.REPLICATED,
    "archive": Stage.ARCHIVED,
    "reconstruct": Stage.RECONSTRUCTED,
    "accept": Stage.ACCEPTED,
    "reduce": Stage.REDUCED,
    "export": Stage.EXPORTED,
    "prune": Stage.PRUNED,
}

#: The keys of `with` that an action understands.
SETTINGS_OF: Mapping[str, frozenset[str]] = {
    "pack": frozenset(),
    "preview": frozenset({"preset"}),
    "replicate": frozenset({"tiers", "form", "to", "path"}),
    "archive": frozenset({"copies", "tiers"}),
    "reconstruct": frozenset({"preset", "dtype"}),
    "accept": frozenset({"preset"}),
    "reduce": frozenset({"preset"}),
    "export": frozenset({"to", "product"}),
    "prune": frozenset({"product", "forms", "tiers", "first", "copies", "verified_within", "warn", "unwarned_above"}),
    "verify": frozenset({"tiers", "verified_within"}),
    "notify": frozenset(),
    "forbid": frozenset({"actions"}),
}

#: Without these an action does not know what to do.
NEEDED_BY: Mapping[str, frozenset[str]] = {
    "export": frozenset({"to"}),
    "forbid": frozenset({"actions"}),
    "verify": frozenset({"verified_within"}),
}

Moment = Annotated[datetime, BeforeValidator(parse_moment)]

#: Actions by which nothing is done to a scan that somebody could be told of.
_SILENT = frozenset({"accept", "verify", "forbid"})

#: In the `notify` of a rule, whoever owns the scan.
OWNER = "owner"

#: No copy is queued for a re-read more often than this.
_LEAST_BETWEEN_READS = timedelta(days=1)


class Recency(Strict):
    """How long ago a copy may have been re-read and still count when something is to be removed (law 4)."""

    disk: Duration = timedelta(days=90)
    archive: Duration = timedelta(days=400)

    def of(self, tier_class: TierClass) -> timedelta:
        """The period for a class of tier; what is far away is asked as seldom as tape."""
        return self.disk if tier_class in (TierClass.FAST, TierClass.SERVER) else self.archive


class Settings(Strict):
    """The `with` of a rule. Which keys may be set depends on its action (`SETTINGS_OF`)."""

    copies: Whole = Field(default=LEAST_COPIES, ge=LEAST_COPIES, le=10)
    tiers: tuple[str, ...] = ()
    preset: str | None = None
    #: What an export sends, and what a prune rule lets go.
    product: ProductKind = ProductKind.ORIGINAL
    forms: tuple[Form, ...] = (Form.FILES,)
    #: Of what a prune rule lets go, and only a part of has to, what goes first.
    first: Literal["oldest", "largest"] = "oldest"
    verified_within: Duration | None = None
    to: str | None = None
    form: Form = Form.PACKAGE
    path: str | None = None
    #: As what the values of a volume are stored: counts have a scale and an offset.
    dtype: Literal["float32", "uint16", "uint8"] = "float32"
    #: How long before a removal the owner is told of it; None as the site says.
    warn: Duration | None = None
    #: In an area as full as that, what is to go does not wait for its warning.
    unwarned_above: Percent | None = None
    actions: tuple[ActionName, ...] = ()


class Limits(Strict):
    """What one run of a rule may do at most."""

    bytes: Size | None = None
    files: Whole | None = Field(default=None, ge=1)


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


class Rule(Strict):
    """When the sentence `when` holds for a scan, the result of the action `do` is wanted: between the moment `from` and
    the one `until`, which is the first at which it is not wanted any more, where they are given.
    """

    name: Word
    do: ActionName
    when: str = "true"
    starts: Moment | None = Field(default=None, alias="from")
    until: Moment | None = None
    settings: Settings = Field(default=Settings(), alias="with")
    order: Whole = 0
    limits: Limits = Limits()
    #: Channels by which people are told what was done by it, and `owner`.
    notify: Annotated[tuple[Word, ...], BeforeValidator(_listed)] = ()

    @field_validator("when", mode="before")
    @classmethod
    def _check_when(cls, value: object) -> str:
        if value is True:
            return "true"
        if not isinstance(value, str):
            raise ValueError(f"{show_found(value)} is not a sentence, such as: complete and age > 30d")
        try:
            read_expression(value)
        except WrongExpression as wrong:
            raise faults(wrong.found) from None
        return value

    @model_validator(mode="after")
    def _check_settings(self) -> Rule:
        legal, given = SETTINGS_OF[self.do], self.settings.model_fields_set
        found = [
            Fault(
                f"{self.do!r} does not understand {key!r}"
                + (nearest(key, legal) if legal else "; it has no settings at all"),
                ("with", key),
                at_key=True,
            )
            for key in sorted(given - legal)
        ]
        found.extend(
            Fault(f"{self.do!r} needs {key!r} under 'with'", ("do",))
            for key in sorted(NEEDED_BY.get(self.do, frozenset()))
            if not getattr(self.settings, key)
        )
        found.extend(
            Fault(f"{do!r} cannot be forbidden; these can: {', '.join(STAGE_OF)}", ("with", "actions", i))
            for i, do in enumerate(self.settings.actions)
            if do not in STAGE_OF
        )
        if self.starts is not None and self.until is not None and self.until <= self.starts:
            found.append(Fault(f"it ends before it begins, on {show_moment(self.starts)}", ("until",)))
        if self.do != "prune" and self.limits != Limits():
            found.append(Fault(f"only 'prune' knows limits, {self.do!r} does not", ("limits",), at_key=True))
        period = self.settings.verified_within
        if self.do == "verify" and period is not None and period < _LEAST_BETWEEN_READS:
            found.append(Fault("a copy is re-read once a day at most: 1d or more", ("with", "verified_within")))
        if "forms" in given and self.settings.product is not ProductKind.ORIGINAL:
            found.append(Fault(f"a {self.settings.product} has one form only", ("with", "forms"), at_key=True))
        if "forms" in given and not self.settings.forms:
            found.append(Fault("name at least one of files, package", ("with", "forms")))
        if self.do == "prune":
            found.extend(_problems_of_prune(self.settings))
        if self.do == "replicate" and not given - legal:
            found.extend(_problems_of_copy(self.settings))
        if self.do == "notify" and not self.notify:
            found.append(Fault("'notify' needs the key 'notify': channels of the site, or owner", ("do",)))
        if self.do in _SILENT and self.notify:
            told = f"{self.do!r} does nothing that anybody could be told of"
            found.append(Fault(told, ("notify",), at_key=True))
        if self.do == "export" and self.settings.to and (problem := problem_of_address(self.settings.to)):
            found.append(Fault(problem, ("with", "to")))
        if found:
            raise faults(found)
        return self

    @cached_property
    def condition(self) -> Expression:
        """The sentence, read."""
        return read_expression(self.when)

    @cached_property
    def terms(self) -> tuple[Leaf, ...]:
        """Every term of the sentence in the order in which it is read."""
        return leaves(self.condition)

    @cached_property
    def by_evidence(self) -> bool:
        """Whether it lets something go however empty the area is: a 'prune' that does not ask how full it is."""
        return self.do == "prune" and not self.settings.tiers and not asks_usage(self.condition)

    @cached_property
    def removes(self) -> tuple[tuple[ProductKind, Form], ...]:
        """What a 'prune' lets go from the area of a scan, in the order in which it goes: files before packages, since a
        package is smaller and opens in every viewer. A rule that names tiers lets nothing go from an area.
        """
        if self.do != "prune" or self.settings.tiers:
            return ()
        kind = self.settings.product
        forms = [f for f in Form if f in self.settings.forms] if kind is ProductKind.ORIGINAL else [Form.PACKAGE]
        return tuple((kind, form) for form in forms)

    def has_begun(self, now: datetime) -> bool:
        """Whether its `from` is not ahead."""
        return self.starts is None or self.starts <= now

    def is_over(self, now: datetime) -> bool:
        """Whether its `until` is reached: it never says anything any more."""
        return self.until is not None and self.until <= now

    def is_in_force(self, now: datetime) -> bool:
        """Whether `now` is one of its dates."""
        return self.has_begun(now) and not self.is_over(now)


def _problems_of_prune(settings: Settings) -> Iterator[Fault]:
    """What a rule that names tiers lets go from them is the package of the original."""
    if settings.product is ProductKind.REDUCED:
        yield Fault("a rule removes original, volume or preview", ("with", "product"))
    if not settings.tiers:
        return
    if "forms" in settings.model_fields_set and Form.FILES in settings.forms:
        yield Fault("tiers hold packages; a rule that names tiers is for those alone", ("with", "forms"))
    if settings.product is not ProductKind.ORIGINAL:
        yield Fault("tiers hold packages of the original alone", ("with", "product"))
    if settings.first != "oldest":
        yield Fault("from a tier the oldest scans go first", ("with", "first"))


def _problems_of_copy(settings: Settings) -> Iterator[Fault]:
    """A copy is of packages to `tiers`, or of the files `to` an area."""
    as_files = settings.form is Form.FILES
    if not as_files and not settings.tiers:
        yield Fault("'replicate' needs 'tiers' under 'with', or 'form: files' and 'to'", ("do",))
    if as_files and not settings.to:
        yield Fault("files are copied to an area: 'replicate' needs 'to' under 'with'", ("do",))
    if as_files and settings.tiers:
        yield Fault("tiers hold packages; files go 'to' an area", ("with", "tiers"), at_key=True)
    for key in ("to", "path"):
        if not as_files and getattr(settings, key) is not None:
            yield Fault(f"{key!r} is for 'form: files'", ("with", key), at_key=True)
    if settings.path is not None and (problem := problem_of_folder(settings.path)):
        yield Fault(problem, ("with", "path"))


class Policy(Strict):
    """A file of rules. Where several rules want the same action of a scan, the one with the lowest `order`,
    then the first in the file, gives its settings; of `copies` and `tiers` the most that is asked counts, and of
    rules that copy files to one area the first says where. Everything that rules export is sent.
    """

    name: Word
    version: Whole = Field(ge=1)
    description: str = ""
    recency: Recency = Field(default=Recency(), alias="verified_within")
    presets: Mapping[Word, Mapping[str, Any]] = Field(default_factory=dict)
    rules: tuple[Rule, ...]

    @field_validator("presets")
    @classmethod
    def _check_presets(cls, presets: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Mapping[str, Any]]:
        found = [fault for name, values in presets.items() for fault in problems_of_parameters(values, (name,))]
        if found:
            raise faults(found)
        return presets

    @model_validator(mode="after")
    def _check_names(self, told: ValidationInfo) -> Policy:
        names = [rule.name for rule in self.rules]
        found = [
            Fault(f"a rule named {name!r} is here already; a name is cited in permits", ("rules", i, "name"))
            for i, name in enumerate(names)
            if name in names[:i]
        ]
        found.extend(self._unknown_presets((told.context or {}).get("presets", ())))
        if found:
            raise faults(found)
        return self

    def _unknown_presets(self, others: Collection[str] | None) -> Iterator[Fault]:
        """Rules that name a preset which neither the policy has nor the site; None where the site's are not known."""
        for i, rule in enumerate(self.rules):
            preset = rule.settings.preset
            if preset is None or preset in self.presets or others is None or preset in others:
                continue
            known = [*self.presets, *others]
            problem = f"there is no preset {preset!r}, here or in presets/{nearest(preset, known)}"
            yield Fault(problem, ("rules", i, "with", "preset"))

    def ordered(self) -> tuple[Rule, ...]:
        """The rules in the order in which they are asked."""
        return self._ordered

    @cached_property
    def _ordered(self) -> tuple[Rule, ...]:
        return tuple(sorted(self.rules, key=lambda rule: rule.order))

    def verified_within(self) -> tuple[timedelta, timedelta]:
        """How long ago a copy on disk, and one in an archive, may have been re-read and still count (law 4)."""
        return self.recency.disk, self.recency.archive

    def cite(self, rule: Rule) -> str:
        """How a rule is named in a permit and to a person: 'prune-files@standard:1'."""
        return f"{rule.name}@{self.name}:{self.version}"


def parse_policy(text: str, file_name: str, presets: Collection[str] | None = ()) -> Policy:
    """The policy that a text holds; its rules may name `presets` of the site, any where those are not known (None).

    Raises UserError with every problem and its place.
    """
    return parse(text, file_name, Policy, known={"presets": presets})
