import math
from dataclasses import replace
from datetime import UTC, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tomovault.core.known import Job, JobStatus, Permit, Pin, RemovalPhase, facts_of
from tomovault.core.life import Facts, Stage, Status, may_go, standings
from tomovault.core.replica import Form, ProductKind, ReplicaState, TierClass
from tomovault.core.scan import Certificate, Condition, Verdict
from tomovault.policy.area_facts import AreaFacts, bytes_to_free
from tomovault.policy.decide import wants_of
from tomovault.policy.due import next_look, overdue
from tomovault.policy.matching import asks_of, matches_of
from tomovault.policy.removing import PruneChoice, choose_for_watermark, removal_of
from tomovault.policy.values import values_of

DAY = timedelta(days=1)
PRUNE = "{name: room, do: prune, when: archived and usage > high}"
FULL = {"used_fraction": 0.9, "used_bytes": 900}


def test_a_wanted_stage_cites_its_rule(scan, area, policy, now):
    wants = wants_of(scan(), policy("{name: pack, do: pack}", "{name: look, do: preview, when: complete}"), area(), now)
    assert wants.by == {Stage.PACKED: "pack@test:7", Stage.PREVIEWED: "look@test:7"}
    assert not wants.held
    assert not wants.later


def test_a_rule_that_waits_for_a_step_or_a_date_says_so(scan, area, policy, now):
    rules = policy(
        "{name: tape, do: archive, when: packed}", "{name: vol, do: reconstruct, when: age > 30d and size < 2GB}"
    )
    wants = wants_of(scan(), rules, area(), now)
    assert wants.later[Stage.ARCHIVED] == "tape@test:7 waits for: packed: no"
    assert wants.later[Stage.RECONSTRUCTED] == "vol@test:7 waits for: age > 30d: 12 d"
    assert set(wants.by) == {Stage.ARCHIVED, Stage.RECONSTRUCTED}
    found = standings(Facts(complete=True, package=True), wants)
    assert found[Stage.RECONSTRUCTED].status is Status.WAITING
    assert standings(Facts(complete=True), wants)[Stage.ARCHIVED].reason == "needs packed"


def test_a_rule_that_will_never_hold_wants_nothing_and_is_explained(scan, area, policy, now):
    wants = wants_of(
        scan(bytes=10**12), policy("{name: vol, do: reconstruct, when: packed and size < 2GB}"), area(), now
    )
    assert Stage.RECONSTRUCTED not in wants.by
    found = standings(Facts(complete=True, package=True), wants)[Stage.RECONSTRUCTED]
    assert found.status is Status.OFF
    assert "vol@test:7 does not apply" in found.reason
    assert "size < 2GB: 1 TB" in found.reason


def test_the_first_rule_that_holds_decides(scan, area, policy, now):
    rules = policy(
        "{name: later, do: pack, when: age > 30d, order: 1}",
        "{name: second, do: pack, order: 3}",
        "{name: first, do: pack, order: 2}",
    )
    assert wants_of(scan(), rules, area(), now).by[Stage.PACKED] == "first@test:7"


def test_prune_is_wanted_over_the_watermark_only(archived, area, policy, now):
    rules = policy(PRUNE)
    low = wants_of(archived(), rules, area(), now)
    assert low.later[Stage.PRUNED] == "room@test:7 waits for: usage > high: 50 %, high is 85 %"
    full = wants_of(archived(), rules, area(**FULL), now)
    assert full.by[Stage.PRUNED] == "room@test:7"
    assert not full.held
    assert not full.later


def test_a_quarantine_is_space_to_come(archived, area, policy, now):
    wants = wants_of(archived(), policy(PRUNE), area(**FULL, quarantine_bytes=60), now)
    assert Stage.PRUNED in wants.later


