"""What is particular to an LTFS volume and to the folder of an HSM, on a folder that imitates them: its attributes are
real ones, its stubs are files with a size and no blocks, and its tape is another folder.
"""

import contextlib
import dataclasses
import errno
import fcntl
import os
import shutil
import stat
import subprocess
import tarfile
import threading
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tomovault.core.errors import (
    IntegrityError,
    InUse,
    NoRoomYet,
    NotYet,
    PlaceAbsent,
    Refused,
    Transient,
    UserError,
)
from tomovault.core.ports import Harm
from tomovault.testing.faulty import Faults, FaultyTier
from tomovault.tiers import bundle_file, ltfs_attributes, volume_folder
from tomovault.tiers.bundle import parcel_key
from tomovault.tiers.delivery import deliver
from tomovault.tiers.free import FREE
from tomovault.tiers.ltfs import LtfsTier
from tomovault.tiers.place import Place, mark_place

VOLUME = "0b5e7b7a-9f2c-4a6b-8f0d-2f6f5c1f7a11"
OTHER = "ffffffff-9f2c-4a6b-8f0d-2f6f5c1f7a11"

_MIGRATE = (
    'while read -r p; do cp "$p" "$TAPE/${p##*/}"; s=$(stat -c %s "$p"); : > "$p"; truncate -s "$s" "$p"; done < "$1"'
)
_ASKED = 'cat "$1" >> "$TAPE/../asked"; echo -- >> "$TAPE/../asked"; '
_RECALL = _ASKED + 'while read -r p; do cat "$TAPE/${p##*/}" > "$p"; done < "$1"'


@pytest.fixture
def root(tmp_path):
    (tmp_path / "mnt").mkdir()
    return tmp_path / "mnt"


@pytest.fixture
def clock(now):
    """The time that a tier is told; `clock.later(seconds)` puts it forward."""

    class Clock:
        at = now

        def later(self, seconds):
            self.at += timedelta(seconds=seconds)

    return Clock()


@pytest.fixture
def tier(root, clock):
    def open_tier(**options):
        return LtfsTier("far", {"path": str(root), **options}, now=lambda: clock.at)

    return open_tier


@pytest.fixture
def hsm(root, tmp_path, tier):
    """Called with bodies of programs for a tier on an HSM that gathers nothing unless it is told to."""
    tape, spool = tmp_path / "tape", tmp_path / "spool"
    tape.mkdir()
    spool.mkdir()

    def open_hsm(**options):
        bodies = {"migrate": _MIGRATE, "recall": _RECALL} | {
            k: options.pop(k) for k in ("migrate", "recall") & options.keys()
        }
        programs = {
            verb: ["/bin/sh", "-c", f'TAPE="{tape}"; {body}', verb, "{list}"]
            for verb, body in bodies.items()
            if body is not None
        }
        return tier(**programs, **{"spool": str(spool), "gather": 0, **options})

    return open_hsm


@pytest.fixture
def asked(tmp_path):
    """The lists that the HSM was asked for, each as the names of its files."""

    def read():
        path = tmp_path / "asked"
        lists = path.read_text().split("--\n")[:-1] if path.exists() else []
        return [[os.path.basename(p).partition(".")[0] for p in one.split()] for one in lists]

    return read


@pytest.fixture
def put(bucket):
    def run(tier, *parcels, job="job1", checkpoint=lambda _name: None):
        return tier.put(parcels, tier.domains()[0], job=job, throttle=bucket, checkpoint=checkpoint)

    return run


@pytest.fixture
def volume(root):
    """The folder is the root of an LTFS volume; called with another UUID it is another volume."""

    def be(name=VOLUME):
        mark(root, volumeUUID=name, volumeSerial="TOM001", volumeName="tomography one")

    try:
        be()
    except OSError as problem:
        if problem.errno != errno.ENOTSUP:
            raise
        pytest.skip("the file system of the temporary folder takes no attributes `user.*`")
    return be


def mark(path, **attributes):
    for name, value in attributes.items():
        os.setxattr(path, f"user.ltfs.{name}", str(value).encode())


def lay(placed, block, partition="b", volume=VOLUME):
    mark(placed.location, volumeUUID=volume, partition=partition, startblock=block)


def to_tape(tmp_path, *placed):
    """What an HSM does at night: the files are on tape, and stubs are left."""
    for item in placed:
        size = os.path.getsize(item.location)
        shutil.copyfile(item.location, tmp_path / "tape" / os.path.basename(item.location))
        with open(item.location, "wb") as file:
            file.truncate(size)
        assert os.stat(item.location).st_blocks <= 8


