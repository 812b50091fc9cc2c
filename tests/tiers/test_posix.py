import dataclasses
import errno
import fcntl
import os

import pytest

from tomovault.core.errors import IntegrityError, NoRoomYet, NoSpace, Refused, Transient, UserError
from tomovault.core.replica import StoredFile
from tomovault.tiers import package_folder
from tomovault.tiers.posix import PosixTier
from tomovault.tiers.sidecar import SIDECAR


@pytest.fixture
def root(tmp_path):
    (tmp_path / "disk").mkdir()
    return tmp_path / "disk"


@pytest.fixture
def tier(root, now):
    def open_tier(**options):
        return PosixTier("disk", {"path": str(root), **options}, now=lambda: now)

    return open_tier


@pytest.fixture
def put(bucket):
    def run(tier, *parcels, job="job1", checkpoint=lambda _name: None):
        return tier.put(parcels, tier.domains()[0], job=job, throttle=bucket, checkpoint=checkpoint)

    return run


def test_a_package_has_a_folder_with_its_manifest_beside(tier, put, parcel, root):
    sent = parcel("s", b"abc")
    (placed,) = put(tier(), sent)
    folder = root / "grp" / f"s-{sent.digest[:8]}"
    assert placed.location == str(folder)
    assert placed.files[0].location == str(folder / "s.0.h5")
    assert sorted(os.listdir(folder)) == ["s.0.h5", SIDECAR]
    assert os.listdir(root / "grp") == [folder.name]


def test_the_domain_is_the_device_unless_said(tier, root):
    (domain,) = tier().domains()
    assert domain.startswith("disk:")
    assert len(domain) > len("disk:")
    assert tier(domain="mirror").domains() == ("mirror",)


