"""Permits: phase one, the second look after the hold, and what a person or a rule says meanwhile."""

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import update

from tomovault.catalog import tables
from tomovault.catalog.transaction import place_hash
from tomovault.core.errors import Refused
from tomovault.core.known import JobStatus
from tomovault.core.record import Checked, Outcome, PutBack, Removed, Result, Stored
from tomovault.core.replica import Form, ProductKind
from tomovault.vault.orders import build_order
from tomovault.vault.removals import grant, regrant
from tomovault.vault.requests import Moot, Request


@pytest.fixture
def going(town):
    """A scan whose files are permitted to go, and that permit."""
    scan = town.scan("one", paths=("a.edf", "b.edf"))
    town.room()
    town.policy()
    _grant(town, scan)
    return scan, town.known(scan).permits[0].id


def _rule(town, name="prune-files"):
    return next(r for r in town.vault.policy_of("inhouse").rules if r.name == name)


def _grant(town, scan, **how):
    catalogue = town.vault.catalogue
    with catalogue.writing() as tx:
        files = town.replica(scan, Form.FILES).id
        return grant(town.vault, tx, catalogue.known(tx, scan), files, rule=_rule(town), now=town.now, **how)


def _second_look(town, scan, permit, now):
    catalogue = town.vault.catalogue
    with catalogue.writing() as tx:
        known = catalogue.known(tx, scan)
        regrant(town.vault, tx, known, next(p for p in known.permits if p.id == permit), now)


def _order(town, scan, action, permit, now=None):
    catalogue = town.vault.catalogue
    with catalogue.writing() as tx:
        request = Request(town.vault, tx, catalogue.known(tx, scan), {"permit": permit}, now or town.now, "rule")
        return build_order(action, request)


def test_a_permit_names_rule_and_copies(town, going):
    permit = town.known(going[0]).permits[0]
    assert permit.rule == "prune-files@standard:1"
    assert len({c["domain"] for c in permit.relied_on}) == 2
    assert town.known(going[0]).jobs[-1].action == "prune"


def test_the_order_names_the_area_by_its_marker(town, going):
    order = _order(town, going[0], "prune", going[1])
    assert order["identity"]["uuid"]
    assert order["place"]["quarantine"].startswith(f"{town.area}/.tomovault/quarantine/")
    assert going[0] in order["readme"]


def test_files_of_a_neighbour_are_kept(town, going):
    town.scan("two", root=str(town.area / "one"), paths=("b.edf", "c.edf"))
    assert _order(town, going[0], "prune", going[1])["keep"] == ["b.edf"]


EDITS = [
    ("when: archived and usage > high\n    do: prune\n    with: {forms: [files]}", edited)
    for edited in (
        "when: archived and usage > high and age > 9999d\n    do: prune\n    with: {forms: [files]}",
        "when: archived and usage > high\n    do: prune\n    with: {forms: [package]}",
        "when: archived and usage > high\n    do: prune\n    until: 2020-01-01\n    with: {forms: [files]}",
        "when: replicas(archive) >= 3 and usage > high\n    do: prune\n    with: {forms: [files]}",
    )
]


@pytest.mark.parametrize("edit", EDITS)
def test_the_second_look_asks_the_rule_as_it_is_now(town, going, edit):
    town.quarantine(going[0])
    town.policy(("version: 1", "version: 2"), edit)
    with pytest.raises(Refused, match="prune-files@standard:2 does not let it go now"):
        _second_look(town, *going, town.now + timedelta(days=15))


def test_the_second_look_takes_what_left_for_still_there_and_the_area_for_full(town, going):
    town.quarantine(going[0])
    town.policy(
        ("version: 1", "version: 2"),
        ("when: archived and usage > high\n", "when: archived and replicas(inhouse) >= 1 and usage > 99%\n"),
    )
    _second_look(town, *going, town.now + timedelta(days=15))
    with town.vault.catalogue.reading() as tx:
        told = [e for e in town.vault.catalogue.list_audit(tx, going[0]) if e.op == "permit granted again"]
    assert told[0].body["rule"] == "prune-files@standard:2", "the version that let it go on"
    assert town.known(going[0]).permits[0].rule == "prune-files@standard:1"