def test_a_prune_that_began_goes_on_to_the_low_mark(archived, area, policy, now):
    half = {"used_fraction": 0.8, "used_bytes": 800}
    assert Stage.PRUNED in wants_of(archived(), policy(PRUNE), area(**half), now).later
    wants = wants_of(archived(), policy(PRUNE), area(**half, draining=True), now)
    assert not wants.later
    assert not wants.held
    assert Stage.PRUNED in wants.by


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"prune_on": False}, "prune: off for area inhouse"),
        ({}, "0 of 2 verified lossless archive copies"),
    ],
)
def test_what_holds_a_prune_back(scan, replica, area, policy, now, change, reason):
    files = replica("f", Form.FILES, "inhouse", TierClass.SERVER)
    wants = wants_of(scan(files), policy("{name: room, do: prune}"), area(**FULL, **change), now)
    assert reason in wants.held[Stage.PRUNED]


def test_a_prune_that_is_off_and_that_no_rule_asks_for_now_is_wanted_by_nobody(archived, area, policy, now):
    rules = policy("{name: room, do: prune, when: usage > high}")
    assert Stage.PRUNED in wants_of(archived(), rules, area(prune_on=True), now).by
    wants = wants_of(archived(), rules, area(prune_on=False), now)
    assert Stage.PRUNED not in wants.by
    assert wants.held[Stage.PRUNED] == "prune: off for area inhouse"
    assert Stage.PRUNED in wants_of(archived(), rules, area(**FULL | {"prune_on": False}), now).by


def test_files_that_somebody_else_took_are_no_prune(archived, area, policy, now):
    scan = archived()
    files, *others = scan.replicas
    gone = replace(scan, replicas=(replace(files, state=ReplicaState.GONE, location=scan.root), *others))
    wants = wants_of(gone, policy(PRUNE), area(**FULL), now)
    assert Stage.PRUNED not in wants.by
    assert wants.held[Stage.PRUNED] == "its files are gone, and not by a prune"
    over = wants_of(replace(gone, superseded_by="s2"), policy(PRUNE), area(**FULL), now)
    assert over.held[Stage.PRUNED] == "its files were overwritten in place by scan s2"
    assert not facts_of(gone, now=now, keep_after=DAY).files_pruned
    permit = Permit("p", files.id, "room@p:1", RemovalPhase.GONE, now, None, ())
    assert facts_of(replace(gone, permits=(permit,)), now=now, keep_after=DAY).files_pruned


def test_a_pin_holds_removal_and_reduction(archived, area, policy, now):
    scan = archived()
    pinned = type(scan)(**{**vars(scan), "pins": (Pin("1", "anna", "thesis", now + DAY),)})
    wants = wants_of(pinned, policy(PRUNE, "{name: r, do: reduce}"), area(**FULL, reduce_on=True), now)
    assert wants.held[Stage.PRUNED].startswith("pinned by anna until")
    assert wants.held[Stage.REDUCED].startswith("pinned by anna until")
    assert not wants_of(pinned, policy(PRUNE), area(**FULL), now + 2 * DAY).held
    assert next_look(pinned, policy(PRUNE), area(**FULL), now) > now + DAY


def test_what_holds_back_a_prune_of_packages_alone(archived, area, policy, now):
    rules = policy("{name: room, do: prune, with: {forms: [package]}}")
    assert wants_of(archived(), rules, area(prune_on=False), now).held == {Stage.PRUNED: "prune: off for area inhouse"}
    scan = archived()
    pinned = type(scan)(**{**vars(scan), "pins": (Pin("1", "anna", "thesis", now + DAY),)})
    assert "pinned by anna" in wants_of(pinned, rules, area(), now).held[Stage.PRUNED]
    assert not wants_of(archived(), rules, area(), now).held
    assert not wants_of(archived(), rules, area(), now).by


def test_forbid(archived, area, policy, now):
    rules = policy(
        PRUNE, "{name: keep, do: forbid, when: 'proposal in (ma1234, ma5678)', with: {actions: [prune, reduce]}}"
    )
    wants = wants_of(archived(), rules, area(**FULL), now)
    assert wants.held == {Stage.PRUNED: "forbidden by keep@test:7"}
    scan = archived()
    other = type(scan)(**{**vars(scan), "proposal": "in99"})
    assert not wants_of(other, rules, area(**FULL), now).held
    unknown = type(scan)(**{**vars(scan), "proposal": None})
    assert wants_of(unknown, rules, area(**FULL), now).held == {Stage.PRUNED: "forbidden by keep@test:7"}


