from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import update

from tomovault.catalog import tables, usage_history
from tomovault.catalog import usage as roll_up
from tomovault.core.errors import TomovaultError, Transient
from tomovault.core.record import Checked, Outcome, Result
from tomovault.core.replica import Form, ReplicaState, TierClass
from tomovault.daemon import upkeep
from tomovault.daemon.room_maker import RoomMaker
from tomovault.daemon.upkeep import Upkeep
from tomovault.vault import vault
from tomovault.vault.backing_up import back_up


@pytest.fixture
def care(town, monkeypatch):
    made = Upkeep(town.vault)
    made.begun = []
    monkeypatch.setattr(made.nightly, "begin", lambda: made.begun.append("reconcile"))
    return made


def test_copies_that_cannot_be_re_read_do_not_stand_before_the_rest(town, care, monkeypatch):
    """Each turn of a day takes up other copies than the turns before it."""
    scan = town.scan("one", copies=2)
    monkeypatch.setattr(upkeep, "_UNFINISHED", 1)
    monkeypatch.setattr(type(town.vault), "verified_within", lambda *_: dict.fromkeys(TierClass, timedelta(0)))
    turns = []
    for _ in range(5):
        turns.append(care.queue_overdue(["inhouse"]))
        if turns[-1]:
            town.finish("verify", Result(Outcome.FAILED, error="it cannot be read"))
    assert turns == [1, 1, 1, 0, 0]
    read = [j.order["replicas"][0] for j in town.jobs(scan, "verify")]
    assert len(set(read)) == 3


def test_as_many_old_copies_are_read_as_there_is_time_for(town, care, monkeypatch):
    """A few wait at a time; as soon as some are over others are queued, and not once an hour."""
    scans = [town.scan(f"scan{n}", copies=2) for n in range(3)]
    monkeypatch.setattr(upkeep, "_UNFINISHED", 2)
    monkeypatch.setattr(type(town.vault), "verified_within", lambda *_: dict.fromkeys(TierClass, timedelta(0)))
    care.ask("overdue")
    assert care.take()[0] == 2
    for _ in range(3):
        care.ask("behind")
        assert care.take()[0] == 0, "no more wait than that"
    taken = 2
    while True:
        town.finish("verify", Result(Outcome.FAILED, error="it cannot be read"))
        care.ask("behind")
        more = care.take()[0]
        taken += more
        if not more:
            break
        assert more == 1
    assert taken == 9 == len([j for scan in scans for j in town.jobs(scan, "verify")])


def test_an_area_without_old_copies_is_not_looked_at_each_minute(town, care, monkeypatch):
    town.scan("one")
    care.ask("overdue")
    care.take()
    monkeypatch.setattr(town.vault, "overdue", None)
    care.ask("behind")
    assert care.take() == (0, False)


def test_an_area_whose_copies_cannot_be_looked_for_ends_nothing(town, care, monkeypatch):
    def broken(*_given, **_more):
        raise ValueError("no JSON")

    monkeypatch.setattr(town.vault, "overdue", broken)
    care.ask("overdue")
    assert care.take() == (0, False)


def test_what_met_a_busy_catalogue_is_due_still(town, care, monkeypatch):
    def busy(*_given, **_more):
        raise Transient("the database is locked")

    town.scan("one")
    monkeypatch.setattr(type(town.vault), "verified_within", lambda *_: dict.fromkeys(TierClass, timedelta(0)))
    care.ask("room")
    care.ask("overdue")
    with monkeypatch.context() as locked:
        locked.setattr(town.vault.catalogue, "queue_job", busy)
        with pytest.raises(Transient):
            care.take()
    assert care.take() == (3, True)


@pytest.fixture
def strict(town):
    """Two scans of a full area, of which something goes once their copies on tape were re-read within 5 days: they were
    not.
    """
    for form in ("files", "package"):
        town.policy((f"with: {{forms: [{form}]}}", f"with: {{forms: [{form}], verified_within: 5d}}"))
    scans = [town.scan(name) for name in ("one", "two")]
    town.room()
    town.change(quarantine={"hold": "1d", "limit": "1GB"})
    with town.vault.catalogue.writing() as tx:
        tx.run(update(tables.replica).values(verified_at=town.now - timedelta(days=6)))
    return scans


def _make_room(town):
    room = RoomMaker(town.vault)
    room.ask()
    while room.turn(town.now):
        pass
    return room


def _reread(town, replicas):
    """Every re-read that waits is over, and all is right."""
    with town.vault.catalogue.writing() as tx:
        town.vault.catalogue.apply_records(tx, [Checked(one, True, town.now) for one in replicas], town.now)
    for _ in replicas:
        town.finish("verify", Result(Outcome.SUCCEEDED))