@pytest.mark.parametrize(("by_evidence", "goes"), [(False, True), (True, False), (None, False)])
def test_a_rule_that_asks_for_usage_lets_go_in_an_emptied_area_what_went_to_make_room(town, by_evidence, goes):
    """How a permit was given is known by itself: its citation may be the same, and the rule another."""
    scan = town.scan("one")
    town.room()
    permit = _grant(town, scan, by_evidence=by_evidence).id
    if by_evidence is None:  # as of before it was told
        with town.vault.catalogue.writing() as tx:
            tx.run(update(tables.job).where(tables.job.c.action == "prune").values(order={"permit": permit}))
    town.quarantine(scan)
    town.room(quota="1GB")
    if goes:
        _second_look(town, scan, permit, town.now + timedelta(days=15))
    else:
        with pytest.raises(Refused, match="does not let it go now"):
            _second_look(town, scan, permit, town.now + timedelta(days=15))
    assert (town.known(scan).permits[0].phase.value == "leaving") is goes


def test_a_retention_that_began_during_the_hold_keeps_it(town, going):
    town.quarantine(going[0])
    keep = "  - {name: keep, do: forbid, until: 2099-01-01, with: {actions: [prune]}}\n"
    town.policy(("rules:\n", "rules:\n" + keep))
    with pytest.raises(Refused, match="forbidden by keep@standard:1"):
        _second_look(town, *going, town.now + timedelta(days=15))


def test_a_pin_before_phase_one_stops_it(town, going):
    town.pin(going[0])
    with pytest.raises(Moot, match="pinned by anna"):
        _order(town, going[0], "prune", going[1])


def test_prune_switched_off_before_phase_one_stops_it(town, going):
    town.room(prune="off")
    with pytest.raises(Moot, match="prune is off"):
        _order(town, going[0], "prune", going[1])


def test_the_hold_is_kept_and_then_all_is_asked_again(town, going):
    scan, permit = going
    town.quarantine(scan)
    with pytest.raises(Refused) as refused:
        _second_look(town, scan, permit, town.now)
    assert refused.value.by == "hold"
    later = town.now + timedelta(days=15)
    _second_look(town, scan, permit, later)
    assert town.known(scan).permits[0].phase.value == "leaving"
    assert _order(town, scan, "empty_quarantine", permit)["permit"] == permit


@pytest.mark.parametrize(
    ("change", "by"),
    [
        (lambda town, scan: town.pin(scan), "pin"),
        (lambda town, _: town.room(prune="off"), "prune: off"),
        (
            lambda town, _: town.policy(("rules:\n", "rules:\n  - {name: no, do: forbid, with: {actions: [prune]}}\n")),
            "policy",
        ),
        (lambda town, _: town.policy(("name: prune-files", "name: prune-otherwise")), "policy"),
        (lambda town, _: town.policy(("copies: 2", "copies: 3")), "law 4"),
        (lambda town, _: town.policy(("{forms: [files]}", "{forms: [files], verified_within: 1h}")), "law 4"),
    ],
)
def test_what_changed_during_the_hold_refuses_the_second_look(town, going, change, by):
    scan, permit = going
    town.quarantine(scan)
    change(town, scan)
    when = town.now + (timedelta(days=15) if by != "pin" else timedelta(hours=1))
    if by == "pin":
        with town.vault.catalogue.writing() as tx:
            town.vault.catalogue.add_pin(tx, scan, "anna", "longer", town.now + timedelta(days=30), town.now)
        when = town.now + timedelta(days=15)
    with pytest.raises(Refused) as refused:
        _second_look(town, scan, permit, when)
    assert refused.value.by == by
    assert town.known(scan).permits[0].phase.value == "quarantined"


def _forbid(town, _scan):
    town.policy(("rules:\n", "rules:\n  - {name: no, do: forbid, with: {actions: [prune]}}\n"))


def _spoil(town, scan):
    """Both copies in the archive were re-read and are bad."""
    copies = [r.id for r in town.known(scan).replicas if r.tier == "tape"]
    with town.vault.catalogue.writing() as tx:
        bad = [Checked(replica, ok=False, at=town.now, reason="another digest") for replica in copies]
        town.vault.catalogue.apply_records(tx, bad, town.now)


