"""What every kind of tier promises, whatever it stores things on."""

import contextlib
import dataclasses
import errno
import hashlib
import importlib
import os
import pkgutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

import tomovault.tiers
from tomovault.core.errors import IntegrityError, NoSpace, Refused, Transient, UserError
from tomovault.core.ports import DriveTier, Parcel
from tomovault.core.replica import StoredFile
from tomovault.testing.faulty import Faults, FaultyTier
from tomovault.tiers import bundle, sidecar

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
#: The component that stands in for what a kind of tier speaks to.
NEEDS = {"s3": "moto"}
CHECKPOINTS = (
    "archive.mounted",
    "archive.labelled",
    "archive.manifest",
    "archive.member",
    "archive.trailer",
    "archive.synced",
)


def plugins():
    for info in pkgutil.iter_modules(tomovault.tiers.__path__):
        module = importlib.import_module(f"tomovault.tiers.{info.name}")
        if hasattr(module, "PLUGIN"):
            marks = [pytest.mark.component(NEEDS[info.name])] if info.name in NEEDS else []
            yield pytest.param(module.PLUGIN, id=info.name, marks=marks)


class Bucket:
    """A throttle that counts."""

    def __init__(self):
        self.spent = 0

    def spend(self, count):
        self.spent += count


class Killed(BaseException):
    """What a kill -9 looks like from inside."""


def no_checkpoint(_name):
    return None


def no_progress(_done, _total):
    return None


def everything_below(path):
    return sorted(os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names)


def kept_below(path):
    """What is kept there: logs and locks may come at any time."""
    return [p for p in everything_below(path) if "log" not in p and "/locks/" not in p]


@pytest.fixture(params=list(plugins()))
def plugin(request):
    return request.param


@pytest.fixture
def place(tmp_path):
    path = tmp_path / "place"
    path.mkdir()
    return path


@pytest.fixture
def make(plugin, place, needed):
    """A tier on the place; made again it is another process with the same site file."""
    options = {"path": str(place), "capacity": "64MB", **needed}
    return lambda **more: plugin("far", {**options, **more}, now=lambda: NOW)


@pytest.fixture
def parcel(tmp_path):
    def build(scan="scan1", *contents, group="ID19/ma1234", names=None, folder="source", scan_name=None):
        contents = contents or (b"first part" * 40_000, b"second" * 99_991)
        source = tmp_path / folder
        source.mkdir(exist_ok=True)
        files = []
        for number, content in enumerate(contents):
            path = source / (names[number] if names else f"{scan}.part{number}.tomo.h5")
            path.write_bytes(content)
            files.append(StoredFile(str(path), len(content), hashlib.sha256(content).hexdigest()))
        digest = hashlib.sha256(scan.encode("utf-8", "surrogateescape") + b"".join(contents)).hexdigest()
        manifest = f'{{"files": ["{scan}"]}}'
        return Parcel(scan, scan_name or f"{scan}_name", "original", digest, tuple(files), manifest, group)

    return build


@pytest.fixture
def put():
    def run(tier, *parcels, job="job1", domain=None, checkpoint=no_checkpoint, throttle=None):
        domain = domain or tier.domains()[0]
        return tier.put(parcels, domain, job=job, throttle=throttle or Bucket(), checkpoint=checkpoint)

    return run


def contents_of(files):
    return [Path(f.location).read_bytes() for f in files]


def fetch_all(tier, placed, folder):
    folder.mkdir(exist_ok=True)
    return contents_of(tier.fetch(placed, str(folder), throttle=Bucket(), progress=no_progress))


def test_a_parcel_comes_back_as_it_went(make, put, parcel, tmp_path):
    tier, sent = make(), parcel()
    bucket = Bucket()
    (placed,) = put(tier, sent, throttle=bucket)
    assert bucket.spent == sent.size
    assert placed.domain == tier.domains()[0]
    assert [(f.size, f.sha256) for f in placed.files] == [(f.size, f.sha256) for f in sent.files]
    spent = Bucket()
    assert list(tier.verify([placed], throttle=spent)) == [""]
    assert spent.spent >= sent.size
    ticket = tier.stage([placed.location])
    assert make().poll(ticket) == {placed.location: "ready"}
    steps = []
    target = tmp_path / "back"
    target.mkdir()
    fetched = tier.fetch(placed, str(target), throttle=Bucket(), progress=lambda *step: steps.append(step))
    assert contents_of(fetched) == contents_of(sent.files)
    assert [(f.size, f.sha256) for f in fetched] == [(f.size, f.sha256) for f in sent.files]
    assert sorted(os.listdir(target)) == sorted(os.path.basename(f.location) for f in sent.files)
    assert steps[-1] == (sent.size, sent.size)
    tier.release(ticket)
    assert tier.health().ok