def test_more_copies_than_the_law_asks(archived, area, policy, now):
    rules = policy("{name: a, do: archive, with: {copies: 3}}", PRUNE)
    assert asks_of(archived(), rules, area(**FULL), now).copies == 3
    assert removal_of(archived(), archived().replicas[0], rules, area(**FULL), now, rule=None).copies_asked == 3
    wants = wants_of(archived(), rules, area(**FULL), now)
    assert wants.later[Stage.PRUNED] == "room@test:7 waits for: archived: no"
    assert "2 of 3" in wants.held[Stage.PRUNED]


def test_copies_of_a_rule_for_other_scans_are_not_asked(archived, area, policy, now):
    rules = policy("{name: a, do: archive, with: {copies: 5}, when: beamline = BM05}", PRUNE)
    assert asks_of(archived(), rules, area(**FULL), now).copies == 2
    assert Stage.PRUNED not in wants_of(archived(), rules, area(**FULL), now).held


@pytest.mark.parametrize(
    "change",
    [
        {"verified_at": None},
        {"lossless": False},
        {"counts": False},
        {"domain": "same"},
        {"state": ReplicaState.SUSPECT},
        {"state": ReplicaState.PRESENT},
        {"state": ReplicaState.LEAVING},
        {"tier_class": TierClass.REMOTE},
        {"digest": "other"},
    ],
)
def test_copies_that_are_none(archived, area, policy, now, change):
    scan = archived(**change)
    removal = removal_of(scan, scan.replicas[0], policy("{name: room, do: prune}"), area(**FULL), now, rule=None)
    assert removal.archive_copies_elsewhere < 2
    assert any("law 4" in reason for reason in may_go(removal))
    assert Stage.PRUNED in wants_of(scan, policy("{name: room, do: prune}"), area(**FULL), now).held


def test_files_on_a_server_are_re_read_for_the_fast_disk_that_relies_on_them(scan, replica, area, policy, now):
    old = {"verified_at": now - 91 * DAY}
    home = replica("f", Form.FILES, "inhouse", TierClass.FAST, domain="fast", **old)
    copy = replica("c", Form.FILES, "server", TierClass.SERVER, domain="server", **old)
    rules = policy(PRUNE)
    assert {r.id for r in overdue(scan(home, copy), rules, area(tier_class=TierClass.FAST), now)} == {"c"}
    assert not overdue(scan(home, copy), rules, area(), now), "nothing of a server may go for files elsewhere"
    assert not overdue(scan(home, copy), rules, area(tier_class=TierClass.FAST), now - 2 * DAY)


def test_recency_is_asked_of_a_removal(archived, area, policy, now):
    rules = policy(PRUNE)
    scan = archived(verified_at=now - 401 * DAY)
    assert removal_of(scan, scan.replicas[0], rules, area(**FULL), now, rule=None).archive_copies_elsewhere == 0
    assert "law 4" in wants_of(scan, rules, area(**FULL), now).held[Stage.PRUNED]
    assert {r.id for r in overdue(scan, rules, area(), now)} == {"t1", "t2"}
    assert not overdue(archived(), rules, area(), now)
    future = archived(verified_at=now + DAY)
    assert removal_of(future, future.replicas[0], rules, area(**FULL), now, rule=None).archive_copies_elsewhere == 0
    assert len(overdue(future, rules, area(), now)) == 2
    strict = policy("{name: room, do: prune, with: {verified_within: 5d}}")
    removal = removal_of(archived(), scan.replicas[0], strict, area(**FULL), now, rule=strict.rules[0])
    assert removal.archive_copies_elsewhere == 0


