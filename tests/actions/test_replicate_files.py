"""Files of a scan copied into another area: what stands there at each moment, and after whatever went wrong."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from pathlib import Path
from types import SimpleNamespace

import pytest

from tomovault.actions.replicate import Replicate
from tomovault.core.errors import AreaAbsent, IntegrityError, NoRoomYet, Refused, SourceChanged, Transient
from tomovault.core.mark import MARK, read_mark
from tomovault.core.wire import to_plain
from tomovault.tiers import arrival as arrival_module
from tomovault.tiers.ground import OWN_FOLDER
from tomovault.watch.area import write_marker


class Killed(BaseException):
    """As good as SIGKILL: nothing of the action may run after it."""


@pytest.fixture
def server(packed, bench, tmp_path):
    """A second area; `move` carries out the order for the folder `name` in it."""
    path = tmp_path / "server"
    path.mkdir()
    identity = write_marker(str(path), name="server", simulated=True, now=bench.now())

    def order(name="p1/scan", **more):
        return {
            "scan": "s1",
            "scan_name": "scan",
            "digest": packed.digest,
            "manifest": packed.manifest,
            "root": str(packed.root),
            "source": {"name": "inhouse", "path": str(packed.area), "identity": to_plain(packed.identity)},
            "target": {"name": "server", "path": str(path), "identity": to_plain(identity)},
            "domain": "area:server",
            "folder": str(path / name),
            "key": "f",
            "key_folder": "",
            "bytes": 6004,
            "floor_bytes": 0,
        } | more

    return SimpleNamespace(path=path, order=order, move=lambda *a, **m: Replicate().perform(order(*a, **m), bench))


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder that the walker would see, by its path."""
    found = {}
    for at, folders, names in os.walk(folder):
        folders[:] = [f for f in folders if f != OWN_FOLDER]
        for name in names:
            path = Path(at, name)
            if name != MARK:
                found[str(path.relative_to(folder))] = path.read_bytes()
    return found


def arriving(server) -> list[str]:
    place = server.path / OWN_FOLDER / "arriving"
    return sorted(os.listdir(place)) if place.exists() else []


def test_the_files_stand_there_as_they_were_and_were_re_read(server, packed, bench):
    os.chmod(packed.root / "sub", 0o750)
    (stored,) = server.move().records
    at = server.path / "p1" / "scan"
    assert (stored.tier, stored.form, stored.location, stored.digest) == ("server", "files", str(at), packed.digest)
    assert stored.verified_at is not None
    assert contents(at) == packed.before
    for name in packed.names:
        old, new = os.lstat(packed.root / name), os.lstat(at / name)
        assert (new.st_mode, new.st_mtime_ns) == (old.st_mode, old.st_mtime_ns), name
    assert stat.S_IMODE((at / "sub").stat().st_mode) == 0o750
    assert stat.S_IMODE(at.stat().st_mode) == stat.S_IMODE(packed.root.stat().st_mode)
    (marked,) = read_mark((at / MARK).read_bytes())
    assert (marked.scan, marked.digest, len(marked.files)) == ("s1", packed.digest, 5)
    assert arriving(server) == []
    assert contents(packed.root) == packed.before
    assert bench.names.count("move.file") == 5


def test_a_folder_appears_whole_and_marked(server, packed, bench):
    at = server.path / "p1" / "scan"
    seen = []

    def checkpoint(name):
        seen.append((name, at.exists() and sorted(contents(at)), at.exists() and (at / MARK).exists()))

    bench.checkpoint = checkpoint
    server.move()
    assert {(s[1] is False or s[1] == sorted(packed.before)) for s in seen} == {True}
    assert seen[-1] == ("move.placed", sorted(packed.before), True)
    assert all(not there for name, there, _ in seen if name != "move.placed")


@pytest.mark.parametrize("merged", [False, True], ids=["new folder", "texts are there"])
def test_killed_at_every_point_it_ends_the_same(server, packed, bench, merged):
    def prepare():
        shutil.rmtree(server.path / "p1", ignore_errors=True)
        shutil.rmtree(server.path / OWN_FOLDER / "arriving", ignore_errors=True)
        if merged:
            (server.path / "p1" / "scan" / "sub").mkdir(parents=True)
            shutil.copy2(packed.root / "sub" / "g.txt", server.path / "p1" / "scan" / "sub" / "g.txt")

    prepare()
    bench.names = []
    server.move()
    points = list(bench.names)
    assert ("move.merged" in points) is merged
    for number in range(len(points)):
        prepare()
        passed = []

        def die(name, passed=passed, number=number):
            passed.append(name)
            if len(passed) == number + 1:
                raise Killed

        bench.checkpoint = die
        with pytest.raises(Killed):
            server.move()
        at = server.path / "p1" / "scan"
        if at.exists() and set(contents(at)) - {"sub/g.txt"}:
            assert (at / MARK).exists(), points[number]
        bench.checkpoint = lambda _name: None
        server.move()
        assert contents(at) == packed.before, points[number]
        assert sorted(os.listdir(server.path / "p1")) == ["scan"], points[number]
        assert arriving(server) == []


