"""Which copy is drilled, when, and what is left of a drill that died or was put off."""

import random
from collections import Counter
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from tomovault.catalog.drills import DrillOutcome
from tomovault.core.errors import IntegrityError, InUse, NotYet, PlaceAbsent, UserError
from tomovault.core.record import Checked
from tomovault.tiers.blocks import holding
from tomovault.vault import drilling
from tomovault.vault.comparing_drill import Compared
from tomovault.vault.drill_state import alarms_of, drills_page
from tomovault.vault.drilling import PeopleWait, clear_dead, drill, drill_is_due
from tomovault.vault.site import load_site


@pytest.fixture
def ends(monkeypatch):
    """Called with what the restore of each drill finds, or raises."""

    def end(found):
        def restore(_vault, _scan, _copy, scratch, _rng):
            scratch.mkdir()
            (scratch / "package").mkdir(mode=0o500)
            if isinstance(found, BaseException):
                raise found
            return found

        monkeypatch.setattr(drilling, "_restore", restore)

    return end


def due(town, now=None):
    with town.vault.catalogue.reading() as tx:
        return drill_is_due(town.vault, tx, now or town.now)


def drills(town):
    with town.vault.catalogue.reading() as tx:
        return town.vault.catalogue.list_drills(tx)


def left(town):
    return [path.name for path in Path(town.vault.site.areas["inhouse"].vault).iterdir() if "drill" in path.name]


def test_every_copy_has_its_turn_before_one_has_its_second(town, ends):
    for name in ("one", "two", "three"):
        town.scan(name)
    ends(Compared())
    drawn = [drill(town.vault, random.Random(number)).replica for number in range(12)]
    assert set(Counter(drawn[:6]).values()) == {1}
    assert set(Counter(drawn).values()) == {2}
    assert drawn[:6] != drawn[6:], "in no order that anybody could know"
    assert left(town) == []


def test_the_same_seed_draws_the_same(town, ends, monkeypatch):
    for number in range(20):
        town.scan(f"scan{number}")
    ends(Compared(put_off="no"))
    drawn = {drill(town.vault, random.Random(5)).replica for _ in range(3)}
    assert len(drawn) == 1
    assert len({drill(town.vault, random.Random(seed)).replica for seed in range(9)}) > 3


def test_nothing_archived_is_nothing_to_drill(town):
    town.scan("one", copies=0)
    assert drill(town.vault, random.Random(1)) is None
    assert not due(town)


def test_as_often_as_the_site_says(town, ends):
    town.change(fire_drill={"scans_a_week": 7})
    town.scan("one")
    assert due(town)
    ends(Compared())
    done = drill(town.vault, random.Random(1))
    assert not due(town, done.begun_at + timedelta(hours=23))
    assert due(town, done.begun_at + timedelta(hours=25))
    town.change(fire_drill={"scans_a_week": 0})
    assert not due(town, done.begun_at + timedelta(days=99))


def test_one_that_was_put_off_leaves_it_due_and_counts_for_nothing(town, ends):
    town.scan("one")
    ends(InUse("every drive is in use"))
    done = drill(town.vault, random.Random(1))
    assert (done.outcome, done.problem) == (DrillOutcome.PUT_OFF, "every drive is in use")
    assert due(town)
    assert left(town) == []
    with town.vault.catalogue.reading() as tx:
        page = drills_page(town.vault, tx, 5)
    assert (page["carried_out"], page["pass_rate"], len(page["drills"])) == (0, None, 1)


def test_a_copy_that_is_being_brought_is_asked_for_again_and_not_for_ever(town, ends, monkeypatch):
    for name in ("one", "two", "three", "four"):
        town.scan(name)
    monkeypatch.setattr(drilling, "_ASKED", 4)
    ends(NotYet("glacier is still bringing it"))
    asked = [drill(town.vault, random.Random(seed)) for seed in range(4)]
    assert {one.replica for one in asked} == {asked[0].replica}
    assert [one.facts["asked"] for one in asked] == [1, 2, 3, 4]
    ends(Compared())
    assert any(drill(town.vault, random.Random(seed)).replica != asked[0].replica for seed in range(3))


def test_a_bad_copy_is_suspect_and_a_person_is_told(town, ends):
    scan = town.scan("one")
    ends(Compared(bad="a.edf is restored with other bytes than were archived"))
    done = drill(town.vault, random.Random(1))
    known = {r.id: r.state.value for r in town.known(scan).replicas}
    assert known[done.replica] == "suspect"
    assert [state for replica, state in known.items() if replica != done.replica] == ["verified"] * 3
    ((tier, text),) = alarms_of(town.vault).values()
    assert tier == "tape"
    assert "a.edf is restored with other bytes" in text
    ends(Compared())
    drill(town.vault, random.Random(1))
    assert alarms_of(town.vault) == {}
    with town.vault.catalogue.reading() as tx:
        page = drills_page(town.vault, tx, 0)
    assert (page["passed"], page["failed"], page["pass_rate"]) == (1, 1, 0.5)


