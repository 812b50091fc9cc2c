"""What a simulation showed, as plain values: for the page, for `--json` and for the plots."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tomovault.simulation.arrivals import scans_written
from tomovault.simulation.ledger import AreaBook
from tomovault.simulation.model import Run
from tomovault.simulation.scenario import DAY_S, Scenario

#: What each cause is to a person.
CAUSE_TEXT: Mapping[str, str] = {
    "prune": "prune is off",
    "packing": "scans wait to be packed",
    "room": "packages have no room beside what is kept free (`floor`)",
    "drives": "packages wait for a tape drive",
    "quarantine": "the quarantine is full",
    "warnings": "owners are being warned first",
    "copies": "copies lack or were not re-read",
    "pins": "what may go is pinned",
    "policy": "no rule lets what is there go",
    "nothing": "nothing is there that could go",
    "": "removals are under way",
}


def without_policy(scenario: Scenario) -> dict[str, AreaBook]:
    """The same scans written to the same areas, and nothing done about it: what does not fit is not written."""
    books = {name: AreaBook(area) for name, area in scenario.areas.items()}
    used = {name: area.start_bytes for name, area in scenario.areas.items()}
    for name, book in books.items():
        book.start = used[name] / max(1, book.plan.quota)
        book.note(0.0, used[name], 0, "")
    for written in scans_written(scenario):
        book, size = books[written.area], written.kind.size
        if used[written.area] + size > book.plan.quota:
            book.refuse(written.at_s, size)
            continue
        book.written += size
        used[written.area] += size
        book.note(written.at_s, used[written.area], 0, "")
    for book in books.values():
        book.close(scenario.end_s)
    return books


def below_from(book: AreaBook, days: int) -> int | None:
    """The first day (from 0) on which, and after which, the area is never above its high mark; None where there is
    none: it was above it within the last day.
    """
    if book.above_s is None:
        return 0
    day = math.floor(book.above_s / DAY_S) + 1
    return day if day < days else None


def is_met(run: Run) -> bool:
    """Whether every area came below its high mark and stayed there, and nothing was without room from then on."""
    days = [below_from(book, run.scenario.days) for book in run.ledger.areas.values()]
    if run.given_up or any(day is None for day in days):
        return False
    settled_s = max((day or 0) for day in days) * DAY_S if days else 0.0
    return all((book.last_unmet_s or 0.0) <= settled_s for book in run.ledger.areas.values())


def page_of(run: Run, idle: Mapping[str, AreaBook], took_s: float) -> dict[str, Any]:
    """The whole outcome, which took so many seconds. Days count from 0, sizes are bytes, fills shares of the quota."""
    scenario, ledger, works, machines = run.scenario, run.ledger, run.works, run.scenario.machines
    disk = sum(area.quota for area in scenario.areas.values())
    areas = [_area(book, idle[name], scenario.days) for name, book in ledger.areas.items()]
    days = [area["below_high_from_day"] for area in areas]
    cartridges = {
        domain: -(-ledger.taped[domain] // tape.cartridge_bytes)
        for tape in scenario.tapes
        for domain in tape.domains
        if ledger.taped[domain]
    }
    return {
        "days": scenario.days,
        "seed": scenario.seed,
        "policies": sorted({area.policy.name for area in scenario.areas.values()}),
        "met": is_met(run),
        "below_high_from_day": None if None in days else max(days, default=0),
        "disk_bytes": disk,
        "assumed": {
            "start_fill": sum(book.start * book.plan.quota for book in ledger.areas.values()) / max(1, disk),
            "bytes_per_day": scenario.arrivals.bytes_per_day,
            "pack_bps": machines.pack_bps,
            "pack_bps_while_written": machines.pack_bps_while_written,
            "package_share": machines.package_share,
            "drives": machines.drives,
            "drive_bps": machines.drive_bps,
            "hold_s": scenario.hold.total_seconds(),
        },
        "areas": areas,
        "written_bytes": sum(book.written for book in ledger.areas.values()),
        "unmet_bytes": sum(book.unmet for book in ledger.areas.values()),
        "unmet_bytes_without": sum(book.unmet for book in idle.values()),
        "packed_bytes": ledger.packed,
        "package_bytes": ledger.packages,
        "archived_bytes": sum(ledger.taped.values()),
        "pruned_bytes": {what: ledger.pruned[what] for what in ("files", "package", "volume")},
        "reread_bytes": ledger.rereads,
        "moved_bytes": ledger.moved,
        "reconstructed_bytes": ledger.reconstructed,
        "recalls": {
            "from_disk": ledger.served_from_disk,
            "from_tape": ledger.recalls,
            "bytes": ledger.recalled,
            "impossible": ledger.not_served,
        },
        "cartridges": cartridges,
        "drive_hours": works.drives.busy_s / 3600,
        "drives_busy": works.drives.busy_s / max(1.0, works.drives.machines * scenario.end_s),
        "packing_busy": works.packing.busy_s / max(1.0, scenario.end_s),
        "waiting": {"to_pack_bytes": works.packing.waiting_bytes, "for_a_drive_bytes": works.drives.waiting_bytes},
        "removals_checked": ledger.removals_checked,
        "removals_refused_after_hold": ledger.removals_refused,
        "least_copies_at_a_removal": ledger.least_copies,
        "lost": {"scans": len(ledger.lost), "bytes": sum(ledger.lost.values())},
        "speed": {
            "cpu_s": took_s,
            "times_real_time": scenario.end_s / max(took_s, 1e-9),
            "events": ledger.events,
            "asked": run.asked,
        },
    }


def series_of(run: Run, idle: Mapping[str, AreaBook]) -> list[dict[str, Any]]:
    """For each area what a plot shows: the highest fill of each day, on disk, without the quarantine, and with no
    policy at all.
    """
    return [
        {
            "area": name,
            "quota": book.plan.quota,
            "high": book.plan.high,
            "low": book.plan.low,
            "disk": book.highest_disk[: run.scenario.days],
            "kept": book.highest_kept[: run.scenario.days],
            "without": idle[name].highest_disk[: run.scenario.days],
            "below_high_from_day": below_from(book, run.scenario.days),
            "unmet_bytes": book.unmet,
            "full_on_day_without": _day(idle[name].full_s),
            "unmet_bytes_without": idle[name].unmet,
        }
        for name, book in run.ledger.areas.items()
    ]


def _area(book: AreaBook, idle: AreaBook, days: int) -> dict[str, Any]:
    settled = below_from(book, days)
    after = slice(settled if settled is not None else 0, days)
    causes = {cause: share for cause, share in book.above_causes.most_common() if share}
    total = sum(causes.values())
    return {
        "area": book.plan.name,
        "policy": book.plan.policy.name,
        "quota": book.plan.quota,
        "high": book.plan.high,
        "low": book.plan.low,
        "prune": book.plan.prune,
        "start_fill": book.start,
        "below_high_from_day": settled,
        "highest_after": max(book.highest_kept[after], default=0.0),
        "highest_on_disk_after": max(book.highest_disk[after], default=0.0),
        "highest_on_disk": max(book.highest_disk, default=0.0),
        "end_fill": book.disk,
        "written_bytes": book.written,
        "unmet_bytes": book.unmet,
        "unmet_last_day": _day(book.last_unmet_s),
        "held_above_by": {CAUSE_TEXT[cause]: round(share / total, 3) for cause, share in causes.items()},
        "without": {
            "full_on_day": _day(idle.full_s),
            "highest": max(idle.highest_disk, default=0.0),
            "unmet_bytes": idle.unmet,
        },
    }


def _day(seconds: float | None) -> int | None:
    return None if seconds is None else math.floor(seconds / DAY_S)
