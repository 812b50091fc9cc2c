"""Histories: whatever happens to a site, in whatever order, the laws of the design hold after each step of its daemons.

Some histories run in every `make test`; `make soak` runs as many as `TOMOVAULT_HISTORIES` says. What the laws look at,
and that each of them would be missed, is in `test_mistakes.py`.
"""

from __future__ import annotations

import os

import pytest

MANY = int(os.environ.get("TOMOVAULT_HISTORIES", "2000"))


@pytest.mark.timeout(600)
def test_the_laws_hold_in_some_histories(by_chance):
    asked = by_chance(6)
    assert asked["law 4"] > 0
    assert asked["usage"] > 100


@pytest.mark.soak
@pytest.mark.timeout(36000)
def test_the_laws_hold_in_many_histories(by_chance):
    asked = by_chance(MANY)
    laws = (
        "law 4: what is left",
        "watermark",
        "law 5: the hold really passed",
        "law 4: made again",
        "exports: embargo",
    )
    assert min(asked[law] for law in laws) > 0


@pytest.mark.soak
@pytest.mark.component("postgresql")
@pytest.mark.timeout(36000)
def test_the_laws_hold_on_postgresql(by_chance, postgresql):
    by_chance(MANY // 20, url=postgresql.emptied)


@pytest.mark.soak
@pytest.mark.component("postgresql")
@pytest.mark.timeout(36000)
def test_the_laws_hold_while_two_daemons_change_places(by_chance, postgresql):
    asked = by_chance(MANY // 20, machines=2, url=postgresql.emptied)
    assert asked["law 7: one leads"] > 0


_MONTH = [("established", 5, 3), ("established", 4, 5), ("established", 3, 7), ("live", 3, 0)]
_REMOVED = [("time", 4, 0), ("live", 3, 0), ("live", 3, 0)]


def test_an_area_over_its_mark_is_emptied_down_to_its_low_one(life):
    """A history in which all of it happens: what the laws are asked about is not nothing."""
    asked = life(*_MONTH, *_REMOVED).count
    for law in ("law 4", "watermark", "law 5: the hold really passed", "law 4: a tombstone", "law 4: what is left"):
        assert asked[law] > 0, law


def test_files_that_vanish_before_their_removal_are_no_room_that_was_made(life):
    """Their removal is refused, and they are not called gone: nobody knows what became of them."""
    happens = [*[("live", 0, 0)] * 10, ("arrive", 0, 3), ("live", 0, 0), ("live", 0, 0), ("established", 0, 6)]
    laws = life(*happens, ("vanish", 1, 0))
    (vanished,) = (r for r in laws.replicas.values() if r.form == "files" and r.bytes == 700)
    tried = {j.order["permit"]: j for j in laws.rows["job"] if j.action == "prune"}
    (permit,) = (p for p in laws.permits.values() if p.replica_id == vanished.id)
    assert "law 3" in tried[permit.id].error
    assert (permit.phase, vanished.state) == ("undone", "verified")
    assert laws.count["watermark"] > 0


def test_a_tier_over_its_mark_is_emptied(life):
    laws = life(("mark", 2, 3), ("policy", 2, 0), *[("established", 3, 7)] * 3, *_REMOVED, *_REMOVED)
    went = {r.tier for r in laws.replicas.values() if r.state == "gone"}
    assert "mirror" in went
    assert laws.count["watermark"] > 0


def test_volumes_that_cost_more_than_they_are_worth_go_and_others_stay(life):
    laws = life(("policy", 1, 0), ("arrive", 0, 0), ("arrive", 0, 5), *_REMOVED, *_REMOVED)
    volumes = {r.bytes: r.state for r in laws.replicas.values() if r.location.endswith("volume.h5")}
    assert volumes == {200: "verified", 1200: "gone"}


def test_what_is_old_goes_from_an_empty_area(life):
    laws = life(("mark", 4, 0), ("policy", 3, 0), ("established", 3, 0), ("established", 0, 0), *_REMOVED, *_REMOVED)
    gone = [laws.scans[r.scan_id].name for r in laws.replicas.values() if r.state == "gone"]
    assert gone == ["s0"]
    assert laws.count["notices: what was done"] > 0


def test_what_is_under_an_embargo_is_sent_after_it(life):
    laws = life(("policy", 4, 0), ("arrive", 0, 0), ("live", 3, 0), ("live", 3, 0), ("time", 6, 0), ("live", 3, 0))
    assert laws.rows["transfer"] == []
    laws = life(("policy", 4, 0), ("arrive", 0, 0), *_REMOVED, ("time", 6, 0), ("time", 5, 0), *_REMOVED)
    assert [row.state for row in laws.rows["transfer"]] == ["succeeded"]
    assert laws.count["exports: embargo"] == 1


@pytest.mark.soak
def test_owners_are_warned_before_something_goes(life):
    laws = life(("policy", 5, 0), ("mark", 2, 0), *_MONTH, ("time", 4, 0), *_REMOVED, *_REMOVED)
    assert laws.count["warnings"] > 0


@pytest.mark.component("postgresql")
@pytest.mark.parametrize("hang", [(3, 1), *(pytest.param(one, marks=pytest.mark.soak) for one in ((6, 2), (1, 3)))])
def test_one_that_hangs_finds_that_the_other_leads(life, postgresql, hang):
    happens = [*_MONTH, ("hang", *hang), ("arrive", 2, 3), *_REMOVED, ("resign", 0, 0), *_REMOVED]
    laws = life(*happens, url=postgresql.emptied(), hosts=("one", "two"))
    assert laws.count["law 7: one leads"] > 0


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("looks", [50, pytest.param(1000, marks=pytest.mark.soak)])
def test_nothing_is_done_twice_however_often_it_is_looked_at(watched, looks):
    """Every scan is looked at again and again: the jobs stay those that there are."""
    with watched(*_MONTH, ("spoil", 1, 2), ("verify", 1, 0), ("fault", 1, 0), ("live", 3, 0)) as (history, laws):
        before = set(laws.jobs)
        for _ in range(looks):
            with history.catalogue.writing() as tx:
                for scan in laws.scans:
                    history.catalogue.set_next_due(tx, scan, history.clock.wall)
            history.clerk.plan_scans(history.clock.wall)
            history.clerk.make_room(history.clock.wall)
        laws.after_event()
        assert set(laws.jobs) == before
