from __future__ import annotations

import os
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from tomovault.core.layout import Layout
from tomovault.core.ports import Parcel
from tomovault.core.scan import FileRole, FileState, ScanFile
from tomovault.core.wire import to_plain
from tomovault.package.verify import prove_package
from tomovault.package.writer import write_package
from tomovault.testing.memory_tier import MemoryTier
from tomovault.watch.area import write_marker

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Throttle:
    def spend(self, count):
        """Nothing is too fast."""


class Bench:
    """What a job has at hand, without a site."""

    def __init__(self, folder):
        self.job, self.folder = "j1", str(folder)
        self.tiers = {"tape": MemoryTier("tape", must_stage=True)}
        self.current = True
        self.names = []
        self.formats = None

    def tier(self, name):
        return self.tiers[name]

    def throttle(self, _place):
        return Throttle()

    def checkpoint(self, name):
        self.names.append(name)

    def progress(self, done, total):
        """Nobody looks."""

    def now(self):
        return NOW

    def token_is_current(self):
        return self.current


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


@pytest.fixture
def dropped(monkeypatch):
    """Inodes of files that were synced, and then dropped from memory before anything of them was read."""
    synced, found = set(), set()
    fsync, fadvise = os.fsync, os.posix_fadvise

    def sync(fd):
        synced.add(os.fstat(fd).st_ino)
        fsync(fd)

    def advise(fd, offset, length, advice):
        inode = os.fstat(fd).st_ino
        if advice == os.POSIX_FADV_DONTNEED and inode in synced and os.lseek(fd, 0, os.SEEK_CUR) == 0:
            found.add(inode)
        fadvise(fd, offset, length, advice)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "posix_fadvise", advise)
    return found


def _state(root, path):
    s = os.lstat(root / path)
    link = os.readlink(root / path) if (root / path).is_symlink() else None
    return FileState(
        path, s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino, s.st_dev, s.st_mode, s.st_uid, s.st_gid, link
    )


@pytest.fixture
def packed(tmp_path, bench):
    """A marked area with a scan of four files and a link, its package in the vault and two copies on tape."""
    area, vault = tmp_path / "area", tmp_path / "area.vault"
    root = area / "scan"
    (root / "sub").mkdir(parents=True)
    vault.mkdir()
    for number in range(3):
        (root / f"f{number}.edf").write_bytes(bytes([65 + number]) * 2000)
    (root / "sub" / "g.txt").write_text("side")
    os.symlink("f0.edf", root / "link")
    identity = write_marker(str(area), name="inhouse", simulated=True, now=NOW)
    names = ["f0.edf", "f1.edf", "f2.edf", "sub/g.txt", "link"]
    written = write_package(
        str(root),
        [ScanFile(_state(root, n), FileRole.SIDE) for n in names],
        Layout(),
        str(vault),
        "scan",
        scan={"name": "scan"},
        job="j0",
        now=NOW,
        threads=1,
        part_bytes=1 << 30,
        floor_bytes=0,
        throttle=Throttle(),
        checkpoint=lambda _n: None,
        progress=lambda _d, _t: None,
    )
    files = prove_package(written, throttle=Throttle(), threads=1, progress=lambda _d, _t: None)
    manifest = tmp_path / "manifest.json"
    manifest.write_text(written.manifest, "utf-8")
    parcel = Parcel("s1", "scan", "original", written.digest, files, written.manifest)
    tape = bench.tiers["tape"]
    more = {"job": "j0", "throttle": Throttle(), "checkpoint": lambda _n: None}
    copies = [tape.put([parcel], domain, **more)[0] for domain in tape.domains()]

    def removal(form="files"):
        below = area if form == "files" else vault
        return {
            "permit": "m1",
            "area_path": str(area),
            "identity": to_plain(identity),
            "place": {
                "below": str(below),
                "root": str(root if form == "files" else vault),
                "quarantine": str(below / ".tomovault" / "quarantine" / "m1"),
            },
        }

    return SimpleNamespace(
        area=area,
        vault=vault,
        root=root,
        names=names,
        identity=identity,
        digest=written.digest,
        files=files,
        manifest=str(manifest),
        copies=copies,
        before={n: (root / n).read_bytes() for n in names},
        removal=removal,
    )
