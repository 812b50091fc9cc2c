"""Fire drills: an archived scan is drawn, restored to a scratch folder, and held against everything known of it."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import structlog

from tomovault.catalog.drills import Drawable, Drill, DrillOutcome, new_drill_id
from tomovault.core.errors import IntegrityError, NoRoomYet, NotYet, Recalling, TomovaultError, Transient, UserError
from tomovault.core.known import KnownScan
from tomovault.core.ports import Placed
from tomovault.core.record import Checked
from tomovault.core.replica import Replica, TierClass
from tomovault.tiers.blocks import holding
from tomovault.tiers.recall import recall
from tomovault.vault.checkpoints import checkpoint
from tomovault.vault.comparing_drill import Compared, compare_restored
from tomovault.vault.drill_state import keep_state
from tomovault.vault.places import find_absence
from tomovault.vault.vault import Vault
from tomovault.vault.workbench import open_throttle, open_tier

log = structlog.get_logger(__name__)

#: What the folder of a drill is called before its id.
_SCRATCH = ".drill."

#: While a scan is brought, it is looked so often whether somebody waits for a restore.
_LOOK_S = 2.0


#: So often a drill asks, once an hour, for a copy that a medium is bringing, before another one is drawn.
_ASKED = 100


class PeopleWait(NotYet):
    """Somebody waits for a restore: a drill gives the drives and the disks back at once."""


def drill_is_due(vault: Vault, tx: Any, now: datetime) -> bool:
    """Whether the next drill's time has come."""
    rate = vault.site.drill.scans_a_week
    last = vault.catalogue.last_drill_at(tx) if rate else None
    if not rate or (last is not None and now - last < timedelta(days=7) / rate):
        return False
    return bool(vault.catalogue.list_drawable(tx, _tiers(vault)))


def drill(vault: Vault, rng: random.Random, *, scan: str | None = None) -> Drill | None:
    """One archived scan was drawn, or one copy of `scan`, and drilled; None where there is none to draw.

    Of all good archived copies those are drawn from that were drilled least often, each as likely as any other: every
    copy has its turn before one has its second, and nobody can tell which is next. One that a medium is bringing for a
    drill comes first. What a copy turns out to be is recorded as a re-read would. Raises InUse where another drills.
    """
    vault.run_folder.mkdir(parents=True, exist_ok=True)
    with holding(str(vault.run_folder / "drill.lock"), "the fire drill", 0.0):
        _clear_away(vault)
        with vault.catalogue.reading() as tx:
            drawn = _draw(vault.catalogue.list_drawable(tx, _tiers(vault)), rng, scan)
            if drawn is None:
                return None
            known = vault.catalogue.known(tx, drawn.scan)
        copy = next(replica for replica in known.replicas if replica.id == drawn.replica)
        done = _carry_out(vault, known, copy, drawn.waited, rng)
        keep_state(vault, done)
        return done


def clear_dead(vault: Vault) -> None:
    """What drills left that died is gone. Raises InUse where one lives."""
    vault.run_folder.mkdir(parents=True, exist_ok=True)
    with holding(str(vault.run_folder / "drill.lock"), "the fire drill", 0.0):
        _clear_away(vault)


def _clear_away(vault: Vault) -> None:
    with vault.catalogue.reading() as tx:
        dead = vault.catalogue.list_drills(tx, under_way=True)
    for one in dead:
        _remove(one.scratch)
        with vault.catalogue.writing() as tx:
            vault.catalogue.end_drill(tx, one.id, DrillOutcome.PUT_OFF, "it was cut short", {}, _now())


def _remove(scratch: str) -> None:
    """A folder of drills is gone, whatever rights what was restored there has."""
    if not os.path.basename(scratch).startswith(_SCRATCH):
        return
    for folder, _, _ in os.walk(scratch):
        os.chmod(folder, 0o700)
    shutil.rmtree(scratch, ignore_errors=True)
    if os.path.lexists(scratch):
        log.warning("what a drill used cannot be removed", folder=scratch)