def test_the_medium_tells_what_is_on_it(make, put, parcel):
    tier, sent = make(), [parcel("scan1"), parcel("scan2", b"x" * 5)]
    placed = put(tier, *sent)
    found = {p.scan: (p, where) for p, where in make().inventory()}
    assert set(found) == {"scan1", "scan2"}
    for parcel_sent, where in zip(sent, placed, strict=True):
        parcel_found, found_where = found[parcel_sent.scan]
        assert found_where == where
        assert dataclasses.replace(parcel_found, files=()) == dataclasses.replace(parcel_sent, files=())
        assert parcel_found.files == where.files


def test_the_inventory_leaves_the_tier_usable(make, put, parcel):
    tier = make(wait_s=2)
    put(tier, parcel())
    for _, where in tier.inventory():
        assert list(tier.verify([where], throttle=Bucket())) == [""]


def test_put_twice_is_put_once(make, put, parcel, place):
    sent = [parcel("scan1"), parcel("scan2", b"y")]
    first = put(make(), *sent)
    names = kept_below(place)
    assert put(make(), *sent) == first
    assert put(make(), *sent, job="another job") == first
    assert kept_below(place) == names
    assert len(list(make().inventory())) == 2


def test_put_of_nothing_is_nothing(make, put):
    assert list(put(make())) == []


def test_a_removed_package_is_not_given_out(make, put, parcel, tmp_path):
    tier = make()
    gone, stays = put(tier, parcel("scan1"))[0], put(tier, parcel("scan2", b"stays"))[0]
    tier.remove(gone)
    tier.remove(gone)
    states = tier.poll(tier.stage([gone.location, stays.location]))
    assert states[gone.location].startswith("failed: ")
    assert states[stays.location] == "ready"
    with pytest.raises((IntegrityError, Transient)):
        fetch_all(tier, gone, tmp_path / "back")
    assert fetch_all(tier, stays, tmp_path / "back") == [b"stays"]
    again = put(tier, parcel("scan1"))[0]
    assert list(tier.verify([again], throttle=Bucket())) == [""]
    assert tier.poll(tier.stage([again.location]))[again.location] == "ready"


def test_what_a_tier_did_not_place_is_not_removed(make, put, parcel, tmp_path, place):
    tier = make()
    (placed,) = put(tier, parcel())
    foreign = tmp_path / "foreign"
    foreign.write_bytes(b"precious")
    for location in (str(foreign), str(place / ".." / "foreign"), placed.location + "0", "A99999L9#1"):
        wrong = dataclasses.replace(placed, location=location, files=(StoredFile(location, 8, "0"),))
        with pytest.raises((Refused, UserError, Transient, IntegrityError)):
            tier.remove(wrong)
    beside = dataclasses.replace(placed, files=(StoredFile(placed.location + "/other", 8, "0"),))
    with pytest.raises(Refused):
        tier.remove(beside)
    assert foreign.read_bytes() == b"precious"
    assert list(tier.verify([placed], throttle=Bucket())) == [""]


@pytest.mark.parametrize("name", CHECKPOINTS)
@pytest.mark.parametrize("retry", ["job1", "job2"])
def test_killed_anywhere_and_run_again_there_is_one_copy(make, put, parcel, place, name, retry):
    sent = [parcel("scan1"), parcel("scan2", b"z" * 700_000)]

    def die(reached):
        if reached == name:
            raise Killed

    try:
        put(make(), *sent, checkpoint=die)
        reached = False
    except Killed:
        reached = True
    placed = put(make(), *sent, job=retry)
    assert reached or name in ("archive.mounted", "archive.labelled", "archive.trailer")
    assert list(make().verify(placed, throttle=Bucket())) == ["", ""]
    assert [where for _, where in make().inventory()] == list(placed)
    assert not [p for p in everything_below(place) if ".part" in os.path.dirname(p) or p.endswith(".tmp")]