def test_what_a_killed_attempt_had_finished_is_not_copied_again(server, packed, bench, monkeypatch):
    def die(name):
        if name == "move.staged":
            raise Killed

    bench.checkpoint = die
    with pytest.raises(Killed):
        server.move()
    bench.checkpoint = lambda _name: None
    monkeypatch.setattr(arrival_module.Arrival, "_copy", lambda *_a: pytest.fail("it was copied"))
    server.move()
    assert contents(server.path / "p1" / "scan") == packed.before


def test_what_was_finished_and_is_damaged_is_found_when_it_is_re_read(server, packed, bench):
    def die(name):
        if name == "move.staged":
            raise Killed

    bench.checkpoint = die
    with pytest.raises(Killed):
        server.move()
    bench.checkpoint = lambda _name: None
    staged = server.path / OWN_FOLDER / "arriving" / "j1" / "scan" / "f1.edf"
    state = staged.stat()
    staged.write_bytes(b"x" * state.st_size)
    os.utime(staged, ns=(state.st_mtime_ns, state.st_mtime_ns))
    with pytest.raises(IntegrityError, match="do not re-read"):
        server.move()
    assert contents(server.path) == {}
    assert arriving(server) == []
    server.move()
    assert contents(server.path / "p1" / "scan") == packed.before


# --- names that are taken --------------------------------------------------------------------------------


def test_another_scan_of_that_name_stays_and_the_copy_goes_beside_it(server, packed):
    at = server.path / "p1" / "scan"
    at.mkdir(parents=True)
    (at / "f1.edf").write_bytes(b"Z" * 2000)
    result = server.move()
    assert result.records[0].location == f"{at}~2"
    assert "f1.edf is another file" in result.error
    assert f"{at}~2" in result.error
    assert contents(at) == {"f1.edf": b"Z" * 2000}
    assert contents(server.path / "p1" / "scan~2") == packed.before
    again = server.move()
    assert again.records[0].location == f"{at}~2", "the same files are where they were put"
    assert sorted(os.listdir(server.path / "p1")) == ["scan", "scan~2"]


@pytest.mark.parametrize(
    ("name", "taken"), [("f9.edf", True), ("notes.txt", False), ("TOMOVAULT-README.txt", False), ("g", False)]
)
def test_a_file_that_would_join_the_scan_is_in_the_way(server, packed, name, taken):
    at = server.path / "p1" / "scan"
    at.mkdir(parents=True)
    (at / name).write_bytes(b"mine")
    location = server.move().records[0].location
    assert location == (f"{at}~2" if taken else str(at))
    assert (at / name).read_bytes() == b"mine"


def test_a_shorter_file_a_link_and_a_file_as_folder_are_in_the_way(server, packed, tmp_path):
    (server.path / "p1").mkdir()
    (tmp_path / "outside").mkdir()
    (server.path / "p1" / "scan").symlink_to(tmp_path / "outside")
    (server.path / "p1" / "scan~2").write_text("a file")
    (server.path / "p1" / "scan~3").mkdir()
    (server.path / "p1" / "scan~3" / "f0.edf").write_bytes(b"")
    (server.path / "p1" / "scan~4" / "sub").mkdir(parents=True)
    (server.path / "p1" / "scan~4" / "f0.edf").symlink_to("/etc/passwd")
    assert server.move().records[0].location == str(server.path / "p1" / "scan~5")
    assert os.listdir(tmp_path / "outside") == []


def test_after_many_names_a_person_is_asked(server, monkeypatch):
    monkeypatch.setattr(arrival_module, "_MOST_NAMES", 2)
    for name in ("scan", "scan~2"):
        (server.path / "p1" / name).mkdir(parents=True)
        (server.path / "p1" / name / "f0.edf").write_bytes(b"other")
    with pytest.raises(Refused, match="2 folders of that name are taken"):
        server.move()
    assert arriving(server) == []


