from dataclasses import replace
from datetime import timedelta

import pytest

from tomovault.catalog.work import area_bytes
from tomovault.core.life import Stage
from tomovault.core.record import Inspected, Recognised
from tomovault.core.replica import Form
from tomovault.core.scan import Candidate, Certificate, FileRole, FileState, ScanFile, ScanReport, Verdict
from tomovault.vault import vault
from tomovault.vault.verifying import choose_replicas
from tomovault.watch.area import Space


def _overdue(town, days, **more):
    with town.vault.catalogue.reading() as tx:
        at = town.now + timedelta(days=days)
        found, after = town.vault.overdue(tx, "inhouse", at, **{"limit": 10, **more})
        assert (after is None) == (len(found) < more.get("limit", 10))
        return [(late.scan, late.replica) for late in found]


def test_copies_are_overdue_when_the_law_would_not_count_them(town):
    scan = town.scan("one")
    assert _overdue(town, 89) == []
    assert [s for s, _ in _overdue(town, 91)] == [scan]
    assert len(_overdue(town, 401)) == 3


def test_a_verify_rule_asks_sooner_of_the_scans_that_it_is_for(town):
    rule = "  - {name: often, do: verify, when: 'size > 1kB', with: {verified_within: 5d, tiers: [tape]}}\n"
    town.policy(("rules:\n", f"rules:\n{rule}"))
    large, small = town.scan("large", size=4000), town.scan("small")
    assert _overdue(town, 4) == []
    found = _overdue(town, 6)
    assert [s for s, _ in found] == [large, large]
    assert {r.tier for r in town.known(large).replicas if r.id in {one for _, one in found}} == {"tape"}
    assert _overdue(town, 6, limit=1, skip=[found[0][1]]) == [found[1]]
    assert {s for s, _ in _overdue(town, 91)} == {large, small}
    chosen = choose_replicas(town.vault, [], everything=False, due=True, now=town.now + timedelta(days=6))
    assert chosen == {large: tuple(r for _, r in found)}


def test_a_rule_that_removes_asks_sooner_where_it_would_remove_something(town):
    town.policy(("with: {forms: [files]}", "with: {forms: [files], verified_within: 5d}"))
    first, second = town.scan("one"), town.scan("two")
    assert _overdue(town, 6) == [], "prune is off"
    town.room(quota="1MB")
    assert _overdue(town, 6) == [], "there is room enough"
    town.room()
    assert _overdue(town, 4) == []
    found = _overdue(town, 6)
    assert sorted(s for s, _ in found) == sorted([first, second] * 2)
    tapes = {r.id for scan in (first, second) for r in town.known(scan).replicas if r.tier == "tape"}
    assert {r for _, r in found} == tapes
    chosen = choose_replicas(town.vault, [], everything=False, due=True, now=town.now + timedelta(days=6))
    assert {r for replicas in chosen.values() for r in replicas} == tapes


def test_a_look_that_is_long_goes_on_where_it_ended(town, monkeypatch):
    """Scans for which the rule does not hold use up the look, too."""
    monkeypatch.setattr(vault, "_LOOKED_AT", 2)
    rule = "  - {name: often, do: verify, when: 'size > 1kB', with: {verified_within: 5d, tiers: [tape]}}\n"
    town.policy(("rules:\n", f"rules:\n{rule}"))
    for name in ("small", "tiny"):
        town.scan(name)
    large = town.scan("large", size=4000)
    at, after, looks = town.now + timedelta(days=6), None, []
    with town.vault.catalogue.reading() as tx:
        while not looks or after is not None:
            found, after = town.vault.overdue(tx, "inhouse", at, limit=10, after=after)
            looks.append([late.scan for late in found])
    assert len(looks) >= 4
    assert [one for look in looks for one in look] == [large, large]
    chosen = choose_replicas(town.vault, [], everything=False, due=True, now=at)
    assert [(scan, len(replicas)) for scan, replicas in chosen.items()] == [(large, 2)]


def _see(town, root, identity):
    file = ScanFile(FileState("a.edf", 400, len(identity), 1, 1, 1, 0o100644), FileRole.PROJECTION)
    report = ScanReport("edf", identity, root, "", identity, Certificate(Verdict.COMPLETE), (file,))
    seen = Inspected(Candidate("edf", root, ""), identity, True, (report,))
    with town.vault.catalogue.writing() as tx:
        town.vault.catalogue.note_candidate(tx, "inhouse", seen.candidate, seen.snapshot, True, town.now)
        return town.vault.catalogue.record_inspected(tx, "inhouse", seen, town.now)[0]


