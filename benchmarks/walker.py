"""Sweeps of the walker against `find -printf '%s %T@ %i'` on the same tree, in turn.

    python benchmarks/walker.py [--files 300000] [--runs 7] [--folder DIR] [--json]

Two trees of EDF scans, of 1,000 and of 10 files a folder. `full` looks at every file and compares it with what was
there before, as find's output would have to be compared by whoever runs it; `gated` is the usual sweep, which passes
over closed folders that did not change. Warm: everything is in the kernel's caches. Cold (`--cold IMAGE`, as root):
the tree lies in a file system of its own in a file, mounted with direct I/O, and is mounted anew before each run.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tomovault.formats.family import load_all
from tomovault.watch.walker import Walker

PER_FOLDER = (1000, 10)
TARGETS = {"full": 2.0, "cold": 1.0}
#: Over find, where the gate saves the most.
GATED_TARGETS = {1000: 1 / 300}
BODY = b"{ nothing } " * 5


def make_tree(root: Path, files: int, per_folder: int) -> None:
    """Folders of small files that are named like the frames of a scan."""
    for number in range(files // per_folder):
        name = f"scan{number:06d}_"
        folder = root / f"d{number // 1000:03d}" / name
        folder.mkdir(parents=True)
        for index in range(per_folder):
            (folder / f"{name}{index:04d}.edf").write_bytes(BODY)


class Later:
    """The monotonic clock, moved on by hand, so that scans settle and are closed without waiting."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead_s


def closed_walker(root: Path) -> tuple[Walker, Later]:
    """A walker that knows the tree and holds all in it for settled and closed."""
    clock = Later()
    walker = Walker(str(root), load_all(), clock=clock, quiet_s=60.0)
    for _ in range(3):
        clock.ahead_s += 5000.0
        walker.sweep(full=True)
    return walker, clock


def took(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def find(root: Path) -> None:
    subprocess.run(["find", str(root), "-type", "f", "-printf", "%s %T@ %i\\n"], stdout=subprocess.DEVNULL, check=True)


def warm(root: Path, runs: int) -> dict[str, list[float]]:
    """Seconds of each run of each contender."""
    walker, _ = closed_walker(root)
    walls: dict[str, list[float]] = {"find": [], "full": [], "gated": []}
    find(root)
    for _ in range(runs):
        walls["find"].append(took(lambda: find(root)))
        walls["full"].append(took(lambda: walker.sweep(full=True)))
        sweep: list[Any] = []
        walls["gated"].append(took(lambda sweep=sweep: sweep.append(walker.sweep())))
        assert not sweep[0].stopped
        assert sweep[0].listed == 0, "the gate was not closed"
    return walls


@contextlib.contextmanager
def mounted(image: Path, at: Path) -> Iterator[str]:
    """The image's file system is there, with nothing of it in any cache; gives the name of its device."""
    loop = subprocess.run(
        ["losetup", "--direct-io=on", "--find", "--show", str(image)], check=True, capture_output=True, text=True
    ).stdout.strip()
    try:
        subprocess.run(["mount", "-o", "noatime", loop, str(at)], check=True)
        try:
            yield loop.rpartition("/")[2]
        finally:
            subprocess.run(["umount", str(at)], check=True)
    finally:
        subprocess.run(["losetup", "--detach", loop], check=True)


def cold(folder: Path, files: int, per_folder: int, runs: int) -> dict[str, list[float]]:
    image, at = folder / "image", folder / "mnt"
    at.mkdir(exist_ok=True)
    with image.open("wb") as made:
        made.truncate(files * 6000 + (1 << 28))
    subprocess.run(["mkfs.ext4", "-q", "-F", "-N", str(files + files // per_folder + 5000), str(image)], check=True)
    with mounted(image, at):
        make_tree(at, files, per_folder)
        walker, _ = closed_walker(at)
    walls: dict[str, list[float]] = {"find": [], "cold": []}
    for _ in range(runs):
        with mounted(image, at):
            walls["find"].append(took(lambda: find(at)))
        with mounted(image, at):
            walls["cold"].append(took(lambda: walker.sweep(full=True)))
    image.unlink()
    return walls


def ratios(walls: dict[str, list[float]], name: str) -> list[float]:
    return [mine / theirs for mine, theirs in zip(walls[name], walls["find"], strict=True)]


def show(found: list[dict[str, Any]]) -> None:
    print(f"{'files a folder':>14} {'sweep':>7} {'files/s':>12} {'over find':>10} {'from':>8} {'to':>8} {'target':>8}")
    for one in found:
        print(
            f"{one['per_folder']:14} {one['sweep']:>7} {one['files_per_s']:12,.0f} {one['ratio']:10.4f}"
            f" {one['low']:8.4f} {one['high']:8.4f} {verdict(one)}"
        )


def verdict(one: dict[str, Any]) -> str:
    if one["target"] is None:
        return f"{'-':>8}"
    return f"{one['target']:8.4f}  {'reached' if one['reached'] else 'MISSED'}"


def judged(walls: dict[str, list[float]], name: str, files: int, per_folder: int) -> dict[str, Any]:
    all_ratios = sorted(ratios(walls, name))
    target = GATED_TARGETS.get(per_folder) if name == "gated" else TARGETS[name]
    middle = statistics.median(all_ratios)
    return {
        "per_folder": per_folder,
        "sweep": name,
        "ratio": middle,
        "low": all_ratios[0],
        "high": all_ratios[-1],
        "files_per_s": files / statistics.median(walls[name]),
        "find_files_per_s": files / statistics.median(walls["find"]),
        "target": target,
        "reached": target is None or middle <= target,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=300_000)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--folder", help="where to work (a new folder below it); by default a temporary one")
    parser.add_argument("--cold", action="store_true", help="also from a cold cache; needs root and loop devices")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    chosen = parser.parse_args()
    found = []
    for per_folder in PER_FOLDER:
        with tempfile.TemporaryDirectory(dir=chosen.folder, prefix="tomovault-bench-") as name:
            folder = Path(name)
            tree = folder / "tree"
            make_tree(tree, chosen.files, per_folder)
            walls = warm(tree, chosen.runs)
            found += [judged(walls, sweep, chosen.files, per_folder) for sweep in ("full", "gated")]
            if chosen.cold:
                walls = cold(folder, chosen.files, per_folder, chosen.runs)
                found.append(judged(walls, "cold", chosen.files, per_folder))
    print(json.dumps({"cpus": os.cpu_count(), "runs": chosen.runs, "walker": found})) if chosen.json else show(found)


if __name__ == "__main__":
    sys.exit(main())