def test_a_flipped_byte_is_found_by_verify_and_by_fetch(make, put, parcel, flip_a_byte, tmp_path):
    tier, sent = make(), parcel("scan1", os.urandom(900_000), os.urandom(10_000))
    other = parcel("scan2", os.urandom(300_000))
    placed, placed_other = put(tier, sent, other)
    assert flip_a_byte(contents_of(sent.files)[0]) == 1
    assert list(tier.verify([placed_other], throttle=Bucket())) == [""]
    (problem, fine) = make().verify([placed, placed_other], throttle=Bucket())
    assert problem
    assert not fine
    with pytest.raises(IntegrityError):
        fetch_all(tier, placed, tmp_path / "back")
    assert not [p for p in os.listdir(tmp_path / "back") if p.endswith(("part0.tomo.h5", ".part"))]
    assert fetch_all(tier, placed_other, tmp_path / "back2") == contents_of(other.files)


def test_a_damaged_copy_is_not_taken_for_a_copy(make, put, parcel, flip_a_byte):
    tier, sent = make(), parcel("scan1", os.urandom(50_000))
    (bad,) = put(tier, sent)
    assert flip_a_byte(contents_of(sent.files)[0]) == 1
    (good,) = put(tier, sent)
    assert good.location != bad.location
    assert list(tier.verify([good], throttle=Bucket())) == [""]


@pytest.mark.parametrize("sha256", ["0" * 64, ""])
def test_a_parcel_that_is_not_what_it_says_is_refused(make, put, parcel, place, sha256):
    sent = parcel("scan1", b"a" * 2_000_000)
    lying = dataclasses.replace(sent, files=(dataclasses.replace(sent.files[0], sha256=sha256),))
    with pytest.raises(IntegrityError):
        put(make(), lying)
    assert list(make().inventory()) == []
    shorter = dataclasses.replace(sent, files=(dataclasses.replace(sent.files[0], size=5),))
    with pytest.raises(IntegrityError):
        put(make(), shorter)
    assert not [p for p in everything_below(place) if ".part" in p or p.endswith(".tmp")]
    assert put(make(), sent)


def test_a_source_that_is_gone_leaves_nothing(make, put, parcel):
    sent = parcel()
    os.unlink(sent.files[1].location)
    with pytest.raises(Transient):
        put(make(), sent)
    assert list(make().inventory()) == []


def test_a_source_that_is_a_link_is_refused(make, put, parcel, tmp_path):
    sent = parcel("scan1", b"secret")
    os.rename(sent.files[0].location, tmp_path / "elsewhere")
    os.symlink(tmp_path / "elsewhere", sent.files[0].location)
    with pytest.raises(Transient):
        put(make(), sent)


@pytest.mark.parametrize(
    "odd",
    [
        "new\nline",
        "quo'te\"s",
        b"not-\xff\xfe-utf8".decode("utf-8", "surrogateescape"),
        "a/b",
        "..",
        "é" * 150,
        "-n $(x)",
    ],
)
def test_odd_names_come_back(make, put, parcel, tmp_path, odd):
    tier = make()
    file_name = odd.replace("/", "_").replace("..", "dots")[:70] + ".h5"
    sent = parcel("scan1", b"content", b"", group=odd, names=[file_name, "plain.h5"], scan_name=odd)
    (placed,) = put(tier, sent)
    assert list(tier.verify([placed], throttle=Bucket())) == [""]
    assert fetch_all(tier, placed, tmp_path / "back") == [b"content", b""]
    assert sorted(os.listdir(tmp_path / "back")) == sorted([file_name, "plain.h5"])
    ((found, where),) = make().inventory()
    assert (found.scan_name, found.group, where) == (odd, odd, placed)
    assert tier.poll(tier.stage([placed.location])) == {placed.location: "ready"}
    tier.remove(placed)


def test_an_empty_file_is_a_file(make, put, parcel, tmp_path):
    tier = make()
    (placed,) = put(tier, parcel("scan1", b""))
    assert list(tier.verify([placed], throttle=Bucket())) == [""]
    assert fetch_all(tier, placed, tmp_path / "back") == [b""]


def test_a_parcel_without_files_or_with_one_name_twice_is_refused(make, put, parcel):
    sent = parcel("scan1", b"1")
    for files in ((), sent.files * 2):
        with pytest.raises(UserError):
            put(make(), dataclasses.replace(sent, files=files))


