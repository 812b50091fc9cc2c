"""Room in a simulation: removals that the policy and the laws allow, the quarantine, and the second look after it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from tomovault.core.errors import IntegrityError
from tomovault.core.known import KnownScan, Permit, RemovalPhase
from tomovault.core.life import may_go
from tomovault.core.replica import LEAST_COPIES, Form, ProductKind, Replica, ReplicaState, TierClass
from tomovault.policy.area_facts import AreaFacts, bytes_to_free
from tomovault.policy.decide import why_forbidden_still
from tomovault.policy.document import Rule
from tomovault.policy.removing import PruneChoice, removal_of, still_lets_go
from tomovault.policy.room import Going, within_brakes
from tomovault.policy.warning import COUNTS_FOR, Hold, days_of
from tomovault.simulation.agenda import Agenda
from tomovault.simulation.judging import Judge, copies_left
from tomovault.simulation.ledger import Ledger
from tomovault.simulation.scenario import Scenario
from tomovault.simulation.shelves import Shelves
from tomovault.simulation.world import World

#: A removal that the law refused after its hold is looked at again so often, as the daemon does.
_REFUSED_AGAIN = timedelta(hours=6)

#: As often as the daemon does, it looks again at what goes by evidence and is stopped by a full quarantine.
_STOPPED_AGAIN = timedelta(hours=1)


class RoomMaker:
    """Brings areas that are over their high mark down to the low one."""

    def __init__(
        self,
        scenario: Scenario,
        world: World,
        judge: Judge,
        agenda: Agenda,
        ledger: Ledger,
        is_blocked: Callable[[str], bool],
    ) -> None:
        """`is_blocked` says whether packages of an area wait for room there."""
        self._is_blocked = is_blocked
        self._warned: dict[str, datetime] = {}
        self._shelves = Shelves(scenario.areas, world, judge)
        self._scenario, self._world, self._judge = scenario, world, judge
        self._agenda, self._ledger = agenda, ledger
        self._draining: set[str] = set()
        self._number = 0

    def make_room(self, area: str) -> str:
        """What may go is in quarantine; returns what keeps the area above its mark, '' where nothing has to."""
        facts = self._judge.facts(area, draining=area in self._draining)
        wanted = bytes_to_free(facts)
        if wanted <= 0:
            self._draining.discard(area)
            return ""
        if not facts.prune_on:
            return "prune"
        self._draining.add(area)
        limit = self._scenario.quarantine_limit(self._scenario.areas[area])
        if facts.quarantine_bytes >= limit:
            return "quarantine"
        choices, rules, kept = self._choose(area, replace(facts, draining=True), wanted)
        room = within_brakes(
            choices,
            rules,
            self._warn(choices, rules, facts, lambda: self._world.touched.update({area: None})),
            bytes_to_free=wanted,
            policy_of=lambda _choice: self._judge.policy(area),
            quarantine_bytes=facts.quarantine_bytes,
            quarantine_limit=limit,
            under_way=Counter(),
        )
        for going in room.going:
            self._remove(going, for_room=True)
        if room.full:
            return "quarantine"
        if room.waiting:
            return "warnings"
        cause = kept.most_common(1)[0][0] if kept else "nothing"
        return "room" if cause == "packing" and self._is_blocked(area) else cause

    def let_go(self, scan_id: str) -> None:
        """What goes of a scan however empty its area is, is in quarantine; while that is full, it is asked again."""
        scan = self._world.scans[scan_id]
        if not any(rule.by_evidence for rule in self._judge.policy(scan.area).rules):
            return
        facts = self._judge.facts(scan.area)
        found = self._judge.by_evidence(scan, facts, self._agenda.now)
        choices = [choice for choice, _ in found]
        rules = {choice.replica: (rule, self._files(choice)) for choice, rule in found}
        room = within_brakes(
            choices,
            rules,
            self._warn(choices, rules, facts, lambda: self._world.changed.update({scan_id: None})),
            bytes_to_free=sum(choice.bytes for choice, _ in found),
            policy_of=lambda _choice: self._judge.policy(scan.area),
            quarantine_bytes=facts.quarantine_bytes,
            quarantine_limit=self._scenario.quarantine_limit(self._scenario.areas[scan.area]),
            under_way=Counter(),
        )
        for going in room.going:
            self._remove(going, for_room=False)
        if room.full:
            self._agenda.after(_STOPPED_AGAIN.total_seconds(), lambda: self._world.changed.update({scan_id: None}))

    def _warn(
        self,
        choices: Sequence[PruneChoice],
        rules: Mapping[str, tuple[Rule, int]],
        facts: AreaFacts,
        look_again: Callable[[], None],
    ) -> dict[str, Hold]:
        """What waits since its owner was warned of it too short a time ago; who was not is warned now, and one looks
        again when the days are over. In the model a warning is read at once, and nobody asks for more time.
        """
        holds, now = dict[str, Hold](), self._agenda.now
        for choice in choices:
            rule, _ = rules[choice.replica]
            days, above = days_of(rule, facts), rule.settings.unwarned_above
            if not days or (above is not None and facts.used_fraction >= above):
                continue
            warned = self._warned.get(choice.replica)
            if warned is None or now - warned > days + COUNTS_FOR:
                warned = self._warned[choice.replica] = now
                self._agenda.at_time(now + days, look_again)
            if now < warned + days:
                holds[choice.replica] = Hold("its owner was warned", until=warned + days)
        return holds

    def _files(self, choice: PruneChoice) -> int:
        return self._world.scans[choice.scan].files if choice.form is Form.FILES else 1

    def _choose(
        self, area: str, facts: AreaFacts, wanted: int
    ) -> tuple[list[PruneChoice], dict[str, tuple[Rule, int]], Counter[str]]:
        """Choices until they are enough, the rule and the files of each, and the bytes that stay by what keeps them."""
        choices: list[PruneChoice] = []
        rules: dict[str, tuple[Rule, int]] = {}
        found = 0
        self._shelves.look(area, facts, self._agenda.now)
        for choice, rule in self._shelves.choices(area):
            rules[choice.replica] = (rule, self._files(choice))
            choices.append(choice)
            found += choice.bytes
            if found >= wanted:
                break
        kept = self._shelves.kept(area)
        kept["packing"] += self._world.unpacked_bytes(area)
        return choices, rules, +kept

    def _remove(self, going: Going, *, for_room: bool) -> None:
        """The replica is in quarantine, under a permit with an end of its hold."""
        scan = self._world.scans[going.choice.scan]
        replica = _replica(scan, going.choice.replica)
        check_law(scan, replica, self._ledger)
        now = self._agenda.now
        self._number += 1
        permit = Permit(
            id=f"permit {self._number}",
            replica=replica.id,
            rule=self._judge.policy(scan.area).cite(going.rule),
            phase=RemovalPhase.QUARANTINED,
            granted_at=now,
            hold_until=now + self._scenario.hold,
            relied_on=(),
            bytes=replica.bytes,
            files=going.files,
        )
        self._world.change_copy(scan.id, replace(replica, state=ReplicaState.LEAVING))
        self._world.set_permit(scan.id, permit)
        self.look_after_hold(scan.id, permit, for_room=for_room)

    def look_after_hold(self, scan_id: str, permit: Permit, *, for_room: bool) -> None:
        """Everything is asked again when the hold of a permit is over, which was given to make room or by evidence."""
        hold_until = permit.hold_until or self._agenda.now
        self._agenda.at_time(hold_until, lambda: self._second_look(scan_id, permit, for_room))

    def _second_look(self, scan_id: str, permit: Permit, for_room: bool) -> None:
        scan, now = self._world.scans[scan_id], self._agenda.now
        replica = _replica(scan, permit.replica)
        facts, policy = self._judge.facts(replica.tier), self._judge.policy(scan.area)
        name = permit.rule.partition("@")[0]
        rule = next((r for r in policy.rules if r.name == name and r.do == "prune"), None)
        lets_go = rule is not None and still_lets_go(scan, replica.id, rule, policy, facts, now, for_room=for_room)
        is_forbidden = why_forbidden_still(scan, policy, facts, now, for_room=for_room)
        if not lets_go or is_forbidden or may_go(removal_of(scan, replica, policy, facts, now, rule=rule)):
            self._ledger.removals_refused += 1
            self._agenda.after(_REFUSED_AGAIN.total_seconds(), lambda: self._second_look(scan_id, permit, for_room))
            return
        check_law(scan, replica, self._ledger)
        self._world.change_copy(scan_id, replace(replica, state=ReplicaState.GONE))
        self._world.set_permit(scan_id, replace(permit, phase=RemovalPhase.GONE))
        gone = replica.form if replica.product is ProductKind.ORIGINAL else replica.product
        self._ledger.pruned[gone.value] += replica.bytes
        self._ledger.bytes_out[replica.tier] += replica.bytes


def check_law(scan: KnownScan, victim: Replica, ledger: Ledger) -> None:
    """Law 4 holds for a removal that was allowed, by a count of its own. Raises IntegrityError."""
    archive, other = copies_left(scan, victim)
    on_fast = victim.tier_class is TierClass.FAST and other >= 1
    if archive < LEAST_COPIES and not on_fast:
        raise IntegrityError(f"{scan.name} was to go with {archive} archive copies left", hint="a defect of ours")
    ledger.note_removal(archive + other)


def _replica(scan: KnownScan, replica_id: str) -> Replica:
    return next(r for r in scan.replicas if r.id == replica_id)
