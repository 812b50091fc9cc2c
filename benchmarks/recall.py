"""What good order saves on a tape library, by the cost formula that CERN published, against the plain orders.

    python benchmarks/recall.py [--draws 8] [--json]

First on one cartridge: files of 200 MiB anywhere on 9 TB are asked for, and the head stands at its beginning. Then a
week of a library of 40 cartridges and two drives, restores and an archive stream, at three loads; at load 1 the drives
would be busy all the time even if each cartridge were brought once in each window. The week is always the same.

Seconds are those of the drives, as they would take them, not of this machine; the seconds of planning are of this
machine.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Sequence
from typing import Any

from tomovault.recall.request import Kind, Limits
from tomovault.recall.serving import serve
from tomovault.recall.timing import Timing
from tomovault.recall.tour import Span, plan_tour, tour_s
from tomovault.recall.visit import choose
from tomovault.testing.recall_trace import (
    arrival_order,
    by_cartridge,
    longest_wait_s,
    mean_wait_s,
    mixed_week,
    mounts,
    needed_mounts,
)

COUNTS = (1, 4, 16, 32, 64, 128, 512, 2000, 4000)
SHARE = 200 * 2**20 / 9e12
LEAST_SAVED = 0.4
MOST_PLANNING_S = 2.0
LOADS = (0.5, 0.8, 1.1)
MOST_MOUNTS = 1.1
#: So many times shorter than in order of arrival is the mean wait, by load.
LEAST_TIMES = {0.5: 1.0, 0.8: 3.0, 1.1: 1.0}


def asked(count: int, seed: int) -> list[Span]:
    """Requests in the order in which they came."""
    draw = random.Random(seed)
    return [Span(start, start + SHARE) for start in (draw.uniform(0, 1 - SHARE) for _ in range(count))]


def measure(count: int, draws: int) -> dict[str, Any]:
    """Means over the draws; how often which order was taken; the longest planning."""
    timing = Timing()
    arrival, blocks, chosen, planning, rules = [], [], [], [], []
    for seed in range(draws if count <= 500 else max(1, draws // 2)):
        spans = asked(count, seed)
        began = time.perf_counter()
        tour = plan_tour(timing, 0.0, spans)
        planning.append(time.perf_counter() - began)
        arrival.append(tour_s(timing, 0.0, spans))
        blocks.append(tour_s(timing, 0.0, sorted(spans, key=lambda span: span.start)))
        chosen.append(tour.locate_s)
        rules.append(tour.rule.value)
    means = {name: statistics.mean(of) for name, of in (("arrival", arrival), ("blocks", blocks), ("chosen", chosen))}
    never_above = all(c <= min(a, b) + 1e-6 for a, b, c in zip(arrival, blocks, chosen, strict=True))
    return {
        "requests": count,
        **means,
        "never_above": never_above,
        "planning_s": max(planning),
        "by": sorted(set(rules)),
    }


def live(load: float) -> dict[str, Any]:
    """The mixed week by the rule and in the two plain ways."""
    trace, limits = mixed_week(load), Limits()
    needed = needed_mounts(trace, limits.fair_s)
    row: dict[str, Any] = {"load": load, "requests": len(trace.requests), "needed_mounts": needed}
    for name, rule in (("chosen", choose), ("arrival", arrival_order), ("by_cartridge", by_cartridge)):
        began = time.perf_counter()
        served = serve(trace.requests, trace.drives, trace.cartridges, limits, 0.0, rule=rule)
        row[name] = {
            "served": len(served),
            "mounts": mounts(served) / needed,
            "restore_s": mean_wait_s(trace, served),
            "longest_restore_s": longest_wait_s(trace, served, Kind.RESTORE),
            "longest_archive_s": longest_wait_s(trace, served, Kind.ARCHIVE),
            "planning_s": time.perf_counter() - began,
        }
    chosen, others = row["chosen"], (row["arrival"], row["by_cartridge"])
    misses = {
        f"mounts <= {MOST_MOUNTS} x needed": chosen["mounts"] > MOST_MOUNTS,
        "shorter waits than either": chosen["restore_s"] >= min(other["restore_s"] for other in others),
        f"{LEAST_TIMES[load]:g} x arrival order": chosen["restore_s"] * LEAST_TIMES[load] > others[0]["restore_s"],
        "nothing starved": chosen["served"] < row["requests"]
        or max(chosen["longest_restore_s"], chosen["longest_archive_s"]) > limits.patience_s + 2 * limits.fair_s,
    }
    return {**row, "missed": [target for target, missed in misses.items() if missed]}


def print_week(rows: Sequence[dict[str, Any]]) -> None:
    print("\na week: mean time from a restore's arrival to its end, and mounts for each cartridge needed in a window")
    print("load   requests   way             restore   mounts   longest wait: restore   archive")
    for row in rows:
        for name in ("chosen", "by_cartridge", "arrival"):
            way = row[name]
            print(
                f"{row['load']:4.1f} {row['requests']:10d}   {name:12s} {way['restore_s']:8.0f} s {way['mounts']:8.2f}"
                f" {way['longest_restore_s']:20.0f} s {way['longest_archive_s']:7.0f} s"
            )
        if row["missed"]:
            print(f"        MISSED: {'; '.join(row['missed'])}")
    print(f"targets: at most {MOST_MOUNTS} mounts for each needed, shorter waits than either other way,", end=" ")
    print("a third of those in order of arrival at load 0.8, nothing starved")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=8)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    wish = parser.parse_args()
    rows = [measure(count, wish.draws) for count in COUNTS]
    week = [live(load) for load in LOADS]
    if wish.json:
        print(json.dumps({"rows": rows, "week": week}))
        return
    print("requests   arrival    blocks    chosen   below both   planned in   by")
    for row in rows:
        best = min(row["arrival"], row["blocks"])
        saved = 1 - row["chosen"] / best if best else 0.0
        mark = "" if row["never_above"] else "  ABOVE A PLAIN ORDER"
        if 16 <= row["requests"] <= 128 and saved < LEAST_SAVED:
            mark += f"  target {LEAST_SAVED:.0%}: MISSED"
        if row["planning_s"] > MOST_PLANNING_S:
            mark += f"  target {MOST_PLANNING_S} s: MISSED"
        print(
            f"{row['requests']:8d} {row['arrival']:8.0f} s {row['blocks']:8.0f} s {row['chosen']:8.0f} s"
            f" {saved:11.0%} {row['planning_s']:10.3f} s   {', '.join(row['by'])}{mark}"
        )
    print(f"targets: {LEAST_SAVED:.0%} below both for 16 to 128 requests, never above either;", end=" ")
    print(f"planned in {MOST_PLANNING_S} s")
    print_week(week)


if __name__ == "__main__":
    main()