def _tiers(vault: Vault) -> list[str]:
    return [name for name, conf in vault.site.tiers.items() if conf.tier_class is TierClass.ARCHIVE]


def _draw(drawable: list[Drawable], rng: random.Random, scan: str | None) -> Drawable | None:
    if scan is not None:
        drawable = [one for one in drawable if one.scan == scan]
    if not drawable:
        return None
    if coming := [one for one in drawable if 0 < one.waited < _ASKED]:
        return coming[0]
    least = min(one.drills for one in drawable)
    return rng.choice([one for one in drawable if one.drills == least])


def _carry_out(vault: Vault, scan: KnownScan, copy: Replica, waited: int, rng: random.Random) -> Drill:
    """The drill of a copy is recorded with its end; nothing of it is left on disk."""
    catalogue, begun = vault.catalogue, _now()
    scratch = str(_folder(vault, scan) / f"{_SCRATCH}{new_drill_id()}")
    one = Drill(
        scratch.rpartition(".")[2],
        copy.id,
        scan.id,
        scan.name,
        copy.tier,
        copy.location,
        scratch,
        begun,
        None,
        DrillOutcome.UNDER_WAY,
        "",
    )
    with catalogue.writing() as tx:
        catalogue.begin_drill(tx, copy.id, scan.id, copy.tier, copy.location, scratch, begun)
    checkpoint("drill.begun")
    started = time.monotonic()
    try:
        compared = _restore(vault, scan, copy, Path(scratch), rng)
    except IntegrityError as damage:
        compared = _judge(vault, copy, damage)
    except NotYet as problem:
        coming = type(problem) in (NotYet, Recalling)  # what is in use, absent or full is no medium that brings it
        compared = Compared(put_off=problem.message, facts={"asked": waited + 1} if coming else {})
    except (TomovaultError, OSError) as problem:
        compared = Compared(put_off=problem.message if isinstance(problem, TomovaultError) else str(problem))
    except KeyboardInterrupt:
        compared = Compared(put_off="interrupted")
    finally:
        _remove(scratch)
        checkpoint("drill.cleared")
    facts = {**compared.facts, "seconds": round(time.monotonic() - started, 1)}
    ended = replace(one, ended_at=_now(), outcome=compared.outcome, problem=compared.problem, facts=facts)
    _record(vault, ended, compared)
    checkpoint("drill.recorded")
    return ended


def _judge(vault: Vault, copy: Replica, damage: IntegrityError) -> Compared:
    """What damage says of a copy: nothing where its tier went away meanwhile, or somebody removed it."""
    with vault.catalogue.reading() as tx:
        absent = find_absence(vault, tx, copy.tier)
        still = any(one.replica == copy.id for one in vault.catalogue.list_drawable(tx, [copy.tier]))
    if absent is not None:
        return Compared(put_off=absent.message)
    return Compared(bad=damage.message) if still else Compared(put_off="the copy is not to be relied on any more")


def _record(vault: Vault, one: Drill, compared: Compared) -> None:
    catalogue, now = vault.catalogue, _now()
    with catalogue.writing() as tx:
        catalogue.end_drill(tx, one.id, one.outcome, one.problem, one.facts, now)
        if one.outcome is DrillOutcome.BAD:
            bad = Checked(one.replica, ok=False, at=now, reason=f"in a fire drill: {one.problem}")
            catalogue.apply_records(tx, [bad], now)
        if compared.doubted:
            _queue_reread(vault, tx, one, compared.doubted, now)


def _queue_reread(vault: Vault, tx: Any, one: Drill, replica: str, now: datetime) -> None:
    """The files on disk, which are not what was archived, are looked at as any copy is: a re-read says what is bad."""
    area = vault.catalogue.area_of(tx, one.scan)
    if area in vault.site.areas:
        order = {"replicas": [replica]}
        key = f"verify:{replica}:{now.date().isoformat()}"
        vault.queue_in(tx, area, "verify", one.scan, order, dedup_key=key, rule="fire drill", now=now)


