import hashlib
import itertools
import os
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from tomovault.core.ports import Parcel
from tomovault.core.replica import StoredFile
from tomovault.tiers import quarantine as q
from tomovault.tiers.emulated_library import EmulatedLibrary

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Bucket:
    def __init__(self):
        self.spent, self.largest = 0, 0

    def spend(self, count):
        self.spent += count
        self.largest = max(self.largest, count)


@pytest.fixture
def now():
    return NOW


@pytest.fixture
def bucket():
    return Bucket()


@pytest.fixture
def parcel(tmp_path):
    """A parcel of one file (or several) with these contents."""

    def build(scan, *contents):
        folder = tmp_path / "source"
        folder.mkdir(exist_ok=True)
        files = []
        for number, content in enumerate(contents):
            path = folder / f"{scan}.{number}.h5"
            path.write_bytes(content)
            files.append(StoredFile(str(path), len(content), hashlib.sha256(content).hexdigest()))
        digest = hashlib.sha256(scan.encode()).hexdigest()
        return Parcel(scan, scan, "original", digest, tuple(files), f'{{"scan": "{scan}"}}', "grp")

    return build


@pytest.fixture
def library(tmp_path, bucket):
    """A library in tmp_path/tape; called again it is another process on the same folder."""

    def open_library(**options):
        (tmp_path / "tape").mkdir(exist_ok=True)
        options = {"path": str(tmp_path / "tape"), "capacity": "8MiB", "wait_s": 5, **options}
        return EmulatedLibrary("tape", options, now=lambda: NOW)

    return open_library


@pytest.fixture
def put(bucket):
    def run(tier, *parcels, job="job1", pool="A", checkpoint=lambda _name: None):
        return tier.put(parcels, f"{tier.name}:{pool}", job=job, throttle=bucket, checkpoint=checkpoint)

    return run


@pytest.fixture
def shelf(tmp_path):
    """The library's folder as seen from outside."""
    tape = tmp_path / "tape"
    return SimpleNamespace(
        path=tape,
        cartridge=lambda barcode: tape / "cartridges" / barcode,
        barcodes=lambda: sorted(p.name for p in (tape / "cartridges").iterdir()),
        log=tape / "log.jsonl",
        state=tape / "library.json",
    )


# --- removals ----------------------------------------------------------------------------------------


@pytest.fixture
def scan(new_scan):
    return new_scan()


@pytest.fixture
def new_scan(tmp_path, bucket):
    """Called for a scan in an area of its own."""
    numbers = itertools.count(1)
    return lambda: _scan(tmp_path / f"area{next(numbers)}", bucket)


def _scan(area, bucket):
    """A scan of five files, a subfolder and a link below an area, with everything that the calls need."""
    root = area / "visit" / "scan"
    (root / "sub" / "deep").mkdir(parents=True)
    for number in range(4):
        (root / f"f{number}.edf").write_bytes(bytes([number]) * (100 + number))
    (root / "sub" / "deep" / "g.edf").write_bytes(b"deep")
    os.symlink("f0.edf", root / "link")
    names = ["f0.edf", "f1.edf", "f2.edf", "f3.edf", "sub/deep/g.edf", "link"]
    place = q.Place(str(area), str(root), str(area / ".tomovault" / "quarantine" / "m1"))
    calls = {"may_continue": lambda: True, "throttle": bucket, "checkpoint": lambda _name: None}

    def move(victims=None, *, keep=(), **more):
        chosen = victims if victims is not None else [_victim(root, n) for n in names]
        return q.move_in(place, chosen, keep=frozenset(keep), **{**calls, **more})

    def back(**more):
        asked = {name: calls[name] for name in ("may_continue", "checkpoint")}
        return q.put_back(place, **{**asked, **more})

    return SimpleNamespace(
        area=area,
        root=root,
        names=names,
        place=place,
        inside=area / ".tomovault" / "quarantine" / "m1" / "files",
        victim=lambda path, **more: _victim(root, path, **more),
        tree=_tree,
        victims=[_victim(root, n) for n in names],
        move=move,
        back=back,
        empty=lambda **more: q.empty(place, **{**calls, **more}),
    )


def _victim(root, path, *, known=True):
    file = root / path
    state = os.lstat(file)
    if file.is_symlink():
        return q.Victim(path, state.st_size, "", link_target=os.readlink(file))
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    times = (state.st_mtime_ns, state.st_ctime_ns, state.st_ino) if known else (None, None, None)
    return q.Victim(path, state.st_size, digest, *times)


def _tree(folder):
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            found[str(path.relative_to(folder))] = os.readlink(path)
        elif path.is_file():
            found[str(path.relative_to(folder))] = path.read_bytes()
    return found
