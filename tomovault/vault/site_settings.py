"""What a site file says, with every default filled in: plain values, and where its policies lie."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tomovault.core.notice import Topic
from tomovault.core.replica import TierClass
from tomovault.policy.limits import Quotas
from tomovault.policy.prices import Costs
from tomovault.recall.request import Limits

if TYPE_CHECKING:
    from tomovault.policy.document import Policy
    from tomovault.policy.forecast import BeamTime

SITE_FILE = "tomovault.yaml"
POLICIES = "policies"

#: The share of a file system kept free for the acquisition, the least of it in bytes, and the most of it.
FLOOR_SHARE, FLOOR_LEAST, FLOOR_MOST_SHARE = 0.01, 10**9, 0.1

#: What a file server is taken to deliver, in bytes per second, where `guard.full` does not say: a tenth of what one
#: 8192 x 8192 16-bit camera at 30 frames a second writes, so a share of it stays out of any acquisition's way.
ASSUMED_SERVER_BPS = 400e6


@dataclass(frozen=True)
class WatchSettings:
    """How often areas are looked at, how long a scan must rest, and when an unfinished one is kept as found."""

    poll_s: float
    quiet_s: float
    keep_after_s: float


@dataclass(frozen=True)
class Area:
    """A watched folder. `quota` is None where the size of its file system is the quota.

    `template` is a path below the area with named groups, such as '{proposal}/{sample}'. `folders` are patterns of
    folders below the area that are each one scan, whatever is in them; `folder_done` of the file that ends each.
    """

    name: str
    path: str
    vault: str
    tier_class: TierClass
    quota: int | None
    high: float
    low: float
    beamline: str | None
    policy: str
    prune: bool
    reduce: bool
    host: str | None
    template: str | None
    floor_given: int | None
    folders: tuple[str, ...] = ()
    folder_done: str | None = None

    @property
    def floor(self) -> int:
        """Bytes kept free for the acquisition, by default from the file system's size as it is now.

        1 % of it, at least 1 GB, but never more than a tenth of it; 1 GB while the area cannot be read.
        """
        if self.floor_given is not None:
            return self.floor_given
        try:
            found = os.statvfs(self.path)
        except OSError:
            return FLOOR_LEAST
        total = found.f_frsize * found.f_blocks
        return int(min(max(FLOOR_SHARE * total, FLOOR_LEAST), FLOOR_MOST_SHARE * total))


@dataclass(frozen=True)
class Marks:
    """Between which marks a tier that is no area is kept. `quota` is None where its file system's size is the quota.

    A tier of class archive has no `low` mark, and nothing is ever removed there because of the high one.
    """

    high: float
    low: float | None
    quota: int | None
    prune: bool


@dataclass(frozen=True)
class TierSettings:
    """A tier that is no area. `options` has every key but those of all kinds, paths made absolute; `marks` is None
    where nobody asked how full it is.
    """

    name: str
    kind: str
    tier_class: TierClass
    options: Mapping[str, Any]
    marks: Marks | None = None

    @property
    def path(self) -> str:
        """Its folder."""
        return str(self.options.get("path", ""))


@dataclass(frozen=True)
class JobSettings:
    """What jobs may use together, and how many reconstructions may run at once."""

    cpus: int
    memory_bytes: int
    reconstructions: int


@dataclass(frozen=True)
class QuarantineSettings:
    """How long pruned bytes can be taken back, and how many of an area's quota may wait there."""

    hold_s: float
    limit_share: float | None
    limit_bytes: int | None

    def limit_of(self, quota_bytes: int) -> int:
        """The most bytes in an area's quarantine."""
        if self.limit_bytes is not None:
            return self.limit_bytes
        return int((self.limit_share or 0.0) * quota_bytes)


@dataclass(frozen=True)
class GuardSettings:
    """Our share of a server's bandwidth while a scan is written there. `full_bytes_per_s`: None is unlimited."""

    share: float
    max_pause_s: float
    full_bytes_per_s: int | None

    @property
    def full_bps(self) -> float | None:
        """Bytes per second of all our jobs on one server while nothing is written there; None is no limit."""
        return None if self.full_bytes_per_s is None else float(self.full_bytes_per_s)

    @property
    def shrunk_bps(self) -> float:
        """Bytes per second while a scan is written there: the share of `full`, or of what a server is taken to do."""
        return self.share * (ASSUMED_SERVER_BPS if self.full_bytes_per_s is None else self.full_bytes_per_s)


@dataclass(frozen=True)
class RetrySettings:
    """How often a job is tried, and how long after a failure; the wait doubles up to `most_s`."""

    attempts: int
    after_s: float
    most_s: float


@dataclass(frozen=True)
class PackageSettings:
    """Above `part_bytes` a package is numbered parts."""

    part_bytes: int


@dataclass(frozen=True)
class RestoreSettings:
    """How long a recalled package stays on disk."""

    pin_s: float


