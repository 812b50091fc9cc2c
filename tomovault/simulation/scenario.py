"""What is simulated: the areas as they stand, what arrives, and what the machines can do. Plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from tomovault.core.known import KnownScan
from tomovault.core.replica import TierClass
from tomovault.policy.document import Policy
from tomovault.policy.prices import Prices

DAY_S = 86400.0


@dataclass(frozen=True)
class AreaPlan:
    """An area as it stands on the first day. `share` weighs how much of what arrives is written there.

    `start_bytes` are on its disk at the start.
    Nothing of ours is written that would leave less than `floor_bytes` free. `warn` is how long before a removal owners
    are warned where the rule does not say.
    """

    name: str
    quota: int
    policy: Policy
    start_bytes: int = 0
    share: float = 1.0
    tier_class: TierClass = TierClass.SERVER
    high: float = 0.85
    low: float = 0.75
    prune: bool = True
    floor_bytes: int = 0
    beamline: str | None = None
    warn: timedelta = timedelta(0)
    prices: Prices | None = None


@dataclass(frozen=True)
class Loss:
    """On that day every copy in the failure domain turns out to be bad."""

    day: float
    domain: str


@dataclass(frozen=True)
class TapePlan:
    """An archive tier: its failure domains, and whether its copies count for a removal (law 4).

    Where copies are kept for a time only, they are gone `forgets_s` seconds after they were written.
    """

    name: str
    domains: tuple[str, ...]
    counts: bool = True
    cartridge_bytes: int = 18 * 10**12
    forgets_s: float | None = None


@dataclass(frozen=True)
class Machines:
    """What is done in a second. Rates are bytes of the originals per second, except of drives and disks: of packages.

    `package_share` and `volume_share` are the bytes of a package and of a volume for each byte of the original.
    """

    pack_bps: float = 167e6
    pack_bps_while_written: float = 45e6
    package_share: float = 0.61
    drives: int = 2
    drive_bps: float = 300e6
    mount_s: float = 98.0
    rewind_s: float = 59.0
    move_bps: float = 300e6
    reread_bps: float = 200e6
    reconstruct_bps: float = 20e6
    volume_share: float = 1.0


@dataclass(frozen=True)
class ScanKind:
    """A kind of scan and its share of the number of scans."""

    size: int
    weight: float
    files: int = 2000
    width: int = 2048
    height: int = 2048


@dataclass(frozen=True)
class Arrivals:
    """One beam time follows another; in each, scan upon scan is written to one area at a steady pace."""

    bytes_per_day: float = 1e12
    shortest_s: float = 1 * DAY_S
    longest_s: float = 4 * DAY_S
    kinds: tuple[ScanKind, ...] = (
        ScanKind(16 * 10**9, 0.85),
        ScanKind(64 * 10**9, 0.148, files=8000),
        ScanKind(10**12, 0.002, files=8000, width=8192, height=8192),
    )
    #: The scans that are there at the start were written over so long a time before it.
    start_age_s: float = 180 * DAY_S


@dataclass(frozen=True)
class People:
    """What people do: so many ask for a scan's data a day, of scans about so old; so many volumes are accepted."""

    recalls_per_day: float = 2.0
    recall_age_s: float = 30 * DAY_S
    accept_share: float = 0.9
    accept_after_s: float = 7 * DAY_S


@dataclass(frozen=True)
class Scenario:
    """Everything that a simulation is made from; two of equal scenarios are equal."""

    areas: Mapping[str, AreaPlan]
    tapes: tuple[TapePlan, ...] = (TapePlan("tape", ("tape:A", "tape:B")),)
    machines: Machines = Machines()
    arrivals: Arrivals = Arrivals()
    people: People = People()
    losses: tuple[Loss, ...] = ()
    days: int = 365
    seed: int = 0
    start: datetime = datetime(2030, 1, 1, tzinfo=UTC)
    hold: timedelta = timedelta(days=14)
    quarantine_share: float | None = 0.25
    quarantine_bytes: int | None = None
    pin: timedelta = timedelta(days=14)
    quiet: timedelta = timedelta(seconds=60)
    keep_after: timedelta = timedelta(days=7)
    #: Whether the areas are filled with scans that are made up; else what is there at the start and is not of the
    #: scans that are known belongs to nobody, and stays.
    make_up_scans: bool = True
    #: Scans that are known at the start, with their copies.
    scans: tuple[KnownScan, ...] = field(default=(), repr=False)

    def quarantine_limit(self, area: AreaPlan) -> int:
        """The most bytes in an area's quarantine."""
        if self.quarantine_bytes is not None:
            return self.quarantine_bytes
        return int((self.quarantine_share or 0.0) * area.quota)

    @property
    def end_s(self) -> float:
        """Seconds from the start to the end."""
        return self.days * DAY_S