def test_two_scans_of_one_name_are_two(make, put, parcel, tmp_path):
    tier = make()
    one = parcel("scan1", b"one", scan_name="same")
    two = dataclasses.replace(parcel("scan2", b"two", scan_name="same"), digest=one.digest)
    first, second = put(tier, one)[0], put(tier, two)[0]
    assert fetch_all(tier, first, tmp_path / "1") == [b"one"]
    assert fetch_all(tier, second, tmp_path / "2") == [b"two"]


def test_verify_says_what_is_not_there(make, put, parcel):
    tier = make()
    (placed,) = put(tier, parcel())
    file = dataclasses.replace(placed.files[0], location=placed.files[0].location + "x")
    other = dataclasses.replace(placed, files=(file,))
    wrong = dataclasses.replace(placed, files=(dataclasses.replace(placed.files[0], sha256="1" * 64),))
    none = dataclasses.replace(placed, files=())
    problems = tier.verify([other, wrong, none, placed], throttle=Bucket())
    assert [bool(p) for p in problems] == [True, True, True, False]


def test_fetch_overwrites_nothing_of_others_and_can_be_repeated(make, put, parcel, tmp_path):
    tier = make()
    (placed,) = put(tier, parcel("scan1", b"ours", names=["x.h5"]))
    assert fetch_all(tier, placed, tmp_path / "back") == [b"ours"]
    assert fetch_all(tier, placed, tmp_path / "back") == [b"ours"]
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "x.h5").write_bytes(b"theirs")
    with pytest.raises(Refused):
        fetch_all(tier, placed, tmp_path / "taken")
    assert (tmp_path / "taken" / "x.h5").read_bytes() == b"theirs"
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "x.h5").symlink_to(tmp_path / "taken" / "x.h5")
    with pytest.raises(Refused):
        fetch_all(tier, placed, tmp_path / "linked")


@pytest.mark.parametrize("where", ["../../escaped", "{}/escaped"])
def test_a_medium_that_names_files_elsewhere_writes_nothing_there(
    make, put, parcel, place, tmp_path, monkeypatch, where
):
    tier, sent, names = make(), parcel("scan1", b"ours"), [where.format(tmp_path)]
    with monkeypatch.context() as lying:
        for module in (bundle, sidecar):
            lying.setattr(module, "checked_names", lambda _parcel: names)
        (placed,) = put(tier, sent)
    back = tmp_path / "one" / "two" / "back"
    back.mkdir(parents=True)
    before = [p for p in everything_below(tmp_path) if not p.startswith(str(place))]
    with contextlib.suppress(IntegrityError, Refused):
        tier.fetch(placed, str(back), throttle=Bucket(), progress=no_progress)
    after = [p for p in everything_below(tmp_path) if not p.startswith((str(place), str(back)))]
    assert after == before
    assert list(make().inventory()) == []


def test_a_full_disk_is_no_space_and_leaves_nothing(plugin, make, put, parcel, place, monkeypatch):
    if plugin.__module__.endswith(".tape_library"):
        # No disk is between the source and the tape; a full cartridge is followed by the next.
        pytest.skip("it writes to no disk")
    tier, sent = make(), parcel("scan1", os.urandom(3_000_000))
    put(tier, parcel("scan0", b"there before"))
    before = kept_below(place)
    real, allowed = os.write, [1_000_000]

    def full(fd, data):
        if len(data) > 4096:
            allowed[0] -= len(data)
            if allowed[0] < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
        return real(fd, data)

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(NoSpace):
        put(tier, sent)
    monkeypatch.undo()
    assert kept_below(place) == before
    (placed,) = put(tier, sent)
    assert list(tier.verify([placed], throttle=Bucket())) == [""]
    assert len(list(tier.inventory())) == 2


def test_an_absent_or_lying_path_is_told(plugin, needed, tmp_path, parcel, put):
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for path in ("absent", "file", "loop"):
        tier = plugin("far", {**needed, "path": str(tmp_path / path)}, now=lambda: NOW)
        health = tier.health()
        assert not health.ok
        assert health.detail
        assert str(tmp_path / path) in health.hint
        with pytest.raises(Transient) as caught:
            put(tier, parcel(), domain="far:A" if tier_is_library(plugin) else None)
        assert caught.value.hint
    assert not (tmp_path / "absent").exists()


