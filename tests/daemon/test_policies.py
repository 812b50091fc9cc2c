"""Policies that are edited while the daemon runs."""

import os
from datetime import timedelta
from functools import partial

import pytest

from tomovault.catalog.catalogue import Catalogue
from tomovault.core.errors import Transient
from tomovault.daemon.policies import PolicyWatch
from tomovault.daemon.room_maker import RoomMaker
from tomovault.vault.vault import Vault


class Edited:
    """A site whose policy is edited, and the watch over it."""

    def __init__(self, town):
        self.town, self.watch = town, PolicyWatch(town.vault)
        self.path = town.folder / "policies" / "standard.yaml"
        self.text = self.path.read_text("utf-8")

    def write(self, old="", new=""):
        self.path.write_text(self.text.replace(old, new) if old else new or self.text, "utf-8")
        self.settle()

    def settle(self):
        """It was written long ago, and at another time than before."""
        self.count = getattr(self, "count", 0) + 1
        os.utime(self.path, (0, self.count))

    def take_up(self, **more):
        return self.watch.take_up(self.town.now, **{"leads": True, **more})

    def look_on(self):
        """All scans were asked; returns in how many turns."""
        return sum(iter(lambda: self.watch.look_on(self.town.now), 0))

    def page_of(self, size):
        """From now on so many scans are asked in a turn."""
        catalogue = self.town.vault.catalogue
        catalogue.choose_page = partial(Catalogue.choose_page, size=size)

    @property
    def recorded(self):
        with self.town.vault.catalogue.reading() as tx:
            return self.town.vault.catalogue.recorded_policies(tx)

    @property
    def due(self):
        with self.town.vault.catalogue.reading() as tx:
            return self.town.vault.catalogue.list_due(tx, self.town.now, 9)


@pytest.fixture
def edited(town):
    made = Edited(town)
    assert made.take_up()
    assert made.look_on() == 1
    assert made.watch.over
    return made


def test_what_is_being_written_is_not_read_yet(edited):
    """The half of a policy may be a policy, too: without the rules that stand last, which often forbid."""
    half = edited.text[: edited.text.index("  - name: prune-files")]
    edited.path.write_text(half, "utf-8")
    assert not edited.take_up()
    assert [r.name for r in edited.town.vault.policy_of("inhouse").rules][-1] != "reconstruct-small"
    edited.settle()
    assert edited.take_up()
    assert [r.name for r in edited.town.vault.policy_of("inhouse").rules][-1] == "reconstruct-small"


def test_a_policy_is_recorded_once_when_it_begins(edited):
    (first,) = edited.recorded
    assert (first.name, first.version, first.text) == ("standard", 1, edited.text)
    assert len(first.sha256) == 64
    assert not edited.take_up()
    assert not PolicyWatch(edited.town.vault).take_up(edited.town.now, leads=True), "a daemon that is started again"
    assert len(edited.recorded) == 1


def test_an_edit_holds_from_the_next_turn_and_what_it_plans_otherwise_is_looked_at_again(edited):
    small, large = edited.town.scan("one", size=400), edited.town.scan("two", size=4000)
    edited.town.rested()
    edited.write("packed and size < 2GB and not aborted", "packed and size < 3kB and not aborted")
    assert edited.town.vault.policy_of("inhouse").version == 1, "not before it is taken up"
    assert edited.take_up()
    assert edited.look_on() == 1
    assert [one.version for one in edited.recorded] == [1, 1]
    assert edited.due == [large], "both texts reconstruct the small one"
    edited.town.rested()
    assert not edited.take_up()
    assert edited.look_on() == 0
    assert edited.due == []
    assert small not in edited.due


def test_another_version_of_the_same_rules_looks_at_no_scan(edited):
    edited.town.scan("one")
    edited.town.rested()
    edited.write("version: 1", "version: 2")
    assert edited.take_up()
    assert edited.town.vault.policy_of("inhouse").version == 2
    edited.look_on()
    assert edited.due == []


