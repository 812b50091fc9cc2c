"""Full, read-only and damaged volumes, removal, what others put there, options, and a real LTFS."""

import contextlib
import dataclasses
import errno
import fcntl
import os
import shutil
import stat
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tomovault.core.errors import IntegrityError, NoRoomYet, Refused, Transient, UserError
from tomovault.testing.faulty import Faults, FaultyTier
from tomovault.tiers import bundle_file, ltfs_attributes, volume_folder
from tomovault.tiers.bundle import parcel_key
from tomovault.tiers.delivery import deliver
from tomovault.tiers.free import FREE

VOLUME = "0b5e7b7a-9f2c-4a6b-8f0d-2f6f5c1f7a11"


def test_names_fit_into_any_file_system(tier, put, parcel, root):
    sent = parcel("x" * 60, b"1")
    long = dataclasses.replace(sent, scan_name="é" * 150 + "s" * 400, group="g" * 400 + "/" + "ü" * 300)
    parts = []

    def look(_name):
        parts.extend(name for _, _, names in os.walk(root) for name in names)

    (placed,) = put(tier(), long, job="j" * 400, checkpoint=look)
    assert max(len(os.fsencode(part)) for part in [*parts, *placed.location.split("/")]) <= 255


def test_the_floor_is_never_crossed(tier, put, parcel, root, files_below):
    free = tier().free_bytes()
    full = tier(floor=free * 2)
    assert full.free_bytes() == 0
    assert "full down to its floor" in full.health().detail
    with pytest.raises(NoRoomYet, match="floor"):
        put(full, parcel("s", b"x"))
    assert files_below(root) == []


def test_a_volume_that_fills_up_on_the_way_leaves_nothing(tier, put, parcel, root, monkeypatch, failing, files_below):
    monkeypatch.setattr(bundle_file, "write_all", failing(errno.ENOSPC))
    with pytest.raises(Transient, match="No space left"):
        put(tier(), parcel("s", b"x" * 5000))
    assert files_below(root) == []


def test_a_volume_that_is_read_only_gives_what_it_has(
    tier, put, parcel, root, tmp_path, volume, monkeypatch, failing, fetch
):
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


def test_what_the_medium_cannot_give_is_got_from_another_copy(tier, put, parcel, tmp_path, monkeypatch, failing, fetch):
    (placed,) = put(tier(), parcel("s", b"abc"))
    monkeypatch.setattr(volume_folder.VolumeFolder, "opened", failing(errno.EIO))
    with pytest.raises(IntegrityError, match="Input/output error"):
        fetch(tier(), placed, tmp_path / "back")
    assert "Input/output error" in tier().verify([placed], throttle=FREE)[0]


def test_only_what_was_put_is_removed(tier, put, parcel, root, files_below):
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


def test_a_live_writers_file_is_left_alone(tier, put, parcel, root, files_below):
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


def test_two_that_write_the_same_at_once_leave_one(tier, put, parcel, root, files_below):
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


def test_what_counts_was_not_read_from_memory(tier, put, parcel, tmp_path, monkeypatch, survey):
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


def test_a_survey_tells_what_is_damaged_and_goes_on(tier, put, parcel, root, now, survey):
    bad, good = put(tier(), parcel("bad", b"b" * 5000), parcel("good", b"g"))
    Path(bad.location).write_bytes(Path(bad.location).read_bytes().replace(b"bbbb", b"babb", 1))
    (root / "grp" / "foreign.tar").write_bytes(b"theirs")
    (root / "notes.txt").write_bytes(b"theirs, too")
    found = {one.location: one for one in survey(tier())}
    assert set(found) == {bad.location, good.location, str(root / "grp" / "foreign.tar")}
    assert (found[good.location].placed, found[good.location].written_at) == (good, now)
    assert found[bad.location].problem
    assert [where for _, where in tier().inventory()] == [bad, good], "an inventory reads no package"


def test_a_lost_answer_leaves_one_copy(tier, parcel, root, files_below):
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


def test_a_real_ltfs_keeps_copies_over_a_remount(tier, put, parcel, mounted, tmp_path, fetch):
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
