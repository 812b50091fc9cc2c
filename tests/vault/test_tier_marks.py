"""Marks of tiers: what tomovault.yaml may say of them, how full a tier is by them, and what would go."""

from datetime import timedelta

import pytest
from sqlalchemy import update

from tomovault.catalog import tables
from tomovault.catalog.outbox import list_deliveries
from tomovault.core.errors import Refused, UserError
from tomovault.core.known import JobStatus, RemovalPhase
from tomovault.core.life import Stage
from tomovault.core.record import Outcome, PutBack, Result, Stored
from tomovault.core.replica import Form, ProductKind, StoredFile
from tomovault.policy.area_facts import bytes_to_free
from tomovault.vault.removal_pages import preview_page
from tomovault.vault.removals import grant
from tomovault.vault.room import choose_room
from tomovault.vault.tier_facts import place_facts, tier_facts

_RULES = """
  - {name: mirror, when: packed, do: replicate, with: {tiers: [mirror]}}
  - {name: prune-mirror, when: archived and usage > high, do: prune, with: {tiers: [mirror]}}
"""


@pytest.fixture
def mirrored(town):
    """Called for scans of which a copy of 200 bytes each stands on a mirror that may hold so many bytes."""
    (town.folder / "mirror").mkdir()

    def make(count, *, quota="1kB", rules=_RULES, copies=2, **more):
        path = town.folder / "policies" / "standard.yaml"
        path.write_text(path.read_text("utf-8") + rules, "utf-8")
        mirror = {"kind": "posix", "path": "mirror", "quota": quota, "high": "50%", "low": "20%", "prune": "on"}
        town.change(tiers={"mirror": mirror | more}, quarantine={"hold": "1d", "limit": "1GB"})
        with town.vault.catalogue.writing() as tx:
            town.vault.record_tiers(tx)
        scans = [town.scan(f"scan{n}", copies=copies) for n in range(count)]
        for scan in scans:
            _store(town, scan)
        return scans

    return make


def _store(town, scan):
    digest = town.known(scan).products[0].digest
    at = str(town.folder / "mirror" / scan)
    files = (StoredFile(f"{at}/p.tomo.h5", 200, digest),)
    record = Stored(
        ProductKind.ORIGINAL, digest, Form.PACKAGE, "mirror", "disk:2", at, files, 200, digest, town.now, town.now
    )
    with town.vault.catalogue.writing() as tx:
        town.vault.catalogue.apply_records(tx, [record], town.now, scan_id=scan)


def _facts(town, tier="mirror"):
    with town.vault.catalogue.reading() as tx:
        return tier_facts(town.vault, tx, tier)


def _room(town, **more):
    with town.vault.catalogue.reading() as tx:
        return choose_room(town.vault, tx, place_facts(town.vault, tx, "mirror", town.now, **more), town.now)


def _copy(town, scan):
    return next(r for r in town.known(scan).replicas if r.tier == "mirror")


def _grant(town, going):
    with town.vault.catalogue.writing() as tx:
        scan = town.vault.catalogue.known(tx, going.choice.scan)
        return grant(town.vault, tx, scan, going.choice.replica, rule=going.rule, now=town.now)


def _replicated(town, scan):
    with town.vault.catalogue.reading() as tx:
        facts = town.vault.area_facts(tx, "inhouse", town.now)
    return town.vault.view(town.known(scan), facts, town.now).standings[Stage.REPLICATED].status.value


def test_a_tier_over_its_mark_goes_down_to_the_low_one_and_no_further(town, mirrored):
    scans = mirrored(4)
    facts = _facts(town)
    assert (facts.used_bytes, facts.quota_bytes, facts.of_tier) == (800, 1000, True)
    assert bytes_to_free(facts) == 600
    going = _room(town).going
    assert [(g.choice.scan, g.choice.form, g.rule.name) for g in going] == [
        (scan, Form.PACKAGE, "prune-mirror") for scan in scans[:3]
    ], "the oldest, never more than the target"
    assert {g.choice.replica for g in going} <= {_copy(town, scan).id for scan in scans}, "nothing of the area"


