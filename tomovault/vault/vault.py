"""A site made live: its configuration, its catalogue, its policies, and what they say of each scan."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tomovault.catalog.catalogue import Catalogue
from tomovault.catalog.work import Late, area_bytes, leaving_beside, list_overdue
from tomovault.core.destruction import withdrawn
from tomovault.core.errors import AreaAbsent, UserError
from tomovault.core.known import KnownScan, facts_of
from tomovault.core.life import Facts, Stage, Standing, Status, Wants, standings
from tomovault.core.replica import Form, ProductKind, ReplicaState, TierClass
from tomovault.core.scan import ScanReport
from tomovault.policy.area_facts import AreaFacts
from tomovault.policy.awaited import asked_before_removal
from tomovault.policy.decide import wants_of
from tomovault.policy.due import asked_by_rules, overdue
from tomovault.policy.limits import Exceeded
from tomovault.policy.matching import Asks, asks_of, matches_of
from tomovault.policy.removing import fates_of_made
from tomovault.policy.warning import with_warning
from tomovault.tiers.failure_domain import disk_domain
from tomovault.vault.exports import WantedExport, wanted_exports, with_exports
from tomovault.vault.limits import find_exceeded
from tomovault.vault.plugins import is_installed
from tomovault.vault.policy_files import Trouble, policies_in_force, troubles
from tomovault.vault.site import Site, load_site
from tomovault.vault.whose import whose
from tomovault.watch.area import AreaIdentity, Space, disk_space

if TYPE_CHECKING:
    from tomovault.catalog.areas import Area as RecordedArea
    from tomovault.policy.document import Policy
    from tomovault.vault.site import Area
    from tomovault.vault.site_settings import TierSettings

#: So many copies one look at an area asks the rules about, the scans of a hundred at a time: a fraction of a second.
_LOOKED_AT = 1000
_AT_A_TIME = 100


@dataclass(frozen=True)
class View:
    """One scan as the rules see it now."""

    scan: KnownScan
    facts: Facts
    wants: Wants
    standings: dict[Stage, Standing]
    #: The limits that are exceeded and that its data count in.
    limits: tuple[str, ...] = ()
    #: What rules want to be sent of it.
    exports: tuple[WantedExport, ...] = ()
    #: What rules say of its volumes and previews, where they may let them go.
    fates: tuple[str, ...] = ()

    @property
    def due_exports(self) -> tuple[WantedExport, ...]:
        """Those that are to be asked for now."""
        due = self.standings[Stage.EXPORTED].status is Status.DUE
        return tuple(one for one in self.exports if one.is_due) if due else ()


class Vault:
    """The one place where configuration, catalogue and policies meet."""

    def __init__(self, site: Site, catalogue: Catalogue) -> None:
        self.site = site
        self.catalogue = catalogue
        #: The rules that decide, by the name of their policy. A daemon puts another mapping here when files change.
        self.policies: Mapping[str, Policy] = site.policies
        #: The room on an area's file system; a daemon has it measured elsewhere, since a file server may hang.
        self.space_of: Callable[[Area | TierSettings], Space | None] = _measured_space
        #: Areas whose file servers are known not to answer: they are asked nothing.
        self.silent: frozenset[str] = frozenset()

    @classmethod
    def open(cls, folder: Path, *, upgrade: bool = True, as_recorded: bool = False) -> Vault:
        """The site in `folder` with its catalogue at the newest schema. Raises UserError, Transient, and Refused where
        the catalogue is of an older one and others may be using it.

        `as_recorded`: where the file of a policy is wrong, the rules are those that a daemon last took up.
        """
        site = load_site(folder, policies=not as_recorded)
        catalogue = open_catalogue(site)
        try:
            if upgrade:
                catalogue.upgrade(asked=False)
            if as_recorded:
                site = replace(site, policies=_policies_of(site, catalogue))
        except BaseException:
            catalogue.close()
            raise
        return cls(site, catalogue)

    def close(self) -> None:
        """The catalogue's connections are closed."""
        self.catalogue.close()

    @cached_property
    def host(self) -> str:
        """The name under which areas are assigned to machines: TOMOVAULT_HOST, else what this machine calls itself."""
        return os.environ.get("TOMOVAULT_HOST") or socket.gethostname()

    @property
    def shared(self) -> bool:
        """Whether daemons of several machines may work on this catalogue: not with SQLite."""
        return self.catalogue.sqlite_path is None

    @cached_property
    def daemon_name(self) -> str:
        """What the log and the word of this machine's daemon are called in the run folder."""
        return "daemon-" + word_of(self.host) if self.shared else "daemon"

    @cached_property
    def run_folder(self) -> Path:
        """Where jobs, guard files and logs live."""
        return Path(self.site.folder) / "run"

    @cached_property
    def heads_file(self) -> Path:
        """Where heads of the audit log are exported to, one a line: outside the catalogue that they prove."""
        return Path(self.site.folder) / "audit-heads.jsonl"

    def export_head(self) -> None:
        """The head of the audit log is exported. Raises OSError or Transient."""
        with self.catalogue.reading() as tx:
            self.catalogue.export_head(tx, str(self.heads_file))

    def exported_head(self) -> tuple[int, str] | None:
        """The last head that was exported; None before the first. Raises IntegrityError for a damaged file."""
        if not self.heads_file.exists():
            return None
        return self.catalogue.read_exported(str(self.heads_file))

    def record_places(self, tx: Any, area: str, identity: AreaIdentity, now: datetime) -> None:
        """The area and every tier of the site are in the catalogue, with whether their copies count (law 4)."""
        conf = self.site.areas[area]
        self.catalogue.record_area(
            tx,
            area,
            path=str(conf.path),
            uuid=identity.uuid or "",
            fsid=identity.fsid,
            mount_source=identity.mount_source,
            simulated=identity.simulated,
            tier_class=TierClass(conf.tier_class),
            now=now,
        )
        self.record_tiers(tx)

    def record_tiers(self, tx: Any) -> None:
        """Every tier is in the catalogue, and every area in its class. The emulated library counts as a copy on a
        simulated site only,

        that is where the site says so and the marker of every area that is recorded says so too.
        """
        areas = self.catalogue.list_areas(tx)
        for area in areas:
            conf = self.site.areas.get(area.name)
            if conf is not None and area.tier_class is not TierClass(conf.tier_class):
                self._record_class(tx, area, TierClass(conf.tier_class))
        marked = all(a.simulated for a in areas)
        for name, tier in self.site.tiers.items():
            counts = tier.kind != "emulated_library" or (self.site.simulated and marked)
            self.catalogue.record_tier(tx, name, tier.tier_class, counts=counts)

    def _record_class(self, tx: Any, area: RecordedArea, tier_class: TierClass) -> None:
        """An area is of the class that the site's file says now: law 4 asks about it."""
        self.catalogue.record_area(
            tx,
            area.name,
            path=area.path,
            uuid=area.uuid,
            fsid=area.fsid,
            mount_source=area.mount_source,
            simulated=area.simulated,
            tier_class=tier_class,
            now=datetime.now(UTC),
        )

    def identity_of(self, tx: Any, area: str) -> AreaIdentity:
        """By what an area is recognised. Raises Transient if it was never marked."""
        for row in self.catalogue.list_areas(tx):
            if row.name == area:
                return AreaIdentity(row.uuid or None, row.simulated, row.fsid, row.mount_source, area)
        raise AreaAbsent(f"area {area} was never marked", hint="tomovault area add NAME=PATH")

    def whose_in(self, area: str) -> Callable[[ScanReport], Mapping[str, tuple[str, str]]]:
        """Tells whose a scan of an area is, with the source of each answer."""
        conf = self.site.areas.get(area)
        return (lambda report: whose(report, conf)) if conf is not None else (lambda _report: {})

    def area(self, name: str) -> Area:
        """The settings of an area. Raises UserError for one that the site's file does not have (any more)."""
        try:
            return self.site.areas[name]
        except KeyError:
            raise UserError(
                f"there is no area {name!r} in tomovault.yaml",
                hint="its scans rest until it stands there again: tomovault area add NAME=PATH",
            ) from None

    def unwatched(self, area: str, hosts: Collection[str] = ()) -> str:
        """Why no daemon on this machine, nor on others of these hosts, watches an area; '' if one does."""
        host = self.area(area).host
        if host is None or host == self.host or host in hosts:
            return ""
        told = f"not watched from here: it is for the machine {host}"
        return f"{told}, where no daemon runs" if self.shared else f"{told}, and one daemon leads a site on SQLite"

    def left_areas(self, tx: Any) -> frozenset[str]:
        """Areas that the catalogue knows and the site's file does not have any more; nothing is done there."""
        return frozenset(a.name for a in self.catalogue.list_areas(tx)) - self.site.areas.keys()

    def policy_of(self, area: str) -> Policy:
        """The policy of an area that is in force."""
        return self.policies[self.area(area).policy]

    def policy_troubles(self, tx: Any) -> dict[str, Trouble]:
        """What is wrong with the file of an area's policy as it is now, by area."""
        names = {area.policy for area in self.site.areas.values()}
        found = troubles(self.site.folder, sorted(names), self.catalogue.recorded_policies(tx))
        return {name: found[area.policy] for name, area in self.site.areas.items() if area.policy in found}

    # --- places ----------------------------------------------------------------------------------

    def archive_tiers(self, named: Collection[str] = ()) -> tuple[str, ...]:
        """The tiers that archive a scan: those of class archive, or of them the `named` ones, if any is named.

        Where one of them is real, those whose copies count for no removal (law 4) are left out.
        """
        every = [n for n, t in self.site.tiers.items() if t.tier_class is TierClass.ARCHIVE]
        chosen = [n for n in every if n in named] if named else every
        return tuple([n for n in chosen if self._may_count(n)] or chosen)

    def _may_count(self, tier: str) -> bool:
        """Whether copies on a tier may count for a removal by the site's file alone."""
        return self.site.simulated or self.site.tiers[tier].kind != "emulated_library"

    def asks(self, scan: KnownScan, area: AreaFacts, now: datetime) -> Asks:
        """The settings that the rules of its area ask for one scan."""
        return asks_of(scan, self.policy_of(scan.area), area, now)

    def domain_of(self, area: str, path: str) -> str:
        """The failure domain of a folder of an area: its backing device, or the area itself where simulated."""
        if self.site.simulated:
            return f"area:{area}"
        return disk_domain(path)

    def vault_folder(self, scan: KnownScan) -> Path:
        """Where a scan's package, preview and volume are kept: the scan's place below its area, in the vault."""
        area = self.area(scan.area)
        below = os.path.relpath(scan.root, area.path)
        if below.startswith("..") and scan.candidate is not None:  # the texts of a split scan are outside of its area
            below = os.path.relpath(scan.candidate.folder, area.path)
        return Path(area.vault) if below in (".", "") or below.startswith("..") else Path(area.vault, below)

    def quarantine_of(self, below: str, permit: str) -> str:
        """The quarantine folder of a permit: on the same file system, where the walker does not look."""
        return str(Path(below, ".tomovault", "quarantine", permit))

    # --- what is known and wanted ----------------------------------------------------------------

    def exceeded(self, tx: Any, now: datetime) -> Exceeded:
        """The limits of the section `quotas` that are exceeded now."""
        return find_exceeded(tx, self.site.quotas.quotas, now)

    def area_facts(
        self, tx: Any, area: str, now: datetime, *, draining: bool = False, limits: bool = True
    ) -> AreaFacts:
        """How full an area is, by the catalogue's roll-up and, where the file system says less is free, by that.

        Without `limits` it is not asked which of the section `quotas` are exceeded: no removal rests on that.
        """
        conf = self.area(area)
        known, quarantine = area_bytes(tx, area)
        quota, used = believed(conf.quota, self.space_of(conf), known, leaving_beside(tx, area))
        return AreaFacts(
            name=area,
            tier_class=TierClass(conf.tier_class),
            prune_on=conf.prune,
            reduce_on=conf.reduce,
            used_fraction=used / quota if quota else 0.0,
            high=conf.high,
            low=conf.low,
            quota_bytes=quota,
            used_bytes=used,
            quarantine_bytes=quarantine,
            simulated=self.site.simulated,
            draining=draining,
            unknown_bytes=used - known,
            exceeded=self.exceeded(tx, now) if limits else Exceeded(),
            prices=self.site.costs.of(area) if self.site.costs is not None else None,
            warn=timedelta(seconds=self.site.notify.warn_s if self.site.notify is not None else 0.0),
        )

    def view(self, scan: KnownScan, area: AreaFacts, now: datetime, *, warnings: bool = True) -> View:
        """Facts, wants and standings of one scan; without `warnings` as if nobody had to be warned of a removal."""
        policy = self.policy_of(scan.area)
        matches = matches_of(scan, policy, area, now)
        wants = wants_of(scan, policy, area, now, matches)
        asks = asks_of(scan, policy, area, now, matches)
        facts = facts_of(
            scan,
            now=now,
            keep_after=timedelta(seconds=self.site.watch.keep_after_s),
            wanted_tiers=frozenset(asks.tiers),
            wanted_files=frozenset(move.to for move in asks.moves),
            archive_wanted=asks.copies,
            uncounted=frozenset(self.site.tiers) - frozenset(self.archive_tiers(asks.archive_tiers)),
        )
        if scan.superseded_by and not facts.package:
            why = "overwritten in place before it was packed"
            if scan.found_again:
                why = f"it is the same scan as {scan.superseded_by}, found again here"
            wants = Wants(held=dict.fromkeys(Stage, why))
        elif Stage.RECONSTRUCTED in wants.by and Stage.ACCEPTED not in wants.by:
            wants = replace(wants, by={**wants.by, Stage.ACCEPTED: wants.by[Stage.RECONSTRUCTED]})
        wants = _without_plugin(_without_destroyed(scan, wants, asks.tiers))
        if not facts.package:
            wants = _until_reread(scan, wants)
        exports = wanted_exports(self.site, scan, [(policy.cite(one.match.rule), one) for one in asks.exports])
        facts, wants = with_exports(scan, facts, wants, exports)
        if Stage.RECONSTRUCTED in wants.by and (over := area.exceeded.holding(scan)):
            wants = replace(wants, held={**wants.held, Stage.RECONSTRUCTED: over})
        if warnings:
            wants = with_warning(wants, scan, policy, area, now)
        if not facts.complete:
            wants = replace(wants, later={**wants.later, Stage.COMPLETE: _why_incomplete(scan)})
        fates = fates_of_made(scan, policy, area, now, matches)
        return View(scan, facts, wants, standings(facts, wants), area.exceeded.texts(scan), exports, fates)

    def queue_in(
        self,
        tx: Any,
        area: str,
        action: str,
        scan: str | None,
        order: Mapping[str, Any],
        *,
        dedup_key: str,
        rule: str,
        now: datetime,
    ) -> str | None:
        """An action in an area is queued, for the machine that watches it: see `catalog.jobs.queue_job`."""
        job: str | None = self.catalogue.queue_job(
            tx, action, scan, order, dedup_key=dedup_key, rule=rule, now=now, place=area, host=self.area(area).host
        )
        return job

    def verified_within(self, area: str) -> dict[TierClass, timedelta]:
        """How recently a copy must have been re-read to be relied on, by class of tier."""
        policy = self.policy_of(area)
        disk, archive = policy.verified_within()
        return {
            TierClass.FAST: disk,
            TierClass.SERVER: disk,
            TierClass.ARCHIVE: archive,
            TierClass.REMOTE: archive,
        }

    def overdue(
        self,
        tx: Any,
        area: str,
        now: datetime,
        *,
        limit: int,
        skip: Collection[str] = (),
        after: Late | None = None,
        places: Sequence[AreaFacts] = (),
    ) -> tuple[list[Late], Late | None]:
        """Copies that were re-read too long ago, oldest first: to be counted on when something is removed, or for a
        `verify` rule that holds for the scan, or a `prune` rule that else would let something of it go from one of the
        `places`, as they stand, or from the area. Replicas to skip are left out.

        With them comes where the next look begins, if this one was not through with all that may be due.
        """
        within = self.verified_within(area)
        policy = self.policy_of(area)
        sooner = [r.settings.verified_within for r in policy.rules if r.settings.verified_within is not None]
        if sooner:
            facts = self.area_facts(tx, area, now)
            places = places if any(one.name == area for one in places) else (*places, facts)
            sooner = [*asked_by_rules(policy), *asked_before_removal(policy, area, places)]
        if not sooner:
            found = list_overdue(tx, area, within, now, limit=limit, skip=skip, after=after)
            return found, (found[-1] if len(found) == limit else None)
        tightest = {kind: min(period, *sooner) for kind, period in within.items()}
        suspects = list_overdue(tx, area, tightest, now, limit=_LOOKED_AT, skip=skip, after=after)
        found = []
        for start in range(0, len(suspects), _AT_A_TIME):
            batch = suspects[start : start + _AT_A_TIME]
            scans = self.catalogue.known_many(tx, list(dict.fromkeys(one.scan for one in batch)))
            late = {r.id for scan in scans for r in overdue(scan, policy, facts, now, places=places)}
            found += [one for one in batch if one.replica in late]
            if len(found) >= limit:
                return found[:limit], found[limit - 1]
        return found, (suspects[-1] if len(suspects) == _LOOKED_AT else None)


