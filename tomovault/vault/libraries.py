"""The libraries of a site as the rule for recalls sees them: their drives, and what each job would have them do."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from tomovault.catalog.recalls import Errand, Held
from tomovault.core.errors import TomovaultError
from tomovault.core.ports import DriveState, DriveTier, Stretch
from tomovault.core.replica import Form, ProductKind, ReplicaState, TierClass
from tomovault.recall.request import Copy, Kind, Request
from tomovault.recall.timing import Timing
from tomovault.recall.tour import Span
from tomovault.tiers.options import timing_option
from tomovault.vault.site_settings import Site
from tomovault.vault.workbench import open_tier

log = structlog.get_logger(__name__)

#: So long what was learnt of where bundles lie is believed: cartridges come and go.
_BELIEVED = timedelta(minutes=1)


@dataclass(frozen=True)
class Placing:
    """What a job would have a library do; and by the cartridge that is chosen, which location it reads or, for an
    archive, in which domain it begins.
    """

    request: Request
    begins: Mapping[str, str]


class Library:
    """A tier with drives. What it says of its cartridges is kept for a while, since its list of them may be long."""

    def __init__(self, name: str, tier: DriveTier, timing: Timing) -> None:
        self.name = name
        self.timing = timing
        self._tier = tier
        self._lying: dict[str, Stretch | None] = {}
        self._writing: dict[str, Stretch | None] = {}
        self._learnt_at: datetime | None = None

    def drives(self) -> Sequence[DriveState]:
        """Every drive; none where the library cannot be asked now."""
        try:
            return self._tier.drives()
        except (TomovaultError, OSError) as problem:
            log.info("a library cannot be asked for its drives", tier=self.name, reason=str(problem))
            return ()

    def requests(self, errands: Sequence[Errand], now: datetime) -> dict[str, Placing]:
        """What each job would have the library do, by the job's id; those that need none of its cartridges are left
        out, and where the library cannot be asked now, all.
        """
        if self._learnt_at is None or not timedelta(0) <= now - self._learnt_at < _BELIEVED:
            self._lying, self._writing, self._learnt_at = {}, {}, now
        wanted = {errand.job: self._wanted(errand) for errand in errands}
        try:
            self._learn([copy.location for copies in wanted.values() for copy in copies])
            return {
                errand.job: placing
                for errand in errands
                if (placing := self._placing(errand, wanted[errand.job], now)) is not None
            }
        except (TomovaultError, OSError) as problem:
            log.info("a library cannot be asked where things lie", tier=self.name, reason=str(problem))
            return {}

    def _learn(self, locations: Sequence[str]) -> None:
        new = [location for location in dict.fromkeys(locations) if location not in self._lying]
        if new:
            self._lying.update({**dict.fromkeys(new), **self._tier.lay(new)})

    def _wanted(self, errand: Errand) -> list[Held]:
        """The copies here that the job may read, or is to read."""
        here = [copy for copy in errand.copies if copy.tier == self.name]
        if errand.action == "verify":
            named = frozenset(errand.order.get("replicas") or ())
            return [copy for copy in here if not named or copy.replica in named]
        if errand.action != "restore" or _is_near(errand):
            return []
        return [copy for copy in here if _may_be_restored(copy, errand)]

    def _placing(self, errand: Errand, wanted: Sequence[Held], now: datetime) -> Placing | None:
        arrival = min(errand.queued_at, now).timestamp()  # a clock that was put back makes nobody wait
        if errand.action == "archive":
            return self._archive(errand, arrival)
        lying = [(copy, stretch) for copy in wanted if (stretch := self._lying.get(copy.location)) is not None]
        if not lying:
            return None
        size = max(copy.bytes for copy, _ in lying)
        if errand.action == "verify":
            # All of them are read, whichever is begun with.
            size, lying = sum(copy.bytes for copy, _ in lying), lying[:1]
        copies = tuple(_copy_of(stretch) for _, stretch in lying)
        request = Request(errand.job, Kind(errand.action), arrival, size, copies)
        return Placing(request, {stretch.cartridge: copy.location for copy, stretch in lying})

    def lacking(self, errand: Errand) -> list[str]:
        """The domains here without a good copy of what an archive is about."""
        held = {copy.domain for copy in _packages(errand) if copy.state is ReplicaState.VERIFIED}
        return [domain for domain in self._tier.domains() if domain not in held]

    def _archive(self, errand: Errand, arrival: float) -> Placing | None:
        """Each of the domains here that lack a copy is one that the job may begin with."""
        lacking = self.lacking(errand)
        if not lacking:
            return None
        ends = {domain: self._end_of(domain) for domain in lacking}
        size = max((copy.bytes for copy in _packages(errand)), default=0)
        copies = tuple(_copy_of(end) for end in ends.values())
        request = Request(errand.job, Kind.ARCHIVE, arrival, size, copies)
        return Placing(request, {end.cartridge: domain for domain, end in ends.items()})

    def _end_of(self, domain: str) -> Stretch:
        if domain not in self._writing:
            self._writing[domain] = self._tier.writes_to(domain)
        return self._writing[domain] or Stretch(f"a new one of {domain}", 0.0, 0.0)


def open_libraries(site: Site) -> dict[str, Library]:
    """The tiers of a site that have drives, by name."""
    found = {}
    for name, conf in site.tiers.items():
        tier = open_tier(site, name)
        if isinstance(tier, DriveTier):
            found[name] = Library(name, tier, timing_option(name, conf.options))
    return found


def share_out(
    errands: Sequence[Errand], libraries: Mapping[str, Library], there: Collection[str]
) -> dict[str, list[Errand]]:
    """For each library the errands that may need it. An archive needs only the one that its next copies go to; none if
    that is a tier without drives. `there`: the tiers that are there now.
    """
    shares: dict[str, list[Errand]] = {name: [] for name in libraries}
    for errand in errands:
        goes_to = _destination(errand, libraries, there)
        for name, share in shares.items():
            if goes_to in (name, None):
                share.append(errand)
    return shares


def _destination(errand: Errand, libraries: Mapping[str, Library], there: Collection[str]) -> str | None:
    """Where an archive's order will send it: to the first of its tiers that is there and lacks a copy; '' if none does.
    None where nobody knows: no other job is bound to one tier, and an older job does not tell its tiers.
    """
    tiers = errand.order.get("tiers") if errand.action == "archive" else None
    if not tiers:
        return None
    holding = {copy.tier for copy in _packages(errand) if copy.state is ReplicaState.VERIFIED}

    def lacks_one(tier: str) -> bool:
        library = libraries.get(tier)
        if library is None:
            return tier not in holding
        try:
            return bool(library.lacking(errand))
        except (TomovaultError, OSError):
            return True

    return next((tier for tier in tiers if tier in there and lacks_one(tier)), "")


def _packages(errand: Errand) -> list[Held]:
    return [copy for copy in errand.copies if copy.product is ProductKind.ORIGINAL and copy.form is Form.PACKAGE]


def _is_near(errand: Errand) -> bool:
    """Whether a copy on a disk serves a restore."""
    good = [copy for copy in errand.copies if _may_be_restored(copy, errand)]
    return any(copy.tier_class is not TierClass.ARCHIVE for copy in good)


def _may_be_restored(copy: Held, errand: Errand) -> bool:
    """As `order_restore` chooses."""
    kind, only = errand.order.get("product", ProductKind.ORIGINAL.value), errand.order.get("from")
    good = copy.form is Form.PACKAGE and copy.state is ReplicaState.VERIFIED and copy.product.value == kind
    return good and only in (None, copy.tier)


def _copy_of(stretch: Stretch) -> Copy:
    return Copy(stretch.cartridge, Span(stretch.start, stretch.end))
