"""An order to destroy what is on tape, killed around the moment at which it happens."""

from __future__ import annotations

import pytest

_ORDER = ("--product", "original", "--tier", "tape", "--reason", "test", "--confirm")


@pytest.mark.parametrize(
    "daemon", [pytest.param(False, marks=pytest.mark.soak, id="job"), pytest.param(True, id="daemon")]
)
def test_it_is_done_once_and_only_there(new_life, tmp_path, daemon):
    life = new_life()
    life.run_well(*life.first_part())
    name = next(n for n in life.known() if n.startswith("beta"))
    life.run_well(["destroy", name, *_ORDER, name])
    points = ("destroy.begin", "destroy.done", "job.written.destroy")
    flags = tmp_path / "once"
    flags.mkdir()
    settings = {"TOMOVAULT_KILL_AT": ",".join(points), "TOMOVAULT_KILL_ONCE": str(flags)}
    if daemon:
        settings["TOMOVAULT_KILL_DAEMON"] = "1"
    life.run_through(*life.first_part(), **settings)
    assert {path.name for path in flags.iterdir()} == set(points)
    scan = life.known()[name]
    assert {r.state.value for r in scan.replicas if r.tier == "tape"} == {"gone"}
    assert [p.phase.value for p in scan.permits if p.ordered_by] == ["gone"] * 2
    assert not [j for j in scan.jobs if j.status.value not in ("succeeded", "cancelled")]
    life.assert_nothing_lost_anywhere()
    life.check()
