"""A small scan on disk and the calls that pack it."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from tomovault.core.layout import FileLayout, FrameKind, FrameSegment, Layout
from tomovault.core.replica import StoredFile
from tomovault.core.scan import FileRole, FileState, ScanFile
from tomovault.package.verify import prove_package, verify_package
from tomovault.package.writer import write_package
from tomovault.package.written import Written

NOW = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)


class Meter:
    """A throttle that counts."""

    def __init__(self):
        self.spent = 0

    def spend(self, count):
        self.spent += count


def no_checkpoint(name):
    """Nothing happens."""


def no_progress(done, total):
    """Nothing happens."""


@dataclass
class Bench:
    """A scan folder, its layout, a vault."""

    root: Path
    vault: Path
    frames: dict[int, np.ndarray] = field(default_factory=dict)
    layouts: list[FileLayout] = field(default_factory=list)
    roles: dict[str, FileRole] = field(default_factory=dict)
    nx: dict = field(
        default_factory=lambda: {
            "energy_kev": 20.0,
            "distance_m": 0.1,
            "x_pixel_m": 1e-6,
            "y_pixel_m": 1e-6,
            "exposure_s": 0.5,
            "sample": "bone",
            "start_time": "2026-05-04T01:00:00Z",
            "end_time": "2026-05-04T02:00:00Z",
        }
    )
    seed: int = 0

    def noise(self, shape=(32, 40), dtype="<u2", level=900):
        self.seed += 1
        rng = np.random.default_rng(self.seed)
        return rng.poisson(level, shape).astype(dtype)

    def path(self, name) -> str:
        return os.path.join(os.fsencode(self.root), os.fsencode(name))

    def side(self, name, data, role=FileRole.SIDE):
        full = self.path(name)
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(os.open(full, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o644), "wb") as out:
            out.write(data)
        self.roles[name] = role

    def edf(self, name, kind, order, frame=None, *, angle=None, summed=1, header=1024, tail=b""):
        """One file, one frame, between a header and a tail."""
        frame = self.noise() if frame is None else frame
        head = (b"{\nimage = %d ;\n" % order).ljust(header - 2) + b"}\n"
        self.side(name, head + frame.tobytes() + tail, FileRole.PROJECTION)
        segment = FrameSegment(header, frame.nbytes, frame.dtype.str, frame.shape, kind, order, angle, summed)
        self.layouts.append(FileLayout(name, header + frame.nbytes + len(tail), (segment,)))
        self.frames[order] = frame

    def stack(self, name, kind, first, count, *, shape=(32, 40), dtype="<u2", gap=16):
        """One file with many frames and bytes between them."""
        body, segments = b"\x89HDF head", []
        for order in range(first, first + count):
            frame = self.noise(shape, dtype)
            body += bytes(gap)
            segments.append(
                FrameSegment(len(body), frame.nbytes, frame.dtype.str, frame.shape, kind, order, order * 1.0)
            )
            body += frame.tobytes()
            self.frames[order] = frame
        body += b"end of file"
        self.side(name, body, FileRole.CAMERA)
        self.layouts.append(FileLayout(name, len(body), tuple(segments)))

    def series(self, count=6):
        """An EDF series: a summed dark, a flat, projections, side files."""
        self.edf("dark.edf", FrameKind.DARK, 0, (self.noise(level=100) // 10 * 10).astype("<u4"), summed=10)
        self.edf("ref0000.edf", FrameKind.FLAT, 1)
        for i in range(count):
            self.edf(f"scan_{i:04d}.edf", FrameKind.PROJECTION, 2 + i, angle=i * 30.0, tail=b"\0\0")
        self.side("scan.info", "Prefix= scan\nComment= \xe9\n".encode("latin-1"), FileRole.METADATA)
        self.side("notes/empty.txt", b"")
        return self

    def state(self, name) -> FileState:
        s = os.lstat(self.path(name))
        full = self.path(name)
        target = os.fsdecode(os.readlink(full)) if os.path.islink(full) else None
        return FileState(
            name, s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino, s.st_dev, s.st_mode, s.st_uid, s.st_gid, target
        )

    def files(self) -> list[ScanFile]:
        return [ScanFile(self.state(n), r) for n, r in self.roles.items()]

    def layout(self) -> Layout:
        return Layout(tuple(self.layouts), self.nx)

    def pack(self, **changes):
        files = changes.pop("files", None) or self.files()
        arguments = {
            "files": files,
            "layout": self.layout(),
            "folder": str(self.vault),
            "stem": "scan",
            "scan": {"name": "scan"},
            "job": "job1",
            "now": NOW,
            "throttle": Meter(),
            "checkpoint": no_checkpoint,
            "progress": no_progress,
        } | changes
        written = write_package(str(self.root), **arguments)
        told = {k: v for k, v in vars(written).items() if k not in ("first", "others")}
        return Packed(stored_files(written), written=written, **told)

    def verify(self, written):
        return verify_package(written.files, throttle=Meter(), progress=no_progress)

    def prove(self, packed, throttle=None):
        return prove_package(packed.written, throttle=throttle or Meter(), progress=no_progress)

    def content(self, name) -> bytes:
        with open(self.path(name), "rb") as source:
            return source.read()


@dataclass(frozen=True)
class Packed:
    """What was written, and what its files were found to be without the code that proves it."""

    files: tuple
    digest: str
    manifest: str
    bytes: int
    original_bytes: int
    original_files: int
    hashed: tuple
    notes: tuple
    written: Written


def stored_files(written):
    first = Path(written.first.location)
    found = StoredFile(str(first), written.first.size, hashlib.sha256(first.read_bytes()).hexdigest())
    return (found, *written.others)


@pytest.fixture
def bench(tmp_path):
    (tmp_path / "scan").mkdir()
    return Bench(tmp_path / "scan", tmp_path / "vault")


@pytest.fixture
def series(bench):
    return bench.series()


@pytest.fixture
def meter():
    return Meter()


@pytest.fixture
def quiet():
    """The arguments that a test does not care about."""
    return {"throttle": Meter(), "progress": no_progress, "checkpoint": no_checkpoint}
