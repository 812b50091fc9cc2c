"""What the walker holds in memory for an area of ten million files, beside one of as many folders with fewer files.

    python benchmarks/walker_memory.py [--scans 10000] [--files 1000] [--folder DIR] [--json]

The folders are real, with nothing in them; what is listed of each scan's folder is made up: so many files, of ordinary
names, sizes and times. A sweep that looks at everything, twice, and a gated one; each tree in a process of its own,
which tells its memory before and after, and the most that it held.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import psutil

#: The larger tree may take so many times what the one with a tenth of its files takes.
TARGET = 1.25


class Stat(NamedTuple):
    """What lstat would have said of a file that is not there."""

    st_mode: int
    st_ino: int
    st_dev: int
    st_uid: int
    st_gid: int
    st_size: int
    st_mtime_ns: int
    st_ctime_ns: int


def make_folders(root: Path, scans: int) -> None:
    for number in range(scans):
        (root / f"d{number // 1000:03d}" / f"scan{number:06d}_").mkdir(parents=True)


def made_up(files: int) -> Callable[[int, str], Any]:
    """Stands in for `read_folder`: a scan's folder holds so many files, and every other one what it really holds."""
    from tomovault.watch import listing

    def read(descriptor: int, folder: str) -> Any:
        name = folder.rpartition("/")[2]
        if not name.startswith("scan"):
            return listing.read_folder(descriptor, folder)
        first = int(name[4:-1]) * files
        stats = {
            f"{name}{index:04d}.edf": Stat(0o100644, first + index, 1, 1000, 1000, 8_389_632, index * 10**9, 10**18)
            for index in range(files)
        }
        states = listing.FileStates(stats, {})  # type: ignore[arg-type]  # the walker reads these fields only
        return listing.FolderListing(folder, states, (), {}), stats

    return read


def measure(root: str, files: int) -> dict[str, float]:
    """Memory and seconds of the sweeps of one tree, in this process."""
    from tomovault.formats.family import load_all
    from tomovault.watch import walker as walking

    process = psutil.Process()
    walking.read_folder = made_up(files)
    ahead = 0.0
    walker = walking.Walker(root, load_all(), clock=lambda: time.monotonic() + ahead, quiet_s=60.0)
    before = process.memory_info().rss
    found: dict[str, float] = {}
    for word in ("first", "again", "gated"):
        began = time.perf_counter()
        sweep = walker.sweep(full=word != "gated")
        found[f"{word}_s"] = time.perf_counter() - began
        assert not sweep.stopped, sweep.stopped
        found["scans"] = len(sweep.seen)
        found["listed"] = sweep.listed
        del sweep
        ahead += 5000.0
    found["held"] = process.memory_info().rss - before
    found["most"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=int, default=10_000)
    parser.add_argument("--files", type=int, default=1000, help="files of each scan, and a tenth of it beside that")
    parser.add_argument("--folder", help="where to work (a new folder below it); by default a temporary one")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--measure", nargs=2, metavar=("TREE", "FILES"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.measure:
        print(json.dumps(measure(chosen.measure[0], int(chosen.measure[1]))))
        return
    rows = []
    with tempfile.TemporaryDirectory(dir=chosen.folder, prefix="tomovault-bench-") as name:
        make_folders(Path(name), chosen.scans)
        for files in (chosen.files // 10, chosen.files):
            command = [sys.executable, __file__, "--measure", name, str(files)]
            said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            rows.append({"files": files * chosen.scans, **json.loads(said)})
    ratio = rows[1]["most"] / rows[0]["most"]
    if chosen.json:
        print(json.dumps({"walker_memory": rows, "ratio": ratio, "target": TARGET, "reached": ratio <= TARGET}))
        return
    print(f"{'files':>12} {'scans':>8} {'first':>9} {'again':>9} {'gated':>9} {'held':>9} {'most':>9}")
    for row in rows:
        times = "".join(f"{row[f'{word}_s']:8.1f} s" for word in ("first", "again", "gated"))
        sizes = "".join(f"{row[word] / 1e6:7.1f} MB" for word in ("held", "most"))
        print(f"{row['files']:12,} {row['scans']:8,} {times}{sizes}")
    print(
        f"most memory, ten times the files: {ratio:.2f} (target {TARGET}: {'reached' if ratio <= TARGET else 'MISSED'})"
    )


if __name__ == "__main__":
    main()