def test_below_its_mark_nothing_goes(town, mirrored):
    mirrored(2)
    assert _room(town).going == []


def test_rules_that_do_not_name_the_tier_leave_it_alone(town, mirrored):
    mirrored(4, rules="\n")
    room = _room(town)
    assert room.going == []
    assert all("no rule lets its package go" in stays.reason for stays in room.stays.values())


def test_a_rule_that_names_a_tier_leaves_the_area_alone(town, mirrored):
    mirrored(4)
    town.policy(
        ("with: {forms: [files]}", "with: {tiers: [mirror]}"), ("with: {forms: [package]}", "with: {tiers: [mirror]}")
    )
    town.room()
    with town.vault.catalogue.reading() as tx:
        room = choose_room(town.vault, tx, town.vault.area_facts(tx, "inhouse", town.now), town.now)
    assert room.going == []


def test_law_4_and_pins_hold_on_a_tier(town, mirrored):
    first, *_ = scans = mirrored(4, copies=1, rules=_RULES.replace("archived and ", ""))
    assert all("law 4" in stays.reason for stays in _room(town).stays.values())
    rule = next(r for r in town.vault.policy_of("inhouse").rules if r.name == "prune-mirror")
    with town.vault.catalogue.writing() as tx, pytest.raises(Refused, match="law 4"):
        grant(town.vault, tx, town.known(first), _copy(town, first).id, rule=rule, now=town.now)
    town.pin(first)
    assert "pinned by" in _room(town).stays[_copy(town, first).id].reason
    assert len(scans) == 4


def test_the_switch_is_that_of_the_tier(town, mirrored):
    first, *_ = mirrored(4)
    (going, *_) = _room(town).going
    town.change(tiers={"mirror": {"prune": "off"}}, areas={"inhouse": {"prune": "on"}})
    with pytest.raises(Refused, match="prune is off"):
        _grant(town, going)
    assert town.known(first).permits == ()


def test_what_leaves_counts_once_and_is_not_brought_again_but_by_an_undo(town, mirrored):
    first, *_ = mirrored(4)
    assert _replicated(town, first) == "done"
    permit = _grant(town, _room(town).going[0])
    facts = _facts(town)
    assert (facts.used_bytes, facts.quarantine_bytes) == (800, 200)
    assert bytes_to_free(facts) == 400, "what is on its way is room to come"
    assert _copy(town, first).state.value == "leaving"
    assert _replicated(town, first) == "done", "what a rule takes away no rule brings again"
    with town.vault.catalogue.writing() as tx:
        town.vault.catalogue.record_put_back(tx, PutBack(permit.id, 1, 200), town.now)
    assert (_facts(town).quarantine_bytes, _copy(town, first).state.value) == (0, "verified")


def test_after_the_hold_it_goes_by_way_of_the_quarantine_and_not_in_place(town, mirrored):
    from tomovault.daemon.planner import Planner

    first, *_ = mirrored(4)
    _grant(town, _room(town).going[0])
    town.quarantine(first)
    Planner(town.vault).plan_scans(town.now + timedelta(days=2))
    assert [j.status for j in town.jobs(first, "empty_quarantine")] == [JobStatus.TODO]
    assert town.jobs(first, "destroy") == []
    assert [p.phase for p in town.known(first).permits] == [RemovalPhase.LEAVING]
    assert town.finish("empty_quarantine", Result(Outcome.FAILED, error="no")) is JobStatus.FAILED