def fetch(tier, placed, folder):
    folder.mkdir(exist_ok=True)
    files = tier.fetch(placed, str(folder), throttle=FREE, progress=lambda _done, _total: None)
    return [Path(f.location).read_bytes() for f in files]


def survey(tier):
    return list(tier.survey(lambda _done, _total: None))


def files_below(root):
    return sorted(os.path.relpath(p, root) for p in root.rglob("*") if p.is_file() and p.name != "place.json")


# --- what is there ---------------------------------------------------------------------------------


def test_a_package_is_one_file_that_tar_reads(tier, put, parcel, root):
    (placed,) = put(tier(), parcel("s", b"abc", b"defg"))
    (name,) = files_below(root)
    assert placed.location == str(root / name)
    assert name.startswith("grp/s.")
    with tarfile.open(placed.location) as tar:
        members = [member.name for member in tar]
        assert members[0] == "MANIFEST.json"
        assert members[-1] == "TRAILER.json"
        assert tar.extractfile("packages/0001/s.1.h5").read() == b"defg"


def test_the_domain_is_what_is_configured_or_the_volume_or_the_disk(tier, root, volume):
    assert tier().domains() == (f"ltfs:{VOLUME}",)
    assert tier(domain="cellar").domains() == ("cellar",)
    mark(root, volumeUUID=VOLUME.upper())
    assert tier().domains() == (f"ltfs:{VOLUME}",)
    os.removexattr(root, "user.ltfs.volumeUUID")
    assert tier().domains()[0].startswith("disk:")


def test_two_tiers_on_one_volume_are_one_domain(tier, root, volume):
    (root / "below").mkdir()
    mark(root / "below", volumeUUID=VOLUME)
    assert tier(path=str(root / "below")).domains() == tier().domains()


@pytest.mark.parametrize("lie", ["", "no uuid", "\udcff", "0" * 5000])
def test_a_volume_that_names_itself_by_no_uuid_is_the_disk_it_is_on(tier, put, parcel, root, volume, lie):
    os.setxattr(root, "user.ltfs.volumeUUID", lie.encode("utf-8", "surrogateescape")[:3000])
    assert tier().domains()[0].startswith("disk:")
    (placed,) = put(tier(), parcel("s", b"abc"))
    assert tier().verify([placed], throttle=FREE) == ("",)


def test_a_volume_that_does_not_tell_now_is_no_other_domain(tier, monkeypatch):
    monkeypatch.setattr(os, "getxattr", failing(errno.EIO))
    with pytest.raises(Transient, match="Input/output error"):
        tier().domains()


def test_a_volume_that_does_not_tell_now_has_no_damaged_copies(tier, put, parcel, tmp_path, monkeypatch):
    made = tier(domain="cellar")
    (placed,) = put(made, parcel("s", b"abc"))
    monkeypatch.setattr(os, "getxattr", failing(errno.EIO))
    for call in (lambda: made.verify([placed], throttle=FREE), lambda: fetch(made, placed, tmp_path / "back")):
        with pytest.raises(Transient, match="Input/output error"):
            call()
    with pytest.raises(Transient):
        survey(made)


def test_without_attributes_all_works(tier, put, parcel, monkeypatch, tmp_path):
    monkeypatch.setattr(os, "getxattr", failing(errno.ENOTSUP))
    one, two = put(tier(), parcel("one", b"1"), parcel("two", b"2"))
    assert tier().verify([two, one], throttle=FREE) == ("", "")
    assert [found.location for found in survey(tier())] == [one.location, two.location]
    assert fetch(tier(), one, tmp_path / "back") == [b"1"]


def failing(number):
    def fail(*_arguments, **_named):
        raise OSError(number, os.strerror(number))

    return fail


# --- the index of a volume ---------------------------------------------------------------------------


@pytest.fixture
def index(root, volume, monkeypatch):
    """An LTFS that counts its indexes: asked to write one it does, if anything has changed, when `index.writes`."""
    real = os.setxattr

    class Index:
        writes, changed, generation = True, False, 7

    def setxattr(path, name, value, *rest, **named):
        if name == "user.ltfs.commitMessage":
            Index.changed = True
        elif name == "user.ltfs.sync" and Index.writes and Index.changed:
            Index.changed, Index.generation = False, Index.generation + 1
            real(root, "user.ltfs.indexGeneration", str(Index.generation).encode())
        elif name != "user.ltfs.sync":
            real(path, name, value, *rest, **named)

    real(root, "user.ltfs.indexGeneration", b"7")
    monkeypatch.setattr(os, "setxattr", setxattr)
    monkeypatch.setattr(ltfs_attributes, "_PATIENCE_S", 0.2)
    monkeypatch.setattr(ltfs_attributes, "_LOOK_EVERY_S", 0.01)
    return Index