def _held(town, scan):
    with town.vault.catalogue.reading() as tx:
        area = town.vault.area_facts(tx, "inhouse", town.now)
    return {town.vault.view(town.known(scan), area, town.now).wants.held[stage] for stage in Stage}


def test_a_row_that_is_another_scan_found_again_says_so(town):
    one = town.scan("one")
    root = str(town.area / "again")
    again = _see(town, root, "other")
    digest = town.replica(one, Form.FILES).digest
    with town.vault.catalogue.writing() as tx:
        found = Recognised(one, digest, "inhouse", "area:inhouse", root, 400, town.now)
        town.vault.catalogue.apply_records(tx, [found], town.now, scan_id=again)
    assert _held(town, again) == {f"it is the same scan as {one}, found again here"}


def test_a_scan_that_was_overwritten_says_so(town):
    first = _see(town, str(town.area / "place"), "first")
    _see(town, str(town.area / "place"), "second scan")
    assert _held(town, first) == {"overwritten in place before it was packed"}


def test_a_reduction_that_nothing_carries_out_is_held_with_its_reason(town):
    town.policy(("rules:\n", "rules:\n  - {name: smaller, do: reduce}\n"))
    town.change(areas={"inhouse": {"reduce": "on"}})
    scan = town.scan("one")
    with town.vault.catalogue.reading() as tx:
        area = town.vault.area_facts(tx, "inhouse", town.now)
    view = town.vault.view(town.known(scan), area, town.now)
    assert "nothing is installed" in view.wants.held[Stage.REDUCED]


@pytest.mark.parametrize(
    ("quota", "free", "limit", "used"),
    [
        (1000, 5000, 1000, None),
        (1000, 100, 1000, 900),
        (1000, 0, 1000, 1000),
        (None, 2000, 8000, 6000),
        (None, 7900, 8000, None),
        (9000, 4000, 9000, 5000),
    ],
    ids=["room on the disk", "others wrote", "disk full", "no quota", "no quota, lag", "quota above the disk"],
)
def test_the_smaller_free_space_is_believed(town, quota, free, limit, used):
    town.scan("one", size=250, copies=0)
    area = town.vault.site.areas["inhouse"]
    town.vault.site = replace(town.vault.site, areas={"inhouse": replace(area, quota=quota)})
    with town.vault.catalogue.reading() as tx:
        known = area_bytes(tx, "inhouse")[0]
        town.vault.space_of = lambda _area: Space(8000, free)
        facts = town.vault.area_facts(tx, "inhouse", town.now)
    used = known if used is None else used
    assert (facts.quota_bytes, facts.used_bytes, facts.unknown_bytes) == (limit, used, used - known)


def test_without_figures_of_the_disk_the_catalogue_is_believed(town):
    town.scan("one")
    town.room(quota="1GB")
    town.vault.space_of = lambda _area: None
    with town.vault.catalogue.reading() as tx:
        facts = town.vault.area_facts(tx, "inhouse", town.now)
        assert (facts.quota_bytes, facts.used_bytes) == (10**9, area_bytes(tx, "inhouse")[0])


def test_what_leaves_another_area_of_the_disk_is_room_to_come_for_this_one(town, say):
    """Else each of them would make room for both."""
    from tomovault.policy.area_facts import bytes_to_free
    from tomovault.vault.removals import grant
    from tomovault.vault.room import choose_room

    scan = town.scan("one", size=1000)
    town.room(quota="10kB", high="50%", low="20%")
    (town.base / "other").mkdir()
    assert say("area", "add", f"other={town.base / 'other'}").code == 0
    town.change(
        areas={"inhouse": {"prune": "on"}, "other": {"prune": "on", "quota": "10kB", "high": "50%", "low": "20%"}}
    )
    town.vault.space_of = lambda _area: Space(10_000, 4500)
    catalogue = town.vault.catalogue
    with catalogue.writing() as tx:
        before = bytes_to_free(town.vault.area_facts(tx, "other", town.now))
        assert before == 10_000 - 4500 - 2000
        (going, *_) = choose_room(town.vault, tx, town.vault.area_facts(tx, "inhouse", town.now), town.now).going
        grant(town.vault, tx, catalogue.known(tx, scan), going.choice.replica, rule=going.rule, now=town.now)
        assert bytes_to_free(town.vault.area_facts(tx, "other", town.now)) == 0, "it stands below its mark with that"
        assert town.vault.area_facts(tx, "other", town.now).used_bytes == 10_000 - 4500 - going.choice.bytes