def test_what_a_rule_would_remove_but_for_its_own_recency_is_read_again_and_goes(town, strict):
    room = _make_room(town)
    assert "without enough verified copies" in room.alarms["inhouse"].text
    care = Upkeep(town.vault, room.is_draining)
    assert care.queue_overdue(["inhouse"]) == 4
    assert care.queue_overdue(["inhouse"]) == 0
    tapes = {r.id for scan in strict for r in town.known(scan).replicas if r.tier == "tape"}
    assert {one for scan in strict for job in town.jobs(scan, "verify") for one in job.order["replicas"]} == tapes
    _reread(town, tapes)
    _make_room(town)
    assert all(town.replica(scan, Form.FILES).state is ReplicaState.LEAVING for scan in strict)
    assert care.queue_overdue(["inhouse"]) == 0


@pytest.mark.parametrize("named", [False, True], ids=["all of its copies", "its copies by name"])
def test_no_copy_is_queued_for_a_re_read_while_another_is_open_whoever_asked(town, strict, care, named):
    scan, other = strict
    tapes = [r.id for r in town.known(scan).replicas if r.tier == "tape"]
    order = {"replicas": tapes} if named else {}
    with town.vault.catalogue.writing() as tx:
        town.vault.queue_in(tx, "inhouse", "verify", scan, order, dedup_key="v", rule="asked by anna", now=town.now)
    assert care.queue_overdue(["inhouse"]) == 2
    assert (len(town.jobs(scan, "verify")), len(town.jobs(other, "verify"))) == (1, 2)


def test_a_long_look_for_old_copies_goes_on_in_the_next_turn(town, monkeypatch):
    rule = "  - {name: often, do: verify, when: 'size > 1kB', with: {verified_within: 5d, tiers: [tape]}}\n"
    town.policy(("rules:\n", f"rules:\n{rule}"))
    for name in ("small", "tiny"):
        town.scan(name)
    large = town.scan("large", size=4000)
    with town.vault.catalogue.writing() as tx:
        tx.run(update(tables.replica).values(verified_at=town.now - timedelta(days=6)))
    monkeypatch.setattr(vault, "_LOOKED_AT", 2)
    care, looks = Upkeep(town.vault), []
    look = town.vault.overdue
    monkeypatch.setattr(
        town.vault, "overdue", lambda *given, **more: looks.append(more["after"]) or look(*given, **more)
    )
    care.ask("overdue")
    turns = []
    for _ in range(8):
        before = len(looks)
        turns.append((care.take()[0], len(looks) - before))
    assert sum(queued for queued, _ in turns) == len(town.jobs(large, "verify")) == 2
    looked = [count for _, count in turns]
    assert (sum(looked) >= 4, max(looked), looked[-1]) == (True, 1, 0), "then it is over until the timer asks again"


def test_what_is_due_is_done_once(town, care):
    care.ask("room")
    assert care.take() == (0, True)
    assert care.take() == (0, False)


def test_once_a_night_what_is_known_is_compared_with_what_is_there(care):
    care.ask("room")
    care.take()
    assert care.begun == []
    care.ask("nightly")
    care.take()
    assert care.begun == ["reconcile"]


def test_the_head_of_the_audit_log_is_exported_nightly(town, care):
    assert town.vault.exported_head() is None
    care.ask("nightly")
    care.take()
    with town.vault.catalogue.reading() as tx:
        newest = town.vault.catalogue.list_audit(tx, limit=1)[0]
    assert town.vault.exported_head() == (newest.seq, newest.hash)


def test_a_head_that_cannot_be_written_stops_nothing(town, care):
    town.vault.heads_file.mkdir()
    care.export_head()
    with pytest.raises((TomovaultError, OSError)):
        town.vault.exported_head()


def test_the_timers_ask_for_overdue_copies_at_once(town, care):
    timers = care.start()
    try:
        assert care.take() == (0, False)
        named = {"overdue", "behind", "room", "usage", "nightly", "backup", "backup missed", "drill"}
        assert {job.id for job in timers.get_jobs()} == named
    finally:
        timers.shutdown(wait=False)


def test_one_who_follows_compares_the_areas_of_its_machine_and_nothing_else(town, care, monkeypatch):
    begun = []
    monkeypatch.setattr(care.nightly, "begin", lambda **how: begun.append(how))
    timers = care.start(leads=False)
    try:
        assert {job.id for job in timers.get_jobs()} == {"compare"}
        assert care.take() == (0, False)
        assert begun == []
        care.ask("compare")
        care.take()
        assert begun == [{"own": True}]
    finally:
        timers.shutdown(wait=False)


