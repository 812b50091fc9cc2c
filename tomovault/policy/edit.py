"""What another text of a policy changes in what is planned for scans. Pure.

What is planned for a scan rests on the rules that hold for it, that may come to hold, or that forbid in doubt. So where
all rules that differ say the same before and after, the same is planned. When a scan is looked at next rests on the
moments at which an answer may turn: of those it matters which only the new text has.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from difflib import SequenceMatcher
from typing import Any

from tomovault.core.replica import LEAST_COPIES
from tomovault.policy.calendar import Months
from tomovault.policy.document import STAGE_OF, Policy, Rule
from tomovault.policy.expression import Compare, Leaf, Replicas
from tomovault.policy.reading import asks_usage, leaves


@dataclass(frozen=True)
class Edit:
    """Where `new` plans otherwise than `old`: for scans of which a rule that is `gone` or has `come` says anything, or
    of which the two rules of a pair say different things; and for those whose next look may be sooner.
    """

    old: Policy
    new: Policy
    #: An old rule and a new one that ask for the same in the same place, but not with the same sentence or dates.
    pairs: tuple[tuple[Rule, Rule], ...]
    gone: tuple[Rule, ...]
    come: tuple[Rule, ...]
    #: Ages of a scan, and times since a copy was re-read, at which only the new text looks at it.
    ages: frozenset[timedelta | Months]
    periods: frozenset[timedelta]
    #: New rules with a date ahead at which the old text would not have looked.
    dated: tuple[Rule, ...]

    @property
    def changes_nothing(self) -> bool:
        """Whether only words differ that no plan rests on."""
        return not (self.pairs or self.gone or self.come or self.ages or self.periods or self.dated)


def edit_of(old: Policy, new: Policy, now: datetime) -> Edit:
    """What differs between two policies, of which the new one holds from now on."""
    pairs, gone, come = [], [], []
    for was, is_ in _aligned(old, new):
        if was is not None and is_ is not None:
            if _when(was) == _when(is_):
                continue
            if not asks_usage(was.condition) and not asks_usage(is_.condition):
                pairs.append((was, is_))
                continue
        # How full the area was when a scan was last looked at, nobody knows: those rules are as if of other names.
        gone += [was] if was is not None else []
        come += [is_] if is_ is not None else []
    known = {date for rule in old.rules for date in (rule.starts, rule.until)}
    dated = [
        rule
        for rule in new.ordered()
        if _is_planned_by(rule)
        and any(date is not None and date > now and date not in known for date in (rule.starts, rule.until))
    ]
    return Edit(
        old,
        new,
        pairs=tuple(pairs),
        gone=tuple(gone),
        come=tuple(come),
        ages=_ages(new) - _ages(old),
        periods=_periods(new) - _periods(old),
        dated=tuple(dated),
    )


def _aligned(old: Policy, new: Policy) -> Iterator[tuple[Rule | None, Rule | None]]:
    """Every rule that something is planned by, beside the one in the other text that asks for the same. Of two that
    changed places one stands alone in each text, since the first that holds decides.
    """
    for do in (*STAGE_OF, "notify", "forbid"):
        before, after = ([r for r in p.ordered() if r.do == do and _is_planned_by(r)] for p in (old, new))
        asked = SequenceMatcher(None, [_asks(r, old) for r in before], [_asks(r, new) for r in after], autojunk=False)
        for tag, a, b, c, d in asked.get_opcodes():
            if tag == "equal":
                yield from zip(before[a:b], after[c:d], strict=True)
            else:
                yield from ((rule, None) for rule in before[a:b])
                yield from ((None, rule) for rule in after[c:d])


def _is_planned_by(rule: Rule) -> bool:
    """Whether a look at a scan may queue or hold anything by the rule. Of a prune that asks how full the area is it
    matters only that it may ask for more archive copies. Re-reads are queued by the dates of copies.
    """
    if rule.do == "prune":
        return rule.by_evidence or rule.settings.copies > LEAST_COPIES
    return rule.do != "verify"


def _asks(rule: Rule, policy: Policy) -> str:
    """Equal for two rules that ask for the same result in the same way."""
    by_mark = rule.do == "prune" and not rule.by_evidence
    settings: Any = rule.settings.copies if by_mark else sorted(rule.settings.model_dump().items())
    preset = rule.settings.preset
    told = rule.notify if rule.do == "notify" else ()
    return repr((rule.name, settings, None if preset is None else policy.presets.get(preset), told))


def _when(rule: Rule) -> object:
    return rule.condition, rule.starts, rule.until


def _leaves(policy: Policy) -> Sequence[Leaf]:
    return [leaf for rule in policy.rules for leaf in leaves(rule.condition)]


def _ages(policy: Policy) -> frozenset[timedelta | Months]:
    named = (leaf.value for leaf in _leaves(policy) if isinstance(leaf, Compare) and leaf.term == "age")
    return frozenset(value for value in named if isinstance(value, (timedelta, Months)))


def _periods(policy: Policy) -> frozenset[timedelta]:
    named = (leaf.within for leaf in _leaves(policy) if isinstance(leaf, Replicas))
    return frozenset(period for period in (*named, *policy.verified_within()) if period is not None)