@pytest.mark.parametrize("action", ["prune", "empty_quarantine"])
@pytest.mark.parametrize(
    ("change", "days", "why"),
    [
        (_spoil, 0, "law 4"),
        (lambda _town, _scan: None, 500, "law 4"),
        (lambda town, _: town.room(prune="off"), 0, "prune is off"),
        (_forbid, 0, "policy"),
    ],
    ids=["suspect", "overdue", "off", "forbidden"],
)
def test_what_changed_while_a_removal_waited_for_its_turn_stops_it(town, going, action, change, days, why):
    """Between the look and the hour when its job is claimed there may be days: tapes, a daemon that was off."""
    scan, permit = going
    if action == "empty_quarantine":
        town.quarantine(scan)
        _second_look(town, scan, permit, town.now + timedelta(days=15))
    phase = town.known(scan).permits[0].phase
    change(town, scan)
    with pytest.raises(Moot, match=why):
        _order(town, scan, action, permit, town.now + timedelta(days=days))
    assert town.known(scan).permits[0].phase is phase


def test_a_removal_relies_on_the_copies_that_are_good_when_it_begins(town):
    scan = town.scan("one", copies=3)
    town.room()
    permit = _grant(town, scan).id
    town.quarantine(scan)
    _second_look(town, scan, permit, town.now + timedelta(days=15))
    first = next(r.id for r in town.known(scan).replicas if r.tier == "tape")
    assert first in [c["replica"] for c in town.known(scan).permits[0].relied_on]
    with town.vault.catalogue.writing() as tx:
        town.vault.catalogue.apply_records(tx, [Checked(first, ok=False, at=town.now, reason="bad")], town.now)
    assert _order(town, scan, "empty_quarantine", permit)["permit"] == permit
    assert first not in [c["replica"] for c in town.known(scan).permits[0].relied_on]


def test_a_rule_of_a_newer_version_still_carries_the_permit(town, going):
    scan, permit = going
    town.quarantine(scan)
    town.policy(("version: 1", "version: 2"))
    _second_look(town, scan, permit, town.now + timedelta(days=15))


def test_copies_read_too_long_ago_are_not_relied_on(town, going):
    scan, permit = going
    town.quarantine(scan)
    with pytest.raises(Refused, match="law 4"):
        _second_look(town, scan, permit, town.now + timedelta(days=500))


def test_a_clock_set_back_relies_on_nothing(town):
    scan = town.scan("one")
    town.room()
    town.now -= timedelta(days=365)
    with pytest.raises(Refused, match="law 4"):
        _grant(town, scan)


def test_the_second_phase_is_moot_before_the_second_look_and_after_a_pin(town, going):
    scan, permit = going
    town.quarantine(scan)
    with pytest.raises(Moot, match="quarantined"):
        _order(town, scan, "empty_quarantine", permit)
    _second_look(town, scan, permit, town.now + timedelta(days=15))
    town.pin(scan)
    with pytest.raises(Moot, match="pinned"):
        _order(town, scan, "empty_quarantine", permit)


def test_undo_is_refused_while_the_bytes_go(town, going):
    scan, permit = going
    town.quarantine(scan)
    _second_look(town, scan, permit, town.now + timedelta(days=15))
    catalogue = town.vault.catalogue
    with catalogue.writing() as tx:
        catalogue.queue_job(
            tx,
            "empty_quarantine",
            scan,
            {"permit": permit},
            dedup_key="e",
            rule="r",
            now=town.now,
            place="inhouse",
        )
    order = _order(town, scan, "undo_prune", permit)
    assert (order["permit"], order["moved"]) == (permit, ["a.edf"]), "it may be gone, its journal with it"
    with catalogue.writing() as tx:
        catalogue.claim_job(tx, "daemon", now=town.now, actions=["empty_quarantine"])
    with pytest.raises(Refused, match="right now"):
        _order(town, scan, "undo_prune", permit)


def test_undone_is_undone(town, going):
    scan, permit = going
    town.quarantine(scan)
    catalogue = town.vault.catalogue
    with catalogue.writing() as tx:
        catalogue.apply_records(tx, [PutBack(permit, 1, 400)], town.now)
    assert town.replica(scan, Form.FILES).state.value == "verified"
    for action in ("undo_prune", "empty_quarantine", "prune"):
        with pytest.raises(Moot, match="undone"):
            _order(town, scan, action, permit)