def test_owners_are_warned_of_what_waits_in_the_quarantine_of_a_tier_by_how_full_that_is(town, mirrored):
    """The rule asks for a warning only since it went; its scan's area is too full to wait for one, the tier is not."""
    from tomovault.daemon.planner import Planner

    first, *_ = mirrored(4)
    _grant(town, _room(town).going[0])
    permit = town.quarantine(first)
    mail = {"kind": "smtp", "host": "localhost", "from": "v@example.org"}
    town.change(notify={"channels": {"mail": mail}, "warnings": {"channels": ["mail"], "to": ["{owner}@example.org"]}})
    with town.vault.catalogue.writing() as tx:
        tx.run(update(tables.scan).values(owner="anna"))
    warned = "do: prune, with: {tiers: [mirror], warn: 7d, unwarned_above: 95%}"
    town.policy(("do: prune, with: {tiers: [mirror]}", warned))
    town.room(quota="1kB", prune="off")
    planner = Planner(town.vault)
    planner.plan_scans(town.now + timedelta(days=2))
    assert "its owner is to be warned first" in planner.alarms[f"permit {permit}"].text
    with town.vault.catalogue.reading() as tx:
        deliveries = list_deliveries(tx, "mail", town.now + timedelta(days=3), 9)
    (told,) = [d.facts for d in deliveries if "scans" in d.facts]
    assert (told["area"], [s["path"] for s in told["scans"]]) == ("mirror", [_copy(town, first).location])


@pytest.mark.parametrize(
    ("marks", "told"),
    [
        ({"low": "50%"}, "never removes anything from a tier of class archive"),
        ({"prune": "on"}, "never removes anything from a tier of class archive"),
        ({"high": "50%"}, "how much the tier holds is not known"),
        ({"quota": "0B"}, "a quota of nothing"),
    ],
)
def test_marks_of_an_archive_that_promise_too_much_are_refused(town, marks, told):
    with pytest.raises(UserError, match=told):
        town.change(tiers={"tape": marks})


def test_marks_of_a_disk_in_the_wrong_order_are_refused(town):
    with pytest.raises(UserError, match="the low watermark must be below"):
        town.change(tiers={"mirror": {"kind": "posix", "path": "m", "high": "70%", "low": "70%"}})


def test_a_kind_without_a_quarantine_is_never_pruned(town):
    library = {"kind": "emulated_library", "path": "shelf", "class": "server", "quota": "1TB", "prune": "on"}
    with pytest.raises(UserError, match=r"yaml:\d+:\d+: nothing can be moved to a quarantine.*\n +prune: on"):
        town.change(tiers={"shelf": library})
    town.change(tiers={"shelf": library | {"prune": "off"}})
    town.change(tiers={"shelf": {**library, "kind": "posix"}})


def test_an_archive_is_as_full_as_what_was_ever_brought_there(town):
    town.scan("one")
    town.change(tiers={"tape": {"capacity": "1kB", "slots": 2, "high": "10%"}})
    facts = _facts(town, "tape")
    assert (facts.used_bytes, facts.quota_bytes, facts.high) == (400, 2000, 0.1)


def test_a_tier_without_marks_has_no_place_to_be_compared_with(town):
    with town.vault.catalogue.reading() as tx, pytest.raises(UserError, match="no marks"):
        place_facts(town.vault, tx, "tape", town.now)


def _preview(town):
    with town.vault.catalogue.reading() as tx:
        return preview_page(town.vault, tx, town.now)


def test_a_preview_says_what_would_go_from_a_tier(town, mirrored):
    scans = mirrored(4)
    page = _preview(town)
    (rule,) = [r for r in page["rules"] if r["rule"].startswith("prune-mirror@")]
    gone = [going.choice.scan for going in _room(town, draining=True).going]
    assert gone
    assert (rule["scans"], rule["bytes_freed"]) == (gone, {"mirror": 200 * len(gone)})
    assert set(gone) < set(scans)
    assert "mirror" not in page["above_high"]


@pytest.mark.parametrize(
    ("more", "told"), [({"prune": "off"}, "`prune` is off for this tier"), ({"rules": ""}, "no rule names it")]
)
def test_a_preview_says_why_a_tier_would_stay_above_its_mark(town, mirrored, more, told):
    mirrored(4, **more)
    assert told in _preview(town)["above_high"]["mirror"]
