"""A site: the folder with `tomovault.yaml`, and what that file says, with every default filled in.

The parser and its models are imported when a file is read, so that the command line starts light.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tomovault.core.errors import UserError
from tomovault.core.replica import TierClass

if TYPE_CHECKING:
    from tomovault.policy.document import Policy

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

    `template` is a path below the area with named groups, such as '{proposal}/{sample}'; `metadata_root` is the
    second root of scans whose metadata is written elsewhere.
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
    metadata_root: str | None
    floor_given: int | None

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
class TierSettings:
    """A tier that is no area. `options` has every key but `kind`, paths made absolute."""

    name: str
    kind: str
    tier_class: TierClass
    options: Mapping[str, Any]


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
    policies: Mapping[str, Policy] = field(repr=False, default_factory=dict)


def load_site(folder: str | os.PathLike[str]) -> Site:
    """The site in a folder.

    Raises UserError with every problem of `tomovault.yaml`, or of a policy that it names, as file:line:column.
    """
    from tomovault.vault.site_file import read_site

    return read_site(Path(folder))


def find_site(explicit: str | os.PathLike[str] | None, env: Mapping[str, str], cwd: str | os.PathLike[str]) -> Path:
    """The folder of the site: the one named, else `TOMOVAULT_SITE`, else the current folder or the nearest parent.

    Raises UserError if there is none there; a site that was named is never looked for elsewhere.
    """
    here = Path(os.path.abspath(cwd))
    for named, word in ((explicit, "--site"), (env.get("TOMOVAULT_SITE") or None, "TOMOVAULT_SITE")):
        if named is None:
            continue
        folder = Path(os.path.normpath(here / Path(named).expanduser()))
        if folder.name == SITE_FILE and folder.is_file():
            folder = folder.parent
        if (folder / SITE_FILE).is_file():
            return folder
        raise UserError(
            f"{word}: there is no {SITE_FILE} in {folder}", hint=f"make a site there with: tomovault init {folder}"
        )
    for folder in (here, *here.parents):
        if (folder / SITE_FILE).is_file():
            return folder
    raise UserError(
        f"there is no {SITE_FILE} in {here} or above it",
        hint="name a site with --site DIR or TOMOVAULT_SITE, or make one with: tomovault init DIR",
    )


def init_site(folder: str | os.PathLike[str], areas: Mapping[str, str], *, simulated: bool = False) -> Path:
    """A new site in `folder`, ready to run on embedded defaults; returns its absolute path.

    Writes `tomovault.yaml`, `policies/standard.yaml` and `tape/`, and on a simulated site the areas' folders where
    they are missing. Nothing is written to an area; its marker is the caller's. Relative paths count from the
    current folder. Raises UserError, before anything is written, if there is a site already or an area is not a
    folder.
    """
    from tomovault.vault.init import make_site

    return make_site(Path(os.path.abspath(folder)), areas, simulated=simulated)


def add_area(folder: str | os.PathLike[str], name: str, path: str | os.PathLike[str]) -> Area:
    """One more area in the site's file, whose comments stay; returns the area as it will be read.

    The marker is the caller's to write. Raises UserError if the name is taken, the path is no folder, or the file
    would not be right with it; the file is then as it was.
    """
    from tomovault.vault.init import write_area

    return write_area(Path(os.path.abspath(folder)), name, os.fspath(path))


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
