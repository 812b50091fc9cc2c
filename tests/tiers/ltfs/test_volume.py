"""An LTFS volume: what a package is on it, its index, the order of its tape, and whether it is there."""

import errno
import fcntl
import os
import tarfile
import uuid

import pytest

from tomovault.core.errors import InUse, PlaceAbsent, Transient
from tomovault.tiers import volume_folder
from tomovault.tiers.free import FREE
from tomovault.tiers.place import Place, mark_place

VOLUME = "0b5e7b7a-9f2c-4a6b-8f0d-2f6f5c1f7a11"
OTHER = "ffffffff-9f2c-4a6b-8f0d-2f6f5c1f7a11"


def test_a_package_is_one_file_that_tar_reads(tier, put, parcel, root, files_below):
    (placed,) = put(tier(), parcel("s", b"abc", b"defg"))
    (name,) = files_below(root)
    assert placed.location == str(root / name)
    assert name.startswith("grp/s.")
    with tarfile.open(placed.location) as tar:
        members = [member.name for member in tar]
        assert members[0] == "MANIFEST.json"
        assert members[-1] == "TRAILER.json"
        assert tar.extractfile("packages/0001/s.1.h5").read() == b"defg"


def test_the_domain_is_what_is_configured_or_the_volume_or_the_disk(tier, root, volume, mark):
    assert tier().domains() == (f"ltfs:{VOLUME}",)
    assert tier(domain="cellar").domains() == ("cellar",)
    mark(root, volumeUUID=VOLUME.upper())
    assert tier().domains() == (f"ltfs:{VOLUME}",)
    os.removexattr(root, "user.ltfs.volumeUUID")
    assert tier().domains()[0].startswith("disk:")


def test_two_tiers_on_one_volume_are_one_domain(tier, root, volume, mark):
    (root / "below").mkdir()
    mark(root / "below", volumeUUID=VOLUME)
    assert tier(path=str(root / "below")).domains() == tier().domains()


@pytest.mark.parametrize("lie", ["", "no uuid", "\udcff", "0" * 5000])
def test_a_volume_that_names_itself_by_no_uuid_is_the_disk_it_is_on(tier, put, parcel, root, volume, lie):
    os.setxattr(root, "user.ltfs.volumeUUID", lie.encode("utf-8", "surrogateescape")[:3000])
    assert tier().domains()[0].startswith("disk:")
    (placed,) = put(tier(), parcel("s", b"abc"))
    assert tier().verify([placed], throttle=FREE) == ("",)


def test_a_volume_that_does_not_tell_now_is_no_other_domain(tier, monkeypatch, failing):
    monkeypatch.setattr(os, "getxattr", failing(errno.EIO))
    with pytest.raises(Transient, match="Input/output error"):
        tier().domains()


def test_a_volume_that_does_not_tell_now_has_no_damaged_copies(
    tier, put, parcel, tmp_path, monkeypatch, failing, fetch, survey
):
    made = tier(domain="cellar")
    (placed,) = put(made, parcel("s", b"abc"))
    monkeypatch.setattr(os, "getxattr", failing(errno.EIO))
    for call in (lambda: made.verify([placed], throttle=FREE), lambda: fetch(made, placed, tmp_path / "back")):
        with pytest.raises(Transient, match="Input/output error"):
            call()
    with pytest.raises(Transient):
        survey(made)


def test_without_attributes_all_works(tier, put, parcel, monkeypatch, tmp_path, failing, fetch, survey):
    monkeypatch.setattr(os, "getxattr", failing(errno.ENOTSUP))
    one, two = put(tier(), parcel("one", b"1"), parcel("two", b"2"))
    assert tier().verify([two, one], throttle=FREE) == ("", "")
    assert [found.location for found in survey(tier())] == [one.location, two.location]
    assert fetch(tier(), one, tmp_path / "back") == [b"1"]


def test_a_copy_is_put_when_an_index_that_names_it_is_on_tape(tier, put, parcel, index):
    (placed,) = put(tier(), parcel("s", b"abc"))
    assert index.generation == 8
    assert tier().verify([placed], throttle=FREE) == ("",)
    assert index.generation == 8, "to read writes no index"
    tier().remove(placed)
    assert index.generation == 9


def test_an_index_that_is_only_promised_is_no_index(tier, put, parcel, root, index, files_below):
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
def test_an_index_that_we_may_not_ask_for_is_none(tier, put, parcel, index, monkeypatch, number, failing):
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


def test_the_index_is_that_of_the_whole_volume(tier, put, parcel, root, volume, mark):
    (root / "tomo").mkdir()
    mark(root / "tomo", volumeUUID=VOLUME)
    put(tier(path=str(root / "tomo")), parcel("s", b"abc"))
    assert os.getxattr(root, "user.ltfs.sync") == b"1"
    assert "user.ltfs.sync" not in os.listxattr(root / "tomo")


def test_files_are_read_as_they_lie_on_tape(tier, put, parcel, volume, monkeypatch, lay, survey):
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


def test_volumes_are_read_one_after_the_other(hsm, put, parcel, volume, asked, tmp_path, lay, to_tape):
    made = hsm(stub="4KiB")  # some file systems count a block of attributes among those of the file
    placed = put(made, *(parcel(name, name.encode()) for name in "abcd"))
    for item, where in zip(placed, ((5, OTHER), (9, VOLUME), (1, OTHER), (2, VOLUME)), strict=True):
        lay(item, where[0], volume=where[1])
    to_tape(tmp_path, *placed)
    made.stage([item.location for item in placed])
    assert asked() == [["d", "b", "c", "a"]]


def test_another_volume_in_its_place_is_not_touched(tier, put, parcel, root, volume, files_below, survey):
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


def test_a_folder_with_nothing_mounted_is_no_empty_archive(tier, put, parcel, root, tmp_path, now, survey):
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


def test_what_is_unmounted_while_it_is_read_is_not_damaged(tier, put, parcel, root, tmp_path, now, monkeypatch, fetch):
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


def test_two_do_not_read_one_tape_at_once(tier, put, parcel, root, tmp_path, volume, monkeypatch, fetch):
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