def test_a_copy_is_put_when_an_index_that_names_it_is_on_tape(tier, put, parcel, index):
    (placed,) = put(tier(), parcel("s", b"abc"))
    assert index.generation == 8
    assert tier().verify([placed], throttle=FREE) == ("",)
    assert index.generation == 8, "to read writes no index"
    tier().remove(placed)
    assert index.generation == 9


def test_an_index_that_is_only_promised_is_no_index(tier, put, parcel, root, index):
    index.writes = False
    sent = parcel("s", b"abc")
    with pytest.raises(Transient, match="its generation is still 7"):
        put(tier(), sent)
    index.writes = True
    (placed,) = put(tier(), sent, job="job2")
    assert files_below(root) == [os.path.relpath(placed.location, root)], "the file was there, and is taken"
    assert index.generation == 8


def test_an_index_of_which_nothing_is_told_is_only_asked_for(tier, put, parcel, root, volume):
    put(tier(), parcel("s", b"abc"))
    assert os.getxattr(root, "user.ltfs.sync") == b"1"


@pytest.mark.parametrize("number", [errno.EPERM, errno.EACCES])
def test_an_index_that_we_may_not_ask_for_is_none(tier, put, parcel, index, monkeypatch, number):
    monkeypatch.setattr(os, "setxattr", failing(number))
    with pytest.raises(Transient, match="was not asked to write its index"):
        put(tier(), parcel("s", b"abc"))


def test_an_index_is_asked_for_though_an_earlier_try_had_removed_the_file(tier, put, parcel, index):
    made = tier()
    (placed,) = put(made, parcel("s", b"abc"))
    os.unlink(placed.location)
    before = index.generation
    made.remove(placed)
    assert index.generation == before + 1


def test_the_index_is_that_of_the_whole_volume(tier, put, parcel, root, volume):
    (root / "tomo").mkdir()
    mark(root / "tomo", volumeUUID=VOLUME)
    put(tier(path=str(root / "tomo")), parcel("s", b"abc"))
    assert os.getxattr(root, "user.ltfs.sync") == b"1"
    assert "user.ltfs.sync" not in os.listxattr(root / "tomo")


# --- order -------------------------------------------------------------------------------------------


def test_files_are_read_as_they_lie_on_tape(tier, put, parcel, volume, monkeypatch):
    placed = put(tier(), *(parcel(name, name.encode()) for name in "abcdef"))
    for item, block in zip(placed, (900, 20, "banana", 3, "-1", 10**40), strict=True):
        lay(item, block)
    lay(placed[3], 3, partition="a")
    opened = []
    real = volume_folder.VolumeFolder.opened
    monkeypatch.setattr(
        volume_folder.VolumeFolder,
        "opened",
        lambda self, root, location, **more: opened.append(location) or real(self, root, location, **more),
    )
    wanted = [placed[at].location for at in (3, 1, 0, 2, 4, 5)]
    assert tier().verify(placed, throttle=FREE) == ("",) * 6
    assert opened == wanted
    assert [found.location for found in survey(tier())] == wanted
    assert [where.location for _, where in tier().inventory()] == wanted


def test_volumes_are_read_one_after_the_other(hsm, put, parcel, volume, asked, tmp_path):
    made = hsm(stub="4KiB")  # some file systems count a block of attributes among those of the file
    placed = put(made, *(parcel(name, name.encode()) for name in "abcd"))
    for item, where in zip(placed, ((5, OTHER), (9, VOLUME), (1, OTHER), (2, VOLUME)), strict=True):
        lay(item, where[0], volume=where[1])
    to_tape(tmp_path, *placed)
    made.stage([item.location for item in placed])
    assert asked() == [["d", "b", "c", "a"]]


# --- which volume, and whether it is there -----------------------------------------------------------


def test_another_volume_in_its_place_is_not_touched(tier, put, parcel, root, volume):
    for known in (VOLUME, "TOM001", "tomography one"):
        (placed,) = put(tier(volume=known), parcel("s", b"abc"))
    before = files_below(root)
    volume(str(uuid.uuid4()))
    other = tier(volume=VOLUME, domain="cellar")
    for call in (
        lambda: put(other, parcel("t", b"x")),
        lambda: other.verify([placed], throttle=FREE),
        lambda: other.poll(other.stage([placed.location])),
        lambda: other.remove(placed),
        lambda: list(other.inventory()),
        lambda: survey(other),
    ):
        with pytest.raises(PlaceAbsent, match=f"wanted is {VOLUME}"):
            call()
    assert files_below(root) == before
    assert f"mount {VOLUME}" in other.health().hint


