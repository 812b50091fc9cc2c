"""Verified ingest and restore against the programs that a beamline would use today, on the same EDF series.

    python benchmarks/rivals.py [--runs 7] [--frames 48] [--folder DIR] [--only NAME ...] [--json]

Each program stores the series and gives it back, in turn, `--runs` times, from files that are out of the page cache.
tomovault's time holds what the others do not do: it syncs, drops the cache, reads back, decodes and hashes what it
wrote. restic and borg sync; zstd, h5repack, h5py and esrf-data-compressor do not. Repositories and input in HDF5 are
made anew before each run, outside of its time. "at most" is the ratio that the bound of ingest.py would reach. What is
not installed is left out, and so is what stores nothing, and it is said. esrf-data-compressor loses information at its
usual ratio of 10 and has no way back: it is here for its time; its `compress-hdf5` may be in an environment of its own,
named by PATH.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ingest
import numpy as np

from tomovault.package.codec import encode_frame

TARGETS = {"zstd + sha256sum": 1.5, "zstd + openssl": 1.2, "restic": 2.0, "borg zstd,3": 1.2}
SIZE_TARGET = 0.75
WORKERS = 2
WORKERS_TARGET = 1.7


@dataclass(frozen=True)
class Place:
    """Where one run finds its files and puts what it makes."""

    source: str
    out: str

    def path(self, name: str) -> str:
        return os.path.join(self.out, name)


@dataclass(frozen=True)
class Rival:
    """`prepare` is not timed; `store` and `restore` are, which is None where information is lost."""

    name: str
    needs: tuple[str, ...]
    store: Callable[[Place], None]
    restore: Callable[[Place], None] | None
    stored: Callable[[Place], int]
    prepare: Callable[[Place], None] = lambda _place: None


def run(*command: str, **more: Any) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **more)


def size_below(folder: str) -> int:
    return sum(os.path.getsize(os.path.join(here, name)) for here, _, names in os.walk(folder) for name in names)


# --- zstd with digests ---------------------------------------------------------------------------------


def zstd_with(digest: tuple[str, ...]) -> Callable[[Place], None]:
    def store(place: Place) -> None:
        paths = ingest.listed(place.source)
        os.makedirs(place.path("zst"))
        with open(place.path("digests"), "wb") as digests:
            hashing = subprocess.Popen([*digest, *paths], stdout=digests)
            run("zstd", "-3", "-T0", "-q", "--output-dir-flat", place.path("zst"), *paths)
            if hashing.wait() != 0:
                raise SystemExit(f"{digest[0]} failed")

    return store


def unzstd(place: Place) -> None:
    os.makedirs(place.path("back"))
    run("zstd", "-d", "-q", "--output-dir-flat", place.path("back"), *ingest.listed(place.path("zst")))


# --- repositories --------------------------------------------------------------------------------------


def restic(place: Place, *command: str) -> None:
    more = {"RESTIC_PASSWORD": "benchmark", "RESTIC_CACHE_DIR": place.path("cache")}
    run("restic", "--quiet", "--repo", place.path("restic"), *command, env=os.environ | more)


def borg(place: Place, *command: str, at: str | None = None) -> None:
    more = {"BORG_BASE_DIR": place.path("base"), "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes"}
    run("borg", *command, env=os.environ | more, cwd=at)


def borg_extract(place: Place) -> None:
    os.makedirs(place.path("back"))
    borg(place, "extract", f"{place.path('borg')}::scan", at=place.path("back"))


# --- HDF5 ----------------------------------------------------------------------------------------------


def frames_of(source: str) -> Iterator[np.ndarray[Any, Any]]:
    for path in ingest.listed(source):
        with open(path, "rb") as file:
            file.seek(ingest.HEADER)
            yield np.fromfile(file, "<u2").reshape(ingest.SHAPE)


def make_plain_hdf5(place: Place) -> None:
    """What h5repack takes: the frames in one contiguous dataset."""
    import h5py

    paths = ingest.listed(place.source)
    with h5py.File(place.path("plain.h5"), "w") as file:
        data = file.create_dataset("data", (len(paths), *ingest.SHAPE), "<u2")
        for number, frame in enumerate(frames_of(place.source)):
            data[number] = frame
    ingest.drop([place.path("plain.h5")])


def h5repack(place: Place) -> None:
    rows, columns = ingest.SHAPE
    filters = ("-f", "SHUF", "-f", "GZIP=1", "-l", f"CHUNK=1x{rows}x{columns}")
    run("h5repack", *filters, place.path("plain.h5"), place.path("packed.h5"))


def h5repack_back(place: Place) -> None:
    run("h5repack", "-f", "NONE", "-l", "CONTI", place.path("packed.h5"), place.path("back.h5"))


def h5py_blosc2(place: Place) -> None:
    import h5py
    import hdf5plugin

    filters = hdf5plugin.Blosc2(cname="zstd", clevel=1, filters=hdf5plugin.Blosc2.SHUFFLE)
    paths = ingest.listed(place.source)
    with h5py.File(place.path("packed.h5"), "w") as file:
        data = file.create_dataset("data", (len(paths), *ingest.SHAPE), "<u2", chunks=(1, *ingest.SHAPE), **filters)
        for number, frame in enumerate(frames_of(place.source)):
            data[number] = frame


def h5py_back(place: Place) -> None:
    import h5py
    import hdf5plugin  # noqa: F401 - brings the filter

    os.makedirs(place.path("back"))
    with h5py.File(place.path("packed.h5"), "r") as file:
        for number in range(len(file["data"])):
            file["data"][number].tofile(os.path.join(place.path("back"), f"{number:04d}"))


# --- the tool of the ESRF: it looks for masters of virtual datasets in a session's folder, and compresses their sources


def esrf_folder(place: Place, kind: str) -> str:
    return os.path.join(place.out, "root", "ma1", "id19", "20260101", kind, "sample", "set")


def esrf(*words: str) -> None:
    """Its codec is looked for by the first `python` on PATH, which must be that of its environment."""
    program = shutil.which("compress-hdf5")
    assert program is not None
    run(program, *words, env=os.environ | {"PATH": f"{os.path.dirname(program)}:{os.environ['PATH']}"})


def make_session(place: Place) -> None:
    """A master with one virtual dataset over a camera file, as BLISS writes them, and the list of what to compress."""
    import h5py

    folder = esrf_folder(place, "RAW_DATA")
    camera, inside = os.path.join("scan0001", "camera_0000.h5"), "entry_0000/measurement/data"
    os.makedirs(os.path.join(folder, "scan0001"))
    shape = (len(ingest.listed(place.source)), *ingest.SHAPE)
    with h5py.File(os.path.join(folder, camera), "w") as file:
        data = file.create_dataset(inside, shape, "<u2")
        for number, frame in enumerate(frames_of(place.source)):
            data[number] = frame
    with h5py.File(os.path.join(folder, "set.h5"), "w") as file:
        layout = h5py.VirtualLayout(shape, "<u2")
        layout[:] = h5py.VirtualSource(camera, inside, shape)
        file.create_virtual_dataset("1.1/measurement/camera", layout)
        file["1.1/technique"] = "tomo"
    session = ("ma1", "id19", "20260101", "--root", place.path("root"))
    esrf("list", *session, "--filter", "technique:tomo", "--output", place.path("list"))
    ingest.drop([os.path.join(folder, camera)])


def esrf_compress(place: Place) -> None:
    esrf("compress", "-i", place.path("list"), "--layout", "mirror")


def esrf_size(place: Place) -> int:
    import h5py

    with h5py.File(os.path.join(esrf_folder(place, "RAW_DATA_COMPRESSED"), "scan0001", "camera_0000.h5"), "r") as file:
        return int(file["entry_0000/measurement/data"].id.get_storage_size())


def packed_size(place: Place) -> int:
    return os.path.getsize(place.path("packed.h5"))


def zst_size(place: Place) -> int:
    return size_below(place.path("zst"))


RIVALS = (
    Rival("zstd + sha256sum", ("zstd", "sha256sum"), zstd_with(("sha256sum",)), unzstd, zst_size),
    Rival("zstd + openssl", ("zstd", "openssl"), zstd_with(("openssl", "dgst", "-sha256")), unzstd, zst_size),
    Rival(
        "restic",
        ("restic",),
        lambda place: restic(place, "backup", place.source),
        lambda place: restic(place, "restore", "latest", "--target", place.path("back")),
        lambda place: size_below(place.path("restic")),
        lambda place: restic(place, "init"),
    ),
    Rival(
        "borg zstd,3",
        ("borg",),
        lambda place: borg(place, "create", "--compression", "zstd,3", f"{place.path('borg')}::scan", place.source),
        borg_extract,
        lambda place: size_below(place.path("borg")),
        lambda place: borg(place, "init", "--encryption", "none", place.path("borg")),
    ),
    Rival("h5repack gzip 1", ("h5repack",), h5repack, h5repack_back, packed_size, make_plain_hdf5),
    Rival("h5py + Blosc2", (), h5py_blosc2, h5py_back, packed_size),
    Rival("esrf, lossy 10x", ("compress-hdf5",), esrf_compress, None, esrf_size, make_session),
)


# --- runs ----------------------------------------------------------------------------------------------


@contextmanager
def fresh(folder: str, source: str) -> Iterator[Place]:
    out = os.path.join(folder, "out")
    os.makedirs(out)
    try:
        yield Place(source, out)
    finally:
        shutil.rmtree(out)


def timed(work: Callable[[Place], None], place: Place) -> float:
    begin = time.perf_counter()
    work(place)
    return time.perf_counter() - begin


def drop_all(folder: str) -> None:
    os.sync()
    ingest.drop([os.path.join(here, name) for here, _, names in os.walk(folder) for name in names])


def try_rival(rival: Rival, folder: str, source: str) -> dict[str, float]:
    with fresh(folder, source) as place:
        rival.prepare(place)
        drop_all(source)
        wall = timed(rival.store, place)
        drop_all(place.out)
        back = timed(rival.restore, place) if rival.restore else math.nan
        return {"wall": wall, "restore": back, "stored": rival.stored(place)}


def stores(rival: Rival, folder: str, source: str) -> bool:
    """Tried once, it kept something: there are versions of codecs that fail, and leave a dataset without data."""
    kept = try_rival(rival, folder, source)["stored"] > 0
    if not kept:
        print(f"{rival.name} is left out: it said that it was done, and stored nothing", file=sys.stderr)
    return kept


def try_ours(folder: str, source: str, threads: int = WORKERS) -> dict[str, float]:
    with fresh(folder, source) as place:
        stored = ingest.measure("tomovault", source, place.out, threads)
        back = ingest.measure("restore", source, place.out, threads)
    return {"wall": stored["wall"], "restore": back["wall"], "stored": stored["stored"]}


def speed_up(source: str) -> float:
    """Reading from cache, digesting and encoding alone: one worker's time over that of two."""
    from concurrent.futures import ThreadPoolExecutor
    from hashlib import sha256

    paths = ingest.listed(source)

    def work(path: str) -> None:
        with open(path, "rb") as file:
            data = file.read()
        sha256(data).digest()
        sha256(encode_frame(memoryview(data)[ingest.HEADER :], 2)).digest()

    walls = []
    for workers in (1, 2):
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(work, paths))
            begin = time.perf_counter()
            list(pool.map(work, paths))
            walls.append(time.perf_counter() - begin)
    return walls[0] / walls[1]