def _without_destroyed(scan: KnownScan, wants: Wants, tiers: Collection[str]) -> Wants:
    """What a person destroyed is wanted no more; `tiers` are those that rules want a copy on."""
    gone = withdrawn(scan, tiers)
    return Wants({s: by for s, by in wants.by.items() if s not in gone}, {**wants.held, **gone}, wants.later)


def _until_reread(scan: KnownScan, wants: Wants) -> Wants:
    """Nothing is packed or archived anew while there are packages that only wait for being re-read, as after the
    catalogue was rebuilt from them.
    """
    packages = scan.replicas_of(ProductKind.ORIGINAL, Form.PACKAGE)
    if not any(r.state is ReplicaState.PRESENT for r in packages):
        return wants
    why = f"its packages are known from the media alone and wait to be re-read: tomovault verify {scan.id}"
    return replace(wants, held={**wants.held, Stage.PACKED: why, Stage.ARCHIVED: why})


def _without_plugin(wants: Wants) -> Wants:
    """A rule may want a reduction where nothing is installed that carries one out."""
    if Stage.REDUCED not in wants.by or is_installed("actions", "reduce"):
        return wants
    return replace(wants, held={**wants.held, Stage.REDUCED: "nothing is installed that reduces: it stays as it is"})


def _why_incomplete(scan: KnownScan) -> str:
    if not scan.settled:
        return "it is still being written, or settling"
    problems = scan.certificate.problems
    return f"the certificate says {scan.verdict}" + (f": {problems[0]}" if problems else "")