# --- one copy ----------------------------------------------------------------------------------------


def _restore(vault: Vault, scan: KnownScan, copy: Replica, scratch: Path, rng: random.Random) -> Compared:
    """The copy was recalled, restored and compared, all below `scratch`."""
    _yield_to_people(vault)
    with vault.catalogue.reading() as tx:
        absent = find_absence(vault, tx, copy.tier)
        away = None if vault.site.drill.scratch is not None else find_absence(vault, tx, scan.area)
        files = tuple(vault.catalogue.replica_parts(tx, copy.id))
    for problem in (absent, away):
        if problem is not None:
            raise problem
    original = next(product for product in scan.products if product.digest == copy.digest)
    floor = _floor(vault, scratch.parent)
    _require_room(scratch.parent, copy.bytes + original.bytes, floor, scan.name)
    placed = Placed(copy.location, copy.domain, files)
    throttle = open_throttle(vault.site, scan.area)
    watching = _Yielding(vault)
    scratch.mkdir(mode=0o700)
    checkpoint("drill.reserved")
    fetched = recall(
        open_tier(vault.site, copy.tier),
        placed,
        scratch / "package",
        name=scan.name,
        floor_bytes=floor,
        may_continue=lambda: True,
        throttle=throttle,
        progress=watching.progress,
        checkpoint=checkpoint,
    )
    checkpoint("drill.fetched")
    return compare_restored(vault, scan, copy, fetched, scratch, floor, rng, watching.progress)


class _Yielding:
    """Raises PeopleWait, from the middle of a fetch or a restore, where somebody waits for a restore."""

    def __init__(self, vault: Vault, clock: Callable[[], float] = time.monotonic) -> None:
        self._vault = vault
        self._clock = clock
        self._looked_at = clock()

    def progress(self, _done: int, _total: int) -> None:
        """As `Progress`."""
        if self._clock() - self._looked_at >= _LOOK_S:
            self._looked_at = self._clock()
            _yield_to_people(self._vault)


def _yield_to_people(vault: Vault) -> None:
    with vault.catalogue.reading() as tx:
        if vault.catalogue.do_people_wait(tx):
            raise PeopleWait("somebody waits for a restore", hint="the drill is tried again later")


def _folder(vault: Vault, scan: KnownScan) -> Path:
    """Where a scan is drilled: on the disk that a restore of it passes through, unless the site names another place."""
    if vault.site.drill.scratch is not None:
        return Path(vault.site.drill.scratch)
    return Path(vault.area(scan.area).vault)


def _floor(vault: Vault, folder: Path) -> int:
    """The most that an area on the same file system keeps free. Raises Transient where the folder is not there."""
    try:
        here, floors = os.stat(folder).st_dev, [0]
        for area in vault.site.areas.values():
            if any(os.path.isdir(path) and os.stat(path).st_dev == here for path in (area.path, area.vault)):
                floors.append(area.floor)
        return max(floors)
    except OSError as problem:
        raise Transient(f"{folder}: {problem.strerror}", hint="fire_drill: {scratch: PATH} names another") from problem


def _require_room(folder: Path, need: int, floor: int, name: str) -> None:
    free = shutil.disk_usage(folder).free
    if free - need < floor:
        raise NoRoomYet(
            f"to restore {name} takes {need} bytes in {folder}, {free} are free and {floor} are kept free",
            hint="fire_drill: {scratch: PATH} names another place",
        )


def find_scan_to_drill(vault: Vault, text: str) -> str:
    """The id of a scan that has a good archived copy. Raises UserError for one that has none."""
    from tomovault.vault.asking import find_scan

    with vault.catalogue.reading() as tx:
        scan = find_scan(vault, tx, text)
        if not any(one.scan == scan.id for one in vault.catalogue.list_drawable(tx, _tiers(vault))):
            raise UserError(f"{scan.name} has no good copy in the archive", hint=f"tomovault explain {scan.id}")
        return scan.id


def _now() -> datetime:
    return datetime.now(UTC)