@pytest.mark.parametrize("first", ["strict", "plain"])
def test_each_rule_is_asked_for_its_own_recency(archived, area, policy, now, first):
    """One that lets the files go is enough, whichever is asked first."""
    rules = {
        "strict": "{name: strict, do: prune, with: {verified_within: 5d}}",
        "plain": "{name: plain, do: prune}",
    }
    policy = policy(*sorted(rules.values(), key=lambda text: f"name: {first}" not in text))
    scan, facts = archived(), area(**FULL)
    by = {rule.name: may_go(removal_of(scan, scan.replicas[0], policy, facts, now, rule=rule)) for rule in policy.rules}
    assert by["plain"] == ()
    assert "law 4" in by["strict"][0]
    assert Stage.PRUNED not in wants_of(scan, policy, facts, now).held


def test_a_verify_rule_asks_more_often(archived, area, policy, now):
    rules = policy("{name: v, do: verify, with: {verified_within: 5d, tiers: [tape]}}")
    assert {r.id for r in overdue(archived(), rules, area(), now)} == {"t1", "t2"}
    lazy = policy("{name: v, do: verify, with: {verified_within: 5000d}}")
    scan = archived(verified_at=now - 401 * DAY)
    assert {r.id for r in overdue(scan, lazy, area(), now)} == {"t1", "t2"}


def test_a_copy_that_counts_for_no_removal_is_not_read_for_ever(archived, area, policy, now):
    assert not overdue(archived(counts=False), policy(PRUNE), area(), now)
    assert values_of(archived(counts=False), area(), now)["archived"]


@pytest.mark.parametrize(
    ("status", "hours", "error", "hopeful"),
    [
        (None, 0, "", True),
        (JobStatus.TODO, 90, "", True),
        (JobStatus.TODO, 20, "the library is full", True),
        (JobStatus.TODO, 30, "the library is full", False),
        (JobStatus.FAILED, 0, "it broke", False),
        (JobStatus.CANCELLED, 0, "", False),
    ],
)
def test_a_fast_tier_relies_on_a_server_while_archiving_is_hopeful(
    scan, replica, area, policy, now, status, hours, error, hopeful
):
    files = replica("f", Form.FILES, "inhouse", TierClass.FAST, domain="ssd")
    server = replica("s", tier="server", tier_class=TierClass.SERVER, domain="raid")
    jobs = (
        ()
        if status is None
        else (Job("j", "archive", "s1", status, 1, error, "", "", now - timedelta(hours=hours), None, None),)
    )
    rules = policy("{name: a, do: archive}", "{name: room, do: prune}")
    fast = area(**FULL, tier_class=TierClass.FAST)
    removal = removal_of(scan(files, server, jobs=jobs), files, rules, fast, now, rule=None)
    assert removal.archiving_hopeful is hopeful
    assert (may_go(removal) == ()) is hopeful
    nobody_archives = removal_of(scan(files, server), files, policy("{name: room, do: prune}"), fast, now, rule=None)
    assert not nobody_archives.archiving_hopeful
    same_disk = replica("s", tier="server", tier_class=TierClass.SERVER, domain="ssd")
    assert removal_of(scan(files, same_disk), files, rules, fast, now, rule=None).server_copies_elsewhere == 0


def test_an_unsettled_scan_is_never_wanted_gone(archived, area, policy, now):
    scan = archived()
    growing = type(scan)(**{**vars(scan), "certificate": Certificate(Verdict.ACQUIRING), "settled": False})
    removal = removal_of(growing, scan.replicas[0], policy(PRUNE), area(**FULL), now, rule=None)
    assert "the scan is not complete" in may_go(removal)


def test_settings(archived, area, policy, now):
    rules = policy(
        "{name: v, do: reconstruct, with: {preset: fine}}",
        "{name: r1, do: replicate, with: {tiers: [a, b]}}",
        "{name: r2, do: replicate, with: {tiers: [b, c]}}",
        "{name: r3, do: replicate, with: {tiers: [z]}, when: area = other}",
        "{name: p1, do: prune, with: {forms: [files]}}",
        "{name: p2, do: prune, with: {forms: [package]}, when: usage > high}",
        head="presets: {fine: {filter: hann}}",
    )
    asks = asks_of(archived(), rules, area(), now)
    assert asks.tiers == ("a", "b", "c")
    assert asks.presets == {"reconstruct": "fine"}