def open_catalogue(site: Site) -> Catalogue:
    """The site's catalogue, as it is. Raises UserError where it cannot be used, Transient where not now."""
    return Catalogue.open(site.catalogue, manifests=str(Path(site.folder) / "manifests"))


def _policies_of(site: Site, catalogue: Catalogue) -> Mapping[str, Policy]:
    names = {area.policy for area in site.areas.values()}
    try:
        return policies_in_force(site.folder, names, ())
    except UserError:
        with catalogue.reading() as tx:
            return policies_in_force(site.folder, names, catalogue.recorded_policies(tx))


def word_of(host: str) -> str:
    """The name of a machine with nothing in it that a file's name or a holder's may not have."""
    return "".join(c if c.isalnum() or c in "-." else "-" for c in host)[:60]


def _measured_space(place: Area | TierSettings) -> Space | None:
    return disk_space(place.path)


def believed(quota: int | None, space: Space | None, known: int, beside: int) -> tuple[int, int]:
    """(limit, bytes used of it), where the smaller free space is believed: by the catalogue, or by the file system, on
    which others may write, too; what is leaving `beside`, from other areas there, is room to come. Without a quota the
    file system is the limit; (0, known) where nothing is known of it.
    """
    if space is None:
        return quota or 0, known
    limit = space.total if quota is None else quota
    return limit, max(known, limit - space.free - beside)
