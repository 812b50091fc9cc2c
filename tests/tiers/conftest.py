import hashlib
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from tomovault.core.ports import Parcel
from tomovault.core.replica import StoredFile
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