def test_a_scan_that_the_new_rules_look_at_sooner_is_looked_at_now(edited):
    """Neither text wants anything of the young one yet; by the old one nobody would look at it before it is 40 days."""
    young, between, old = (
        edited.town.scan(f"{days}", acquired_at=edited.town.now - timedelta(days=days)) for days in (10, 30, 60)
    )
    sentence = "packed and size < 2GB and not aborted"
    edited.write(sentence, "packed and age > 40d")
    edited.take_up()
    edited.look_on()
    edited.town.rested()
    edited.write(sentence, "packed and age > 20d")
    edited.take_up()
    edited.look_on()
    assert set(edited.due) == {young, between}
    assert old not in edited.due


def test_another_setting_is_a_difference_for_every_scan_that_the_rule_may_hold_for(edited):
    scans = {edited.town.scan("one"), edited.town.scan("two", copies=0)}
    edited.town.rested()
    edited.write("with: {copies: 2}", "with: {copies: 3}")
    assert edited.take_up()
    edited.look_on()
    assert set(edited.due) == scans


def test_a_scan_whose_removal_is_under_way_is_looked_at_after_every_edit(edited):
    scans = [edited.town.scan("one"), edited.town.scan("two")]
    edited.town.room()
    room = RoomMaker(edited.town.vault)
    room.ask()
    while room.turn(edited.town.now):
        pass
    going = [one for one in scans if edited.town.known(one).permits]
    assert going
    edited.town.rested()
    again = Edited(edited.town)
    again.settle()
    again.take_up()
    again.look_on()
    edited.town.rested()
    again.write("version: 1", "version: 2")
    assert again.take_up()
    again.look_on()
    assert sorted(again.due) == sorted(going)


def test_a_scan_that_is_due_already_keeps_its_place(edited):
    first, second = edited.town.scan("one"), edited.town.scan("two")
    with edited.town.vault.catalogue.writing() as tx:
        edited.town.vault.catalogue.set_next_due(tx, first, None)
        edited.town.vault.catalogue.set_next_due(tx, second, edited.town.now - timedelta(days=1))
    edited.write("with: {copies: 2}", "with: {copies: 3}")
    assert edited.take_up()
    edited.look_on()
    assert edited.due == [second, first]


def test_a_daemon_that_is_started_again_goes_on_where_the_last_one_was(edited):
    scans = sorted(edited.town.scan(name) for name in ("one", "two", "three"))
    edited.town.rested()
    edited.write("with: {copies: 2}", "with: {copies: 3}")
    edited.page_of(1)
    assert edited.take_up()
    assert edited.watch.look_on(edited.town.now) == 1
    assert edited.due == scans[:1]
    edited.town.rested()
    edited.watch = PolicyWatch(edited.town.vault)
    assert not edited.take_up(), "it was recorded before"
    assert not edited.watch.over
    assert edited.look_on() == 3, "the last turn finds that none is left"
    assert edited.due == scans[1:]


def test_an_edit_in_the_middle_of_another_is_compared_with_both_texts_before(edited):
    large, small = edited.town.scan("one", size=4000), edited.town.scan("two", size=400)
    edited.write("size < 2GB", "size < 3kB")
    edited.take_up()  # and no scan was asked: some may be planned by these rules, some by those before
    edited.town.rested()
    edited.write("size < 2GB", "size < 5kB")
    assert edited.take_up()
    edited.look_on()
    assert edited.due == [large]
    edited.town.rested()
    edited.write("size < 2GB", "size < 3kB")
    edited.take_up()
    edited.write("size < 2GB", "size < 5kB")
    assert edited.take_up(), "back to what was in force before"
    edited.look_on()
    assert edited.due == [large]
    assert small not in edited.due


def test_of_an_area_that_another_policy_rules_now_every_scan_that_differs_is_looked_at(edited):
    scan = edited.town.scan("one")
    edited.town.rested()
    edited.town.change(areas={"inhouse": {"policy": "cautious"}})
    edited.watch = PolicyWatch(edited.town.vault)
    assert edited.take_up()
    edited.look_on()
    assert edited.due == [scan]


