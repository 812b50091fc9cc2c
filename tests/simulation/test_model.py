from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tomovault.core.errors import IntegrityError
from tomovault.core.replica import LEAST_COPIES, ReplicaState, TierClass
from tomovault.policy.document import parse_policy
from tomovault.policy.prices import Prices
from tomovault.simulation import removing
from tomovault.simulation.model import simulate
from tomovault.simulation.outcome import below_from, is_met, page_of, series_of, without_policy
from tomovault.simulation.scenario import DAY_S, Arrivals, Loss, People, ScanKind, TapePlan

GB = 10**9


def page(run):
    return page_of(run, without_policy(run.scenario), 1.0)


def assert_conserved(run):
    """Bytes in are bytes present and bytes removed: by the books, and by a count of every scan."""
    ledger, world = run.ledger, run.world
    assert world.recount() == +world.used
    for area in run.scenario.areas:
        there = world.used[area] - world.reserved[area]
        assert there == ledger.bytes_in[area] + ledger.bytes_made[area] - ledger.bytes_out[area]


def test_twelve_days_as_computed_by_hand(scenario):
    """10 GB a day and a package of 5 GB beside it. On day 4 the area would stand at 55 GB of 50: the files of three
    scans go, and are gone two days later; then every second day files first, and packages for the rest.
    """
    run = simulate(scenario())
    book = run.ledger.areas["a"]
    assert [round(fill * 100) for fill in book.highest_disk] == [0, 15, 30, 45, 60, 75, 60, 75, 65, 80, 65, 80]
    assert [round(fill * 100) for fill in book.highest_kept] == [0, 15, 30, 45, 30, 45, 35, 50, 35, 50, 35, 50]
    assert dict(run.ledger.pruned) == {"files": 70 * GB, "package": 15 * GB}
    assert run.ledger.packed == 110 * GB
    assert run.ledger.taped == {"tape:A": 55 * GB, "tape:B": 55 * GB}
    assert below_from(book, 12) == 0
    assert is_met(run)
    assert_conserved(run)


def test_twelve_days_without_a_policy(scenario):
    idle = without_policy(scenario())["a"]
    assert [round(fill * 100) for fill in idle.highest_disk] == [0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 100]
    assert (idle.full_s, idle.unmet) == (11 * DAY_S, 10 * GB)


def test_the_same_seed_gives_the_same_year_and_another_seed_another(scenario):
    kinds = (ScanKind(2 * GB, 0.8), ScanKind(9 * GB, 0.2))
    arrivals = Arrivals(20.0 * GB, DAY_S, 3 * DAY_S, kinds, 30 * DAY_S)
    wish = scenario(
        areas={"a": {"start_bytes": 60 * GB}, "b": {"start_bytes": 30 * GB}},
        arrivals=arrivals,
        people=People(recalls_per_day=3.0, recall_age_s=5 * DAY_S),
    )
    first, again, other = simulate(wish), simulate(wish), simulate(replace(wish, seed=1))
    assert page(first) == page(again)
    assert series_of(first, without_policy(wish)) == series_of(again, without_policy(wish))
    assert page(first)["areas"] != page(other)["areas"]
    assert page(first)["recalls"]["from_tape"] > 0
    assert_conserved(first)


BY_AGE = (
    "name: old\nversion: 1\nrules:\n"
    "  - {name: pack, do: pack}\n"
    "  - {name: archive, when: packed, do: archive}\n"
    "  - {name: old, when: archived and age > 3d, do: prune, with: {forms: [files, package]}}\n"
)


def test_what_goes_by_age_goes_from_an_empty_area(scenario):
    """Of 10 GB a day, and a package of 5 GB beside it, three days stay, and what is in quarantine for two days more."""
    run = simulate(scenario(parse_policy(BY_AGE, "old.yaml"), areas={"a": {"quota": 1000 * GB}}, days=20))
    book = run.ledger.areas["a"]
    assert max(book.highest_kept) <= 0.061
    assert max(book.highest_disk) <= 0.091
    assert run.ledger.pruned["files"] == 2 * run.ledger.pruned["package"] >= 130 * GB
    assert run.ledger.least_copies >= LEAST_COPIES
    assert_conserved(run)


def test_a_full_quarantine_stops_what_goes_by_age(scenario):
    plan = {"areas": {"a": {"quota": 1000 * GB}}, "days": 20, "quarantine_share": 0.01}
    run = simulate(scenario(parse_policy(BY_AGE, "old.yaml"), **plan))
    assert 0 < run.ledger.pruned["files"] + run.ledger.pruned["package"] <= 20 / 2 * 20 * GB
    assert max(run.ledger.areas["a"].highest_disk) > 0.1
    assert_conserved(run)


WARNED = (
    "name: w\nversion: 1\nrules:\n"
    "  - {name: pack, do: pack}\n"
    "  - {name: archive, when: packed, do: archive}\n"
    "  - {name: go, when: archived and usage > high, do: prune, with: {warn: %s, unwarned_above: %s}}\n"
)


