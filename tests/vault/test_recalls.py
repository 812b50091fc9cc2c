"""Which job has a drive next, and which copy it reads."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from tomovault.core.errors import Transient
from tomovault.core.ports import DriveState, Stretch
from tomovault.core.record import Stored
from tomovault.core.replica import Form, ProductKind, StoredFile
from tomovault.recall.timing import Timing
from tomovault.vault import foreman as foremen
from tomovault.vault import recalls
from tomovault.vault.foreman import Foreman
from tomovault.vault.job_folder import ORDER
from tomovault.vault.libraries import Library, open_libraries

HEAVY = frozenset({"pack", "archive", "restore", "verify"})


class Tape:
    """A library that holds what the town's scans say is on it, all at one place of each cartridge."""

    def __init__(self, *cartridges):
        self.inside = list(cartridges)
        self.asked = 0
        self.absent = False
        self.moved = {}

    def drives(self):
        if self.absent:
            raise Transient("not mounted")
        return [DriveState(number, cartridge, 0.5) for number, cartridge in enumerate(self.inside)]

    def lay(self, locations):
        self.asked += 1
        return {loc: Stretch(self.moved.get(loc, loc.split("#")[0]), 0.3, 0.3) for loc in locations}

    def domains(self):
        return ["tape:A", "tape:B"]

    def writes_to(self, domain):
        return Stretch(f"{domain[-1]}9", 0.9, 0.9)


@pytest.fixture
def tape():
    return Tape(None)


@pytest.fixture
def foreman(town, tape):
    made = Foreman(town.vault, "here")
    made._recalls.libraries = {"tape": Library("tape", tape, Timing())}
    return made


@pytest.fixture
def queue(town):
    count = 0

    def put(action, scan, place="inhouse", **wish):
        nonlocal count
        count += 1
        catalogue = town.vault.catalogue
        at = town.now - timedelta(minutes=1) + timedelta(seconds=count)
        with catalogue.writing() as tx:
            wish = {"to": str(town.base / "out"), "from": "tape"} | wish if action == "restore" else wish
            return catalogue.queue_job(
                tx, action, scan, wish, dedup_key=f"{action}:{count}", rule="r", now=at, place=place
            )

    return put


def _claim(foreman, actions=HEAVY, **more):
    claimed = foreman.claim(datetime.now(UTC), actions=actions, **more)
    return claimed and claimed.id


def _order(foreman, town):
    claimed = foreman.claim(datetime.now(UTC), actions=HEAVY)
    return foreman._order(claimed, datetime.now(UTC))[0]


def test_the_site_says_which_tiers_have_drives(town):
    assert list(open_libraries(town.vault.site)) == ["tape"]


def test_a_restore_has_the_drive_before_an_archive_that_came_earlier(town, foreman, queue):
    early = queue("archive", town.scan("new", copies=0))
    late = queue("restore", town.scan("old"))
    assert _claim(foreman) == late
    assert _claim(foreman) is None
    foreman._recalls.end(late, town.now)
    assert _claim(foreman) == early


def test_while_the_drives_are_busy_other_work_goes_on(town, foreman, queue):
    scan = town.scan("one")
    jobs = [queue("restore", scan), queue("restore", town.scan("two")), queue("pack", scan)]
    assert [_claim(foreman) for _ in range(3)] == [jobs[0], jobs[2], None]


def test_a_restore_from_disk_waits_for_no_drive(town, foreman, queue):
    first = queue("restore", town.scan("one"))
    near = queue("restore", town.scan("two"), **{"from": None})
    assert [_claim(foreman), _claim(foreman)] == [first, near]


def test_the_copy_on_the_cartridge_in_a_drive_is_read_first(town, foreman, tape, queue):
    tape.inside = ["A1"]
    queue("restore", town.scan("one"))
    assert [source["location"] for source in _order(foreman, town)["sources"]] == ["A1#1", "A0#1"]


