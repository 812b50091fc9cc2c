"""What a site says of room that can never come true."""

from dataclasses import replace

import pytest

from tomovault.vault.checking import run_doctor
from tomovault.vault.checking_room import impossible_room, rules_that_free_nothing
from tomovault.watch.area import Space

GB, TB = 10**9, 10**12


def _found(town, space, **area):
    conf = replace(town.vault.site.areas["inhouse"], **area)
    return {one.about: one for one in impossible_room(conf, lambda _path: space)}


@pytest.mark.parametrize(("free", "is_told"), [(80 * GB, True), (79 * GB, True), (81 * GB, False), (0, True)])
def test_an_area_that_is_full_down_to_its_floor_can_never_begin_to_pack(town, free, is_told):
    """The talk's servers: 99 % full, and 1 % of the disk is the usual floor."""
    found = _found(town, Space(8 * TB, free), floor_given=80 * GB)
    assert ("packing in inhouse" in found) is is_told
    if is_told:
        told = found["packing in inhouse"]
        assert "the floor kept for the acquisition is 80 GB" in told.text
        assert "8 TB" in told.text
        assert "`vault`" in told.hint


@pytest.mark.parametrize(
    ("quota", "high", "floor", "is_told"),
    [
        (None, 0.85, 1200 * GB, False),
        (None, 0.85, 1201 * GB, True),
        (None, 1.0, 1, True),
        (4 * TB, 0.85, 1201 * GB, False),
        (10 * TB, 0.85, 0, True),
    ],
)
def test_a_high_mark_above_what_the_floor_leaves_is_never_reached(town, quota, high, floor, is_told):
    found = _found(town, Space(8 * TB, 5 * TB), quota=quota, high=high, floor_given=floor)
    assert ("high mark of inhouse" in found) is is_told
    if not is_told:
        return
    advised = int(found["high mark of inhouse"].hint.split("high: ")[1].split("%")[0]) / 100
    advised_found = _found(town, Space(8 * TB, 5 * TB), quota=quota, high=advised, floor_given=floor)
    assert "high mark of inhouse" not in advised_found, "what is advised helps"


def test_a_disk_that_does_not_answer_is_no_reason_for_figures(town):
    assert _found(town, None) == {}


def test_rules_that_can_free_nothing_are_told_and_harm_nobody(town):
    (one,) = rules_that_free_nothing(town.vault)
    assert "prune-files, prune-packages" in one.text
    assert not one.needed
    town.room()
    assert list(rules_that_free_nothing(town.vault)) == []
    town.policy(("with: {forms: [files]}", "with: {tiers: [tape]}"))
    (one,) = rules_that_free_nothing(town.vault)
    assert "prune-files can free nothing on tape: that tier has no marks" in one.text


def test_the_doctor_tells_it(town):
    found = {check.name: check for check in run_doctor(town.folder)}
    assert (found["pruning by standard"].ok, found["pruning by standard"].needed) == (False, False)
    town.change(areas={"inhouse": {"quota": "900PB"}})
    found = {check.name: check for check in run_doctor(town.folder)}
    assert (found["high mark of inhouse"].ok, found["high mark of inhouse"].needed) == (False, True)


@pytest.mark.parametrize(
    ("command", "route", "told"),
    [
        ("/bin/cat", {"alarms": {"channels": ["it"]}}, ""),
        ("/nowhere/at/all", {"alarms": {"channels": ["it"]}}, "none of the channels"),
        ("/bin/cat", {}, "names nobody who is told"),
    ],
)
def test_a_section_notify_that_reaches_nobody(town, command, route, told):
    town.change(notify={"channels": {"it": {"kind": "command", "argv": [command]}}, **route})
    found = {check.name: check for check in run_doctor(town.folder)}
    assert ("notify" in found) is bool(told)
    if told:
        assert told in found["notify"].detail
