"""Verified ingest against zstd + openssl, and against bare library calls, on the same EDF series.

    python benchmarks/ingest.py [--runs 7] [--frames 48] [--folder DIR] [--json]

Each contender runs in a process of its own with the source files out of the page cache, in turn, `--runs` times;
walls are compared within a run, and medians are printed with their quartiles. What tomovault does and the others
do not is part of its time: sync, drop the cache, read back, decode, rebuild, hash. Loading Python is not.
`--threads 1` compares one core of ours with everything zstd takes.

`bound` is no contender: it is what the calls take that nothing can leave out which proves as much with these libraries,
each alone and at its best, from memory, shared by the cores without a loss. `ceiling` is what they take in a loop, with
the disk.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import blosc2
import numpy as np

from tomovault.core.layout import FileLayout, FrameKind, FrameSegment, Layout
from tomovault.core.scan import FileRole, FileState, ScanFile
from tomovault.executors.local import JOB_ENVIRONMENT
from tomovault.package.codec import Buffers, decode_frame, encode_frame
from tomovault.package.reader import PackageReader
from tomovault.package.verify import prove_package
from tomovault.package.writer import write_package
from tomovault.testing.detector import Camera, named_detector

SHAPE = (2048, 2048)
HEADER = 1024
FRAME = SHAPE[0] * SHAPE[1] * 2
SERIES = ("frelon", "scmos")
CONTENDERS = ("tomovault", "ceiling", "bound", "zstd", "zstd-sync", "zstd-stream")
TARGETS = {"faster": 1.2, "size": 0.75, "codec": 1.02, "ceiling": 0.8, "restore": 1.0}


class Free:
    """A throttle that never waits."""

    def spend(self, count: int) -> None:
        pass


def ignore(*_: Any) -> None:
    pass


# --- the series -----------------------------------------------------------------------------------


def write_series(folder: str, name: str, frames: int) -> list[str]:
    """EDF files of one detector: a cylinder turning off its axis, noise as the detector's model says."""
    os.makedirs(folder)
    camera = Camera(named_detector(name), SHAPE, seed=7, fast=True)
    x = np.linspace(-1, 1, SHAPE[1], dtype=np.float32)[None, :]
    y = np.linspace(-1, 1, SHAPE[0], dtype=np.float32)[:, None]
    paths = []
    for number in range(frames):
        middle = 0.15 * np.cos(np.pi * number / frames)
        depth = 2 * np.sqrt(np.clip(0.36 - (x - middle) ** 2, 0, None)) * (1 + 0.1 * np.sin(40 * y))
        frame = camera.expose(np.exp(-1.2 * depth).astype(np.float32), number)
        head = f"{{\nImage = {number} ;\nByteOrder = LowByteFirst ;\nDataType = UnsignedShort ;\nDim_1 = {SHAPE[1]} ;\n"
        path = os.path.join(folder, f"{name}_{number:04d}.edf")
        with open(path, "wb") as out:
            out.write(head.encode("ascii").ljust(HEADER - 2) + b"}\n" + frame.astype("<u2").tobytes())
        paths.append(path)
    return paths


def described(folder: str) -> tuple[list[ScanFile], Layout]:
    files, layouts = [], []
    for number, name in enumerate(sorted(os.listdir(folder))):
        s = os.lstat(os.path.join(folder, name))
        state = FileState(
            name, s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino, s.st_dev, s.st_mode, s.st_uid, s.st_gid
        )
        files.append(ScanFile(state, FileRole.PROJECTION))
        segment = FrameSegment(HEADER, FRAME, "<u2", SHAPE, FrameKind.PROJECTION, number, number * 0.1)
        layouts.append(FileLayout(name, s.st_size, (segment,)))
    return files, Layout(tuple(layouts), {"energy_kev": 20.0})


def drop(paths: list[str]) -> None:
    for path in paths:
        handle = os.open(path, os.O_RDONLY)
        os.fsync(handle)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)


def listed(folder: str) -> list[str]:
    return [os.path.join(folder, n) for n in sorted(os.listdir(folder))]


# --- contenders: each returns its wall times by step and the bytes that it stored ---------------------


def run_tomovault(source: str, out: str, threads: int) -> dict[str, Any]:
    files, layout = described(source)
    begin = time.perf_counter()
    written = write_package(
        source,
        files,
        layout,
        out,
        "scan",
        scan={"name": "scan"},
        job="bench",
        now=datetime.now(UTC),
        threads=threads,
        throttle=Free(),
        checkpoint=ignore,
        progress=ignore,
    )
    packed = time.perf_counter()
    prove_package(written, throttle=Free(), threads=threads, progress=ignore)
    end = time.perf_counter()
    return {"wall": end - begin, "write": packed - begin, "verify": end - packed, "stored": written.bytes}


