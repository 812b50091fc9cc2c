"""Getting a backup of the catalogue back from the archive, whether the catalogue that made it is there or not."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from tomovault.core.backup import CATALOGUE, BackupTold, read_backup
from tomovault.core.errors import IntegrityError, NotYet, Refused, TomovaultError, Transient, UserError
from tomovault.core.ports import Placed
from tomovault.core.replica import TierClass
from tomovault.tiers.blocks import sync_folder
from tomovault.tiers.free import FREE
from tomovault.tiers.recall import recall
from tomovault.vault.page_text import name_of, time_text
from tomovault.vault.site_settings import Site
from tomovault.vault.vault import open_catalogue
from tomovault.vault.workbench import open_tier


@dataclass(frozen=True)
class Held:
    """A backup on a tier."""

    told: BackupTold
    tier: str
    placed: Placed


def fetch_backup(
    site: Site, target: str, tier: str | None, before: datetime | None, tell: Callable[[str], None]
) -> dict[str, Any]:
    """The newest backup, of those made until `before` where that is given, is the new file `target`, its bytes those
    that were backed up; what went wrong with newer copies was told. Returns which it is.

    Where the catalogue cannot say where its backups are, the media are looked through. Raises Refused where the target
    is there, NotYet while a tier is still bringing it, UserError if there is none, IntegrityError if none is good.
    """
    target = os.path.abspath(target)
    if os.path.lexists(target):
        raise Refused(f"{target} is there already", by="no overwriting", hint="name a new file")
    if not os.path.isdir(os.path.dirname(target)):
        raise UserError(f"{os.path.dirname(target)} is no folder", hint="name a file in a folder that is there")
    tiers = _archives(site, tier)
    held = _known(site, tiers) or _on_media(site, tiers, tell)
    chosen = [one for one in held if before is None or one.told.made_at <= before]
    if not chosen:
        raise UserError(
            f"no backup of the catalogue is known on {', '.join(tiers)}" + (" from before that" if held else ""),
            hint="name another tier with --from, or make the catalogue again: tomovault catalogue rebuild --from TIER",
        )
    for one in chosen:
        try:
            _bring(site, one, target)
        except NotYet:
            raise
        except (IntegrityError, Transient) as problem:
            tell(f"{one.tier} {one.placed.location}: {name_of(problem.message)}")
            continue
        return {
            "file": target,
            "made_at": time_text(one.told.made_at),
            "database": one.told.database,
            "revision": one.told.revision,
            "bytes": one.told.bytes,
            "sha256": one.told.sha256,
            "tier": one.tier,
            "location": name_of(one.placed.location),
            "audit": {"seq": one.told.audit_seq, "hash": one.told.audit_hash},
        }
    raise IntegrityError(f"none of {len(chosen)} backups could be read", hint="`tomovault tape scrub` reads cartridges")


def _archives(site: Site, tier: str | None) -> Sequence[str]:
    if tier is not None:
        open_tier(site, tier)  # raises UserError for one that there is not
        return [tier]
    found = [name for name, conf in site.tiers.items() if conf.tier_class is TierClass.ARCHIVE]
    if not found:
        raise UserError("the site has no archive tier")
    return found


def _known(site: Site, tiers: Sequence[str]) -> list[Held]:
    """What the catalogue says, newest first; nothing where it is gone, or older than its backups."""
    try:
        catalogue = open_catalogue(site)
    except TomovaultError:
        return []
    try:
        with catalogue.reading() as tx:
            known = catalogue.list_backups(tx)
    except TomovaultError:
        return []
    finally:
        catalogue.close()
    return [
        Held(backup.told, copy.tier, copy.placed)
        for backup in known
        for copy in backup.copies.values()
        if copy.tier in tiers and copy.placed is not None and not copy.problem
    ]


def _on_media(site: Site, tiers: Sequence[str], tell: Callable[[str], None]) -> list[Held]:
    found = []
    for name in tiers:
        tell(f"the catalogue tells of no backup: looking through {name}")
        try:
            found += list(_inventory(site, name, tell))
        except TomovaultError as problem:
            tell(f"{name}: {name_of(problem.message)}")
    return sorted(found, key=lambda one: one.told.made_at, reverse=True)


def _inventory(site: Site, name: str, tell: Callable[[str], None]) -> Iterator[Held]:
    for parcel, placed in open_tier(site, name).inventory():
        if parcel.product == CATALOGUE:
            try:
                yield Held(read_backup(parcel.manifest), name, placed)
            except IntegrityError as problem:
                tell(f"{name} {placed.location}: {name_of(problem.message)}")


def _bring(site: Site, one: Held, target: str) -> None:
    arriving = Path(f"{target}.{os.getpid()}.tmp")
    try:
        (file,) = recall(
            open_tier(site, one.tier),
            one.placed,
            arriving,
            name="the catalogue",
            floor_bytes=0,
            may_continue=lambda: True,
            throttle=FREE,
            progress=lambda _done, _total: None,
            checkpoint=lambda _name: None,
        )
        if (file.size, file.sha256) != (one.told.bytes, one.told.sha256):
            raise IntegrityError("its bytes are not those that it tells of")
        try:
            os.link(file.location, target)
        except FileExistsError:
            raise Refused(f"{target} is there already", by="no overwriting", hint="name a new file") from None
        sync_folder(os.path.dirname(target))
    except OSError as problem:
        raise UserError(f"{target}: {problem.strerror}", hint="name a file that can be written") from problem
    finally:
        with contextlib.suppress(OSError):
            shutil.rmtree(arriving)