def test_the_job_is_told_which_drive_was_chosen_for_it(town, foreman, tape, queue, monkeypatch):
    tape.inside = ["X0", None]
    queue("restore", town.scan("one"))
    claimed = foreman.claim(datetime.now(UTC), actions=HEAVY)
    orders = []
    monkeypatch.setattr(foremen, "start_job", lambda folder: orders.append(json.loads((folder / ORDER).read_text())))
    foreman.start(claimed)
    assert orders[0]["drive"] == {"tier": "tape", "number": 1}


def test_without_a_turn_the_copies_stay_as_they_were(town, foreman, queue):
    job = queue("restore", town.scan("one"))
    claimed = foreman.claim(datetime.now(UTC), actions=None, only=job)
    sources = foreman._order(claimed, datetime.now(UTC))[0]["sources"]
    assert sorted(source["location"] for source in sources) == ["A0#1", "A1#1"]


def test_an_archive_begins_in_the_pool_whose_cartridge_is_in_a_drive(town, foreman, tape, queue):
    tape.inside = ["B9"]
    queue("archive", town.scan("one", copies=0))
    assert _order(foreman, town)["domains"] == ["tape:B", "tape:A"]


def test_a_verify_of_a_copy_on_a_cartridge_needs_a_drive_and_one_on_disk_does_not(town, foreman, queue):
    scan = town.scan("one")
    replicas = {replica.location: replica.id for replica in town.known(scan).replicas}
    tape, disk = replicas["A0#1"], next(r for loc, r in replicas.items() if loc.endswith(".tomo.h5"))
    jobs = [queue("verify", scan, replicas=[one]) for one in (tape, tape, disk)]
    assert [_claim(foreman), _claim(foreman), _claim(foreman)] == [jobs[0], jobs[2], None]


@pytest.mark.parametrize("wish", [{}, {"replicas": None}, {"replicas": []}])
def test_a_verify_that_names_no_copy_needs_a_drive_for_those_on_cartridges(town, foreman, queue, wish):
    jobs = [queue("verify", town.scan(name), **wish) for name in ("one", "two")]
    first, second = _claim(foreman), _claim(foreman)  # whichever the head comes to first
    assert first in jobs
    assert second is None


def test_a_library_that_cannot_be_asked_holds_nothing_up(town, foreman, tape, queue):
    tape.absent = True
    jobs = [queue("restore", town.scan("one")), queue("restore", town.scan("two"))]
    assert [_claim(foreman), _claim(foreman)] == jobs


def test_where_nothing_can_begin_nobody_is_asked_again_at_once(town, foreman, tape, queue, monkeypatch):
    jobs = [queue("restore", town.scan("one")), queue("restore", town.scan("two"))]
    looks = []
    look = foreman._recalls.look
    monkeypatch.setattr(foreman._recalls, "look", lambda *a, **k: looks.append(1) or look(*a, **k))
    now = datetime.now(UTC)
    claimed = [foreman.claim(now, actions=HEAVY) for _ in range(9)]
    assert [one and one.id for one in claimed] == [jobs[0], *[None] * 8]
    assert len(looks) == 2
    foreman._recalls.end(jobs[0], town.now)
    assert _claim(foreman) == jobs[1]


def test_where_a_bundle_lies_is_asked_once(town, foreman, tape, queue):
    for name in ("one", "two", "three"):
        queue("restore", town.scan(name))
    for _ in range(3):
        foreman._recalls.end(_claim(foreman), town.now)
    assert tape.asked == 1


def test_a_job_that_is_over_leaves_its_drive(town, foreman, queue, monkeypatch):
    jobs = [queue("restore", town.scan("one")), queue("restore", town.scan("two"))]
    monkeypatch.setattr(foremen, "start_job", _no_process)
    claimed = foreman.claim(datetime.now(UTC), actions=HEAVY)
    assert claimed.id == jobs[0]
    assert foreman.start(claimed) is None
    assert _claim(foreman) == jobs[1]


def _no_process(_folder):
    raise OSError("no more processes")


