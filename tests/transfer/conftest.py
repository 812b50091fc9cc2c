from __future__ import annotations

import hashlib
import random
import time
from datetime import UTC, datetime, timedelta

import pytest

from tomovault.actions import export
from tomovault.core.record import Outcome
from tomovault.core.transfer import TransferFailed, TransferPlanned, TransferSubmitted
from tomovault.core.wire import to_plain
from tomovault.testing.globus_sim import GlobusSim, collection_id
from tomovault.transfer import globus
from tomovault.transfer.credentials import Credentials

SECRET = "a-token-that-nobody-may-see"


class Bench:
    """What a job has at hand."""

    def __init__(self, service):
        self.service = service
        self.points = []
        self.told = []
        self.later = timedelta(0)

    def transfers(self):
        return self.service

    def checkpoint(self, name):
        self.points.append(name)

    def progress(self, done, total):
        self.told.append((done, total))

    def now(self):
        return datetime.now(UTC) + self.later


class Shipment:
    """A package of two parts on its way from one collection to another, its order kept as the catalogue keeps it."""

    def __init__(self, base, sim, service):
        self.sim, self.bench = sim, Bench(service)
        self.vault, self.home = base / "data" / "vault", base / "home"
        self.vault.mkdir(parents=True)
        dice = random.Random(1)
        self.content = {f"bone.tomo{part}.h5": dice.randbytes(40_000) for part in ("", ".001")}
        for name, raw in self.content.items():
            (self.vault / name).write_bytes(raw)
        self.order = {
            "transfer": "t0123456789ab",
            "scan": "s1",
            "scan_name": "bone",
            "product": "original",
            "digest": "d" * 64,
            "files": [
                {
                    "location": str(self.vault / name),
                    "source": f"/vault/{name}",
                    "size": len(raw),
                    "sha256": hashlib.sha256(raw).hexdigest(),
                }
                for name, raw in self.content.items()
            ],
            "source_collection": collection_id("site"),
            "collection": collection_id("home"),
            "folder": "/in/bone",
            "label": "tomovault bone",
            "deadline_s": 3600.0,
        }
        self.results = []

    @property
    def task_ids(self):
        return list(self.sim.tasks.by_id)

    def posts(self, path):
        return sum((method, at) == ("POST", path) for method, at in self.sim.requests)

    def step(self):
        """One attempt; what it brings is known to the next."""
        result = export.Export().perform(self.order, self.bench)
        for record in result.records:
            if isinstance(record, TransferPlanned):
                self.order |= {"submission_id": record.submission_id, "deadline": to_plain(record.deadline)}
            elif isinstance(record, TransferSubmitted):
                self.order["task_id"] = record.task_id
            elif isinstance(record, TransferFailed):
                self.order |= {"submission_id": None, "task_id": None, "deadline": None}
        self.results.append(result)
        return result

    def go(self, most_s=60.0):
        """Attempts until it is no longer waited for."""
        until = time.monotonic() + most_s
        while (result := self.step()).outcome is Outcome.WAITING:
            assert time.monotonic() < until, f"still waiting: {result}"
            time.sleep(0.01)
        return result

    def received(self):
        """Every file of the destination's folder."""
        return {path.name: path.read_bytes() for path in (self.home / "in" / "bone").iterdir()}


@pytest.fixture
def collections(tmp_path):
    for name in ("data", "home"):
        (tmp_path / name).mkdir()
    return {"site": tmp_path / "data", "home": tmp_path / "home"}


@pytest.fixture
def sim(collections):
    with GlobusSim(collections) as running:
        yield running


@pytest.fixture
def connect(monkeypatch):
    """Called with a URL for the service there; whatever was opened is closed."""
    monkeypatch.setattr(globus, "_RETRIES", 1)
    monkeypatch.setattr(globus, "_MOST_S", 0.05)
    opened = []

    def make(url, credentials=None):
        opened.append(globus.GlobusTransfers(credentials or Credentials(SECRET), service=url))
        return opened[-1]

    yield make
    for service in opened:
        service.close()


@pytest.fixture
def service(sim, connect):
    return connect(sim.url)


@pytest.fixture
def shipment(tmp_path, sim, service):
    return Shipment(tmp_path, sim, service)
