"""One scan lives its life with the catalogue on PostgreSQL, a second daemon stands back, and `make demo` runs there."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tomovault.core.known import RemovalPhase
from tomovault.core.replica import Form, ProductKind, ReplicaState
from tomovault.testing.edf_scan import write_edf_scan

pytestmark = pytest.mark.component("postgresql")


def test_a_scan_lives_its_life_on_postgresql(new_site, postgresql, digests, tmp_path):
    site = new_site(
        {"catalogue": postgresql.emptied()}, area={"quota": "400kB", "high": "50%", "low": "40%", "prune": "on"}
    )
    write_edf_scan(str(site.area), "scan_", projections=30, shape=(64, 64))
    original = digests(site.area / "scan_")
    assert site.call("run", "--until-idle", timeout_s=120)["failed_jobs"] == 0
    (scan,) = site.scans()
    good = [r for r in scan.replicas if r.state is ReplicaState.VERIFIED]
    assert [r.tier for r in good if r.product is ProductKind.ORIGINAL].count("tape") == 2
    assert {r.product for r in good} == {ProductKind.ORIGINAL, ProductKind.PREVIEW, ProductKind.VOLUME}
    assert not scan.replicas_of(ProductKind.ORIGINAL, Form.FILES)
    assert {p.phase for p in scan.permits} == {RemovalPhase.GONE}

    back = tmp_path / "back"
    site.call("restore", "scan_", "--to", str(back), "--from", "tape", "--wait", timeout_s=60)
    assert digests(back) == original
    assert site.call("verify", "--all", timeout_s=60)["bad"] == []
    assert site.call("audit", "verify", timeout_s=60)["ok"]

    site.start()
    site.wait_for_rest(1, timeout_s=30)
    second = subprocess.run(
        site.command("run", "--until-idle", "--quiet"), capture_output=True, text=True, timeout=60, check=False
    )
    assert second.returncode == 75
    assert "another daemon runs for the machine" in second.stderr
    site.stop()


#: The demonstration with scans so small that it takes seconds.
_SMALL_DEMO = """
import sys
from tomovault.cli import main
from tomovault.cli.dev import _demo
_demo._BEAMLINES = (("id19", "edf", "bone", 2, 32, 24),)
main(["dev", "demo", "--folder", "demo", "--catalogue", sys.argv[1]])
"""


@pytest.mark.timeout(600)
def test_the_demonstration_runs_on_postgresql_and_once_in_a_database(postgresql, tmp_path):
    command = [sys.executable, "-c", _SMALL_DEMO, postgresql.new_database()]
    first, second = (
        subprocess.run(command, capture_output=True, text=True, timeout=500, check=False, cwd=tmp_path)
        for _ in range(2)
    )
    assert first.returncode == 0, first.stdout + first.stderr
    assert "2 scans lived" in first.stdout
    assert list((tmp_path / "demo" / "site" / "run").glob("daemon-*.log")), "the log is where the daemon's would be"
    assert not list((tmp_path / "demo" / "site").glob("catalogue.db*"))
    assert second.returncode == 2
    assert "the catalogue of a site already, with the areas id19" in second.stderr