@pytest.mark.parametrize("there", [False, True], ids=["the folder", "a file in it"])
def test_what_appears_meanwhile_is_never_replaced(server, packed, bench, there):
    at = server.path / "p1" / "scan"
    if there:
        at.mkdir(parents=True)

    def checkpoint(name):
        if name == "move.verified":
            at.mkdir(parents=True, exist_ok=True)
            (at / "f2.edf").write_bytes(b"theirs")

    bench.checkpoint = checkpoint
    with pytest.raises(Transient, match="by somebody else meanwhile"):
        server.move()
    assert contents(at) == {"f2.edf": b"theirs"}
    assert arriving(server) == []
    bench.checkpoint = lambda _name: None
    assert server.move().records[0].location == f"{at}~2"


# --- what goes wrong -------------------------------------------------------------------------------------


def test_a_server_without_room_waits_and_nothing_is_left_there(server):
    with pytest.raises(NoRoomYet, match="area server has no room"):
        server.move(floor_bytes=1 << 60)
    assert contents(server.path) == {}
    assert arriving(server) == []


def test_a_disk_that_is_full_in_the_middle_waits_and_nothing_is_left_there(server, packed, monkeypatch):
    write, count = arrival_module.write_all, []

    def full(fd, data):
        count.append(1)
        if len(count) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(fd, data)

    monkeypatch.setattr(arrival_module, "write_all", full)
    with pytest.raises(NoRoomYet):
        server.move()
    assert contents(server.path) == {}
    assert arriving(server) == []
    server.move()
    assert contents(server.path / "p1" / "scan") == packed.before


@pytest.mark.parametrize("how", ["changed", "longer", "gone", "a link", "its folder is gone"])
def test_a_source_that_is_not_what_was_packed_is_not_copied(server, packed, bench, how):
    def checkpoint(name):
        path = packed.root / "f2.edf"
        if name != "move.begin":
            return
        if how == "changed":
            path.write_bytes(b"Q" * 2000)
        elif how == "longer":
            path.write_bytes(path.read_bytes() + b"more")
        elif how == "its folder is gone":
            shutil.rmtree(packed.root / "sub")
        else:
            path.unlink()
            if how == "a link":
                path.symlink_to("f1.edf")

    bench.checkpoint = checkpoint
    with pytest.raises(SourceChanged):
        server.move()
    assert contents(server.path) == {}
    assert arriving(server) == []


def test_an_area_that_is_not_there_gets_nothing(server, packed):
    shutil.rmtree(server.path)
    server.path.mkdir()
    with pytest.raises(AreaAbsent):
        server.move()
    assert os.listdir(server.path) == []


def test_what_jobs_that_are_over_left_is_removed(server):
    for job in ("j0", "jx"):
        (server.path / OWN_FOLDER / "arriving" / job / "scan").mkdir(parents=True)
    server.move(stale=["j0"])
    assert arriving(server) == ["jx"]


def test_further_names_of_a_file_are_one_file(server, packed, bench):
    """A manifest with hard links is copied as such, and where only the further name is missing, as a file."""
    from tomovault.core.manifest import ManifestFile
    from tomovault.tiers.arrival import Arrival, Place

    root = packed.root
    os.link(root / "f0.edf", root / "f0-again.edf")
    import hashlib

    state = os.lstat(root / "f0.edf")
    sha = hashlib.sha256(packed.before["f0.edf"]).hexdigest()
    metas = [
        ManifestFile("f0-again.edf", 2000, sha, mtime_ns=state.st_mtime_ns, hardlink_of="f0.edf"),
        ManifestFile("f0.edf", 2000, sha, mtime_ns=state.st_mtime_ns),
    ]
    throttle = bench.throttle("x")
    make = lambda: Arrival(  # noqa: E731
        "j1", str(root), metas, {m.path: m.path for m in metas}, throttle, throttle, bench.checkpoint, bench.progress
    )
    place = Place(str(server.path), str(server.path / "linked"), "f")
    staged = make().stage(place, make().choose(place))
    assert os.stat(f"{staged}/f0.edf").st_ino == os.stat(f"{staged}/f0-again.edf").st_ino
    make().clean_up(str(server.path))
    (server.path / "linked").mkdir()
    shutil.copy2(root / "f0.edf", server.path / "linked" / "f0.edf")
    staged = make().stage(place, make().choose(place))
    assert sorted(os.listdir(staged)) == ["f0-again.edf"]