def test_a_folder_with_nothing_mounted_is_no_empty_archive(tier, put, parcel, root, tmp_path, now):
    place = Place("tier far", str(root), str(tmp_path / "site" / "tier-far.json"))
    mark_place(place, now)
    made = tier(record=place.record)
    (placed,) = put(made, parcel("s", b"abc"))
    root.rename(tmp_path / "unmounted")
    root.mkdir()
    for call in (
        lambda: made.verify([placed], throttle=FREE),
        lambda: list(made.inventory()),
        lambda: survey(made),
        lambda: made.stage([placed.location]),
        lambda: put(made, parcel("t", b"x")),
    ):
        with pytest.raises(PlaceAbsent):
            call()
    assert list(root.iterdir()) == []
    root.rmdir()
    (tmp_path / "unmounted").rename(root)
    assert made.verify([placed], throttle=FREE) == ("",)


def test_what_is_unmounted_while_it_is_read_is_not_damaged(tier, put, parcel, root, tmp_path, now, monkeypatch):
    place = Place("tier far", str(root), str(tmp_path / "site" / "tier-far.json"))
    mark_place(place, now)
    made = tier(record=place.record)
    (placed,) = put(made, parcel("s", b"abc"))

    def unmount(self, _root, _location, **_more):
        if root.exists():
            root.rename(tmp_path / "unmounted")
            root.mkdir()
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(volume_folder.VolumeFolder, "opened", unmount)
    with pytest.raises(PlaceAbsent):
        made.verify([placed], throttle=FREE)
    with pytest.raises(Transient):
        fetch(made, placed, tmp_path / "back")


# --- one at a time -----------------------------------------------------------------------------------