def compare(series: str, folder: str, frames: int, runs: int, rivals: list[Rival]) -> dict[str, Any]:
    source = os.path.join(folder, series)
    raw = sum(map(os.path.getsize, ingest.write_series(source, series, frames)))
    rivals = [rival for rival in rivals if stores(rival, folder, source)]
    ours: list[dict[str, float]] = []
    theirs: dict[str, list[dict[str, float]]] = {rival.name: [] for rival in rivals}
    ratios: list[float] = []
    bounds: list[float] = []
    for number in range(runs):
        ours.append(try_ours(folder, source))
        bounds.append(ingest.measure("bound", source, folder, WORKERS)["wall"])
        for rival in rivals if number % 2 == 0 else rivals[::-1]:
            theirs[rival.name].append(try_rival(rival, folder, source))
        ratios.append(speed_up(source))
    shutil.rmtree(source)
    rows = {
        name: {
            "faster": [other["wall"] / own["wall"] for own, other in zip(ours, taken, strict=True)],
            "at most": [other["wall"] / bound for bound, other in zip(bounds, taken, strict=True)],
            "restore faster": [other["restore"] / own["restore"] for own, other in zip(ours, taken, strict=True)],
            "size": [own["stored"] / other["stored"] for own, other in zip(ours, taken, strict=True)],
        }
        for name, taken in theirs.items()
    }
    return {"series": series, "raw": raw, "ours": ours, "bound": bounds, "rivals": rows, "workers": ratios}