def test_usage_is_recounted_in_turns(town, care, monkeypatch):
    monkeypatch.setattr(roll_up, "_IN_A_TURN", 1)
    for number in range(3):
        town.scan(f"scan{number}", copies=0)
    care.ask("nightly")
    turns = 0
    care.take()
    while care._counting is not None:
        care.take()
        turns += 1
    assert turns >= 3


def test_a_recount_that_meets_a_busy_catalogue_is_given_up(care, town, monkeypatch):
    def meet(_self):
        yield
        raise Transient("the database is locked")

    monkeypatch.setattr(type(town.vault.catalogue), "recount_in_turns", meet)
    care.ask("nightly")
    for _ in range(2):
        care.take()
    with pytest.raises(Transient):
        care.take()
    assert care.take() == (0, False)


def test_usage_that_differs_is_told(town, care, monkeypatch):
    told = []
    monkeypatch.setattr(upkeep.log, "error", lambda _event, **more: told.append(more), raising=False)

    def differ(_self):
        yield
        return ["inhouse: 7 bytes differ"]

    monkeypatch.setattr(type(town.vault.catalogue), "recount_in_turns", differ)
    care.ask("nightly")
    for _ in range(3):
        care.take()
    assert care._counting is None
    assert told == [{"difference": "inhouse: 7 bytes differ"}]


def _rows(town, table):
    with town.vault.catalogue.reading() as tx:
        return tx.rows(table.select())


def test_the_usage_is_in_the_history_from_the_first_turn_on(town, care):
    town.scan("one")
    timers = care.start()
    try:
        assert "usage" in {job.id for job in timers.get_jobs()}
        care.take()
    finally:
        timers.shutdown()
    first = len(_rows(town, tables.usage_history))
    assert first == 6, "an area, two tiers, and a proposal, an owner and a beamline that are not known"
    care.ask("usage")
    care.take()
    assert len(_rows(town, tables.usage_history)) == first, "nothing changed"


def test_old_history_is_thinned_nightly_in_short_turns(town, care, monkeypatch):
    monkeypatch.setattr(usage_history, "_IN_A_TURN", 1)
    town.scan("one")
    long_ago = town.now.replace(hour=1) - timedelta(days=90)
    with town.vault.catalogue.writing() as tx:
        town.vault.catalogue.record_usage(tx, long_ago)
    for hour in (2, 3):
        town.scan(f"more{hour}")
        with town.vault.catalogue.writing() as tx:
            town.vault.catalogue.record_usage(tx, long_ago.replace(hour=hour))
    assert len(_rows(town, tables.usage_history)) == 18
    care.ask("nightly")
    left = []
    for _ in range(12):
        care.take()
        left.append(len(_rows(town, tables.usage_history)))
    assert left[-1] == 6
    assert len(set(left)) > 3, "a series at a time"


def test_the_catalogue_is_backed_up_once_a_night(town, care, monkeypatch, request):
    """A night that no daemon saw is made up for within the hour; one that was backed up is not begun again."""
    if town.vault.shared:
        settings = replace(town.vault.site.backup, pg_dump=request.getfixturevalue("pg_dump"))
        monkeypatch.setattr(town.vault, "site", replace(town.vault.site, backup=settings))
    begun = []
    monkeypatch.setattr(care.nightly, "back_up", lambda: begun.append("backup"))
    care.ask("backup")
    assert care.take() == (0, False)
    assert begun == ["backup"]
    back_up(town.vault, "somebody", anew=True)
    care.ask("backup")
    care.take()
    assert begun == ["backup"]


def test_a_site_that_wants_no_backups_has_no_timer_for_them(town):
    town.change(catalogue_backup={"nightly": "off"})
    timers = Upkeep(town.vault).start()
    try:
        assert not {job.id for job in timers.get_jobs()} & {"backup", "backup missed"}
    finally:
        timers.shutdown(wait=False)


def test_a_drill_is_begun_when_it_is_due_and_what_one_left_is_cleared_away_at_once(town, care, monkeypatch):
    begun = []
    monkeypatch.setattr(care.nightly, "drill", lambda: begun.append("drill"))
    scan = town.scan("one")
    care.ask("leftovers")
    care.take()
    assert begun == [], "a daemon that starts does not drill for that"
    care.ask("drill")
    care.take()
    assert begun == ["drill"]
    town.change(fire_drill={"scans_a_week": 0})
    care = Upkeep(town.vault)
    monkeypatch.setattr(care.nightly, "drill", lambda: begun.append("again"))
    care.ask("drill")
    care.take()
    assert begun == ["drill"]
    copy = next(r for r in town.known(scan).replicas if r.tier == "tape")
    with town.vault.catalogue.writing() as tx:
        town.vault.catalogue.begin_drill(tx, copy.id, scan, "tape", copy.location, "/vault/.drill.d1", town.now)
    care.ask("leftovers")
    care.take()
    assert begun == ["drill", "again"]
