"""A rule has scans sent by itself once an embargo is over: real daemon, real SDK, the shipped service."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta

import pytest

from tomovault.testing.globus_sim import GlobusSim, collection_id

RULES = """
  - name: home
    when: packed
    do: export
    with: {{to: 'home:/in/{{area}}'}}
  - name: embargo
    do: forbid
    until: '{until}'
    with: {{actions: [export]}}
"""


@pytest.fixture
def port(new_site, tmp_path_factory):
    """A site with a scan, and a service that knows its vaults and somebody's home."""
    site = new_site("edf")
    home = tmp_path_factory.mktemp("home")
    with GlobusSim({"site": site.base, "home": home}) as sim:
        site.sim, site.home = sim, home
        paths, names = {str(site.base): "/"}, {"home": collection_id("home")}
        site.change(globus={"collection": collection_id("site"), "paths": paths, "names": names, "service": sim.url})
        token = site.folder / "globus-token"
        token.touch(0o600)
        token.write_text("a-token")
        site.write("edf", "bone")
        site.age()
        yield site


def embargo(site, until, version):
    """Every scan is to be sent, and none before that moment."""
    path = site.folder / "policies" / "standard.yaml"
    head, _, _ = path.read_text("utf-8").partition("\n  - name: home")
    lines = [f"version: {version}" if line.startswith("version:") else line for line in head.splitlines()]
    path.write_text("\n".join(lines) + RULES.format(until=until.isoformat()), "utf-8")


def exported(site):
    return next(s for s in site.ask("explain", "bone")["stages"] if s["stage"] == "exported")


def test_when_its_embargo_is_over_a_scan_is_sent_by_itself_and_once(port, digests):
    embargo(port, datetime.now(UTC) + timedelta(days=1), 2)
    assert all(row["ok"] for row in port.ask("policy", "check")["files"])
    port.live()
    line = exported(port)
    assert (line["status"], line["rule"]) == ("held", "home@standard:2")
    assert "forbidden by embargo@standard:2" in line["reason"]
    assert port.sim.tasks.by_id == {}
    assert "forbidden by embargo" in port.refuse("transfer", "bone", "--to", "home:/x", code=3)

    over = datetime.now(UTC) + timedelta(seconds=8)
    embargo(port, over, 3)
    daemon = port.start()
    try:
        until = time.monotonic() + 90
        while exported(port)["status"] != "done":
            assert port.sim.tasks.by_id == {} or datetime.now(UTC) >= over
            assert time.monotonic() < until, exported(port)
            assert daemon.poll() is None
            time.sleep(0.3)
    finally:
        daemon.terminate()
        daemon.wait(60)
    assert_sent_once(port, digests)
    port.wait_for_its_place()
    port.live()
    assert_sent_once(port, digests)
    asked = [row for row in port.ask("audit", "show")["entries"] if row["op"] == "transfer asked"]
    assert [row["actor"] for row in asked] == ["home@standard:3"]


def assert_sent_once(site, digests):
    """The package is at home byte for byte with its list; one task, one transfer, and a receipt that cites the rule."""
    shown = site.show("bone")
    package = next(r for r in shown["replicas"] if r["form"] == "package" and r["tier"] == "edf")
    there = digests(site.home / "in" / "edf" / "bone")
    assert there.pop("bone.tomo.h5") == package["sha256"]
    assert list(there) == ["bone.tomo.h5.transfer.json"]
    told = json.loads((site.home / "in" / "edf" / "bone" / "bone.tomo.h5.transfer.json").read_text())
    assert [f["sha256"] for f in told["files"]] == [package["sha256"]]
    (transfer,) = shown["transfers"]
    assert (transfer["state"], transfer["asked_by"]) == ("succeeded", "home@standard:3")
    (task,) = site.sim.tasks.by_id
    assert transfer["receipt"]["task_id"] == task
    assert len(site.sim.tasks.by_submission) == 1
    assert [j["rule"] for j in shown["jobs"] if j["action"] == "export"] == ["home@standard:3"]