def test_nothing_of_it_is_asked_where_no_such_job_waits(town, foreman, queue, monkeypatch):
    monkeypatch.setattr(foreman._recalls, "look", None)
    job = queue("pack", town.scan("one"))
    assert _claim(foreman) == job
    assert _claim(foreman) is None


def test_a_visit_goes_on_for_what_comes_and_ends_at_the_limit_where_others_wait(town, foreman, tape, queue):
    here, far = town.scan("one"), town.scan("two")
    tape.moved = {"A0#2": "C0", "A1#2": "C1"}
    now = datetime.now(UTC)
    first = queue("restore", here)
    assert foreman.claim(now, actions=HEAVY).id == first
    others = [queue("restore", scan) for scan in (far, far, here, here)]
    tape.inside = ["A0"]
    for minutes, job in ((14, others[2]), (16, others[0])):
        later = now + timedelta(minutes=minutes)
        foreman._recalls.end(first, later)
        assert foreman.claim(later, actions=HEAVY).id == job
        first = job


def test_a_drive_that_nobody_wanted_for_a_while_is_on_no_visit(town, foreman, tape, queue):
    here, far = town.scan("one"), town.scan("two")
    tape.moved = {"A0#2": "C0", "A1#2": "C1"}
    now = datetime.now(UTC)
    first = queue("restore", here)
    assert foreman.claim(now, actions=HEAVY).id == first
    foreman._recalls.end(first, now)
    tape.inside = ["A0"]
    others = [queue("restore", scan) for scan in (far, here)]
    assert foreman.claim(now + timedelta(hours=1), actions=HEAVY).id == others[1]


def test_a_restore_is_seen_behind_any_number_of_archives(town, foreman, queue, monkeypatch):
    monkeypatch.setattr(recalls, "_MOST", 2)
    for name in ("one", "two", "three"):
        queue("archive", town.scan(name, copies=0))
    late = queue("restore", town.scan("old"))
    assert _claim(foreman) == late


def test_a_job_queued_before_the_clock_was_put_back_has_its_turn(town, foreman, queue):
    job = queue("restore", town.scan("one"))
    claimed = foreman.claim(datetime.now(UTC) - timedelta(hours=1), actions=HEAVY)
    assert claimed is not None
    assert claimed.id == job


def test_a_visit_that_began_before_the_clock_was_put_back_does_not_go_on_for_ever(town, foreman, tape, queue):
    here, far = town.scan("one"), town.scan("two")
    tape.moved = {"A0#2": "C0", "A1#2": "C1"}
    now = datetime.now(UTC)
    first = queue("restore", here)
    assert foreman.claim(now + timedelta(days=400), actions=HEAVY).id == first
    foreman._recalls.end(first, now + timedelta(days=400))
    tape.inside = ["A0"]
    for _ in range(9):
        queue("restore", here)
    early = now - timedelta(hours=5)
    with town.vault.catalogue.writing() as tx:
        wish = {"to": str(town.base / "out"), "from": "tape"}
        waited = town.vault.catalogue.queue_job(
            tx, "restore", far, wish, dedup_key="far", rule="r", now=early, place="inhouse"
        )
    assert foreman.claim(now, actions=HEAVY).id == waited


def test_a_visit_goes_on_in_whichever_drive_the_library_took_for_it(town, foreman, tape, queue):
    here, far = town.scan("one"), town.scan("two")
    tape.moved = {"A0#2": "C0", "A1#2": "C1"}
    tape.inside = [None, None]
    now = datetime.now(UTC)
    first = queue("restore", here)
    assert foreman.claim(now, actions=HEAVY).id == first
    tape.inside = [None, "A0"]
    queue("restore", here)
    other = queue("restore", far)
    assert foreman.claim(now, actions=HEAVY).id == other
    assert foreman.claim(now, actions=HEAVY) is None