def test_two_do_not_read_one_tape_at_once(tier, put, parcel, root, tmp_path, volume, monkeypatch):
    monkeypatch.setattr(volume_folder, "_TURN_S", 0.05)
    (placed,) = put(tier(), parcel("s", b"abc"))
    fd = os.open(root, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    for call in (
        lambda: fetch(tier(), placed, tmp_path / "back"),
        lambda: tier().verify([placed], throttle=FREE),
        lambda: put(tier(), parcel("t", b"x")),
    ):
        with pytest.raises(InUse, match="the LTFS volume of tier far is in use"):
            call()
    os.removexattr(root, "user.ltfs.volumeUUID")
    assert fetch(tier(), placed, tmp_path / "back") == [b"abc"], "on a disk nobody waits"
    os.close(fd)


# --- on tape only ------------------------------------------------------------------------------------


def test_a_copy_counts_when_it_was_on_tape_only_and_came_back(hsm, put, parcel, asked, tmp_path):
    made = hsm()
    placed = put(made, parcel("one", b"1" * 9000), parcel("two", b"2"))
    assert made.verify(placed, throttle=FREE) == ("", "")
    assert sorted(os.listdir(tmp_path / "tape")) == sorted(os.path.basename(p.location) for p in placed)
    assert asked() == [["one", "two"]]
    bad = tmp_path / "tape" / os.path.basename(placed[0].location)
    bad.write_bytes(bad.read_bytes().replace(b"1111", b"1711", 1))
    for item in placed:
        size = os.path.getsize(item.location)
        Path(item.location).write_bytes(b"")
        os.truncate(item.location, size)
    damaged, fine = made.verify(placed, throttle=FREE)
    assert (bool(damaged), fine) == (True, "")


def test_what_stays_on_disk_proves_no_tape(hsm, put, parcel):
    (placed,) = put(hsm(), parcel("s", b"abc"))
    with pytest.raises(Transient, match="is on disk still after `migrate`"):
        hsm(migrate="true").verify([placed], throttle=FREE)


def test_without_a_program_for_it_what_is_on_disk_is_read(hsm, put, parcel, tmp_path, asked):
    made = hsm(migrate=None)
    (placed,) = put(made, parcel("s", b"abc"))
    assert made.verify([placed], throttle=FREE) == ("",)
    assert os.listdir(tmp_path / "tape") == []
    assert asked() == []


def test_a_stub_is_brought_before_it_is_read(hsm, put, parcel, tmp_path, asked):
    made = hsm(recall="exit 0")
    (placed,) = put(made, parcel("s", b"abc"))
    to_tape(tmp_path, placed)
    ticket = made.stage([placed.location])
    assert made.poll(ticket) == {placed.location: "pending"}
    with pytest.raises(NotYet, match="is on tape only"):
        fetch(made, placed, tmp_path / "back")
    made.release(ticket)
    made = hsm()
    ticket = made.stage([placed.location])
    assert made.poll(ticket) == {placed.location: "ready"}
    assert asked() == [["s"]]
    assert fetch(made, placed, tmp_path / "back") == [b"abc"]


def test_a_copy_that_is_a_stub_is_put_no_second_time(hsm, put, parcel, root, asked, tmp_path):
    sent = parcel("s", b"abc")
    (placed,) = put(hsm(), sent)
    to_tape(tmp_path, placed)
    assert list(put(hsm(), sent, job="job2")) == [placed]
    assert asked() == [["s"]]
    assert len(files_below(root)) == 1


def test_where_nothing_brings_stubs_reading_does(tier, put, parcel, tmp_path):
    (tmp_path / "tape").mkdir()
    (placed,) = put(tier(), parcel("s", b"abc"))
    to_tape(tmp_path, placed)
    assert tier().poll(tier().stage([placed.location])) == {placed.location: "ready"}
    assert tier().verify([placed], throttle=FREE) != ("",), "a file of nothing is no stub that an HSM would bring"


def test_a_stub_that_keeps_its_first_bytes_is_one(hsm, put, parcel, tmp_path):
    (placed,) = put(hsm(), parcel("s", os.urandom(900_000)))
    content = Path(placed.location).read_bytes()
    with open(placed.location, "wb") as file:
        file.write(content[:4096])
        file.flush()
        os.fsync(file.fileno())
        file.truncate(len(content))
    assert hsm(recall="exit 0").poll(f'["{placed.location}"]') == {placed.location: "ready"}
    assert hsm(recall="exit 0", stub="64KiB").poll(f'["{placed.location}"]') == {placed.location: "pending"}


def test_what_many_want_goes_into_one_list(hsm, put, parcel, clock, asked, tmp_path):
    made = hsm(gather=60, recall=_ASKED + "true")
    placed = put(made, *(parcel(name, name.encode()) for name in "cab"))
    to_tape(tmp_path, *placed)
    tickets = []
    for item in placed:
        tickets.append(made.stage([item.location]))
        clock.later(20)
    assert asked() == []
    assert set(made.poll(tickets[0]).values()) == {"pending"}
    assert asked() == [["a", "b", "c"]]
    made.stage([placed[0].location])
    assert len(asked()) == 1, "it is on its way"


def test_what_does_not_come_is_asked_for_again_and_what_is_released_is_not(hsm, put, parcel, clock, asked, tmp_path):
    made = hsm(recall=_ASKED + "true")
    one, two = put(made, parcel("one", b"1"), parcel("two", b"2"))
    to_tape(tmp_path, one, two)
    first = made.stage([one.location, two.location])
    clock.later(7200)
    made.release(made.stage([two.location]))
    assert asked() == [["one", "two"], ["one", "two"]]
    clock.later(7200)
    made.poll(first)
    assert asked()[2:] == [["one"]]
    clock.later(3 * 86400)
    made.poll(first)
    assert len(asked()) == 3, "nobody has asked for it since"


def test_a_program_that_fails_says_nothing_of_the_copies(hsm, put, parcel, asked, tmp_path):
    made = hsm()
    (placed,) = put(made, parcel("s", b"abc"))
    to_tape(tmp_path, placed)
    for code in (1, 66):
        with pytest.raises(Transient, match="no drive"):
            hsm(recall=f"echo no drive >&2; exit {code}").stage([placed.location])
    with pytest.raises(NotYet):
        hsm(recall="exit 75").stage([placed.location])
    assert set(made.poll(made.stage([placed.location])).values()) == {"ready"}


def test_what_does_not_come_back_in_time_is_waited_for_again(hsm, put, parcel, tmp_path):
    made = hsm()
    (placed,) = put(made, parcel("s", b"abc"))
    to_tape(tmp_path, placed)
    with pytest.raises(NotYet, match="was not back within"):
        hsm(recall="exit 0", timeout=0.2).verify([placed], throttle=FREE)


def test_a_stub_that_cannot_be_read_is_not_damaged(hsm, put, parcel, tmp_path, monkeypatch):
    made = hsm(migrate=None, recall=None)
    (placed,) = put(made, parcel("s", b"abc"))
    to_tape(tmp_path, placed)
    monkeypatch.setattr(volume_folder.VolumeFolder, "opened", failing(errno.EIO))
    with pytest.raises(Transient, match="does not come back from tape"):
        made.verify([placed], throttle=FREE)


@pytest.mark.parametrize(
    ("number", "stub", "harm"),
    [
        (errno.EIO, True, Harm.UNREACHED),
        (errno.EIO, False, Harm.COPY),
        (errno.EACCES, False, Harm.UNREACHED),
        (errno.ENOENT, False, Harm.UNREACHED),
    ],
)
def test_a_survey_calls_bad_only_what_the_medium_could_not_give(
    hsm, put, parcel, tmp_path, monkeypatch, number, stub, harm
):
    made = hsm(migrate=None, recall=None)
    (placed,) = put(made, parcel("s", b"abc"))
    if stub:
        to_tape(tmp_path, placed)
    monkeypatch.setattr(volume_folder.VolumeFolder, "opened", failing(number))
    (found,) = survey(made)
    assert (found.location, found.harm, bool(found.problem)) == (placed.location, harm, True)


def test_an_inventory_goes_on_behind_what_the_medium_cannot_give(tier, put, parcel, monkeypatch):
    _, good = put(tier(), parcel("a bad one", b"b"), parcel("good", b"g"))
    real = volume_folder.VolumeFolder.opened

    def opened(self, root, location, **named):
        if "bad" in location:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(self, root, location, **named)

    monkeypatch.setattr(volume_folder.VolumeFolder, "opened", opened)
    assert [where for _, where in tier().inventory()] == [good]


def test_many_stubs_are_brought_some_at_a_time_where_all_are_read(hsm, put, parcel, asked, tmp_path, monkeypatch):
    monkeypatch.setattr("tomovault.tiers.ltfs._BATCH", 2)
    made = hsm()
    placed = put(made, *(parcel(name, name.encode()) for name in "abc"))
    to_tape(tmp_path, *placed)
    assert [found.problem for found in survey(made)] == ["", "", ""]
    assert asked() == [["a", "b"], ["c"]]


def test_two_jobs_that_want_the_same_ask_once(hsm, put, parcel, asked, tmp_path):
    made = hsm(recall=_ASKED + "sleep 0.3")
    (placed,) = put(made, parcel("s", b"abc"))
    to_tape(tmp_path, placed)
    jobs = [threading.Thread(target=made.stage, args=([placed.location],)) for _ in range(4)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert asked() == [["s"]]


# --- limits ------------------------------------------------------------------------------------------


def test_names_fit_into_any_file_system(tier, put, parcel, root):
    sent = parcel("x" * 60, b"1")
    long = dataclasses.replace(sent, scan_name="é" * 150 + "s" * 400, group="g" * 400 + "/" + "ü" * 300)
    parts = []

    def look(_name):
        parts.extend(name for _, _, names in os.walk(root) for name in names)

    (placed,) = put(tier(), long, job="j" * 400, checkpoint=look)
    assert max(len(os.fsencode(part)) for part in [*parts, *placed.location.split("/")]) <= 255


def test_the_floor_is_never_crossed(tier, put, parcel, root):
    free = tier().free_bytes()
    full = tier(floor=free * 2)
    assert full.free_bytes() == 0
    assert "full down to its floor" in full.health().detail
    with pytest.raises(NoRoomYet, match="floor"):
        put(full, parcel("s", b"x"))
    assert files_below(root) == []


def test_a_volume_that_fills_up_on_the_way_leaves_nothing(tier, put, parcel, root, monkeypatch):
    monkeypatch.setattr(bundle_file, "write_all", failing(errno.ENOSPC))
    with pytest.raises(Transient, match="No space left"):
        put(tier(), parcel("s", b"x" * 5000))
    assert files_below(root) == []


def test_a_volume_that_is_read_only_gives_what_it_has(tier, put, parcel, root, tmp_path, volume, monkeypatch):
    (placed,) = put(tier(), parcel("s", b"abc"))
    really, room = os.open, os.statvfs

    def opened(path, flags, *rest, **named):
        if flags & (os.O_CREAT | os.O_WRONLY) and not str(path).startswith(str(tmp_path / "back")):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return really(path, flags, *rest, **named)

    def read_only(path):
        values = room(path)
        return os.statvfs_result([*values[:8], values.f_flag | os.ST_RDONLY, values.f_namemax])

    monkeypatch.setattr(os, "open", opened)
    monkeypatch.setattr(os, "statvfs", read_only)
    monkeypatch.setattr(os, "fsync", failing(errno.EROFS))
    monkeypatch.setattr(os, "setxattr", failing(errno.EROFS))
    assert tier().verify([placed], throttle=FREE) == ("",)
    with pytest.raises(Transient, match="Read-only file system"):
        put(tier(), parcel("t", b"x"))
    assert "mounted read-only" in tier().health().detail
    monkeypatch.undo()
    assert fetch(tier(), placed, tmp_path / "back") == [b"abc"]


def test_what_the_medium_cannot_give_is_got_from_another_copy(tier, put, parcel, tmp_path, monkeypatch):
    (placed,) = put(tier(), parcel("s", b"abc"))
    monkeypatch.setattr(volume_folder.VolumeFolder, "opened", failing(errno.EIO))
    with pytest.raises(IntegrityError, match="Input/output error"):
        fetch(tier(), placed, tmp_path / "back")
    assert "Input/output error" in tier().verify([placed], throttle=FREE)[0]


# --- removal, temporaries, and what others put there -----------------------------------------------


def test_only_what_was_put_is_removed(tier, put, parcel, root):
    made = tier()
    one, two = put(made, parcel("one", b"1"), parcel("two", b"2"))
    os.replace(two.location, one.location)
    with pytest.raises(IntegrityError):
        made.remove(one)
    assert os.path.exists(one.location)
    made.remove(one, as_it_is=True)
    made.remove(two)
    assert files_below(root) == []
    os.symlink("/etc/hostname", one.location)
    for as_it_is in (False, True):
        with pytest.raises(IntegrityError, match="is no file"):
            made.remove(one, as_it_is=as_it_is)
    with pytest.raises(Refused):
        made.remove(type(one)("/etc/hostname", one.domain, ()))


def test_a_live_writers_file_is_left_alone(tier, put, parcel, root):
    class Killed(BaseException):
        pass

    def kill(_name):
        raise Killed

    sent = parcel("s", b"s")
    with pytest.raises(Killed):
        put(tier(), sent, checkpoint=kill)
    (part,) = files_below(root)
    with open(root / part, "rb") as live:
        fcntl.flock(live, fcntl.LOCK_EX)
        put(tier(), sent, job="job2")
        assert part in files_below(root)
    put(tier(), sent, job="job2")
    assert len(files_below(root)) == 1


def test_two_that_write_the_same_at_once_leave_one(tier, put, parcel, root):
    sent, others = parcel("s", b"s"), []

    def meanwhile(name):
        if name == "archive.trailer" and not others:
            (part,) = files_below(root)
            others.extend(put(tier(), sent, job="job2"))
            assert part in files_below(root), "a live writer keeps its own"

    assert list(put(tier(), sent, checkpoint=meanwhile)) == others
    assert len(files_below(root)) == 1


def test_a_file_is_synced_before_it_has_its_name_and_its_folder_after(tier, put, parcel, monkeypatch):
    steps = []
    sync, move = os.fsync, bundle_file.move
    monkeypatch.setattr(os, "fsync", lambda fd: steps.append(stat.S_ISDIR(os.fstat(fd).st_mode)) or sync(fd))
    monkeypatch.setattr(bundle_file, "move", lambda *about: steps.append("named") or move(*about))
    put(tier(), parcel("s", b"abc"))
    named = steps.index("named")
    assert (False in steps[:named], True in steps[named:]) == (True, True)


def test_what_counts_was_not_read_from_memory(tier, put, parcel, tmp_path, monkeypatch):
    dropped = []
    real = os.posix_fadvise
    monkeypatch.setattr(os, "posix_fadvise", lambda fd, *rest: dropped.append(os.fstat(fd).st_ino) or real(fd, *rest))
    sent = parcel("s", b"abc")
    (placed,) = put(tier(), sent)
    own = os.stat(placed.location).st_ino
    for look in (
        lambda: tier().verify([placed], throttle=FREE),
        lambda: put(tier(), sent, job="job2"),
        lambda: survey(tier()),
    ):
        dropped.clear()
        look()
        assert dropped == [own]


def test_a_name_that_another_took_meanwhile_is_not_overwritten(tier, put, parcel, root):
    sent = parcel("s", b"s")
    taken = []

    def take(name):
        if name == "archive.trailer" and not taken:
            taken.append(root / "grp" / f"s.{parcel_key(sent)[:32]}.tar")
            taken[0].write_bytes(b"theirs")

    (placed,) = put(tier(), sent, checkpoint=take)
    assert taken[0].read_bytes() == b"theirs"
    assert placed.location == str(taken[0]).replace(".tar", ".2.tar")


def test_a_survey_tells_what_is_damaged_and_goes_on(tier, put, parcel, root, now):
    bad, good = put(tier(), parcel("bad", b"b" * 5000), parcel("good", b"g"))
    Path(bad.location).write_bytes(Path(bad.location).read_bytes().replace(b"bbbb", b"babb", 1))
    (root / "grp" / "foreign.tar").write_bytes(b"theirs")
    (root / "notes.txt").write_bytes(b"theirs, too")
    found = {one.location: one for one in survey(tier())}
    assert set(found) == {bad.location, good.location, str(root / "grp" / "foreign.tar")}
    assert (found[good.location].placed, found[good.location].written_at) == (good, now)
    assert found[bad.location].problem
    assert [where for _, where in tier().inventory()] == [bad, good], "an inventory reads no package"


def test_a_lost_answer_leaves_one_copy(tier, parcel, root):
    faulty = FaultyTier(tier(), Faults(lost_put=frozenset({1}), lost_verify=frozenset({1}), bad_verify=frozenset({2})))

    def send():
        return deliver(
            faulty,
            [parcel("s", b"abc")],
            faulty.domains()[0],
            job="j",
            now=lambda: datetime.now(UTC),
            may_continue=lambda: True,
            throttle=FREE,
            checkpoint=lambda _name: None,
        )

    for wrong in (Transient, Transient, IntegrityError):
        with pytest.raises(wrong, match="injected"):
            send()
    (stored,) = send()
    assert files_below(root) == [os.path.relpath(stored.location, root)]


# --- options -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"recall": ["/bin/true", "{list}"]}, "spool must be an absolute path"),
        ({"recall": ["/bin/true"], "spool": "/tmp"}, "needs {list}"),
        ({"migrate": ["true", "{list}"], "spool": "/tmp"}, "is not a path from the root"),
        ({"migrate": ["/bin/true", "{uri}"], "spool": "/tmp"}, "knows no {uri}"),
        ({"stub": "much"}, "stub is not a size"),
        ({"gather": -1}, "must not be negative"),
        ({"recall": ["/bin/true", "{list}"], "spool": "/tmp", "path": "/a\nb"}, "one a line"),
    ],
)
def test_an_option_that_is_wrong_is_told(tier, options, told):
    with pytest.raises(UserError, match=told):
        tier(**options)


