"""Areas and tiers as the site file names them, kept beside what was proved of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, insert, select, update

from tomovault.catalog import tables
from tomovault.catalog.audit import add_audit
from tomovault.catalog.transaction import Tx
from tomovault.catalog.usage import rebuild_usage
from tomovault.core.errors import Refused, UserError
from tomovault.core.replica import TierClass


@dataclass(frozen=True)
class Area:
    """A watched tier, recognised by its marker's UUID, the file system id and the mount source."""

    name: str
    path: str
    uuid: str
    fsid: str
    mount_source: str
    simulated: bool
    tier_class: TierClass
    recorded_at: datetime


@dataclass(frozen=True)
class TierEntry:
    """A name that replicas may be on. `area` is the area whose quota its bytes count in."""

    name: str
    tier_class: TierClass
    counts: bool
    area: str | None


def record_area(
    tx: Tx,
    name: str,
    *,
    path: str,
    uuid: str,
    fsid: str,
    mount_source: str,
    simulated: bool,
    tier_class: TierClass,
    now: datetime,
) -> Area:
    """Insert or update an area and the tier of its name, whose bytes count in it.

    One that was recorded before anybody had seen it takes any marker. Raises Refused when an area first recorded as
    real is to become a simulated one, UserError when its UUID changes or its class is not one that can be watched.
    """
    if tier_class not in (TierClass.FAST, TierClass.SERVER):
        raise UserError(f"area {name}: class {tier_class} cannot be watched", hint="class: fast or server")
    found = tx.first(select(tables.area).where(tables.area.c.name == name).with_for_update())
    if found is not None and (found.uuid or found.fsid):  # with neither nobody has seen it: nothing is known of it
        _require_same(found, uuid, simulated)
    record_tier(tx, name, tier_class, counts=True, area=name)
    values = {
        "path": path,
        "uuid": uuid,
        "fsid": fsid,
        "mount_source": mount_source,
        "simulated": simulated,
        "tier_class": tier_class.value,
    }
    if found is None:
        tx.run(insert(tables.area).values(name=name, recorded_at=now, **values))
        add_audit(tx, "tomovault", "area recorded", {"area": name, **values}, now)
    elif any(getattr(found, key) != value for key, value in values.items()):
        tx.run(update(tables.area).where(tables.area.c.name == name).values(**values))
        add_audit(tx, "tomovault", "area changed", {"area": name, **values}, now)
    recorded_at = now if found is None else found.recorded_at
    return Area(name, path, uuid, fsid, mount_source, simulated, tier_class, recorded_at)


def _require_same(found: Row[Any], uuid: str, simulated: bool) -> None:
    if found.uuid != uuid:
        raise UserError(
            f"area {found.name}: its marker says {uuid}, it was recorded as {found.uuid}",
            hint="another disk is mounted there, or the folder belongs to another site",
        )
    if simulated and not found.simulated:
        raise Refused(f"area {found.name} was recorded as real and cannot become simulated", by="law 4")


def list_areas(tx: Tx) -> list[Area]:
    """Every area, by name."""
    rows = tx.rows(select(tables.area).order_by(tables.area.c.name))
    return [
        Area(r.name, r.path, r.uuid, r.fsid, r.mount_source, r.simulated, TierClass(r.tier_class), r.recorded_at)
        for r in rows
    ]


def record_tier(tx: Tx, name: str, tier_class: TierClass, *, counts: bool, area: str | None = None) -> None:
    """Insert or update a tier. A replica can only be recorded on a tier that is known here.

    `counts` is False where its copies count for no removal (law 4). `area` is the area whose quota its bytes
    count in. A change of `area` re-counts the usage.
    """
    values = {"tier_class": tier_class.value, "counts": counts, "area": area}
    found = tx.first(select(tables.tier).where(tables.tier.c.name == name).with_for_update())
    if found is None:
        tx.run(insert(tables.tier).values(name=name, **values))
        return
    if all(getattr(found, key) == value for key, value in values.items()):
        return
    tx.run(update(tables.tier).where(tables.tier.c.name == name).values(**values))
    if found.area != area:
        rebuild_usage(tx)


def list_tiers(tx: Tx) -> list[TierEntry]:
    """Every tier, by name."""
    rows = tx.rows(select(tables.tier).order_by(tables.tier.c.name))
    return [TierEntry(r.name, TierClass(r.tier_class), r.counts, r.area) for r in rows]