@dataclass(frozen=True)
class PluginSettings:
    """An engine or executor: its kind and its own options."""

    kind: str
    options: Mapping[str, Any]


@dataclass(frozen=True)
class GlobusSettings:
    """How data leaves by Globus. `paths` has the folders that the source `collection` exposes, each with its path
    there; `names` are other collections by the names that people may use for them.

    `service` is the URL of another Transfer service than Globus itself. Of the two files of credentials one is there.
    No rule adds to `at_once` transfers that are under way.
    """

    collection: str
    paths: Mapping[str, str]
    names: Mapping[str, str]
    service: str | None
    token_file: str
    client_file: str
    deadline_s: float
    at_once: int = 4


@dataclass(frozen=True)
class QuotaSettings:
    """Limits, and the beam times to come, here or in a file. `schedule_is_all`: until the last of them, nothing comes
    besides.
    """

    quotas: Quotas = field(default_factory=Quotas)
    schedule: tuple[BeamTime, ...] = ()
    schedule_file: str | None = None
    schedule_is_all: bool = False


@dataclass(frozen=True)
class ChannelSettings:
    """A way to people: the kind of plug-in, and its options with paths made absolute."""

    name: str
    kind: str
    options: Mapping[str, Any]


@dataclass(frozen=True)
class RouteSettings:
    """Who is told of a topic: by which channels and, where those have addresses, at which."""

    channels: tuple[str, ...]
    to: tuple[str, ...]


@dataclass(frozen=True)
class ExtendSettings:
    """For how many days at most, and how often, an owner may keep a scan with `tomovault extend`."""

    days: int = 30
    times: int = 3


@dataclass(frozen=True)
class NotifySettings:
    """Who is told what. `gather_s`: what follows so soon after a warning or a failure is told with it."""

    site: str
    channels: Mapping[str, ChannelSettings]
    routes: Mapping[Topic, RouteSettings]
    digest_at: tuple[int, int]
    warn_s: float
    gather_s: float
    repeat_s: float
    give_up_s: float
    extend: ExtendSettings


@dataclass(frozen=True)
class BackupSettings:
    """How the catalogue is backed up: every night at (hour, minute) UTC if `nightly`, into a folder that keeps the last
    `keep` of them, and onto these tiers, None for each that archives.
    """

    folder: str
    nightly: bool = True
    at: tuple[int, int] = (2, 30)
    keep: int = 7
    tiers: tuple[str, ...] | None = None
    pg_dump: str = "pg_dump"


@dataclass(frozen=True)
class DrillSettings:
    """How many archived scans a week are restored to prove that they can be, and where to: None is the vault of each
    scan's area.
    """

    scans_a_week: float = 1.0
    scratch: str | None = None


@dataclass(frozen=True)
class Site:
    """Everything that `tomovault.yaml` says. `catalogue` is a database URL with an absolute path.

    `policies` has the policy of each name that an area uses, parsed.
    """

    folder: str
    catalogue: str
    simulated: bool
    watch: WatchSettings
    areas: Mapping[str, Area]
    tiers: Mapping[str, TierSettings]
    jobs: JobSettings
    quarantine: QuarantineSettings
    guard: GuardSettings
    retries: RetrySettings
    package: PackageSettings
    restore: RestoreSettings
    engine: PluginSettings
    executor: PluginSettings
    globus: GlobusSettings | None = None
    quotas: QuotaSettings = field(default_factory=QuotaSettings)
    notify: NotifySettings | None = None
    #: Where the metrics are served, such as 127.0.0.1:9464.
    metrics: str | None = None
    #: What keeping and computing cost, where the site says so.
    costs: Costs | None = None
    #: Within which limits the drives of libraries serve what waits for them.
    recall: Limits = field(default_factory=Limits)
    #: How long the claims of a daemon that tells nothing of itself are believed.
    lease_s: float = 60.0
    backup: BackupSettings = field(default_factory=lambda: BackupSettings("backups"))
    drill: DrillSettings = field(default_factory=DrillSettings)
    policies: Mapping[str, Policy] = field(repr=False, default_factory=dict)

    def record_of_vault(self, area: str) -> str:
        """The file that says by which marker an area's vault is known."""
        return record_path(self.folder, f"vault-{area}")


def record_path(folder: str | os.PathLike[str], name: str) -> str:
    """The file in a site's folder that says by which marker a vault or a tier's folder is known."""
    return os.path.join(folder, "places", f"{name}.json")


def shipped_policies() -> Path:
    """The folder of the policies that come with tomovault: inside the wheel, or the checkout's own."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "_shipped" / POLICIES
    return inside if inside.is_dir() else package.parent / POLICIES


def find_policy(folder: str | os.PathLike[str], name: str) -> Path | None:
    """The file of a policy: the site's own, else the shipped one."""
    for place in (Path(folder) / POLICIES, shipped_policies()):
        path = place / f"{name}.yaml"
        if path.is_file():
            return path
    return None