def test_an_area_without_a_marker_is_archive_only(town, going, monkeypatch):
    identity = town.vault.identity_of
    from dataclasses import replace

    monkeypatch.setattr(town.vault, "identity_of", lambda tx, area: replace(identity(tx, area), uuid=None))
    with pytest.raises(Refused, match="archive-only"):
        _order(town, going[0], "prune", going[1])


def test_two_pruned_scans_of_one_folder_share_the_note(town, going):
    scan, _ = going
    other = town.scan("two", root=str(town.area / "one"), paths=("c.edf",))
    town.quarantine(scan)
    permit = _grant(town, other).id
    note = _order(town, other, "prune", permit)["readme"]
    assert scan in note
    assert other in note
    assert _order(town, other, "undo_prune", permit)["readme"].count("tomovault restore") == 1


def test_the_note_names_a_scan_that_is_elsewhere_by_now(town, going):
    """As one of a fast disk is that was moved to a server: it has another root, and its files went from here."""
    scan, permit = going
    old = str(town.area / "one")
    other = town.scan("two", root=old, paths=("c.edf",))
    town.quarantine(scan)
    catalogue = town.vault.catalogue
    with catalogue.writing() as tx:
        catalogue.apply_records(tx, [Removed(permit, 1, 400)], town.now)
        place = {"root": "/data/server/one", "root_hash": place_hash("/data/server/one")}
        tx.run(update(tables.scan).where(tables.scan.c.id == scan).values(**place))
    second = _grant(town, other).id
    note = _order(town, other, "prune", second)["readme"]
    for one in (scan, other):
        assert f"tomovault restore {one} --to {old} --wait" in note
    assert scan in _order(town, other, "undo_prune", second)["readme"]


def test_a_failed_archiving_gives_no_hope(town, going):
    from tomovault.vault.removals import archiving_hopeful

    scan, _ = going
    catalogue = town.vault.catalogue
    with catalogue.writing() as tx:
        facts = town.vault.area_facts(tx, "inhouse", town.now)
        assert archiving_hopeful(town.vault, catalogue.known(tx, scan), facts, town.now)
        catalogue.queue_job(tx, "archive", scan, {}, dedup_key="a", rule="r", now=town.now, place="inhouse")
    assert town.finish("archive", Result(Outcome.FAILED, error="no drive")) is JobStatus.FAILED
    with catalogue.writing() as tx:
        assert not archiving_hopeful(town.vault, catalogue.known(tx, scan), facts, town.now)


@pytest.mark.parametrize(("domain", "together"), [(None, True), ("far", False)])
def test_a_fast_area_and_a_server_tier_on_one_disk_are_one_failure_domain(town, tmp_path, domain, together):
    """Whatever names were recorded: a disk had another name in an area than on a tier, and has one after a restart."""
    scan = town.scan("one", copies=0)
    (tmp_path / "server").mkdir()
    named = {} if domain is None else {"domain": domain}
    town.change(
        areas={"inhouse": {"prune": "on", "quota": "1kB", "high": "50%", "low": "20%", "class": "fast"}},
        tiers={"server": {"kind": "posix", "class": "server", "path": str(tmp_path / "server"), **named}},
    )
    town.vault.site = replace(town.vault.site, simulated=False)
    package = town.replica(scan, Form.PACKAGE)
    files = town.replica(scan, Form.FILES)
    with town.vault.catalogue.writing() as tx:
        town.vault.record_tiers(tx)
        copies = [
            Stored(
                *(ProductKind.ORIGINAL, package.digest, form, tier, name, location, (), 200),
                *(package.sha256, town.now, town.now),
            )
            for form, tier, name, location in (
                (Form.PACKAGE, "server", domain or "posix:/dev/vda", "server/one"),
                (Form.FILES, "inhouse", "disk:0xfe00", files.location),
                (Form.PACKAGE, "inhouse", "disk:0xfe01", package.location),
            )
        ]
        town.vault.catalogue.apply_records(tx, copies, town.now, scan_id=scan)
    if not together:
        _grant(town, scan)
        return
    with pytest.raises(Refused) as refused:
        _grant(town, scan)
    assert refused.value.by == "law 4"
