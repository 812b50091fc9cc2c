"""How late the daemon's loop turns while its jobs work, against a loop that does nothing, run beside it.

    python benchmarks/daemon.py [--seconds 180] [--folder DIR] [--json]

The daemon watches an area into which scans are written all the time; its jobs inspect, pack, archive and preview
them, and its clerk records it all in the catalogue, with a sync each time. The loop itself shares out the bandwidth
of the file servers, hears signals and draws. The time from one turn to the next, less the wait between turns, is its
delay: sleeping too long is in it, what the loop does in a turn, and what the clerk takes from it. The idle loop, in
a process of its own at the same time, waits as long and does nothing, so its delay is what the machine takes.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

TICK_S = 0.1
TARGET_S = 0.020
SHAPE = (1024, 1024)
PROJECTIONS = 60
SHARES = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}


# --- the two loops, each a process of its own ----------------------------------------------------------


def daemon(site: str, told: str, seconds: float) -> None:
    """Run the daemon and write down how long after the wait each turn of its loop was over."""
    from tomovault.daemon.loop import Daemon
    from tomovault.vault.logs import start_log
    from tomovault.vault.vault import Vault

    vault = Vault.open(Path(site))
    start_log(vault.run_folder / "daemon.log")
    turns: list[float] = []
    ended: list[tuple[str, str]] = []

    def hear(what: str, facts: dict[str, Any]) -> None:
        if what == "tick":
            turns.append(time.monotonic())
        elif what == "job":
            ended.append((facts["running"].claimed.action, facts["result"].outcome.value))

    running = Daemon(vault, tell=hear)
    timer = threading.Timer(seconds, running.stop)
    timer.daemon = True
    timer.start()
    running.run()
    vault.close()
    write(told, turns, ended)


def idle(told: str, seconds: float) -> None:
    """Wait as the daemon's loop does, and do nothing."""
    stop = threading.Event()
    until = time.monotonic() + seconds
    turns = [time.monotonic()]
    while turns[-1] < until:
        stop.wait(TICK_S)
        turns.append(time.monotonic())
    write(told, turns, [])


def write(told: str, turns: list[float], ended: list[tuple[str, str]]) -> None:
    text = json.dumps({"turns": turns, "ended": ended})
    Path(told).write_text(text, "utf-8")


# --- what they are compared under ----------------------------------------------------------------------


def make_site(folder: Path) -> tuple[Path, Path]:
    """A site whose policy wants everything but whole volumes, which would fill the disk."""
    from tomovault.vault.setting_up import set_up_site

    site, area = folder / "site", folder / "area"
    settings = {"watch": {"poll": "1s", "quiet": "1s"}}
    set_up_site(site, {"area": str(area)}, simulated=True, settings=settings)
    policy = site / "policies" / "standard.yaml"
    text = policy.read_text("utf-8")
    assert "size < 2GB" in text
    policy.write_text(text.replace("size < 2GB", "size < 1kB"), "utf-8")
    return site, area


def keep_busy(site: Path, area: Path, until: float) -> int:
    """Scans are written one after the other while fewer than three are at work; returns how many."""
    from tomovault.core.known import JobStatus
    from tomovault.testing.edf_scan import write_edf_scan
    from tomovault.vault.vault import Vault

    vault = Vault.open(site, upgrade=False)
    written = 0
    try:
        while time.monotonic() < until:
            with vault.catalogue.reading() as tx:
                jobs = vault.catalogue.count_jobs(tx)
            if jobs[JobStatus.TODO] + jobs[JobStatus.DOING] < 3:
                write_edf_scan(
                    str(area), f"scan{written:04d}_", seed=written, shape=SHAPE, projections=PROJECTIONS, fast=True
                )
                written += 1
            else:
                time.sleep(0.5)
    finally:
        vault.close()
    return written


def delays(turns: list[float]) -> list[float]:
    return [max(0.0, later - earlier - TICK_S) for earlier, later in itertools.pairwise(turns)]


def at_share(values: list[float], share: float) -> float:
    """The value that this share of all does not pass."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def figures(turns: list[float]) -> dict[str, float]:
    late = delays(turns)
    found = {name: at_share(late, share) for name, share in SHARES.items()}
    return {**found, "max": max(late), "mean": statistics.fmean(late), "turns": len(late)}


def compare(folder: Path, seconds: float) -> dict[str, Any]:
    site, area = make_site(folder)
    told = {name: folder / f"{name}.json" for name in ("daemon", "idle")}
    load_before = os.getloadavg()
    began = datetime.now(UTC)
    loops = {
        name: subprocess.Popen(
            [sys.executable, __file__, "--child", name, "--site", site, "--told", told[name], "--seconds", str(seconds)]
        )
        for name in told
    }
    written = keep_busy(site, area, time.monotonic() + seconds)
    for name, loop in loops.items():
        if loop.wait(120):
            raise SystemExit(f"the {name} loop failed")
    heard = {name: json.loads(path.read_text("utf-8")) for name, path in told.items()}
    found = {name: figures(one["turns"]) for name, one in heard.items()}
    more = found["daemon"]["p99.9"] - found["idle"]["p99.9"]
    jobs: dict[str, int] = {}
    for action, outcome in heard["daemon"]["ended"]:
        jobs[f"{action} {outcome}"] = jobs.get(f"{action} {outcome}", 0) + 1
    return {
        "at": began.isoformat(),
        "seconds": seconds,
        "loops": found,
        "p99.9 more": more,
        "target": TARGET_S,
        "reached": more <= TARGET_S,
        "scans": written,
        "jobs": jobs,
        "load": {"before": load_before, "after": os.getloadavg(), "cpus": os.cpu_count()},
    }


def show(result: dict[str, Any]) -> None:
    jobs = ", ".join(f"{n} x {name}" for name, n in sorted(result["jobs"].items()))
    load = result["load"]
    print(f"{result['seconds']:.0f} s, {result['scans']} scans written; {jobs}")
    print(f"load {load['before'][0]:.1f} before, {load['after'][0]:.1f} after, on {load['cpus']} cores\n")
    columns = (*SHARES, "max", "mean")
    print(f"{'ms':10}{''.join(f'{name:>10}' for name in columns)}{'turns':>10}")
    for name, one in result["loops"].items():
        print(f"{name:10}{''.join(f'{one[c] * 1000:10.1f}' for c in columns)}{one['turns']:10.0f}")
    verdict = "reached" if result["reached"] else "MISSED"
    print(f"\np99.9 over the idle loop: {result['p99.9 more'] * 1000:.1f} ms   target {TARGET_S * 1000:.0f}: {verdict}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=180.0)
    parser.add_argument("--folder", help="where to work (a new folder below it); by default a temporary one")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    for hidden in ("--child", "--site", "--told"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.child == "daemon":
        daemon(chosen.site, chosen.told, chosen.seconds)
    elif chosen.child == "idle":
        idle(chosen.told, chosen.seconds)
    else:
        with tempfile.TemporaryDirectory(dir=chosen.folder, prefix="tomovault-bench-") as folder:
            result = compare(Path(folder), chosen.seconds)
        print(json.dumps(result)) if chosen.json else show(result)


if __name__ == "__main__":
    main()