def test_the_floor_is_never_crossed(tier, put, parcel, root):
    free = tier().free_bytes()
    assert tier(floor=free // 2).free_bytes() == pytest.approx(free / 2, rel=0.2)
    full = tier(floor=free * 2)
    assert full.free_bytes() == 0
    assert not full.health().ok
    with pytest.raises(NoRoomYet, match="floor"):
        put(full, parcel("s", b"x"))
    assert not any(files for _, _, files in os.walk(root))


def test_the_floor_is_watched_while_writing(tier, put, parcel, root, monkeypatch):
    real, calls = os.fstatvfs, [0]

    def shrinking(fd):
        calls[0] += 1
        values = list(real(fd))
        if calls[0] > 2:
            values[3] = values[4] = 0
        return os.statvfs_result(values)

    monkeypatch.setattr(os, "fstatvfs", shrinking)
    with pytest.raises(NoSpace):
        put(tier(floor=1), parcel("s", bytes(3 << 20)))
    assert not any(files for _, _, files in os.walk(root))


def test_sizes_that_cannot_be_are_not_believed(tier, monkeypatch):
    monkeypatch.setattr(os, "fstatvfs", lambda fd: os.statvfs_result([0] * 10))
    assert tier().free_bytes() is None
    assert not tier().health().ok


def test_a_quota_is_no_space(tier, put, parcel, monkeypatch, root):
    def refuse(fd, data):
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr(os, "write", refuse)
    with pytest.raises(NoSpace, match="quota"):
        put(tier(), parcel("s", b"x"))
    assert not any(files for _, _, files in os.walk(root))


class Killed(BaseException):
    pass


def killed(name):
    raise Killed


def parts(root):
    return [name for name in os.listdir(root / "grp") if name.startswith(".tomovault-part.")]


def test_temporaries_carry_the_job_and_go_with_the_next_attempt(tier, put, parcel, root):
    sent, other = parcel("s", b"s"), parcel("t", b"t")
    for job, what in (("job1", sent), ("job2", sent), ("job3", other)):
        with pytest.raises(Killed):
            put(tier(), what, job=job, checkpoint=killed)
        assert any(name.endswith(job) for name in parts(root))
    put(tier(), sent, job="job4")
    assert [name.rsplit(".", 1)[1] for name in parts(root)] == ["job3"]


def test_a_live_writers_temporary_is_left_alone(tier, put, parcel, root):
    sent = parcel("s", b"s")
    with pytest.raises(Killed):
        put(tier(), sent, job="job1", checkpoint=killed)
    (part,) = parts(root)
    fd = os.open(root / "grp" / part, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    assert put(tier(), sent, job="job2")
    assert parts(root) == [part]
    os.close(fd)
    put(tier(), sent, job="job2")
    assert parts(root) == []


def test_a_folder_of_others_is_neither_used_nor_removed(tier, put, parcel, root):
    sent = parcel("s", b"s")
    taken = root / "grp" / f"s-{sent.digest[:8]}"
    taken.mkdir(parents=True)
    (taken / "s.0.h5").write_bytes(b"theirs")
    (placed,) = put(tier(), sent)
    assert placed.location == f"{taken}.2"
    assert (taken / "s.0.h5").read_bytes() == b"theirs"


def test_links_are_not_followed(tier, put, parcel, root, tmp_path, bucket):
    outside = tmp_path / "outside"
    outside.mkdir()
    (root / "grp").symlink_to(outside)
    with pytest.raises(Transient):
        put(tier(), parcel("s", b"s"))
    assert os.listdir(outside) == []
    (root / "grp").unlink()
    (placed,) = put(tier(), parcel("s", b"s"))
    os.rename(placed.location, outside / "moved")
    os.symlink(outside / "moved", placed.location)
    assert tier().verify([placed], throttle=bucket)[0]
    with pytest.raises((Transient, Refused)):
        tier().remove(placed)
    assert len(os.listdir(outside / "moved")) == 2
    assert list(tier().inventory()) == []


def test_remove_leaves_what_others_put_there(tier, put, parcel):
    (placed,) = put(tier(), parcel("s", b"s", b"t"))
    note = os.path.join(placed.location, "note.txt")
    with open(note, "w") as stream:
        stream.write("mine")
    tier().remove(placed)
    assert os.listdir(placed.location) == ["note.txt"]


def test_remove_killed_midway_is_ended_by_the_next(tier, put, parcel, root):
    (placed,) = put(tier(), parcel("s", b"s", b"t"))
    os.unlink(placed.files[0].location)
    tier().remove(placed)
    assert not os.path.exists(placed.location)


def test_remove_ends_after_a_kill_between_the_manifest_and_its_folder(tier, put, parcel):
    (placed,) = put(tier(), parcel("s", b"s"))
    os.unlink(placed.files[0].location)
    os.unlink(os.path.join(placed.location, SIDECAR))
    tier().remove(placed)
    assert not os.path.exists(placed.location)
    os.rmdir(os.path.dirname(placed.location))
    tier().remove(placed)


@pytest.mark.parametrize("other", [b"z", b"longer", None])
def test_remove_takes_nothing_that_is_not_what_was_recorded(tier, put, parcel, tmp_path, other):
    (placed,) = put(tier(), parcel("s", b"s", b"t"))
    changed = placed.files[1].location
    os.unlink(changed)
    if other is None:
        os.symlink(tmp_path, changed)
    else:
        with open(changed, "wb") as stream:
            stream.write(other)
    with pytest.raises(IntegrityError, match=r"s\.1\.h5"):
        tier().remove(placed)
    assert sorted(os.listdir(placed.location)) == ["s.0.h5", "s.1.h5", SIDECAR], "of a copy that is not it nothing goes"


def test_a_copy_that_is_known_to_be_bad_is_removed_as_it_is(tier, put, parcel, tmp_path):
    (placed,) = put(tier(), parcel("s", b"s", b"t"))
    with open(placed.files[1].location, "wb") as stream:
        stream.write(b"longer than it was")
    sidecar = os.path.join(placed.location, SIDECAR)
    with open(sidecar, "ab") as stream:
        stream.write(b"damaged")
    beside = os.path.join(placed.location, "note.txt")
    with open(beside, "w") as stream:
        stream.write("mine")
    tier().remove(placed, as_it_is=True)
    assert sorted(os.listdir(placed.location)) == sorted(["note.txt", SIDECAR]), "what nobody knows stays"


def test_what_is_no_file_is_not_removed_even_as_it_is(tier, put, parcel, tmp_path):
    (placed,) = put(tier(), parcel("s", b"s", b"t"))
    os.unlink(placed.files[1].location)
    os.symlink(tmp_path, placed.files[1].location)
    with pytest.raises(IntegrityError, match=r"s\.1\.h5"):
        tier().remove(placed, as_it_is=True)
    assert os.path.exists(placed.files[0].location)


def test_remove_does_not_take_what_was_put_there_after_the_look(tier, put, parcel, monkeypatch):
    (placed,) = put(tier(), parcel("s", b"s"))
    path, real = placed.files[0].location, package_folder.hash_rest

    def hash_and_replace(fd):
        found = real(fd)
        os.unlink(path)
        with open(path, "wb") as stream:
            stream.write(b"t")
        return found

    monkeypatch.setattr(package_folder, "hash_rest", hash_and_replace)
    with pytest.raises(IntegrityError, match=r"s\.0\.h5"):
        tier().remove(placed)
    assert os.path.exists(path)


def test_a_damaged_or_missing_manifest_is_told(tier, put, parcel, root, bucket):
    (placed,) = put(tier(), parcel("s", b"s"))
    sidecar = os.path.join(placed.location, SIDECAR)
    with open(sidecar, "r+b") as stream:
        text = stream.read()
        stream.seek(text.index(b'"scan": "s"') + 9)
        stream.write(b"z")
    assert SIDECAR in tier().verify([placed], throttle=bucket)[0]
    assert list(tier().inventory()) == []
    os.unlink(sidecar)
    assert SIDECAR in tier().verify([placed], throttle=bucket)[0]
    with pytest.raises(Exception, match=SIDECAR):
        tier().remove(placed)
    assert os.path.exists(placed.files[0].location)


def test_a_package_with_a_missing_file_is_not_in_the_inventory(tier, put, parcel):
    (placed,) = put(tier(), parcel("s", b"s", b"t"))
    os.unlink(placed.files[1].location)
    assert list(tier().inventory()) == []


def test_a_file_called_like_the_manifest_is_refused(tier, put, parcel, tmp_path):
    sent = parcel("s", b"s")
    os.rename(sent.files[0].location, tmp_path / SIDECAR)
    moved = dataclasses.replace(sent.files[0], location=str(tmp_path / SIDECAR))
    with pytest.raises(UserError):
        put(tier(), dataclasses.replace(sent, files=(moved,)))


@pytest.mark.parametrize("where", ["../x", "grp/../../x", "", "/", "//x"])
def test_nothing_outside_is_touched(tier, put, parcel, root, where, bucket, tmp_path):
    (placed,) = put(tier(), parcel("s", b"s"))
    location = f"{root}/{where}"
    wrong = dataclasses.replace(placed, location=location, files=(StoredFile(location + "/a", 1, "0"),))
    for act in (
        lambda: tier().remove(wrong),
        lambda: tier().fetch(wrong, str(tmp_path), throttle=bucket, progress=lambda *_: None),
        lambda: tier().verify([wrong], throttle=bucket),
    ):
        with pytest.raises(Refused):
            act()
