"""Reading facts and deciding: which job is due for which scan, and which removal goes on after its hold."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog

from tomovault.core.errors import Refused, Transient
from tomovault.core.known import JobStatus, KnownScan, Permit, RemovalPhase
from tomovault.core.life import Stage, Status, Step, step_of
from tomovault.core.replica import Form, ProductKind, TierClass
from tomovault.core.scan import Verdict
from tomovault.daemon.due_scans import DueScans
from tomovault.daemon.evidence_pruner import EvidencePruner
from tomovault.daemon.exporter import Exporter
from tomovault.policy.area_facts import AreaFacts
from tomovault.policy.due import next_look
from tomovault.vault.deeds import tell_wanted
from tomovault.vault.following import follow_files
from tomovault.vault.owner_warnings import BY_WARNING, Leaving, warn_owners
from tomovault.vault.removals import area_of_removal, regrant, rule_of
from tomovault.vault.tier_facts import place_facts
from tomovault.vault.vault import Vault, View

log = structlog.get_logger(__name__)

#: Steps that the watermark decides for a whole area, that are asked for by a person, or few at a time.
_NOT_BY_SCAN = frozenset({Stage.PRUNED, Stage.COMPLETE, Stage.ACCEPTED, Stage.EXPORTED})

#: What is made from a package, by the step that makes it.
_MADE_AT = {Stage.PREVIEWED: ProductKind.PREVIEW, Stage.RECONSTRUCTED: ProductKind.VOLUME}

#: Actions after which the bytes of a removal are gone: from a quarantine, and from where an order left them until then.
_SECOND_PHASES = frozenset({"empty_quarantine", "destroy"})

#: A removal that the law refused after its hold is looked at again so often.
_REFUSED_AGAIN = timedelta(hours=6)

#: What a limit of the section `quotas` holds is looked at again so often.
_HELD_AGAIN = timedelta(hours=6)

#: A scan that could not be planned is tried again so often, unless something new is known of it before.
_FAILED_AGAIN = timedelta(hours=6)


@dataclass(frozen=True)
class Alarm:
    """Something that a person should know about an area."""

    area: str
    text: str


class Planner:
    """Queues what is due. Holds no state but the alarms of the last look at each scan, and who waits to be sent."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self.alarms: dict[str, Alarm] = {}
        self._evidence = EvidencePruner(vault)
        self._exporter = Exporter(vault)
        self.due = DueScans(vault)
        self._braked = ""
        self._resting: frozenset[str] = frozenset()

    def brake(self, reason: str, resting: frozenset[str]) -> None:
        """While there is a reason, no removal is permitted anywhere; in areas that rest, none either (laws 3, 5)."""
        self._braked = reason
        self._resting = resting

    def plan_scans(self, now: datetime, *, limit: int = 20) -> int:
        """The scans that waited longest to be looked at were, so many at most; returns how many.

        Those of areas that rest stay due: a removal put off would otherwise wait long after the area is back.
        """
        if turns := self.due.bring_forward(now):
            return turns
        catalogue = self._vault.catalogue
        self._evidence.wake(self._braked, self._resting, now)
        with catalogue.reading() as tx:
            if not self.due.find(tx, now, 1, self._resting):
                return 0
        with catalogue.writing() as tx:
            self._exporter.wake(tx, now)
            due = self.due.find(tx, now, limit, self._resting)
            areas: dict[str, AreaFacts] = {}
            self._evidence.begin_turn()
            for scan_id in due:
                try:
                    with tx.set_apart():
                        self._plan_known(tx, scan_id, areas, now)
                    self.alarms.pop(f"scan {scan_id}", None)
                except Transient:
                    raise
                except Exception as problem:  # one scan's defect must not end the daemon
                    log.exception("a scan cannot be planned", scan=scan_id)
                    self._put_off(tx, scan_id, problem, now)
        self._tell_stopped()
        return len(due)

    def _tell_stopped(self) -> None:
        """Of each area in which what may go by evidence is stopped, why."""
        for area in self._vault.site.areas:
            text = self._evidence.texts.get(area)
            if text is None:
                self.alarms.pop(f"evidence {area}", None)
            else:
                self.alarms[f"evidence {area}"] = Alarm(area, text)

    def _plan_known(self, tx: Any, scan_id: str, areas: dict[str, AreaFacts], now: datetime) -> None:
        """The scan is planned, with the facts of its area; one of an area that is left rests."""
        scan = self._vault.catalogue.known(tx, scan_id)
        if scan.area not in self._vault.site.areas:
            self._vault.catalogue.set_next_due(tx, scan_id, None)
            return
        if scan.area not in areas:
            areas[scan.area] = self._vault.area_facts(tx, scan.area, now)
        self._plan_scan(tx, self._vault.view(scan, areas[scan.area], now), areas[scan.area], now)

    def _put_off(self, tx: Any, scan_id: str, problem: Exception, now: datetime) -> None:
        """The others go on; what is wrong with this scan is told, and it is tried again later."""
        area = self._vault.catalogue.area_of(tx, scan_id)
        self.alarms[f"scan {scan_id}"] = Alarm(area, f"scan {scan_id} cannot be planned: {problem}")
        self._vault.catalogue.set_next_due(tx, scan_id, now + _FAILED_AGAIN)

    def _plan_scan(self, tx: Any, view: View, area: AreaFacts, now: datetime) -> None:
        scan = view.scan
        if follow_files(self._vault, tx, view, area, now):
            return  # it is due at once, by the rules of the area that it is in now
        at_work = {j.action for j in scan.jobs if j.status in (JobStatus.TODO, JobStatus.DOING)}
        begun = False
        for stage, standing in view.standings.items():
            step = step_of(stage)
            if standing.status is Status.DUE and stage not in _NOT_BY_SCAN and step.action not in at_work:
                begun |= self._queue_step(tx, view, area, step, now)
        for permit in scan.permits:
            if _is_to_go(scan, permit, now):
                self._second_look(tx, scan, permit, now)
            else:
                self.alarms.pop(f"permit {permit.id}", None)
        tell_wanted(self._vault, tx, scan, area, now)
        sent = self._exporter.ask(tx, view, now)
        dates = [sent.again, self._next_look(scan, area, now)]
        # What was queued may need what would go. After a step the scan is planned again when that is over, after an
        # export at once, with that known.
        if not (begun or sent.queued):
            dates.append(self._evidence.let_go(tx, scan, area, self._why_braked(scan, scan.area), now))
        self._vault.catalogue.set_next_due(tx, scan.id, min((d for d in dates if d is not None), default=None))
        self._tell_of_exports()

    def _tell_of_exports(self) -> None:
        problems = self._exporter.problems
        for area in self._vault.site.areas:
            if area in problems:
                self.alarms[f"export {area}"] = Alarm(area, problems[area])
            else:
                self.alarms.pop(f"export {area}", None)

    def _why_braked(self, scan: KnownScan, place: str) -> str:
        """Why nothing of the scan is removed from a place now, which may be another area than its own, or a tier.

        While its own area rests nothing is: what is known of the scan is as old as the last sweep there.
        """
        rests = next((name for name in (place, scan.area) if name in self._resting), "")
        where = "in area" if rests in self._vault.site.areas else "on tier"
        return self._braked or (f"nothing is removed {where} {rests} now" if rests else "")

    def _queue_step(self, tx: Any, view: View, area: AreaFacts, step: Step, now: datetime) -> bool:
        """Whether a job was queued, which would else be a repetition. An archive says where its copies are to go, so
        that it has its turn at the drives there.
        """
        scan, order = view.scan, dict[str, Any](stage=step.stage.value)
        if step.action == "archive":
            order["tiers"] = self._vault.archive_tiers(self._vault.asks(scan, area, now).archive_tiers)
        job = self._vault.queue_in(
            tx,
            scan.area,
            step.action,
            scan.id,
            order,
            dedup_key=f"{step.action}:{scan.id}:{fingerprint(view, step.stage)}",
            rule=view.wants.by.get(step.stage, ""),
            now=now,
        )
        return job is not None

    def _second_look(self, tx: Any, scan: KnownScan, permit: Permit, now: datetime) -> None:
        replica = next(r for r in scan.replicas if r.id == permit.replica)
        if why := self._why_braked(scan, replica.tier):
            self.alarms[f"permit {permit.id}"] = Alarm(scan.area, f"{scan.name} stays in quarantine: {why}")
            return
        try:
            regrant(self._vault, tx, scan, permit, now)
        except Refused as refusal:
            if refusal.by == BY_WARNING:
                self._warn_of_second(tx, scan, permit, now)
            log.warning("removal stays in quarantine", scan=scan.name, permit=permit.id, reason=refusal.message)
            self.alarms[f"permit {permit.id}"] = Alarm(
                scan.area, f"{scan.name} stays in quarantine: {refusal.message} ({refusal.by})"
            )
            return
        self.alarms.pop(f"permit {permit.id}", None)
        in_place = permit.ordered_by and replica.tier not in self._vault.site.areas
        action = "destroy" if in_place else "empty_quarantine"
        self._vault.queue_in(
            tx,
            area_of_removal(self._vault, scan, permit),
            action,
            scan.id,
            {"permit": permit.id},
            dedup_key=f"{action}:{permit.id}:{len(_emptyings(scan, permit))}",
            rule=permit.rule,
            now=now,
        )

    def _warn_of_second(self, tx: Any, scan: KnownScan, permit: Permit, now: datetime) -> None:
        """The owner will be warned of what is in quarantine by a rule that asks for warnings only now, or anew."""
        replica = next(r for r in scan.replicas if r.id == permit.replica)
        facts = place_facts(self._vault, tx, replica.tier, now, limits=False)
        warn_owners(self._vault, tx, facts, [Leaving(scan, replica, rule_of(self._vault, scan, permit))], now)

    def _next_look(self, scan: KnownScan, area: AreaFacts, now: datetime) -> datetime | None:
        dates = []
        for permit in scan.permits:
            if permit.phase is RemovalPhase.QUARANTINED and permit.hold_until is not None:
                dates.append(permit.hold_until if permit.hold_until > now else now + _REFUSED_AGAIN)
            if permit.phase is RemovalPhase.LEAVING:
                dates.append(now + _REFUSED_AGAIN)
        if scan.verdict in (Verdict.INCOMPLETE, Verdict.UNDECIDED):
            dates.append(scan.changed_at + timedelta(seconds=self._vault.site.watch.keep_after_s))
        if area.exceeded.holding(scan):
            dates.append(now + _HELD_AGAIN)
        by_policy = next_look(scan, self._vault.policy_of(scan.area), area, now)
        if by_policy is not None:
            dates.append(by_policy)
        return min((d for d in dates if d > now), default=None)