def test_where_files_are_wanted(archived, area, policy, now):
    rules = policy(
        "{name: late, do: replicate, with: {form: files, to: b, path: late}, when: age > 9999d}",
        "{name: now, do: replicate, with: {form: files, to: b, path: now}}",
        "{name: again, do: replicate, with: {form: files, to: b, path: again}}",
        "{name: other, do: replicate, with: {form: files, to: c}}",
        "{name: never, do: replicate, with: {form: files, to: d}, when: area = other}",
        "{name: tiers, do: replicate, with: {tiers: [a]}}",
    )
    asks = asks_of(archived(), rules, area(), now)
    assert [(m.to, m.path, m.rule.name) for m in asks.moves] == [("b", "now", "now"), ("c", None, "other")]
    assert asks.tiers == ("a",)


def test_values(archived, area, now):
    values = values_of(archived(), area(), now)
    assert values["pixels"] == 2048 * 1024
    assert values["n_projections"] == 1500
    assert values["age"] == 12 * DAY
    assert values["replicas"]("tape", None) == values["replicas"]("archive", 10 * DAY) == 2
    assert values["replicas"]("archive", 8 * DAY) == 0
    assert values["replicas"]("server", None) == 1


@pytest.mark.parametrize(("value", "known"), [(1500, 1500), (1500.0, 1500), (0, 0), (2**31, 2**31)])
def test_a_count(scan, area, now, value, known):
    assert (
        values_of(scan(conditions={"n_projections": Condition(value, None, "x")}), area(), now)["n_projections"]
        == known
    )


@pytest.mark.parametrize("value", [2**31 + 1, -1, 1500.5, math.inf, math.nan, 10**400, "1500", True, None])
def test_a_count_that_is_none_is_not_known(scan, area, now, value):
    values = values_of(scan(conditions={"frame_width": Condition(value, None, "x")}), area(), now)
    assert values["width"] is None
    assert values["pixels"] is None


def test_a_copy_of_another_product_is_no_copy_of_the_original(scan, replica, area, now):
    lossy = [replica(name, product=ProductKind.REDUCED) for name in ("t1", "t2")]
    assert not values_of(scan(*lossy), area(), now)["archived"]


def test_age_counts_from_the_first_sight_and_never_from_the_future(scan, area, now):
    assert values_of(scan(acquired_at=None), area(), now)["age"] == 11 * DAY
    assert values_of(scan(acquired_at=now + DAY), area(), now)["age"] is None


def test_next_look_is_when_an_age_is_reached(scan, area, policy, now):
    rules = policy("{name: a, do: pack, when: age > 30d}")
    at = next_look(scan(), rules, area(), now)
    assert not matches_of(scan(), rules, area(), at - timedelta(microseconds=1))[0].verdict.value
    assert matches_of(scan(), rules, area(), at)[0].verdict.value
    assert next_look(scan(), rules, area(), at + DAY) is None
    assert next_look(scan(), policy("{name: a, do: pack}"), area(), now) is None


def test_next_look_is_when_a_copy_becomes_overdue(archived, area, policy, now):
    rules = policy(PRUNE)
    at = next_look(archived(), rules, area(), now)
    assert overdue(archived(), rules, area(), at)
    assert not overdue(archived(), rules, area(), at - timedelta(microseconds=1))


# --- room ------------------------------------------------------------------------------------------------


def test_bytes_to_free():
    def of(used, quarantine=0, **kwargs):
        return bytes_to_free(
            AreaFacts("a", quota_bytes=1000, used_bytes=used, quarantine_bytes=quarantine, high=0.8, low=0.5, **kwargs)
        )

    assert of(800) == 0
    assert of(801) == 301
    assert of(900, 100) == 0
    assert of(1000, 100) == 400
    assert of(700) == 0
    assert of(700, draining=True) == 200
    assert of(500, draining=True) == 0
    assert bytes_to_free(AreaFacts("a", quota_bytes=0, used_bytes=10)) == 0


