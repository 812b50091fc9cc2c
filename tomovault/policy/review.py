"""What the rules of a policy will never do, although each of them can be read.

An error is what is wrong wherever and whenever the policy is used, and what names a place to which the site could not
bring anything: a sentence that no scan can satisfy is one, for whoever wrote it counts on a rule that is not there,
which is worst where it is a 'forbid' or an 'archive'. A warning is what depends on the site, the date or the other
rules, for a file may be shared with other sites, and a rule may have had its time. Neither stops a daemon: a rule that
never holds removes nothing, and without the policy's other rules nothing would be archived.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from tomovault.core.replica import TierClass
from tomovault.policy.address import is_collection_id
from tomovault.policy.calendar import show_moment
from tomovault.policy.document import STAGE_OF, Policy, Rule
from tomovault.policy.expression import CHEAPER, Always, And, Compare, Expression, Flag, Leaf, Listed, Not, Or, Replicas
from tomovault.policy.possible import covers, find_clash, implies
from tomovault.policy.reading import asks_usage, leaves
from tomovault.policy.yaml_text import Fault, nearest

#: Of rules with these actions the first that holds decides alone.
_DECIDED_BY_FIRST = frozenset({"pack", "preview", "reconstruct", "accept", "reduce"})

_AGE_WITHOUT_UNIT = re.compile(r"(\d[\d.]*)$")


@dataclass(frozen=True)
class Places:
    """What a site has: its areas, those of them that use the policy, its tiers, and the beamlines of its areas.

    `beamlines` is empty where an area may have scans of any. `costs`: whether it says what keeping and computing cost,
    but for the areas that are `unpriced`.
    """

    areas: Collection[str]
    used_by: Collection[str]
    tiers: Collection[str]
    beamlines: Collection[str] = ()
    #: Names of collections; None where the site sends nothing anywhere.
    collections: Collection[str] | None = None
    #: What a rule's `notify` may name, with why nobody would be told by it; None where the site tells nobody anything.
    listeners: Mapping[str, str] | None = None
    costs: bool = True
    unpriced: Collection[str] = ()
    #: Whether any of the tiers is an archive.
    archives: bool = True
    #: Tiers that nothing ever goes from by a rule, each with why and what to write.
    unpruned: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Finding:
    """Something to tell of a policy, with its place; an error or a warning."""

    fault: Fault
    is_error: bool = False


def review(policy: Policy, now: datetime, places: Places | None = None) -> list[Finding]:
    """What is to be told of the rules, of each in the order of the file; with `places` also what a site lacks."""
    found = []
    for at, rule in enumerate(policy.rules):
        clash = list(_impossible(at, rule, places))
        found += [*clash, *_of_dates(at, rule, now), *_of_units(at, rule)]
        if not any(one.is_error for one in clash):
            found += [*_of_room(at, rule), *_of_tiers(at, rule, places), *_of_others(at, rule, policy)]
        if places is not None:
            found += [*_unknown_names(at, rule, places), *_unknown_places(at, rule, places)]
            found += _unheard(at, rule, places)
    return found


def _impossible(at: int, rule: Rule, places: Places | None) -> Iterator[Finding]:
    if clash := find_clash(rule.condition):
        told = " and ".join(claim.text for claim in clash)
        what = f"no scan is ever so: {told}" if len(clash) > 1 else f"that is never so: {told}"
        yield Finding(_in_sentence(at, rule, clash[-1].leaf, f"this rule can never hold; {what}"), is_error=True)
    elif places is not None and places.used_by and (clash := find_clash(rule.condition, places.used_by)):
        areas = ", ".join(sorted(places.used_by))
        told = f"this rule can never hold in the areas that use the policy: {areas}"
        yield Finding(_in_sentence(at, rule, clash[-1].leaf, told))


def _of_dates(at: int, rule: Rule, now: datetime) -> Iterator[Finding]:
    if rule.until is not None and rule.is_over(now):
        yield Finding(Fault(f"this rule is over since {show_moment(rule.until)}", ("rules", at, "until")))


def _of_units(at: int, rule: Rule) -> Iterator[Finding]:
    for leaf in leaves(rule.condition):
        if isinstance(leaf, Compare) and leaf.term == "age" and (bare := _AGE_WITHOUT_UNIT.search(leaf.text)):
            told = f"an age without a unit is in seconds: write {bare[1]}d for days, or {bare[1]}s"
            if bare[1].strip("0."):
                yield Finding(_in_sentence(at, rule, leaf, told))


def _of_room(at: int, rule: Rule) -> Iterator[Finding]:
    """A removal by a sentence that asks how full the area is makes room there, and happens for no other reason."""
    if rule.do != "prune" or rule.by_evidence or rule.settings.tiers or find_clash(_when_empty(rule.condition)):
        return
    told = "since it asks for usage, nothing goes by this rule below the high mark, although it holds there, too"
    yield Finding(Fault(f"{told}: what is to go from any area needs a rule of its own", ("rules", at, "name")))


def _of_tiers(at: int, rule: Rule, places: Places | None) -> Iterator[Finding]:
    """A removal from tiers is for room alone: from one without marks nothing goes, and from no other by a sentence
    alone.
    """
    tiers, unpruned = rule.settings.tiers if rule.do == "prune" else (), places.unpruned if places is not None else {}
    asks = asks_usage(rule.condition)
    for n, tier in enumerate(tiers):
        if tier in unpruned:
            told = f"nothing ever goes from {tier} by this rule: {unpruned[tier]}"
            yield Finding(Fault(told, ("rules", at, "with", "tiers", n)))
    if not asks and any(places is None or tier in {*places.tiers} - {*unpruned} for tier in tiers):
        told = "a rule that names tiers only makes room: nothing goes by it below the high mark of a tier, whatever its"
        told += " sentence says; write `and usage > high` in its `when`"
        if places is None:
            told += ", and `high`, `low` and `prune: on` for the tier in tomovault.yaml"
        yield Finding(Fault(told, ("rules", at, "with", "tiers")))


def _when_empty(tree: Expression) -> Expression:
    """What is left of a sentence in an area that holds nothing."""
    if isinstance(tree, Not):
        return Not(_when_empty(tree.part))
    if isinstance(tree, (And, Or)):
        parts = tuple(map(_when_empty, tree.parts))
        return And(parts) if isinstance(tree, And) else Or(parts)
    if isinstance(tree, Compare) and tree.term == "usage":
        return Always() if tree.sign in ("<", "<=", "!=") else Not(Always())
    return tree


def _of_others(at: int, rule: Rule, policy: Policy) -> Iterator[Finding]:
    """What another rule makes of this one."""
    asked = policy.ordered()
    before = asked[: asked.index(rule)]
    if (first := next((one for one in before if _says_all_of(one, rule)), None)) is not None:
        told = f"{first.name!r} comes first and holds whenever this rule does, which so never decides anything"
        yield Finding(Fault(told, ("rules", at, "name")))
    for one in policy.rules:
        if one.do == "forbid" and rule.do in one.settings.actions and rule.do in STAGE_OF:
            if _lasts_as_long(one, rule) and covers(rule.condition, one.condition):
                told = f"whenever this rule holds, {one.name!r} forbids to {rule.do}"
                yield Finding(Fault(told, ("rules", at, "name")))
                return


def _says_all_of(first: Rule, later: Rule) -> bool:
    """Whether the later rule adds nothing to the first one, which is asked before."""
    if first.do != later.do or not _lasts_as_long(first, later) or not _asks_as_much(first, later):
        return False
    return implies(later.condition, first.condition, in_doubt=later.do == "forbid")


def _asks_as_much(first: Rule, later: Rule) -> bool:
    one, other = first.settings, later.settings
    if not set(later.notify) <= set(first.notify):
        return False
    if first.do in _DECIDED_BY_FIRST:
        return True
    if first.do == "prune":
        as_much = set(later.removes) <= set(first.removes) and set(other.tiers) <= set(one.tiers)
        return as_much and other.copies <= one.copies
    if first.do == "forbid":
        return set(other.actions) <= set(one.actions)
    return one.model_dump() == other.model_dump()


def _lasts_as_long(one: Rule, other: Rule) -> bool:
    """Whether the one is in force whenever the other is."""
    begins = one.starts is None or (other.starts is not None and one.starts <= other.starts)
    return begins and (one.until is None or (other.until is not None and other.until <= one.until))


def _unknown_names(at: int, rule: Rule, places: Places) -> Iterator[Finding]:
    """Names in the sentence that the site does not have."""
    copies = {*places.tiers, *places.areas, *(kind.value for kind in TierClass)}
    for leaf in leaves(rule.condition):
        if isinstance(leaf, Flag) and leaf.term == CHEAPER and not places.costs:
            yield Finding(_in_sentence(at, rule, leaf, "this is never known: tomovault.yaml has no section `costs`"))
        elif isinstance(leaf, Flag) and leaf.term == CHEAPER and (lacking := set(places.unpriced) & {*places.used_by}):
            told = (
                f"this is never known in {', '.join(sorted(lacking))}: tomovault.yaml has no price there (`tb_month`)"
            )
            yield Finding(_in_sentence(at, rule, leaf, told))
        if isinstance(leaf, Replicas) and leaf.tier not in copies:
            told = f"the site has no tier {leaf.tier!r}{nearest(leaf.tier, copies)}"
            yield Finding(_in_sentence(at, rule, leaf, told, leaf.tier))
        for term, known in (("area", places.areas), ("beamline", places.beamlines)):
            for name in _names_of(leaf, term):
                if known and name not in known:
                    told = f"the site has no {term} {name!r}{nearest(name, known)}"
                    yield Finding(_in_sentence(at, rule, leaf, told, name))


def _names_of(leaf: Leaf, term: str) -> Sequence[str]:
    if isinstance(leaf, Listed) and leaf.term == term:
        return leaf.values
    return (str(leaf.value),) if isinstance(leaf, Compare) and leaf.term == term else ()


def _unknown_places(at: int, rule: Rule, places: Places) -> Iterator[Finding]:
    """Places in the settings to which nothing could be brought, or that have nothing to be re-read."""
    here, settings = ("rules", at, "with"), rule.settings
    holding = {*places.tiers, *places.areas}
    if rule.do == "prune":
        holding -= set(places.areas)  # a rule without tiers is for those
    if rule.do == "verify":
        holding |= {kind.value for kind in TierClass}
    for n, tier in enumerate(settings.tiers):
        if tier not in holding:
            yield Finding(Fault(f"the site has no tier {tier!r}{nearest(tier, holding)}", (*here, "tiers", n)), True)
    if rule.do == "replicate" and settings.to is not None and settings.to not in places.areas:
        told = f"the site has no area {settings.to!r}{nearest(settings.to, places.areas)}"
        yield Finding(Fault(told, (*here, "to")), True)
    if rule.do == "archive" and not places.archives:
        told = "the site has no tier that is an archive: nothing is archived by this rule, and so nothing goes"
        yield Finding(Fault(told, ("rules", at, "do")))
    if rule.do == "export" and (told := _unknown_collection(settings.to or "", places.collections)):
        yield Finding(Fault(told, (*here, "to")), True)


def _unknown_collection(address: str, known: Collection[str] | None) -> str:
    """Why nothing could be sent to an address from the site; '' where it could."""
    named = address.partition(":")[0]
    if known is None:
        return "the site has no `globus` section in tomovault.yaml, so nothing can be sent"
    if named in known or is_collection_id(named):
        return ""
    return f"the site names no collection {named!r} under `globus: names:`, and it is no UUID{nearest(named, known)}"


def _unheard(at: int, rule: Rule, places: Places) -> Iterator[Finding]:
    """Channels that the site does not have, and those that would reach nobody."""
    for n, name in enumerate(rule.notify):
        if places.listeners is None:
            told = "the site has no `notify` section in tomovault.yaml, so nobody can be told"
        elif name not in places.listeners:
            told = f"the site has no channel {name!r}{nearest(name, places.listeners)}"
        else:
            told = places.listeners[name]
        if told:
            yield Finding(Fault(told, ("rules", at, "notify", n)), True)


def _in_sentence(at: int, rule: Rule, leaf: Leaf, told: str, word: str = "") -> Fault:
    """A fault at a term, or at a word of it. Terms are written with single spaces; the sentence may not be."""
    found = re.search(r"\s+".join(map(re.escape, leaf.text.split())), rule.when)
    start = found.start() if found else 0
    if found and word:
        start += max(0, found[0].rfind(word))
    before = rule.when[:start]
    return Fault(told, ("rules", at, "when"), offset=(before.count("\n"), start - (before.rfind("\n") + 1)))