def _is_to_go(scan: KnownScan, permit: Permit, now: datetime) -> bool:
    """Whether a second look is due: after the hold, and again where a pin stopped the second phase at its door."""
    if permit.phase is RemovalPhase.QUARANTINED:
        return permit.hold_until is None or permit.hold_until <= now
    over = all(status is JobStatus.SUCCEEDED for status in _emptyings(scan, permit))
    return permit.phase is RemovalPhase.LEAVING and over


def _emptyings(scan: KnownScan, permit: Permit) -> list[JobStatus]:
    return [j.status for j in scan.jobs if j.action in _SECOND_PHASES and j.order.get("permit") == permit.id]


def fingerprint(view: View, stage: Stage) -> str:
    """Changes whenever a fact that a step may rest on does: the same step is never tried twice on the same facts.

    A preview and a volume rest on the package on disk, and on what there is of them, and on nothing else.
    """
    scan = view.scan
    rests_on: tuple[object, ...] = (scan.identity, scan.verdict)
    if stage in _MADE_AT:
        counted = (ProductKind.ORIGINAL, _MADE_AT[stage])
        near = [r for r in scan.replicas if r.product in counted and r.tier_class in (TierClass.FAST, TierClass.SERVER)]
        rests_on += (sorted((r.id, r.state.value) for r in near if r.form is not Form.FILES),)
    else:
        rests_on += (
            sorted(asdict(view.facts).items()),
            sorted((r.id, r.state.value) for r in scan.replicas),
            sorted(p.digest for p in scan.products),
            sorted((p.id, p.phase.value) for p in scan.permits),
            scan.accepted_by,
        )
    return hashlib.sha256(repr(rests_on).encode("utf-8", "surrogateescape")).hexdigest()[:16]