def test_what_nothing_could_begin_of_says_nothing_of_other_places(town, foreman, queue):
    """Where work is stopped only what people ask for is done: that is asked for by itself, right after the rest."""
    scan = town.scan("one")
    first, elsewhere = queue("archive", town.scan("new", copies=0), "away"), queue("archive", scan, "away")
    near = queue("restore", scan, **{"from": None})
    now = datetime.now(UTC)
    assert foreman.claim(now, actions=HEAVY, skip_places={"inhouse"}).id == first
    assert elsewhere
    assert foreman.claim(now, actions=HEAVY, skip_places={"inhouse"}) is None
    assert foreman.claim(now, actions=frozenset({"restore", "verify"})).id == near


def test_a_restore_from_one_library_goes_before_an_archive_to_another_but_not_for_ever(town, foreman, queue):
    foreman._recalls.libraries = {"far": Library("far", _Far(None), Timing()), **foreman._recalls.libraries}
    early, late = queue("archive", town.scan("new", copies=0)), queue("restore", town.scan("old"))
    for hours, first in ((0, late), (5, early)):
        now = datetime.now(UTC) + timedelta(hours=hours)
        with town.vault.catalogue.reading() as tx:
            line = foreman._recalls.look(tx, now, actions=HEAVY, skip_places=(), unbound=True)
        assert line.turn.job == first


@pytest.mark.parametrize(
    ("tiers", "held", "turn"),
    [
        (["far"], (), "far"),
        (["tape"], (), "tape"),
        (["tape", "far"], (), "tape"),
        (["tape", "far"], ("tape:A", "tape:B"), "far"),
        (["disk", "tape"], (), None),
        (["gone", "tape"], (), "tape"),
        (["tape"], ("tape:A", "tape:B"), None),
    ],
)
def test_an_archive_has_its_turn_at_the_library_that_its_copies_go_to(town, tape, queue, tiers, held, turn):
    for name in ("disk", "far", "tape"):
        (town.folder / name).mkdir(exist_ok=True)
    kinds = {"far": "emulated_library", "disk": "posix"}
    town.change(tiers={name: {"kind": kind, "path": name, "class": "archive"} for name, kind in kinds.items()})
    scan = town.scan("new", copies=0)
    _stored(town, scan, held)
    queue("archive", scan, tiers=tiers)
    recalls_ = recalls.Recalls(town.vault)
    recalls_.libraries = {"far": Library("far", _Far(None), Timing()), "tape": Library("tape", tape, Timing())}
    with town.vault.catalogue.reading() as tx:
        line = recalls_.look(tx, datetime.now(UTC), actions=HEAVY, skip_places=(), unbound=True)
    assert (line.turn and line.turn.library) == turn
    assert (line.without_drive is None) == (turn is not None)


def _stored(town, scan, domains):
    digest = town.known(scan).products[0].digest
    with town.vault.catalogue.writing() as tx:
        town.vault.record_tiers(tx)
        for domain in domains:
            at = f"{domain[-1]}9#1"
            files = (StoredFile(f"{at}/a", 200, digest),)
            kept = (Form.PACKAGE, "tape", domain, at, files, 200, digest, town.now, town.now)
            town.vault.catalogue.apply_records(
                tx, [Stored(ProductKind.ORIGINAL, digest, *kept)], town.now, scan_id=scan
            )


class _Far(Tape):
    """A library that archives may go to as well, and that nothing is in."""

    def domains(self):
        return ["far:A", "far:B"]

    def lay(self, locations):
        return {}


def test_a_job_whose_end_cannot_be_recorded_leaves_its_drive(town, foreman, queue, monkeypatch):
    jobs = [queue("restore", town.scan("one")), queue("restore", town.scan("two"))]
    claimed = foreman.claim(datetime.now(UTC), actions=HEAVY)
    assert claimed.id == jobs[0]
    monkeypatch.setattr(foremen, "build_order", _locked)
    monkeypatch.setattr(foreman, "_end", _locked)
    with pytest.raises(Transient):
        foreman.start(claimed)
    assert _claim(foreman) == jobs[1]


def _locked(*_):
    raise Transient("the database is locked")