def test_an_area_that_comes_back_to_the_site_is_looked_through(edited):
    scan = edited.town.scan("one")
    catalogue = edited.town.vault.catalogue
    with catalogue.writing() as tx:
        catalogue.keep_areas(tx, ["another"])
    edited.town.rested()
    edited.watch = PolicyWatch(edited.town.vault)
    assert edited.take_up()
    edited.look_on()
    assert edited.due == [scan]


def test_what_another_daemon_took_up_meanwhile_is_not_taken_for_looked_through(edited):
    edited.town.scan("one")
    catalogue = edited.town.vault.catalogue
    edited.write("with: {copies: 2}", "with: {copies: 3}")
    edited.take_up()
    with catalogue.reading() as tx:
        (change,) = catalogue.list_changes(tx)
    edited.write("with: {copies: 2}", "with: {copies: 4}")
    edited.take_up()
    with catalogue.writing() as tx:
        catalogue.look_again(tx, change, [], None, edited.town.now)
        (left,) = catalogue.list_changes(tx)
    assert left.policy != change.policy
    assert len(left.before) == 2


def test_a_wrong_edit_keeps_the_rules_before_it_and_status_names_its_first_error(edited, ask, say):
    scan = edited.town.scan("one")
    before = edited.town.vault.policy_of("inhouse")
    edited.write("do: pack", "do: pakc")
    assert not edited.take_up()
    assert edited.town.vault.policy_of("inhouse") is before
    (area,) = ask("status")["areas"]
    assert len(area["alarms"]) == 1
    assert "standard.yaml:" in area["alarms"][0]
    assert "'pakc' is not one of" in area["alarms"][0]
    assert "so the rules before that hold" in say("status").out
    stages = {s["stage"]: s for s in ask("explain", scan)["stages"]}
    assert stages["packed"]["rule"] == "pack@standard:1", "a person sees what the daemon does"
    said = say("run", "--until-idle", "--quiet")
    assert said.code == 0
    assert "so the rules before that hold" in said.out, "it starts with them, too, and says so"
    edited.write("version: 1", "version: 2")
    assert edited.take_up()
    assert ask("status")["areas"][0]["alarms"] == []


def test_without_a_file_of_its_own_a_site_goes_by_the_one_that_comes_with_us(edited):
    edited.write("version: 1", "version: 2")
    assert edited.take_up()
    edited.path.unlink()
    assert edited.take_up()
    assert edited.town.vault.policy_of("inhouse").version == 1
    assert [one.version for one in edited.recorded] == [1, 2, 1]


def test_another_text_under_the_same_version_is_told(edited, ask):
    edited.write("order: 20", "order: 21")
    assert edited.take_up()
    assert [one.version for one in edited.recorded] == [1, 1]
    (alarm,) = ask("status")["areas"][0]["alarms"]
    assert alarm == "the policy 'standard' was in force as version 1 with another text: raise its `version`"


def test_a_catalogue_that_is_busy_leaves_everything_as_it_was(edited, monkeypatch):
    edited.write("version: 1", "version: 2")

    def busy(*_args):
        raise Transient("busy")

    with monkeypatch.context() as patch:
        patch.setattr(edited.town.vault.catalogue, "rule_area", busy)
        with pytest.raises(Transient):
            edited.take_up()
    assert edited.town.vault.policy_of("inhouse").version == 1
    assert len(edited.recorded) == 1
    assert edited.take_up()
    assert [one.version for one in edited.recorded] == [1, 2]


def test_a_daemon_that_follows_decides_by_the_rules_in_force_and_by_its_own_when_it_leads(edited):
    edited.write("version: 1", "version: 2")
    other = PolicyWatch(edited.town.vault)
    assert not other.take_up(edited.town.now, leads=False)
    assert edited.town.vault.policy_of("inhouse").version == 1
    assert len(edited.recorded) == 1
    assert other.take_up(edited.town.now, leads=True)
    assert [one.version for one in edited.recorded] == [1, 2]
    assert not other.take_up(edited.town.now, leads=True)