def test_what_could_not_be_reproduced_from_a_good_copy_is_no_fault_of_the_copy(town, ends):
    scan = town.scan("one")
    ends(Compared(differs="row 3 of its volume differs", facts={"slice": "differs"}))
    done = drill(town.vault, random.Random(1))
    assert done.outcome is DrillOutcome.NOT_REPRODUCED
    assert {r.state.value for r in town.known(scan).replicas} == {"verified"}
    assert alarms_of(town.vault)


def test_originals_on_disk_that_differ_are_re_read(town, ends):
    scan = town.scan("one")
    files = next(r for r in town.known(scan).replicas if r.form.value == "files")
    ends(Compared(differs="a.edf is not what was archived", doubted=files.id))
    drill(town.vault, random.Random(1))
    assert [job.order["replicas"] for job in town.jobs(scan, "verify")] == [[files.id]]


def test_what_one_that_died_left_is_gone_with_the_next(town, ends):
    scan = town.scan("one")
    copy = next(r for r in town.known(scan).replicas if r.tier == "tape")
    scratch = Path(town.vault.site.areas["inhouse"].vault, ".drill.d123")
    (scratch / "files").mkdir(parents=True)
    (scratch / "files").chmod(0o500)
    with town.vault.catalogue.writing() as tx:
        town.vault.catalogue.begin_drill(tx, copy.id, scan, "tape", copy.location, str(scratch), town.now)
    clear_dead(town.vault)
    assert left(town) == []
    assert [(one.outcome, one.problem) for one in drills(town)] == [(DrillOutcome.PUT_OFF, "it was cut short")]
    with holding(str(town.vault.run_folder / "drill.lock"), "it", 0.0), pytest.raises(InUse):
        clear_dead(town.vault)


def test_no_folder_of_others_is_ever_removed(town):
    folder = town.base / "precious"
    folder.mkdir()
    drilling._remove(str(folder))
    assert folder.is_dir()


def test_a_restore_of_a_person_goes_first(town):
    scan = town.scan("one")
    with town.vault.catalogue.writing() as tx:
        town.vault.queue_in(tx, "inhouse", "restore", scan, {"to": "/x"}, dedup_key="r", rule="somebody", now=town.now)
    done = drill(town.vault, random.Random(1))
    assert (done.outcome, done.problem) == (DrillOutcome.PUT_OFF, "somebody waits for a restore")
    assert left(town) == []


def test_in_the_middle_of_a_fetch_too(town):
    clock = SimpleNamespace(now=0.0)
    watching = drilling._Yielding(town.vault, lambda: clock.now)
    scan = town.scan("one")
    with town.vault.catalogue.writing() as tx:
        town.vault.queue_in(tx, "inhouse", "restore", scan, {"to": "/x"}, dedup_key="r", rule="somebody", now=town.now)
    watching.progress(1, 2)
    clock.now = 2.5
    with pytest.raises(PeopleWait):
        watching.progress(1, 2)


def test_a_disk_without_room_is_left_alone(town, monkeypatch):
    town.scan("one")
    town.change(areas={"inhouse": {"floor": "1000TB"}})
    done = drill(town.vault, random.Random(1))
    assert done.outcome is DrillOutcome.PUT_OFF
    assert "are kept free" in done.problem
    assert left(town) == []


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ("{scans_a_week: -1}", "is not a number of scans"),
        ("{scans_a_week: often}", "is not a number of scans"),
        ("{scratch: ../inhouse/tmp}", "it lies in the area 'inhouse'"),
        ("{often: 3}", "often"),
    ],
)
def test_what_is_wrong_in_the_section_is_pointed_at(town, section, told):
    path = Path(town.folder) / "tomovault.yaml"
    path.write_text(path.read_text("utf-8") + f"\nfire_drill: {section}\n", "utf-8")
    with pytest.raises(UserError) as problem:
        load_site(town.folder)
    assert told in str(problem.value)
    assert "tomovault.yaml:" in str(problem.value)


def test_a_copy_that_somebody_gave_up_meanwhile_is_not_bad(town, monkeypatch):
    town.scan("one")

    def restore(vault, _scan, copy, _scratch, _rng):
        with vault.catalogue.writing() as tx:
            doubted = Checked(copy.id, ok=False, at=town.now, reason="somebody knew")
            vault.catalogue.apply_records(tx, [doubted], town.now)
        raise IntegrityError("this package was removed")

    monkeypatch.setattr(drilling, "_restore", restore)
    done = drill(town.vault, random.Random(1))
    assert (done.outcome, done.problem) == (DrillOutcome.PUT_OFF, "the copy is not to be relied on any more")
    assert alarms_of(town.vault) == {}


def test_a_tier_that_went_away_meanwhile_says_nothing_of_the_copy(town, monkeypatch):
    scan = town.scan("one")

    def restore(*_given):
        absence.append(PlaceAbsent("tier tape: its folder is not there"))
        raise IntegrityError("cartridge A0 is not in the library")

    absence = [None]
    monkeypatch.setattr(drilling, "_restore", restore)
    monkeypatch.setattr(drilling, "find_absence", lambda *_: absence[-1])
    done = drill(town.vault, random.Random(1))
    assert (done.outcome, done.problem) == (DrillOutcome.PUT_OFF, "tier tape: its folder is not there")
    assert {r.state.value for r in town.known(scan).replicas} == {"verified"}