def _files_leave_on(run):
    granted = [p.granted_at for scan in run.world.scans.values() for p in scan.permits]
    return min((at - run.scenario.start).total_seconds() / DAY_S for at in granted)


def test_what_its_owner_is_warned_of_goes_so_much_later(scenario):
    """By hand: on day 4 the area would stand at 55 GB of 50; with a warning of two days the files go on day 6."""
    plan = {"areas": {"a": {"quota": 100 * GB}}, "days": 12}
    unwarned, warned = (
        simulate(scenario(parse_policy(WARNED % (days, "100%"), "w.yaml"), **plan)) for days in ("0s", "2d")
    )
    assert _files_leave_on(unwarned) == pytest.approx(4, abs=0.01)
    assert _files_leave_on(warned) == pytest.approx(6, abs=0.01)
    assert "owners are being warned first" in page(warned)["areas"][0]["held_above_by"]
    assert_conserved(warned)


def test_the_days_of_the_site_hold_where_a_rule_names_none_and_a_full_area_does_not_wait(scenario):
    text = WARNED.replace("warn: %s, ", "") % "70%"
    run = simulate(scenario(parse_policy(text, "w.yaml"), areas={"a": {"warn": timedelta(days=30)}}))
    assert _files_leave_on(run) == pytest.approx(5, abs=0.01), "the day on which it stands at 70 GB"


def test_volumes_that_are_cheaper_to_make_again_go_where_prices_say_so(scenario):
    text = (
        "name: c\nversion: 1\nrules:\n"
        "  - {name: pack, do: pack}\n"
        "  - {name: archive, when: packed, do: archive}\n"
        "  - {name: make, when: packed, do: reconstruct}\n"
        "  - {name: go, when: archived and cheaper to recompute, do: prune, with: {product: volume}}\n"
    )
    policy = parse_policy(text, "c.yaml")
    for prices, gone in ((Prices(1.0, 1e-3), True), (Prices(1e-12, 1e3), False), (None, False)):
        run = simulate(scenario(policy, areas={"a": {"quota": 1000 * GB, "prices": prices}}))
        assert (run.ledger.pruned["volume"] > 0) is gone


def test_volumes_go_first_and_are_not_made_again(scenario):
    text = (
        "name: v\nversion: 1\nrules:\n"
        "  - {name: pack, do: pack}\n"
        "  - {name: archive, when: packed, do: archive}\n"
        "  - {name: make, when: packed, do: reconstruct}\n"
        "  - {name: volumes, when: archived and usage > high, do: prune, with: {product: volume}}\n"
        "  - {name: raw, when: archived and usage > high, do: prune}\n"
    )
    run = simulate(scenario(parse_policy(text, "v.yaml")))
    made = run.ledger.by_kind["volumes"]
    assert made == len({s.id for s in run.world.scans.values() if any(p.kind.value == "volume" for p in s.products)})
    assert run.ledger.pruned["volume"] > 0
    assert page(run)["pruned_bytes"]["volume"] == run.ledger.pruned["volume"]
    with_files_gone = [s for s in run.world.scans.values() if s.permits and "raw" in {_name(p) for p in s.permits}]
    assert all("volumes" in {_name(p) for p in s.permits} for s in with_files_gone if _has_volume(s))
    assert_conserved(run)


def _name(permit):
    return permit.rule.partition("@")[0]


def _has_volume(scan):
    return any(p.kind.value == "volume" for p in scan.products)


def test_prune_off_is_simulated_as_it_is(scenario):
    run = simulate(scenario(areas={"a": {"prune": False}}))
    assert not is_met(run)
    assert run.ledger.removals_checked == 0
    told = page(run)
    assert told["least_copies_at_a_removal"] is None
    assert told["areas"][0]["held_above_by"] == {"prune is off": 1.0}
    assert told["areas"][0]["unmet_bytes"] > 0
    assert_conserved(run)


def test_a_full_area_that_keeps_its_floor_packs_nothing_and_says_why(scenario):
    full = {"a": {"start_bytes": 99 * GB, "floor_bytes": 10 * GB}}
    still = Arrivals(0.0, DAY_S, DAY_S, (ScanKind(10 * GB, 1.0),))
    run = simulate(scenario(areas=full, arrivals=still))
    assert run.ledger.packed == 0
    assert list(page(run)["areas"][0]["held_above_by"]) == ["packages have no room beside what is kept free (`floor`)"]
    assert simulate(scenario(areas={"a": {"start_bytes": 85 * GB}}, arrivals=still)).ledger.packed == 80 * GB


def test_tape_that_forgets_loses_what_left_the_servers(scenario):
    forgets = (TapePlan("tape", ("tape:A", "tape:B"), forgets_s=3 * DAY_S),)
    run = simulate(scenario(tapes=forgets, days=20))
    assert page(run)["lost"]["scans"] > 0
    assert run.ledger.least_copies >= LEAST_COPIES
    assert page(simulate(scenario(days=20)))["lost"] == {"scans": 0, "bytes": 0}