CHOICES = st.lists(
    st.builds(
        PruneChoice,
        scan=st.sampled_from("abcdef"),
        replica=st.sampled_from([f"r{i}" for i in range(8)]),
        form=st.sampled_from(Form),
        bytes=st.integers(0, 50),
        acquired_at=st.datetimes(timezones=st.just(UTC)),
        rank=st.integers(0, 2),
    ),
    max_size=12,
    unique_by=lambda c: c.replica,
)


@given(CHOICES, st.integers(0, 300), st.sets(st.integers(0, 2)))
def test_choosing_for_a_watermark(choices, target, by_size):
    choices = [replace(c, largest_first=c.rank in by_size) for c in choices]
    chosen = list(choose_for_watermark(choices, bytes_to_free=target))
    assert len({c.replica for c in chosen}) == len(chosen)
    freed = [c.bytes for c in chosen]
    if chosen:
        assert sum(freed[:-1]) < target, "nothing is taken past the target"
    taken = set(chosen)
    rest = [c for c in choices if c not in taken and c.bytes]
    if sum(freed) < target:
        assert not rest, "the target was missed with candidates left"
    if not chosen:
        return
    last = max(c.rank for c in chosen)
    assert all(c.rank >= last for c in rest), "what an earlier rule lets go goes first"
    beside = [c for c in rest if c.rank == last]
    if any(c.form is Form.PACKAGE for c in chosen if c.rank == last):
        assert all(c.form is Form.PACKAGE for c in beside), "packages only after every file of the rule"
    for rank in {c.rank for c in chosen}:
        for form in Form:
            gone = [c for c in chosen if (c.rank, c.form) == (rank, form)]
            left = [c for c in rest if (c.rank, c.form) == (rank, form)]
            if rank in by_size:
                assert [c.bytes for c in gone] == sorted((c.bytes for c in gone), reverse=True)
                assert all(g.bytes >= c.bytes for g in gone for c in left)
            else:
                dates = [c.acquired_at for c in gone]
                assert dates == sorted(dates)
                assert all(g.acquired_at <= c.acquired_at for g in gone for c in left)


def test_a_replica_named_twice_counts_once(now):
    one = PruneChoice("a", "r", Form.FILES, 10, now)
    assert list(choose_for_watermark([one, one], bytes_to_free=20)) == [one]


def test_a_scan_that_no_engine_can_use_is_packed_and_archived_only(scan, area, policy, now):
    rules = policy(
        "{name: pack, do: pack}",
        "{name: look, do: preview, when: complete}",
        "{name: vol, do: reconstruct, when: packed}",
    )
    wants = wants_of(scan(metadata={"no_reconstruction": "it is a volume"}), rules, area(), now)
    assert wants.held == {Stage.PREVIEWED: "it is a volume", Stage.RECONSTRUCTED: "it is a volume"}
    found = standings(Facts(complete=True, package=True), wants)
    assert (found[Stage.PREVIEWED].status, found[Stage.RECONSTRUCTED].status) == (Status.HELD, Status.HELD)
    assert standings(Facts(complete=True), wants)[Stage.PACKED].status is Status.DUE


def test_a_volume_made_by_others_has_a_preview_and_is_never_reconstructed_or_reduced(scan, area, policy, now):
    rules = policy(
        "{name: look, do: preview, when: complete}",
        "{name: vol, do: reconstruct, when: packed}",
        "{name: less, do: reduce, when: packed}",
    )
    volume = scan(metadata={"no_reconstruction": "it is a volume", "frames_are": "slices"})
    wants = wants_of(volume, rules, area(reduce_on=True), now)
    assert wants.held == {Stage.RECONSTRUCTED: "it is a volume", Stage.REDUCED: "it is a volume"}
    found = standings(Facts(complete=True, package=True), wants)
    assert (found[Stage.PREVIEWED].status, found[Stage.RECONSTRUCTED].status) == (Status.DUE, Status.HELD)
    assert standings(Facts(complete=True, preview=True), wants)[Stage.PREVIEWED].status is Status.DONE