def run_restore(source: str, out: str, threads: int) -> dict[str, Any]:
    drop([os.path.join(out, "scan.tomo.h5")])
    target = os.path.join(out, "restored")
    begin = time.perf_counter()
    with PackageReader.open(os.path.join(out, "scan.tomo.h5")) as reader:
        done = reader.restore(target, job="bench", threads=threads, throttle=Free(), progress=ignore, checkpoint=ignore)
    end = time.perf_counter()
    return {"wall": end - begin, "stored": done.read_bytes}


def run_ceiling(source: str, out: str, threads: int) -> dict[str, Any]:
    """The same work by bare calls of hashlib, blosc2, pread and pwrite into one plain file: no names, no format."""
    blosc2.set_releasegil(True)
    paths = listed(source)
    handle = os.open(os.path.join(out, "bare"), os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    buffers = Buffers(threads + 1)
    slot = HEADER + FRAME

    def store(item: tuple[int, str]) -> tuple[str, str, int, bytes]:
        number, path = item
        buffer = buffers.take(slot)
        reading = os.open(path, os.O_RDONLY)
        os.preadv(reading, [buffer], 0)
        os.close(reading)
        whole = hashlib.sha256(buffer).hexdigest()
        head = bytes(buffer[:HEADER])
        data = encode_frame(memoryview(buffer)[HEADER:], 2)
        digest = hashlib.sha256(data).hexdigest()
        os.pwrite(handle, data, number * slot)
        buffers.give(buffer)
        return whole, digest, len(data), head

    def check(item: tuple[int, tuple[str, str, int, bytes]]) -> bool:
        number, (whole, digest, length, head) = item
        buffer = buffers.take(slot)
        data = os.pread(handle, length, number * slot)
        if hashlib.sha256(data).hexdigest() != digest:
            return False
        buffer[:HEADER] = head
        decode_frame(data, memoryview(buffer)[HEADER:], codec="blosc2")
        same = hashlib.sha256(buffer).hexdigest() == whole
        buffers.give(buffer)
        return same

    begin = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        stored = list(pool.map(store, enumerate(paths)))
        os.fsync(handle)
        packed = time.perf_counter()
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        right = all(pool.map(check, enumerate(stored)))
    end = time.perf_counter()
    os.close(handle)
    if not right:
        raise SystemExit("the ceiling's data did not come back")
    size = sum(length for _, _, length, _ in stored)
    return {"wall": end - begin, "write": packed - begin, "verify": end - packed, "stored": size}


def run_bound(source: str, out: str, threads: int) -> dict[str, Any]:
    """Read, sha256, encode, sha256; then sha256 of what was stored, decode, sha256: the CPU time of `threads` cores."""
    spent, stored = 0.0, 0
    raw, back = bytearray(HEADER + FRAME), bytearray(FRAME)
    for path in listed(source):
        with open(path, "rb", buffering=0) as file:
            file.readinto(raw)
            data = encode_frame(memoryview(raw)[HEADER:], 2)
            spent += least_time(lambda file=file: os.preadv(file.fileno(), [raw], 0))
        spent += 2 * least_time(lambda: hashlib.sha256(raw))
        spent += 2 * least_time(lambda data=data: hashlib.sha256(data))
        spent += least_time(lambda: encode_frame(memoryview(raw)[HEADER:], 2))
        spent += least_time(lambda data=data: decode_frame(data, memoryview(back), codec="blosc2"))
        stored += len(data)
    return {"wall": spent / threads, "cpu": spent, "stored": stored}


def least_time(call: Callable[[], object]) -> float:
    """CPU seconds of the quickest of a few calls."""
    taken = []
    for _ in range(3):
        begin = time.thread_time()
        call()
        taken.append(time.thread_time() - begin)
    return min(taken)


def run_zstd(source: str, out: str, threads: int) -> dict[str, Any]:
    """zstd of every file and openssl over every file, side by side; neither syncs nor reads back."""
    return _pipeline(source, out, sync=False)


def run_zstd_sync(source: str, out: str, threads: int) -> dict[str, Any]:
    """The same, and its output synced, as ours is."""
    return _pipeline(source, out, sync=True)


def _pipeline(source: str, out: str, *, sync: bool) -> dict[str, Any]:
    paths = listed(source)
    begin = time.perf_counter()
    with open(os.path.join(out, "digests"), "wb") as digests:
        hashing = subprocess.Popen(["openssl", "dgst", "-sha256", *paths], stdout=digests)
        subprocess.run(["zstd", "-3", "-T0", "-q", "--output-dir-flat", out, *paths], check=True)
        if hashing.wait() != 0:
            raise SystemExit("openssl failed")
    if sync:
        subprocess.run(["sync", "-f", out], check=True)
    end = time.perf_counter()
    stored = sum(os.path.getsize(p) for p in listed(out) if p.endswith(".zst"))
    return {"wall": end - begin, "stored": stored}


def run_zstd_stream(source: str, out: str, threads: int) -> dict[str, Any]:
    """All files as one stream, which lets zstd use every core on them, openssl beside it."""
    paths = listed(source)
    begin = time.perf_counter()
    with open(os.path.join(out, "digests"), "wb") as digests, open(os.path.join(out, "all.zst"), "wb") as packed:
        hashing = subprocess.Popen(["openssl", "dgst", "-sha256", *paths], stdout=digests)
        joined = subprocess.Popen(["cat", *paths], stdout=subprocess.PIPE)
        subprocess.run(["zstd", "-3", "-T0", "-q", "-c"], stdin=joined.stdout, stdout=packed, check=True)
        if joined.wait() != 0 or hashing.wait() != 0:
            raise SystemExit("the pipeline failed")
    return {"wall": time.perf_counter() - begin, "stored": os.path.getsize(os.path.join(out, "all.zst"))}


RUN = {
    "tomovault": run_tomovault,
    "restore": run_restore,
    "ceiling": run_ceiling,
    "bound": run_bound,
    "zstd": run_zstd,
    "zstd-sync": run_zstd_sync,
    "zstd-stream": run_zstd_stream,
}


def child(name: str, source: str, out: str, threads: int) -> None:
    """Run one contender here and print what it took, its own children included, as JSON."""
    before = _used()
    result = RUN[name](source, out, threads)
    after = _used()
    result = {key: after[key] - before[key] for key in before} | result
    result["peak"] = own_peak()
    print(json.dumps(result))


def own_peak() -> int:
    """Most memory that this process held (getrusage would count what its parent held before it)."""
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))