def tier_is_library(plugin):
    return plugin.__module__.endswith("library")


def test_an_option_that_is_wrong_is_told(plugin, needed):
    for options in ({}, {"path": "relative"}, {"path": 5}):
        with pytest.raises(UserError):
            plugin("far", {**needed, **options}, now=lambda: NOW)


def test_an_unknown_domain_or_ticket_is_told(make, put, parcel):
    tier = make()
    with pytest.raises(UserError):
        put(tier, parcel(), domain="elsewhere:A")
    with pytest.raises(UserError):
        tier.poll("no-such-ticket")


def test_free_bytes_are_a_number_or_unknown(make):
    free = make().free_bytes()
    assert free is None or free > 0


def test_a_cartridge_is_read_whole_and_named_what_is_on_it(make, put, parcel, flip_a_byte):
    tier = make()
    if not isinstance(tier, DriveTier):
        # The seam of reading a cartridge whole is one of tiers with drives: a folder has nothing to be asked.
        pytest.skip("it has no cartridges")
    content = os.urandom(300_000)
    good, gone = put(tier, parcel("scan1", b"x" * 5), parcel("scan2", b"y"))
    (other,) = put(tier, parcel("scan3", content))
    tier.remove(gone)
    barcode = good.location.partition("#")[0]
    lost = dataclasses.replace(other, location=f"{barcode}#9")
    spent, steps = Bucket(), []
    read = tier.read_cartridge(barcode, [good, other, lost], throttle=spent, progress=lambda *step: steps.append(step))
    assert list(read.answers[:2]) == ["", ""]
    assert read.answers[2]
    assert [[(p.scan, p.removed) for p in file.packages] for file in read.files] == [
        [("scan1", False), ("scan2", True)],
        [("scan3", False)],
    ]
    assert (read.problem, [file.problem for file in read.files]) == ("", ["", ""])
    assert all(file.finished for file in read.files)
    assert read.bytes == spent.spent >= len(content)
    assert steps[-1] == (read.bytes, read.bytes)
    assert flip_a_byte(content)
    read = make().read_cartridge(barcode, [other, good], throttle=Bucket(), progress=no_progress)
    assert (bool(read.answers[0]), read.answers[1]) == (True, "")
    assert [bool(file.problem) for file in read.files] == [False, True]


def test_a_cartridge_that_is_not_there_is_no_fault_of_the_others(make, put, parcel):
    tier = make()
    if not isinstance(tier, DriveTier):
        # The seam of reading a cartridge whole is one of tiers with drives: a folder has nothing to be asked.
        pytest.skip("it has no cartridges")
    (placed,) = put(tier, parcel())
    lost = dataclasses.replace(placed, location="Z99999L9#1")
    read = tier.read_cartridge("Z99999L9", [lost], throttle=Bucket(), progress=no_progress)
    assert "Z99999L9" in read.answers[0]
    assert "Z99999L9" in read.problem
    assert list(tier.verify([placed], throttle=Bucket())) == [""]


def test_work_whose_answer_was_lost_is_found_done(make, put, parcel):
    once = frozenset({1})
    faulty, sent = FaultyTier(make(), Faults(lost_put=once, lost_verify=once)), [parcel("scan1"), parcel("scan2", b"2")]
    with pytest.raises(Transient, match="answer to put"):
        put(faulty, *sent)
    placed = put(faulty, *sent, job="job2")
    with pytest.raises(Transient, match="answer to verify"):
        faulty.verify(placed, throttle=Bucket())
    assert list(faulty.verify(placed, throttle=Bucket())) == ["", ""]
    assert [where for _, where in make().inventory()] == list(placed)


def test_room_that_ends_on_the_way_leaves_nothing(make, put, parcel, place):
    sent = parcel("scan1", os.urandom(3_000_000))
    put(make(), parcel("scan0", b"there before"))
    before = kept_below(place)
    faulty = FaultyTier(make(), Faults(no_space_at_byte=2_000_000))
    with pytest.raises(NoSpace):
        put(faulty, sent)
    assert kept_below(place) == before
    faulty.faults = Faults()
    (placed,) = put(faulty, sent)
    assert list(faulty.verify([placed], throttle=Bucket())) == [""]
