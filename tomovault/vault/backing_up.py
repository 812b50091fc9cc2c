"""The backup of a night: a copy of the catalogue in a folder of the site, and one on each tier that archives."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tomovault import __version__
from tomovault.catalog.backups import Backup, BackupCopy
from tomovault.core.backup import CATALOGUE, BackupTold, tell_backup
from tomovault.core.errors import IntegrityError, NoSpace, Recalling, TomovaultError
from tomovault.core.ports import ColdTier, Parcel
from tomovault.core.replica import StoredFile
from tomovault.tiers.blocks import holding
from tomovault.tiers.delivery import bring
from tomovault.tiers.free import FREE
from tomovault.vault.backup_folder import digest_of, free_name, keep_last, sweep
from tomovault.vault.backup_state import keep_state
from tomovault.vault.checkpoints import checkpoint
from tomovault.vault.places import find_absence
from tomovault.vault.vault import Vault
from tomovault.vault.workbench import open_tier


@dataclass
class BackedUp:
    """The backup, where in the archive it is now, and what kept it from a tier."""

    backup: Backup
    file: str
    placed: dict[str, str] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    waiting: dict[str, str] = field(default_factory=dict)

    def page(self) -> dict[str, Any]:
        """As `--json` prints it."""
        told = self.backup.told
        return {
            "made_at": told.made_at.isoformat(),
            "file": self.file,
            "bytes": told.bytes,
            "sha256": told.sha256,
            "placed": self.placed,
            "waiting": self.waiting,
            "problems": self.problems,
        }


def backup_is_due(vault: Vault, tx: Any, now: datetime) -> bool:
    """Whether the backup of the last night was not made yet, or something of it still waits for a tier."""
    if not vault.site.backup.nightly:
        return False
    known = vault.catalogue.list_backups(tx, _KNOWN)
    return _of_last_night(vault, known, now) is None or any(_waits(backup) for backup in known)


def back_up(vault: Vault, actor: str, *, anew: bool) -> BackedUp:
    """The catalogue is copied into the site's folder of backups, which keeps the last ones, and each tier that archives
    has the copy, re-read there. What a tier could not take, and why, is told; only a person, who has one `anew`,
    or the next night tries it again.

    Without `anew` the backup of the last night is gone on with, if it was begun. Raises InUse where another process is
    at it, NoSpace, and what keeps a copy from being made.
    """
    vault.run_folder.mkdir(parents=True, exist_ok=True)
    with holding(str(vault.run_folder / "backup.lock"), "the backup of the catalogue", 0.0):
        try:
            done = _back_up(vault, actor, anew=anew)
        except (TomovaultError, OSError) as problem:
            keep_state(vault, {"at": _now().isoformat(), "problem": str(problem), "tiers": {}})
            raise
        keep_state(vault, {"at": _now().isoformat(), "problem": "", "tiers": done.problems})
        return done


#: So many of the last backups are looked at for one that still waits for a tier.
_KNOWN = 30


def _back_up(vault: Vault, actor: str, *, anew: bool) -> BackedUp:
    conf, now = vault.site.backup, _now()
    folder = Path(conf.folder)
    folder.mkdir(parents=True, exist_ok=True)
    sweep(folder)
    with vault.catalogue.reading() as tx:
        known = vault.catalogue.list_backups(tx, _KNOWN)
    tonight = None if anew else _of_last_night(vault, known, now)
    if tonight is None or not (folder / tonight.told.file).exists():
        tonight = _make(vault, folder, actor, now)
    older = [backup for backup in known if backup.id != tonight.id and _waits(backup)]
    for backup in older:
        _finish(vault, folder, backup, actor)
    done = BackedUp(tonight, str(folder / tonight.told.file))
    for tier in backup_tiers(vault):
        copy = tonight.copies.get(tier)
        if copy is not None and not copy.unfinished:
            _tell(done, copy)
            continue
        _archive(vault, folder, tonight, tier, actor, done)
    kept = {tonight.told.file, *(b.told.file for b in older if _waits(_now_known(vault, b)))}
    keep_last(folder, conf.keep, kept)
    return done


def backup_tiers(vault: Vault) -> Sequence[str]:
    """The tiers that a backup goes to: those that the site names, else those that archive."""
    named = vault.site.backup.tiers
    return vault.archive_tiers() if named is None else named


def _of_last_night(vault: Vault, known: Sequence[Backup], now: datetime) -> Backup | None:
    hour, minute = vault.site.backup.at
    night = now.replace(hour=hour, minute=minute, second=0, microsecond=0)
    night -= timedelta(days=night > now)
    return next((backup for backup in known if night <= backup.told.made_at <= now), None)


def _waits(backup: Backup) -> bool:
    return any(copy.unfinished for copy in backup.copies.values())


def _now_known(vault: Vault, backup: Backup) -> Backup:
    with vault.catalogue.reading() as tx:
        return next(b for b in vault.catalogue.list_backups(tx) if b.id == backup.id)


def _tell(done: BackedUp, copy: BackupCopy) -> None:
    if copy.placed is not None:
        done.placed[copy.tier] = copy.placed.location
    if copy.problem:
        done.problems[copy.tier] = copy.problem


# --- on disk -----------------------------------------------------------------------------------------


def _make(vault: Vault, folder: Path, actor: str, now: datetime) -> Backup:
    """A copy in the folder that is known, and in the audit log by its digest."""
    catalogue = vault.catalogue
    database = "sqlite" if catalogue.sqlite_path is not None else "postgresql"
    _require_room(vault, folder)
    with catalogue.reading() as tx:
        last = catalogue.list_audit(tx, limit=1)
    path = free_name(folder, now, "db" if database == "sqlite" else "dump")
    catalogue.backup(str(path), pg_dump=vault.site.backup.pg_dump)
    checkpoint("backup.made")
    size, sha256 = digest_of(path)
    told = BackupTold(
        site=Path(vault.site.folder).name,
        made_at=now,
        database=database,
        revision=catalogue.revision,
        file=path.name,
        bytes=size,
        sha256=sha256,
        audit_seq=last[0].seq if last else 0,
        audit_hash=last[0].hash if last else "",
        program=__version__,
    )
    with catalogue.writing() as tx:
        catalogue.record_backup(tx, told, actor, now)
    checkpoint("backup.recorded")
    with catalogue.reading() as tx:
        return next(b for b in catalogue.list_backups(tx) if b.told.sha256 == sha256)


def _require_room(vault: Vault, folder: Path) -> None:
    """A copy leaves room for the catalogue itself to double. Raises NoSpace. What a server holds is not known here."""
    path = vault.catalogue.sqlite_path
    if path is None:
        return
    need = sum(os.path.getsize(p) for p in (path, f"{path}-wal") if os.path.exists(p))
    free = shutil.disk_usage(folder).free
    if free < 2 * need:
        raise NoSpace(
            f"a copy of the catalogue needs {need} bytes in {folder}, {free} are free and as many are kept free",
            hint="free space there, or name another folder (catalogue_backup: {folder: PATH})",
        )


# --- in the archive ----------------------------------------------------------------------------------


def _archive(vault: Vault, folder: Path, backup: Backup, tier: str, actor: str, done: BackedUp) -> None:
    """The backup is on the tier, or why it is not is known."""
    catalogue = vault.catalogue
    try:
        location = _bring(vault, folder, backup, tier, actor)
    except Recalling as coming:
        done.waiting[tier] = coming.message  # it goes on by itself
    except (TomovaultError, OSError) as problem:
        told = problem.message if isinstance(problem, TomovaultError) else str(problem)
        with catalogue.writing() as tx:
            catalogue.fail_backup_copy(tx, backup.id, tier, told)
        done.problems[tier] = told
    else:
        done.placed[tier] = location


def _finish(vault: Vault, folder: Path, backup: Backup, actor: str) -> None:
    """What still waited of a backup of a night before is over, or waits on."""
    left = BackedUp(backup, str(folder / backup.told.file))
    for tier, copy in backup.copies.items():
        if copy.unfinished:
            _archive(vault, folder, backup, tier, actor, left)


def _bring(vault: Vault, folder: Path, backup: Backup, name: str, actor: str) -> str:
    """The backup is on the tier and was re-read there. Its place, in the domain that it was begun in, is returned."""
    catalogue, begun = vault.catalogue, backup.copies.get(name)
    with catalogue.reading() as tx:
        absent = find_absence(vault, tx, name) if name in vault.site.tiers else None
    with catalogue.writing() as tx:
        if begun is None:
            catalogue.begin_backup_copy(tx, backup.id, name, "", _now())
    if absent is not None:
        raise absent
    tier = open_tier(vault.site, name)
    domain = begun.domain if begun is not None and begun.domain else _turn_of(tier.domains(), backup.told.made_at)
    with catalogue.writing() as tx:
        catalogue.begin_backup_copy(tx, backup.id, name, domain, _now())
    checkpoint("backup.begun")
    parcel = _parcel(folder, backup.told)
    if isinstance(tier, ColdTier) and (cold := tier.cold_of([parcel])):
        raise Recalling.waiting_for(cold)
    (brought,) = bring(
        tier,
        [parcel],
        domain,
        job=backup.id,
        now=_now,
        may_continue=lambda: True,
        throttle=FREE,
        checkpoint=checkpoint,
    )
    placed = brought.placed
    with catalogue.writing() as tx:
        catalogue.end_backup_copy(tx, backup, name, placed, actor, brought.written_at, brought.verified_at)
    checkpoint("backup.archived")
    return placed.location


def _turn_of(domains: Sequence[str], at: datetime) -> str:
    """One domain a night, each in its turn: a pool that is lost takes every other backup with it and no more."""
    if not domains:
        raise IntegrityError("the tier has no failure domain")
    return domains[at.toordinal() % len(domains)]


def _parcel(folder: Path, told: BackupTold) -> Parcel:
    """The backup as a package: of no scan, and its product says what it is."""
    file = StoredFile(str(folder / told.file), told.bytes, told.sha256)
    name = f"catalogue of {told.site}, {told.made_at:%Y-%m-%d %H:%M} UTC"
    return Parcel("", name, CATALOGUE, told.sha256, (file,), tell_backup(told), group=CATALOGUE)


def _now() -> datetime:
    return datetime.now(UTC)