def test_health_says_what_is_there_and_what_is_not(tier, hsm, root, volume, tmp_path):
    assert f"LTFS volume {VOLUME} TOM001 tomography one" in tier().health().detail
    os.removexattr(root, "user.ltfs.volumeUUID")
    assert "without what LTFS tells" in tier().health().detail
    wrong = tier(recall=["/no/recall", "{list}"], spool=str(tmp_path)).health()
    assert (wrong.ok, wrong.detail) == (False, "`recall`: /no/recall cannot be started")
    shutil.rmtree(tmp_path / "spool")
    assert hsm().health().detail.startswith("`spool`: ")


# --- a real one --------------------------------------------------------------------------------------


@pytest.fixture
def mounted(tmp_path):
    """A volume of LTFS's own file backend, mounted; called, it is mounted anew."""
    if missing := [name for name in ("mkltfs", "ltfs", "fusermount") if shutil.which(name) is None]:
        pytest.skip(f"no LTFS is installed here: {missing[0]} is not found, and Debian has no package of it")
    medium, point = tmp_path / "medium", tmp_path / "volume"
    medium.mkdir()
    point.mkdir()
    subprocess.run(["mkltfs", "-e", "file", "-d", str(medium), "-s", "TOM001", "-f"], check=True, timeout=300)

    def mount():
        subprocess.run(
            ["ltfs", "-o", "tape_backend=file", "-o", f"devname={medium}", str(point)], check=True, timeout=300
        )

    def unmount():
        subprocess.run(["fusermount", "-u", str(point)], check=True, timeout=300)

    mount()

    class Mounted:
        path = point

        def again(self):
            unmount()
            mount()

    yield Mounted()
    with contextlib.suppress(subprocess.SubprocessError):
        unmount()


def test_a_real_ltfs_keeps_copies_over_a_remount(tier, put, parcel, mounted, tmp_path):
    made = tier(path=str(mounted.path), volume="TOM001")
    assert made.domains()[0].startswith("ltfs:")
    assert made.health().ok
    placed = put(made, *(parcel(name, os.urandom(3_000_000)) for name in "abc"))
    assert made.verify(placed, throttle=FREE) == ("", "", "")
    assert ltfs_attributes.in_tape_order(p.location for p in reversed(placed)) == [p.location for p in placed]
    made.remove(placed[1])
    mounted.again()
    assert made.verify([placed[0], placed[2]], throttle=FREE) == ("", "")
    assert [where for _, where in made.inventory()] == [placed[0], placed[2]]
    assert len(fetch(made, placed[2], tmp_path / "back")[0]) == 3_000_000
