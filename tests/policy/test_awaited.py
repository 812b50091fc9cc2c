"""Copies that are to be re-read, since a removal waits for nothing else."""

from dataclasses import replace
from datetime import timedelta

import pytest

from tomovault.core.known import Job, JobStatus, Permit, Pin, RemovalPhase
from tomovault.core.replica import ReplicaState, TierClass
from tomovault.policy.due import overdue

DAY = timedelta(days=1)
FULL = {"used_fraction": 0.9, "used_bytes": 900}
STRICT = "{name: room, do: prune, when: archived and usage > high, with: {verified_within: 5d}}"


def late(scan, policy, place, now, **more):
    return {r.id for r in overdue(scan, policy, place, now, **more)}


def test_a_removal_that_waits_for_nothing_but_a_re_read_asks_for_it(archived, area, policy, now):
    rules = policy(STRICT)
    assert late(archived(), rules, area(**FULL), now) == {"t1", "t2"}
    assert late(archived(verified_at=now - 4 * DAY), rules, area(**FULL), now) == set()
    assert late(archived(), policy(STRICT.replace("5d", "50d")), area(**FULL), now) == set()


@pytest.mark.parametrize("place", [{"used_fraction": 0.5, "used_bytes": 500}, {"prune_on": False}, {"name": "other"}])
def test_where_nothing_would_go_no_re_read_is_asked_for(archived, area, policy, now, place):
    assert late(archived(), policy(STRICT), area(**FULL | place), now) == set()


@pytest.mark.parametrize(
    "more",
    [
        "{name: keep, do: forbid, when: true, with: {actions: [prune]}}",
        "{name: first, do: prune, when: archived and usage > high, order: -1}",
        "{name: archive, do: archive, with: {copies: 3}}",
    ],
    ids=["forbidden", "another rule decides", "a copy lacks"],
)
def test_what_something_else_keeps_or_lets_go_is_not_read_for_a_strict_rule(archived, area, policy, now, more):
    assert late(archived(), policy(STRICT, more), area(**FULL), now) == set()


def test_what_is_pinned_is_not_read_for_a_removal(archived, area, policy, now):
    pinned = replace(archived(), pins=(Pin("pin", "anna", "a paper", now + DAY),))
    assert late(pinned, policy(STRICT), area(**FULL), now) == set()


def test_an_area_on_its_way_to_its_low_mark_still_asks(archived, area, policy, now):
    rules, between = policy(STRICT), area(**FULL | {"used_fraction": 0.8, "used_bytes": 800})
    assert late(archived(), rules, between, now) == set()
    assert late(archived(), rules, between, now, places=(replace(between, draining=True),)) == {"t1", "t2"}


def test_a_rule_by_evidence_asks_however_empty_the_area_is(archived, area, policy, now):
    rules = policy("{name: old, do: prune, when: archived and age > 8d, with: {verified_within: 5d}}")
    empty = area(**FULL | {"used_fraction": 0.1, "used_bytes": 100})
    assert late(archived(), rules, empty, now) == {"t1", "t2"}
    young = policy("{name: old, do: prune, when: archived and age > 80d, with: {verified_within: 5d}}")
    assert late(archived(), young, empty, now) == set()


def test_a_tier_over_its_mark_asks_for_what_stands_on_it(archived, replica, area, policy, now):
    rules = policy(STRICT.replace("{verified", "{tiers: [mirror], verified"))
    scan, here = archived(), area(used_fraction=0.1, used_bytes=100)
    tier = area(**FULL | {"name": "mirror", "of_tier": True})
    assert late(scan, rules, here, now, places=(here, tier)) == set()
    mirrored = replace(scan, replicas=(*scan.replicas, replica("m", tier="mirror", tier_class=TierClass.SERVER)))
    assert late(mirrored, rules, here, now, places=(here, tier)) == {"t1", "t2"}


def test_a_second_look_asks_for_what_grew_old_during_the_hold(archived, area, policy, now):
    rules, here = policy(STRICT), area(**FULL | {"used_fraction": 0.1, "used_bytes": 100, "quarantine_bytes": 100})
    order = {"permit": "p1", "by_evidence": False}
    job = Job("j", "prune", "s1", JobStatus.SUCCEEDED, 1, "", "", "", now, None, None, order)
    before = archived()
    files, *others = before.replicas
    for hold, asked in ((now + DAY, set()), (now, {"t1", "t2"})):
        permit = Permit("p1", files.id, "room@test:7", RemovalPhase.QUARANTINED, now, hold, (), 100, 1)
        left = replace(before, replicas=(replace(files, state=ReplicaState.LEAVING), *others), permits=(permit,))
        assert late(replace(left, jobs=(job,)), rules, here, now) == asked