def _used() -> dict[str, float]:
    own, others = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "cpu": own.ru_utime + own.ru_stime + others.ru_utime + others.ru_stime,
        "read": 512.0 * (own.ru_inblock + others.ru_inblock),
        "written": 512.0 * (own.ru_oublock + others.ru_oublock),
    }


def measure(name: str, source: str, out: str, threads: int) -> dict[str, Any]:
    drop(listed(source))
    os.sync()
    command = [sys.executable, os.path.abspath(__file__), "--child", name, "--source", source, "--out", out]
    environment = {**os.environ, **JOB_ENVIRONMENT}
    done = subprocess.run([*command, "--threads", str(threads)], check=True, stdout=subprocess.PIPE, env=environment)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


# --- the figures ----------------------------------------------------------------------------------


def compare(series: str, folder: str, frames: int, runs: int, threads: int) -> dict[str, Any]:
    source = os.path.join(folder, series)
    paths = write_series(source, series, frames)
    raw = sum(os.path.getsize(p) for p in paths)
    codec = 0
    for path in paths:
        with open(path, "rb") as file:
            codec += len(encode_frame(memoryview(file.read())[HEADER:], 2))
    taken: dict[str, list[dict[str, Any]]] = {name: [] for name in (*CONTENDERS, "restore")}
    for run in range(runs):
        order = CONTENDERS if run % 2 == 0 else CONTENDERS[::-1]
        for name in order:
            out = os.path.join(folder, "out")
            os.makedirs(out)
            taken[name].append(measure(name, source, out, threads))
            if name == "tomovault":
                taken["restore"].append(measure("restore", source, out, threads))
            shutil.rmtree(out)
    shutil.rmtree(source)
    return {"series": series, "raw": raw, "codec": codec, "runs": taken, "figures": figures(taken, codec)}