def show(result: dict[str, Any]) -> None:
    raw = result["raw"]
    walls = [one["wall"] for one in result["ours"]]
    speed = raw / statistics.median(walls)
    back = raw / statistics.median(one["restore"] for one in result["ours"])
    print(f"\n{result['series']}: {raw / 1e6:.0f} MB; tomovault takes in {speed / 1e6:.0f} MB/s, verified, which is")
    print(f"{speed * 86400 / 1e12:.1f} TB a day, and gives back {back / 1e6:.0f} MB/s")
    print(f"{'':18}{'times faster':>26}{'at most':>26}{'restore faster':>26}{'our size over theirs':>24}")
    for name, row in result["rivals"].items():
        cells = []
        for key in ("faster", "at most", "restore faster", "size"):
            cells.append(cell(row[key]))
        print(f"{name:18}{cells[0]:>26}{cells[1]:>26}{cells[2]:>26}{cells[3]:>24}{judge(name, row)}")
    workers = statistics.median(result["workers"])
    told = "reached" if workers >= WORKERS_TARGET else "MISSED"
    print(
        f"reading from cache, digesting and encoding: two workers are {workers:.2f} times one, "
        f"target {WORKERS_TARGET}: {told}"
    )


def cell(values: list[float]) -> str:
    if any(map(math.isnan, values)):
        return "-"
    low, high = ingest.spread(values)
    return f"{statistics.median(values):.2f} ({low:.2f}-{high:.2f})"


