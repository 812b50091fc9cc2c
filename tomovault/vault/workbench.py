"""What a job process has at hand: tiers, engine, formats, its share of bandwidth, its claim."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tomovault.catalog.claim import Claim
from tomovault.core.errors import NotYet, UserError
from tomovault.core.ports import ClaimedTier, DriveTier, Engine, FormatFamily, Throttle, Tier
from tomovault.core.transfer import TransferService
from tomovault.vault.checkpoints import checkpoint
from tomovault.vault.plugins import load_plugin

if TYPE_CHECKING:
    from tomovault.vault.site import Site


class Workbench:
    """Implements `tomovault.core.ports.Bench` for one attempt of a job."""

    def __init__(self, order: Mapping[str, Any], folder: Path) -> None:
        self._order = order
        self._folder = folder
        self._progress_at = 0.0

    @cached_property
    def _site(self) -> Site:
        from tomovault.vault.site import load_site

        try:
            return load_site(self._order["site"], policies=False)
        except UserError as problem:
            # It was right when the daemon read it: somebody edits it now, and no job has failed because of that.
            raise NotYet(f"the site cannot be read now: {problem.message}", hint=problem.hint) from problem

    @property
    def job(self) -> str:
        """The job's id, the same in every attempt: so each finds what the one before it left."""
        return str(self._order["job"])

    @property
    def folder(self) -> str:
        """The job's folder."""
        return str(self._folder)

    @cached_property
    def formats(self) -> FormatFamily:
        """Inspection in limited child processes."""
        from tomovault.formats.limits import LimitedFormats

        return LimitedFormats()

    def tier(self, name: str) -> Tier:
        """A tier of the site, held to the claim of this job, and to the drive that was chosen for it. Raises UserError
        if the site has none of that name.
        """
        tier = open_tier(self._site, name)
        if isinstance(tier, ClaimedTier):
            tier.hold_to(self.token_is_current)
        drive = self._order.get("drive")
        if drive is not None and drive["tier"] == name and isinstance(tier, DriveTier):
            tier.prefer(int(drive["number"]))
        return tier

    def engine(self) -> Engine:
        """The site's reconstruction engine."""
        engine: Engine = load_plugin("engines", self._site.engine.kind)()
        return engine

    def transfers(self) -> TransferService:
        """The site's transfer service. Raises UserError where it has none, or no way to prove who we are."""
        return open_transfers(self._site)

    def throttle(self, place: str) -> Throttle:
        """The share of the server of `place`; unlimited where no share is set."""
        return open_throttle(self._site, place)

    def checkpoint(self, name: str) -> None:
        """See `tomovault.vault.checkpoints`."""
        checkpoint(name)

    def progress(self, done: int, total: int) -> None:
        """The progress file is at most a fifth of a second old."""
        from tomovault.vault.job_folder import PROGRESS, write_json

        now = time.monotonic()
        if now - self._progress_at >= 0.2:
            self._progress_at = now
            write_json(self._folder / PROGRESS, {"done": done, "total": total}, durable=False)

    def now(self) -> datetime:
        """Aware UTC."""
        return datetime.now(UTC)

    @cached_property
    def _claim(self) -> Claim:
        return Claim(self._site.catalogue, self._order["job"], self._order["token"])

    def token_is_current(self) -> bool:
        """Whether the claim under which this attempt runs still stands, read from the catalogue now."""
        return self._claim.stands()

    def close(self) -> None:
        """Nothing of the catalogue is open any more."""
        if "_claim" in self.__dict__:
            self._claim.close()


def open_tier(site: Site, name: str) -> Tier:
    """A tier of the site by name. Raises UserError if there is none."""
    if name not in site.tiers:
        raise UserError(f"there is no tier {name!r}", hint=f"the site has: {', '.join(sorted(site.tiers)) or 'none'}")
    conf = site.tiers[name]
    tier: Tier = load_plugin("tiers", conf.kind)(name, conf.options, now=lambda: datetime.now(UTC))
    return tier


def open_throttle(site: Site, place: str) -> Throttle:
    """The share of the server that an area or a tier is on; unlimited where no share is set."""
    from tomovault.watch.guard import NoThrottle, SharedBucket, share_path

    if not place:
        return NoThrottle()
    return SharedBucket(share_path(str(guard_folder(site)), place), max_pause_s=site.guard.max_pause_s)


def open_transfers(site: Site) -> TransferService:
    """The site's transfer service. Raises UserError where it has none, or no way to prove who we are."""
    from tomovault.transfer.credentials import read_credentials

    conf = site.globus
    if conf is None:
        raise UserError("the site has no `globus` section")
    try:
        from tomovault.transfer.globus import GlobusTransfers
    except ModuleNotFoundError as problem:
        raise UserError(
            f"the package {problem.name} is not installed", hint="pip install 'tomovault[globus]'"
        ) from problem
    return GlobusTransfers(read_credentials(conf.token_file, conf.client_file, os.environ), service=conf.service)


def guard_folder(site: Site) -> Path:
    """Where the daemon writes each area's bandwidth share."""
    return Path(site.folder) / "run" / "guard"
