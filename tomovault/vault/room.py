"""Which replicas must go so that an area comes down to its low mark, and why others may not."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import structlog

from tomovault.catalog.tier_room import list_removable_on
from tomovault.catalog.work import list_granted, list_removable
from tomovault.core.errors import Transient
from tomovault.core.known import KnownScan
from tomovault.core.life import Stage
from tomovault.core.replica import Form, ProductKind, Replica, ReplicaState
from tomovault.policy.area_facts import AreaFacts, bytes_to_free
from tomovault.policy.document import Rule
from tomovault.policy.due import next_look
from tomovault.policy.removing import (
    PruneChoice,
    choice_of,
    choose_for_watermark,
    prune_rule_of,
    removable_kinds,
    turns_of,
)
from tomovault.policy.room import Going, Waiting, unversioned, why_it_stays, within_brakes
from tomovault.policy.warning import Hold, why_unwarned
from tomovault.vault.removals import failed_before
from tomovault.vault.staying import Stays
from tomovault.vault.vault import Vault, View

log = structlog.get_logger(__name__)

#: Scans that are looked at together: what is known of them is in memory.
_AT_ONCE = 50


@dataclass
class Room:
    """What would go now, in its order; what waits for a warning; each other replica with why it stays; what stops
    removals altogether.
    """

    going: list[Going] = field(default_factory=list)
    waiting: list[Waiting] = field(default_factory=list)
    stays: dict[str, Stays] = field(default_factory=dict)
    full: str = ""


def choose_room(vault: Vault, tx: Any, facts: AreaFacts, now: datetime, *, besides: Iterable[Going] = ()) -> Room:
    """As `look_for_room`, all at once and in one transaction; `besides` goes in any case, and counts as freed."""
    gone = {going.choice.replica: going.choice.bytes for going in besides}
    facts = replace(facts, quarantine_bytes=facts.quarantine_bytes + sum(gone.values()))
    steps = look_for_room(vault, lambda: nullcontext(tx), facts, now, without=gone.keys())
    while True:
        try:
            next(steps)
        except StopIteration as end:
            room: Room = end.value
            return room


def look_for_room(
    vault: Vault,
    reading: Callable[[], AbstractContextManager[Any]],
    facts: AreaFacts,
    now: datetime,
    *,
    without: Collection[str] = (),
) -> Generator[None, None, Room]:
    """The replicas that would go now: down to the low mark, within the brakes of law 5. An area may have very many
    scans, so there is a pause for the caller after each short step.

    The quarantine takes no more once it is full. Of one rule, no more bytes and files are on their way into it than
    its `limits` say; the next follow when those are there.
    """
    wanted = bytes_to_free(facts)
    if wanted <= 0:
        return Room()
    search = _Search(vault, replace(facts, draining=True), now, wanted, without)
    yield from search.steps(reading)
    with reading() as tx:
        under_way = on_their_way(tx, facts)
    return _within_brakes(vault, facts, search, under_way)


def foresee_room(vault: Vault, tx: Any, facts: AreaFacts, now: datetime, *, wanted: int) -> Room:
    """What the rules and the laws would let go of an area in such a state, in their order, to free so many bytes.

    The brakes of law 5 are left out: they only spread the removals over time.
    """
    search = _Search(vault, replace(facts, draining=True), now, wanted)
    for _ in search.steps(lambda: nullcontext(tx)):
        pass
    room = Room(stays=search.stays)
    for choice in choose_for_watermark(search.choices, bytes_to_free=wanted):
        rule, files, _ = search.rules[choice.replica]
        room.going.append(Going(choice, rule, files))
    return room


def _within_brakes(vault: Vault, facts: AreaFacts, search: _Search, under_way: Counter[tuple[str, str]]) -> Room:
    braked = within_brakes(
        search.choices,
        {replica: (rule, files) for replica, (rule, files, _) in search.rules.items()},
        search.holds,
        bytes_to_free=search.wanted,
        policy_of=lambda choice: vault.policy_of(search.areas[choice.scan]),
        quarantine_bytes=facts.quarantine_bytes,
        quarantine_limit=vault.site.quarantine.limit_of(facts.quota_bytes),
        under_way=under_way,
    )
    sizes = {choice.replica: choice.bytes for choice in search.choices}
    stopped = {r: Stays(search.rules[r][2], reason, sizes[r]) for r, reason in braked.stopped.items()}
    return Room(braked.going, braked.waiting, {**search.stays, **stopped}, braked.full)


def on_their_way(tx: Any, facts: AreaFacts) -> Counter[tuple[str, str]]:
    """Bytes and files that are on their way into quarantine, by the rule of their permit, whatever its version."""
    count: Counter[tuple[str, str]] = Counter()
    for rule, size, files in list_granted(tx, facts.name, of_tier=facts.of_tier):
        count[unversioned(rule), "bytes"] += size
        count[unversioned(rule), "files"] += files
    return count


@dataclass
class _Search:
    """The replicas that may go, looked for only until they are enough.

    The order is that of `choose_for_watermark`, so what is not looked at would not be chosen.
    """

    vault: Vault
    facts: AreaFacts
    now: datetime
    wanted: int
    without: Collection[str] = ()
    choices: list[PruneChoice] = field(default_factory=list)
    stays: dict[str, Stays] = field(default_factory=dict)
    rules: dict[str, tuple[Rule, int, str]] = field(default_factory=dict)
    holds: dict[str, Hold] = field(default_factory=dict)
    areas: dict[str, str] = field(default_factory=dict)
    _of_scan: defaultdict[str, list[PruneChoice]] = field(default_factory=lambda: defaultdict(list))
    _looked_at: set[str] = field(default_factory=set)
    _through: set[tuple[ProductKind, Form]] = field(default_factory=set)

    def steps(self, reading: Callable[[], AbstractContextManager[Any]]) -> Iterator[None]:
        """The search goes on by some scans, in a transaction of their own, before each pause."""
        enough = self.wanted
        if self.facts.of_tier:  # rules of several policies: the oldest scan first, whichever lets it go
            yield from self._pass(reading, ProductKind.ORIGINAL, Form.PACKAGE, enough, 0)
            return
        for rank, rule, kind, form in turns_of(self.vault.policy_of(self.facts.name)):
            largest_first = rule.settings.first == "largest"
            enough -= yield from self._pass(reading, kind, form, enough, rank, largest_first=largest_first)
            if enough <= 0:
                return
        for form in Form:  # what no rule lets go stays, and is told
            yield from self._pass(reading, ProductKind.ORIGINAL, form, enough)

    def _pass(
        self,
        reading: Callable[[], AbstractContextManager[Any]],
        kind: ProductKind,
        form: Form,
        enough: int,
        rank: int = -1,
        *,
        largest_first: bool = False,
    ) -> Generator[None, None, int]:
        """Scans with a product in that form were looked at until the rule of that rank lets enough of it go; returns
        how much that is. No scan that was not looked at comes before what was found, since rules that are asked earlier
        had a pass over all scans with the form, if they name it.
        """
        if (kind, form) in self._through:
            return sum(c.bytes for c in self.choices if (c.rank, c.form) == (rank, form))
        with reading() as tx:
            if self.facts.of_tier:
                listed = list_removable_on(tx, self.facts.name)
                ids = [scan for scan, area in listed if area in self.vault.site.areas]
            else:
                ids = list_removable(tx, self.facts.name, form, kind=kind, largest_first=largest_first)
        found = 0
        for start in range(0, len(ids), _AT_ONCE):
            if found >= enough:
                return found
            batch = ids[start : start + _AT_ONCE]
            with reading() as tx:
                new = self._known(tx, [i for i in batch if i not in self._looked_at])
            for scan in new:
                self._look_at(scan)
            self._looked_at.update(batch)
            there = (choice for scan_id in batch for choice in self._of_scan.get(scan_id, ()))
            found += sum(c.bytes for c in there if (c.rank, c.form) == (rank, form))
            yield
        self._through.add((kind, form))
        return found

    def _known(self, tx: Any, ids: Sequence[str]) -> list[KnownScan]:
        """What is known of the scans; one that cannot be read stays, and stops no other."""
        catalogue = self.vault.catalogue
        try:
            return list(catalogue.known_many(tx, ids))
        except Transient:
            raise
        except Exception:
            if len(ids) > 1:
                return [scan for one in ids for scan in self._known(tx, [one])]
            log.exception("a scan cannot be read", scan=ids[0])
            self.stays[ids[0]] = Stays(ids[0], "cannot be read from the catalogue")
            return []

    def _look_at(self, scan: KnownScan) -> None:
        """What of a scan may go is chosen from; why the rest stays is told."""
        try:
            self._choose_from(scan)
        except Exception as problem:
            log.exception("a scan cannot be weighed", scan=scan.id)
            self.stays[scan.id] = Stays(scan.name, f"cannot be weighed: {problem}")

    def _choose_from(self, scan: KnownScan) -> None:
        vault, facts, now = self.vault, self.facts, self.now
        view = vault.view(scan, facts, now, warnings=False)
        policy = vault.policy_of(scan.area)
        self.areas[scan.id] = scan.area
        for replica in (r for kind in removable_kinds(policy) for r in scan.replicas_of(kind)):
            if not is_here(replica, facts) or replica.id in self.without:
                continue
            rule = prune_rule_of(scan, replica.form, policy, facts, now, kind=replica.product)
            reason = why_it_stays_here(vault, view, replica, rule, facts, now)
            if reason or rule is None:
                until = next_look(scan, policy, facts, now)
                self.stays[replica.id] = Stays(scan.name, reason, replica.bytes, until)
                continue
            self.rules[replica.id] = (rule, files_of(scan, replica), scan.name)
            if (hold := why_unwarned(scan, replica.id, rule, facts, now)) is not None:
                self.holds[replica.id] = hold
                self.stays[replica.id] = Stays(scan.name, hold.reason, replica.bytes, hold.until)
            choice = choice_of(scan, replica, rule, policy)
            choice = replace(choice, rank=0) if facts.of_tier else choice
            self.choices.append(choice)
            self._of_scan[scan.id].append(choice)


def files_of(scan: KnownScan, replica: Replica) -> int:
    """How many files go with a replica."""
    product = scan.product(ProductKind.ORIGINAL)
    return product.files if product is not None and replica.form is Form.FILES else 1


def is_here(replica: Replica, facts: AreaFacts) -> bool:
    """Whether a replica stands in the area as it should."""
    return replica.tier == facts.name and replica.state in (ReplicaState.VERIFIED, ReplicaState.PRESENT)


def why_not_now(vault: Vault, scan: KnownScan, going: Going, facts: AreaFacts, now: datetime) -> str:
    """'' if what would go when it was looked for would go still, as its scan is known now."""
    facts = replace(facts, draining=True)
    replica = next((r for r in scan.replicas if r.id == going.choice.replica and is_here(r, facts)), None)
    if replica is None:
        return "not as it was a moment ago"
    rule = prune_rule_of(scan, replica.form, vault.policy_of(scan.area), facts, now, kind=replica.product)
    if rule != going.rule:
        return f"no longer by the rule {going.rule.name}"
    view = vault.view(scan, facts, now, warnings=False)  # those are asked for where the permit is granted
    return why_it_stays_here(vault, view, replica, rule, facts, now)


def why_it_stays_here(
    vault: Vault, view: View, replica: Replica, rule: Rule | None, facts: AreaFacts, now: datetime
) -> str:
    """'' if LIFE, the policy and law 4 all let the replica go, as far as can be said without the rows locked."""
    scan, policy = view.scan, vault.policy_of(view.scan.area)
    stays = why_it_stays(scan, replica, rule, view.standings[Stage.PRUNED], view.wants, policy, facts, now)
    return stays or failed_before(scan, replica.id) or _why_to_be_sent(view, replica)


def _why_to_be_sent(view: View, replica: Replica) -> str:
    """Where a package stays for a transfer that a rule wants now, and whose turn has not come; '' for none."""
    if replica.form is not Form.PACKAGE or replica.tier != view.scan.area:
        return ""
    due = (one for one in view.due_exports if one.product is replica.product)
    return next((f"its export to {one.path} by {one.rule} is due" for one in due), "")