def judge(name: str, row: dict[str, list[float]]) -> str:
    words = []
    if name in TARGETS:
        reached = statistics.median(row["faster"]) >= TARGETS[name]
        words.append(f"  {TARGETS[name]}x {'reached' if reached else 'MISSED'}")
    if name in ("restic", "borg zstd,3"):
        small = statistics.median(row["size"]) <= SIZE_TARGET
        words.append(f"  size {SIZE_TARGET} {'reached' if small else 'MISSED'}")
    return "".join(words)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--frames", type=int, default=48)
    parser.add_argument("--series", choices=ingest.SERIES, action="append")
    parser.add_argument("--only", choices=[rival.name for rival in RIVALS], action="append")
    parser.add_argument("--folder", help="where to work (a new folder below it); by default a temporary one")
    parser.add_argument("--json", action="store_true", help="print one JSON object with every run")
    chosen = parser.parse_args()
    rivals = [r for r in RIVALS if not chosen.only or r.name in chosen.only]
    absent = {r.name: [p for p in r.needs if shutil.which(p) is None] for r in rivals}
    for name, programs in absent.items():
        if programs:
            print(f"{name} is left out: {', '.join(programs)} is not installed", file=sys.stderr)
    rivals = [r for r in rivals if not absent[r.name]]
    results = []
    with tempfile.TemporaryDirectory(dir=chosen.folder, prefix="tomovault-bench-") as folder:
        for series in chosen.series or ingest.SERIES:
            results.append(compare(series, folder, chosen.frames, chosen.runs, rivals))
            if not chosen.json:
                show(results[-1])
    if chosen.json:
        print(json.dumps({"frames": chosen.frames, "runs": chosen.runs, "series": results}))


if __name__ == "__main__":
    main()