def test_a_site_opens_by_the_rules_in_force_only_where_that_is_asked(edited):
    edited.write("do: pack", "do: pakc")
    vault = Vault.open(edited.town.folder, as_recorded=True)
    assert vault.policy_of("inhouse").version == 1
    vault.close()


def test_a_daemon_begins_by_the_policy_that_was_in_force_where_the_file_is_wrong(edited, say):
    edited.write("version: 1", "version: 2")
    assert edited.take_up()
    edited.write("do: archive", "do: archvie")
    vault = Vault.open(edited.town.folder, as_recorded=True)
    try:
        watch = PolicyWatch(vault)
        assert not watch.take_up(edited.town.now, leads=True)
        assert vault.policy_of("inhouse").version == 2, "not the half of one and of the other"
        (alarm,) = watch.alarms.values()
        line = edited.path.read_text("utf-8").split("do: archvie")[0].count("\n") + 1
        assert alarm.area == "inhouse"
        assert f"standard.yaml:{line}:" in alarm.text
        edited.write("version: 1", "version: 3")
        assert watch.take_up(edited.town.now, leads=True)
        assert watch.alarms == {}
    finally:
        vault.close()


def test_a_policy_that_is_wrong_and_was_never_in_force_is_refused(town, say):
    path = town.folder / "policies" / "standard.yaml"
    path.write_text(path.read_text("utf-8").replace("do: archive", "do: archvie"), "utf-8")
    said = say("run", "--until-idle", "--quiet")
    assert said.code == 2
    assert "archvie" in said.err


@pytest.fixture
def follower(edited, monkeypatch):
    """A watch of another machine, with files of its own, that asks at each turn."""
    monkeypatch.setattr("tomovault.daemon.policies._FOLLOWED_EVERY_S", 0.0)
    vault = Vault.open(edited.town.folder, as_recorded=True)
    yield vault, PolicyWatch(vault)
    vault.close()


def test_who_follows_decides_by_what_the_leader_recorded(edited, follower):
    vault, watch = follower
    assert not watch.take_up(edited.town.now, leads=False)
    assert watch.alarms == {}, "one folder, one file"
    with edited.town.vault.catalogue.writing() as tx:
        text = edited.text.replace("version: 1", "version: 7")
        edited.town.vault.catalogue.record_policy(tx, "standard", 7, "of another machine", text, edited.town.now)
    assert watch.take_up(edited.town.now, leads=False)
    assert vault.policy_of("inhouse").version == 7
    (alarm,) = watch.alarms.values()
    assert "is not the one that the leader decides by" in alarm.text
    assert "version 7" in alarm.text
    assert not watch.take_up(edited.town.now, leads=False)
    edited.write("version: 1", "version: 8")
    watch.take_up(edited.town.now, leads=False)
    assert vault.policy_of("inhouse").version == 7, "its own file says nothing"
    assert edited.take_up(), "the leader takes it up"
    assert watch.take_up(edited.town.now, leads=False)
    assert (vault.policy_of("inhouse").version, watch.alarms) == (8, {})


def test_who_follows_keeps_the_rules_before_where_it_cannot_read_the_leaders(edited, follower):
    vault, watch = follower
    assert not watch.take_up(edited.town.now, leads=False)
    with edited.town.vault.catalogue.writing() as tx:
        edited.town.vault.catalogue.record_policy(
            tx, "standard", 9, "newer", "name: standard\nversion: 9\nlaws: 3\n", edited.town.now
        )
    assert not watch.take_up(edited.town.now, leads=False)
    assert vault.policy_of("inhouse").version == 1
    assert "cannot be read here" in next(iter(watch.alarms.values())).text


def test_who_takes_the_lead_decides_by_its_own_files(edited, follower):
    vault, watch = follower
    watch.take_up(edited.town.now, leads=False)
    edited.write("version: 1", "version: 4")
    assert watch.take_up(edited.town.now, leads=True)
    assert vault.policy_of("inhouse").version == 4
    assert edited.recorded[-1].version == 4
