"""A scan of 4 GB lives its whole life, and no process ever holds more than some frames of it.

Long, so one of `make soak`; with `TOMOVAULT_BIG=1` it is one of `make test` as well.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time

import pytest
from sqlalchemy import func, select

from tomovault.catalog.tables import attempt, job
from tomovault.core.known import RemovalPhase
from tomovault.core.replica import Form, ProductKind, ReplicaState, TierClass
from tomovault.testing.edf_scan import write_edf_scan
from tomovault.vault.vault import Vault

SHAPE = (2048, 2048)
FRAME = SHAPE[0] * SHAPE[1] * 2
PROJECTIONS = 500
ROOM = 20 * 10**9
LIFE_S = 15 * 60

#: The most memory that any process may have had: what the libraries need when they are loaded, and frames.
LIBRARIES = 150 * 10**6
FRAMES = 30

pytestmark = [] if os.environ.get("TOMOVAULT_BIG") == "1" else [pytest.mark.soak]


@pytest.fixture
def big_site(new_site, tmp_path):
    free = shutil.disk_usage(tmp_path).free
    if free < ROOM:
        pytest.skip(
            f"it needs {ROOM / 1e9:.0f} GB and {tmp_path} has {free / 1e9:.0f} GB; --basetemp names another place"
        )
    written = PROJECTIONS * FRAME
    site = new_site(area={"quota": int(1.2 * written), "high": "85%", "low": "75%", "prune": "on", "floor": "1GB"})
    yield site
    for folder in (site.area, site.area.with_name(f"{site.area.name}.vault"), site.folder, tmp_path / "back"):
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.timeout(2 * LIFE_S)
def test_a_scan_of_4_gb_lives_its_life_within_the_memory_of_some_frames(big_site, digests, tmp_path):
    seconds = {}

    def took(what, begun):
        seconds[what] = round(time.monotonic() - begun, 1)

    begun = time.monotonic()
    name = "big_"
    write_edf_scan(str(big_site.area), name, shape=SHAPE, projections=PROJECTIONS, flats=3, darks=4, fast=True)
    original = digests(big_site.area / name)
    assert sum(p.stat().st_size for p in (big_site.area / name).iterdir()) > 4 * 10**9
    took("write", begun)

    begun = time.monotonic()
    told = big_site.call("run", "--until-idle", timeout_s=LIFE_S)
    took("live", begun)
    assert told["failed_jobs"] == 0
    (scan,) = big_site.scans()
    assert scan.verdict == "complete"
    packages = [r for r in scan.replicas_of(ProductKind.ORIGINAL, Form.PACKAGE) if r.state is ReplicaState.VERIFIED]
    assert sorted(r.tier_class for r in packages) == [TierClass.ARCHIVE, TierClass.ARCHIVE, TierClass.SERVER]
    assert len({r.domain for r in packages}) == 3
    assert [r.state for r in scan.replicas_of(ProductKind.PREVIEW)] == [ReplicaState.VERIFIED]
    assert [p.phase for p in scan.permits] == [RemovalPhase.GONE]
    left = {p.name for p in (big_site.area / name).iterdir()}
    assert not left & set(original)

    begun = time.monotonic()
    back = tmp_path / "back"
    big_site.call("restore", scan.id, "--to", str(back), "--from", "tape", "--wait", timeout_s=LIFE_S)
    took("restore", begun)
    restored = digests(back)
    assert {path: restored.get(path) for path in original} == original

    peaks = _peaks(big_site)
    print(f"seconds: {seconds}; most memory in MB: { {k: round(v / 1e6) for k, v in peaks.items()} }")
    assert {"inspect", "pack", "archive", "preview", "prune", "empty_quarantine", "restore"} <= set(peaks)
    bound = LIBRARIES + FRAMES * FRAME
    assert not {what: peak for what, peak in peaks.items() if peak > bound}, f"more than {bound} bytes"
    assert sum(seconds.values()) < LIFE_S


def _peaks(site):
    """The most memory of each action, from the record of its attempts, and of any process of the commands."""
    query = select(job.c.action, func.max(attempt.c.peak_bytes)).join_from(attempt, job).group_by(job.c.action)
    with contextlib.closing(Vault.open(site.folder, upgrade=False)) as vault, vault.catalogue.reading() as tx:
        peaks = {action: int(peak) for action, peak in tx.rows(query)}
    return peaks | {f"any process of {command}": peak for command, peak in site.peaks.items()}
