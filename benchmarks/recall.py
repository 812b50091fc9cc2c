"""What the order of reading saves on one cartridge, by the cost formula that CERN published, against the plain orders.

    python benchmarks/recall.py [--draws 8] [--json]

Files of 200 MiB anywhere on a cartridge of 9 TB are asked for, and the head stands at its beginning. Seconds are those
of locating, as a drive would take them, not of this machine; the seconds of planning are of this machine.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from typing import Any

from tomovault.recall.timing import Timing
from tomovault.recall.tour import Span, plan_tour, tour_s

COUNTS = (1, 4, 16, 32, 64, 128, 512, 2000, 4000)
SHARE = 200 * 2**20 / 9e12
LEAST_SAVED = 0.4
MOST_PLANNING_S = 2.0


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=8)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    wish = parser.parse_args()
    rows = [measure(count, wish.draws) for count in COUNTS]
    if wish.json:
        print(json.dumps({"rows": rows}))
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


if __name__ == "__main__":
    main()