def figures(taken: dict[str, list[dict[str, Any]]], codec: int) -> dict[str, dict[str, Any]]:
    ours = taken["tomovault"]

    def paired(name: str) -> list[float]:
        return [other["wall"] / own["wall"] for own, other in zip(ours, taken[name], strict=True)]

    rows: dict[str, tuple[list[float], float | None, bool]] = {
        "times faster than zstd + openssl": (paired("zstd"), TARGETS["faster"], True),
        "times faster than the same, synced": (paired("zstd-sync"), None, True),
        "times faster than one stream + openssl": (paired("zstd-stream"), None, True),
        "of the ceiling of bare library calls": (paired("ceiling"), TARGETS["ceiling"], True),
        "of the bound of the calls alone": (paired("bound"), None, True),
        "restore, times as fast as ingest": (
            [own["wall"] / back["wall"] for own, back in zip(ours, taken["restore"], strict=True)],
            TARGETS["restore"],
            True,
        ),
        "stored size over zstd -3": (
            [own["stored"] / other["stored"] for own, other in zip(ours, taken["zstd"], strict=True)],
            TARGETS["size"],
            False,
        ),
        "stored size over the codec alone": ([own["stored"] / codec for own in ours], TARGETS["codec"], False),
        "CPU of zstd + openssl over ours": (
            [other["cpu"] / own["cpu"] for own, other in zip(ours, taken["zstd"], strict=True)],
            None,
            True,
        ),
    }
    found = {}
    for name, (values, target, high) in rows.items():
        middle = statistics.median(values)
        reached = None if target is None else (middle >= target if high else middle <= target)
        found[name] = {"median": middle, "spread": spread(values), "target": target, "reached": reached}
    return found


def together(results: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The same figures over all series as one body of data: walls, CPU and sizes of a run added up."""
    names = results[0]["runs"]
    taken = {
        name: [
            {key: sum(one[key] for one in same) for key in ("wall", "cpu", "stored")}
            for same in zip(*(r["runs"][name] for r in results), strict=True)
        ]
        for name in names
    }
    return figures(taken, sum(r["codec"] for r in results))


def spread(values: list[float]) -> tuple[float, float]:
    """Lower and upper quartile."""
    if len(values) < 2:
        return values[0], values[0]
    quartiles = statistics.quantiles(values, n=4, method="inclusive")
    return quartiles[0], quartiles[2]


def show(result: dict[str, Any], frames: int, runs: int) -> None:
    raw = result["raw"]
    print(f"\n{result['series']}: {frames} frames of {SHAPE[0]} x {SHAPE[1]} uint16, {raw / 1e6:.0f} MB, {runs} runs")
    print(f"{'':14}{'MB/s':>8}{'quartiles':>16}{'MB/CPU s':>10}{'ratio':>8}{'read':>8}{'written':>9}{'peak MB':>9}")
    for name, taken in result["runs"].items():
        speeds = [raw / 1e6 / one["wall"] for one in taken]
        low, high = spread(speeds)

        def middle(key: str, taken: list[dict[str, Any]] = taken) -> float:
            return float(statistics.median(one[key] for one in taken))

        print(
            f"{name:14}{statistics.median(speeds):8.0f}{f'{low:.0f}-{high:.0f}':>16}{raw / 1e6 / middle('cpu'):10.0f}"
            f"{raw / middle('stored'):8.3f}{middle('read') / raw:8.2f}{middle('written') / raw:9.2f}"
            f"{middle('peak') / 1e6:9.0f}"
        )
    print("read and written: bytes from and to the disk over raw bytes")
    show_figures(result["figures"])


def show_figures(found: dict[str, dict[str, Any]]) -> None:
    for name, one in found.items():
        low, high = one["spread"]
        verdict = (
            "" if one["target"] is None else f"   target {one['target']}: {'reached' if one['reached'] else 'MISSED'}"
        )
        print(f"  {one['median']:6.3f}  ({low:.3f}-{high:.3f})  {name}{verdict}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--frames", type=int, default=48)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--series", choices=SERIES, action="append")
    parser.add_argument("--folder", help="where to work (a new folder below it); by default a temporary one")
    parser.add_argument("--json", action="store_true", help="print one JSON object with every run")
    for hidden in ("--child", "--source", "--out"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.child:
        child(chosen.child, chosen.source, chosen.out, chosen.threads)
        return
    for program in ("zstd", "openssl"):
        if shutil.which(program) is None:
            raise SystemExit(f"{program} is not installed")
    results = []
    with tempfile.TemporaryDirectory(dir=chosen.folder, prefix="tomovault-bench-") as folder:
        for series in chosen.series or SERIES:
            results.append(compare(series, folder, chosen.frames, chosen.runs, chosen.threads))
            if not chosen.json:
                show(results[-1], chosen.frames, chosen.runs)
    every = together(results)
    if chosen.json:
        head = {"frames": chosen.frames, "runs": chosen.runs, "targets": TARGETS}
        print(json.dumps({**head, "together": every, "series": results}))
    elif len(results) > 1:
        print("\nall series together")
        show_figures(every)


if __name__ == "__main__":
    main()