def test_a_library_whose_copies_do_not_count_permits_nothing(scenario):
    run = simulate(scenario(tapes=(TapePlan("tape", ("tape:A", "tape:B"), counts=False),)))
    assert run.ledger.taped["tape:A"] > 0
    assert run.ledger.removals_checked == 0
    assert list(page(run)["areas"][0]["held_above_by"]) == ["copies lack or were not re-read"]


def test_a_pool_that_is_lost_is_written_again_before_anything_more_goes(scenario):
    run = simulate(scenario(losses=(Loss(5.5, "tape:A"),), days=12))
    assert run.ledger.least_copies >= LEAST_COPIES
    suspect = [r for s in run.world.scans.values() for r in s.replicas if r.state is ReplicaState.SUSPECT]
    assert len(suspect) == 5
    assert run.ledger.taped["tape:A"] == 55 * GB + 25 * GB
    assert_conserved(run)


def test_the_mover_brings_scans_to_the_server(scenario, shipped):
    text = (
        "name: m\nversion: 1\nrules:\n"
        "  - {name: pack, when: true, do: pack}\n"
        "  - {name: move, when: packed, do: replicate, with: {form: files, to: b}}\n"
        "  - {name: archive, when: packed, do: archive}\n"
        "  - {name: go, when: replicas(server) >= 1 and usage > high, do: prune, with: {forms: [files]}}\n"
    )
    areas = {
        "a": {"tier_class": TierClass.FAST, "policy": parse_policy(text, "m.yaml"), "high": 0.3, "low": 0.1},
        "b": {"quota": 1000 * GB, "share": 0.0},
    }
    run = simulate(scenario(areas=areas))
    assert run.ledger.moved == 110 * GB
    assert {s.area for s in run.world.scans.values()} == {"a", "b"}
    assert run.ledger.pruned["files"] > 0
    assert_conserved(run)


def test_a_law_that_was_broken_would_be_seen(scenario, monkeypatch):
    monkeypatch.setattr("tomovault.simulation.judging.why_it_stays", lambda *_args: "")
    rules = "  - {name: pack, do: pack}\n  - {name: go, when: usage > high, do: prune}\n"
    hasty = parse_policy(f"name: h\nversion: 1\nrules:\n{rules}", "h.yaml")
    with pytest.raises(IntegrityError, match="archive copies left"):
        simulate(scenario(hasty))


def test_what_the_second_look_refuses_stays(scenario, monkeypatch):
    monkeypatch.setattr(removing, "may_go", lambda _removal: ("no",))
    run = simulate(scenario())
    assert dict(run.ledger.pruned) == {}
    assert run.ledger.removals_refused > 0
    assert_conserved(run)


CONDITIONS = ("archived", "packed", "age > 2d", "usage > high", "replicas(tape) >= 2", "size > 3GB", "not aborted")
RULES = st.lists(
    st.tuples(
        st.lists(st.sampled_from(CONDITIONS), min_size=1, max_size=3, unique=True),
        st.sampled_from(["[files]", "[package]", "[files, package]"]),
        st.integers(2, 3),
    ),
    min_size=1,
    max_size=3,
)


@given(
    rules=RULES,
    losses=st.lists(st.tuples(st.floats(0, 15), st.sampled_from(["tape:A", "tape:B", "tape:C"])), max_size=3),
    marks=st.sampled_from([(0.3, 0.1), (0.6, 0.5), (0.9, 0.2)]),
    start=st.integers(0, 100),
    hold=st.integers(0, 5),
    seed=st.integers(0, 3),
)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_policy_and_no_fault_lets_a_scan_go_below_its_copies(scenario, rules, losses, marks, start, hold, seed):
    text = "name: r\nversion: 1\nrules:\n  - {name: pack, do: pack}\n  - {name: archive, when: packed, do: archive}\n"
    for at, (conditions, forms, copies) in enumerate(rules):
        settings_ = f"{{forms: {forms}, copies: {copies}}}"
        text += f"  - {{name: p{at}, when: {' and '.join(conditions)}, do: prune, with: {settings_}}}\n"
    wish = scenario(
        parse_policy(text, "r.yaml"),
        areas={"a": {"high": marks[0], "low": marks[1], "start_bytes": start * GB}},
        arrivals=Arrivals(15.0 * GB, DAY_S, 2 * DAY_S, (ScanKind(2 * GB, 0.5), ScanKind(8 * GB, 0.5)), 30 * DAY_S),
        people=People(recalls_per_day=1.0, recall_age_s=5 * DAY_S),
        tapes=(TapePlan("tape", ("tape:A", "tape:B", "tape:C")),),
        losses=tuple(Loss(day, domain) for day, domain in losses),
        hold=timedelta(days=hold),
        pin=timedelta(days=1),
        days=15,
        seed=seed,
    )
    run = simulate(wish)
    assert run.ledger.least_copies is None or run.ledger.least_copies >= LEAST_COPIES
    assert run.ledger.lost == {} or losses
    assert_conserved(run)
