import shutil
from datetime import timedelta
from pathlib import Path

import pytest

from tomovault.actions.restore import Restore
from tomovault.core.errors import (
    AreaAbsent,
    IntegrityError,
    InUse,
    NoSpace,
    NotYet,
    Refused,
    TomovaultError,
    Transient,
    UserError,
)
from tomovault.core.record import Checked, GivenBack, Outcome, Stored, Unfinished
from tomovault.core.wire import to_plain


@pytest.fixture
def restore(packed, bench, tmp_path):
    """Called to restore from the disk or a tape into a folder; returns the result."""
    disk = {
        "replica": "disk",
        "tier": "inhouse",
        "tier_class": "server",
        "domain": "d",
        "location": packed.files[0].location,
        "files": to_plain(packed.files),
        "on_disk": True,
    }
    tapes = [
        {
            "replica": f"tape{n}",
            "tier": "tape",
            "tier_class": "archive",
            "domain": copy.domain,
            "location": copy.location,
            "files": to_plain(copy.files),
            "on_disk": False,
        }
        for n, copy in enumerate(packed.copies)
    ]
    recall = {
        "area": "inhouse",
        "domain": "d",
        "folder": str(packed.vault / "back"),
        "floor_bytes": 0,
        "pinned_until": to_plain(bench.now() + timedelta(days=3)),
    }

    def perform(*, sources=("disk",), target=None, recall_more=None, **more):
        chosen = [s for s in (disk, *tapes) if s["replica"] in sources]
        order = {
            "scan_name": "scan",
            "root": str(packed.root),
            "product": "original",
            "digest": packed.digest,
            "sources": chosen,
            "target": str(target or tmp_path / "out"),
            "recall": {**recall, **(recall_more or {})},
        }
        return Restore().perform({**order, **more}, bench)

    return perform


def _there(folder, names):
    return {n: (folder / n).read_bytes() for n in names}


def test_all_comes_back_from_disk(restore, packed, tmp_path):
    (given,) = restore().records
    assert _there(tmp_path / "out", packed.names) == packed.before
    assert (given.tier, given.cartridge, given.files, given.derived) == ("inhouse", None, 5, False)
    assert not given.original_place


def test_from_a_tape_the_package_stays_on_disk_with_a_pin(restore, packed, tmp_path, bench):
    stored, given = restore(sources=("tape0",)).records
    assert isinstance(stored, Stored)
    assert stored.pinned_until == bench.now() + timedelta(days=3)
    assert stored.verified_at is not None
    assert given.tier == "tape"
    assert _there(tmp_path / "out", packed.names) == packed.before
    assert [p.name for p in (packed.vault / "back").iterdir() if p.name.startswith(".")] == []


def test_a_recalled_package_is_not_kept_where_one_is(restore, packed):
    assert [type(r) for r in restore(sources=("tape0",), recall_more={"keep": False}).records] == [GivenBack]
    assert list((packed.vault / "back").iterdir()) == []


@pytest.mark.parametrize("known", [(), ("own",)])
def test_a_recalled_package_takes_the_place_of_its_own_scan_only(restore, packed, tmp_path, known):
    """Of a file that is not known to be this scan's the data is given back past it."""
    place = packed.vault / "back" / Path(packed.files[0].location).name
    place.parent.mkdir()
    place.write_bytes(b"a package of another scan, or a bad one of this")
    result = restore(sources=("tape0",), recall_more={"own": [str(place)] if known else []})
    assert [type(r) for r in result.records] == ([Stored, GivenBack] if known else [GivenBack])
    assert (place.read_bytes() == b"a package of another scan, or a bad one of this") is not bool(known)
    assert _there(tmp_path / "out", packed.names) == packed.before
    assert [p.name for p in place.parent.iterdir() if p.name.startswith(".")] == []


def test_a_recall_that_was_killed_when_the_package_stood_is_done_again(restore, packed):
    first = restore(sources=("tape0",)).records
    assert [type(r) for r in restore(sources=("tape0",)).records] == [type(r) for r in first] == [Stored, GivenBack]


def test_a_damaged_copy_is_recorded_and_the_next_one_used(restore, packed, bench, tmp_path):
    bench.tiers["tape"].content[packed.copies[0].files[0].location][2000] ^= 255
    bad, stored, _given = restore(sources=("tape0", "tape1")).records
    assert isinstance(bad, Checked)
    assert (bad.replica, bad.ok) == ("tape0", False)
    assert isinstance(stored, Stored)
    assert _there(tmp_path / "out", packed.names) == packed.before


def test_with_every_copy_damaged_all_are_recorded(restore, packed, bench):
    for copy in packed.copies:
        bench.tiers["tape"].content[copy.files[0].location][2000] ^= 255
    result = restore(sources=("tape0", "tape1"))
    assert result.outcome is Outcome.DAMAGED
    assert [(r.replica, r.ok) for r in result.records] == [("tape0", False), ("tape1", False)]
    assert "no copy could be read" in result.error


@pytest.fixture
def at_home(packed, bench):
    """What an order says of a restore to the place where the scan was written; its files are not there now."""
    for name in packed.names:
        (packed.root / name).unlink()
    return {
        "target": packed.root,
        "watched": {
            "area": "inhouse",
            "path": str(packed.area),
            "identity": to_plain(packed.identity),
            "domain": "d",
        },
        "home": {"bytes": 6004, "pinned_until": to_plain(bench.now() + timedelta(days=3)), "readme": ""},
    }


@pytest.fixture
def unmount(packed):
    """Called to take the area away; an empty folder is where it was."""

    def go():
        packed.area.rename(packed.area.with_name("unmounted"))
        packed.area.mkdir()

    return go


@pytest.mark.parametrize("part", [{}, {"files": ["f1*"]}, {"product": "volume"}], ids=["whole", "part", "volume"])
def test_nothing_is_written_below_a_mount_point_where_the_area_was(restore, packed, bench, at_home, unmount, part):
    unmount()
    home = None if part else at_home["home"]
    for source in ("disk", "tape0"):
        with pytest.raises(AreaAbsent, match="not mounted"):
            restore(sources=(source,), **{**at_home, "home": home, **part})
    assert list(packed.area.iterdir()) == []
    assert "recall.staged" not in bench.names, "no tape moves for it"


@pytest.mark.parametrize("step", ["recall.placed", "restore.begin"])
def test_an_area_that_goes_before_anything_is_written(restore, packed, bench, at_home, unmount, step):
    bench.checkpoint = lambda name: unmount() if name == step else None
    with pytest.raises(AreaAbsent):
        restore(sources=("tape0",), **at_home)
    assert list(packed.area.iterdir()) == []


def test_an_area_that_goes_while_it_is_written_to_has_no_replica(restore, packed, bench, at_home, unmount):
    bench.checkpoint = lambda name: unmount() if name == "restore.synced" else None
    with pytest.raises(AreaAbsent):
        restore(**at_home)
    assert list(packed.area.iterdir()) == []


def test_to_its_old_place_the_files_are_a_replica_again(restore, packed, at_home):
    (packed.root / "TOMOVAULT-README.txt").write_text("The original files of the scan one are gone")
    again, given = restore(**at_home).records
    assert given.original_place
    assert (again.form, again.location, again.verified_at) == ("files", str(packed.root), None)
    assert again.pinned_until is not None
    assert _there(packed.root, packed.names) == packed.before
    assert not (packed.root / "TOMOVAULT-README.txt").exists()


def test_some_files(restore, tmp_path):
    (given,) = restore(files=["f1*", "sub/*"]).records
    assert given.files == 2
    assert sorted(p.name for p in (tmp_path / "out").rglob("*") if p.is_file()) == ["f1.edf", "g.txt"]


@pytest.mark.parametrize(
    ("wish", "match"),
    [
        ({"files": ["nothing*"]}, "no file of scan matches"),
        ({"frames": [0, 3]}, "has no projections that are frames"),
        ({"kind": "flats"}, "has no flats that are frames"),
    ],
)
def test_a_wrong_selection(restore, wish, match):
    with pytest.raises(UserError, match=match):
        restore(**wish)


def test_a_target_that_is_a_file(restore, tmp_path):
    (tmp_path / "file").write_text("mine")
    for target in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError):
            restore(target=target)
    assert (tmp_path / "file").read_text() == "mine"


def test_nothing_is_overwritten_unasked(restore, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "f0.edf").write_text("mine")
    with pytest.raises(Refused, match=r"f0\.edf"):
        restore()
    assert (tmp_path / "out" / "f0.edf").read_text() == "mine"
    assert restore(overwrite=True).outcome is Outcome.SUCCEEDED
    assert restore().records[0].files == 5, "again: what is there stays"


def test_a_recall_keeps_the_floor(restore, packed):
    with pytest.raises(NoSpace, match=f"are free and {1 << 62} are kept free"):
        restore(sources=("tape0",), recall_more={"floor_bytes": 1 << 62})
    assert list((packed.vault / "back").iterdir()) == []


def test_a_product_of_ours_is_given_back_as_its_file(restore, packed, tmp_path):
    (given,) = restore(product="volume").records
    assert given.files == len(packed.files)
    assert (tmp_path / "out" / "scan.tomo.h5").exists()
    with pytest.raises(UserError, match="exists"):
        restore(product="volume")


def test_the_floor_of_the_target_is_kept(restore, tmp_path):
    with pytest.raises(NoSpace, match="floor"):
        restore(floor_bytes=1 << 60)
    assert list((tmp_path / "out").rglob("*.edf")) == []
    assert restore(floor_bytes=1).outcome is Outcome.SUCCEEDED


def test_the_floor_is_kept_for_what_is_given_back_as_a_file(restore, tmp_path):
    with pytest.raises(NoSpace, match="floor"):
        restore(product="volume", floor_bytes=1 << 60)
    assert list((tmp_path / "out").iterdir()) == []


def test_what_is_read_from_a_server_is_within_its_share(restore, bench, monkeypatch):
    spent = {}

    class Share:
        def __init__(self, place):
            self.place = place

        def spend(self, count):
            spent[self.place] = spent.get(self.place, 0) + count

    monkeypatch.setattr(bench, "throttle", Share)
    restore()
    assert set(spent) == {"inhouse"}
    spent.clear()
    result = restore(product="volume", overwrite=True)
    assert result.outcome is Outcome.SUCCEEDED
    assert spent == {"inhouse": result.records[-1].bytes}


@pytest.mark.parametrize("product", ["original", "volume"])
@pytest.mark.parametrize("sources", [("disk",), ("tape0", "tape1")], ids=["disk", "tapes"])
def test_a_target_that_goes_away_is_no_word_about_the_copies(restore, bench, tmp_path, product, sources):
    """Else a disk that somebody pulls makes every good copy suspect."""
    seen = []

    def vanish(name):
        seen.append(name)
        if name == "restore.begin":
            shutil.rmtree(tmp_path / "out")

    bench.checkpoint = vanish
    with pytest.raises(TomovaultError) as caught:
        restore(product=product, sources=sources)
    assert not isinstance(caught.value, IntegrityError)
    assert "restore.begin" in seen


def test_a_target_that_goes_away_while_a_file_is_copied(restore, bench, tmp_path, monkeypatch):
    class Vanish:
        def spend(self, _count):
            for file in (tmp_path / "out").iterdir():
                file.unlink()

    monkeypatch.setattr(bench, "throttle", lambda _place: Vanish())
    with pytest.raises(Transient, match="out"):
        restore(product="volume")


def test_what_was_found_of_a_copy_is_told_where_the_target_goes_away(restore, packed, bench, tmp_path):
    bench.tiers["tape"].content[packed.copies[0].files[0].location][2000] ^= 255

    def vanish(name):
        if name == "restore.begin":
            shutil.rmtree(tmp_path / "out")

    bench.checkpoint = vanish
    with pytest.raises(Unfinished) as caught:
        restore(sources=("tape0", "tape1"), product="volume")
    assert [(r.replica, r.ok) for r in caught.value.records] == [("tape0", False)]


def test_a_copy_that_is_not_there_is_bad_only_where_its_folder_is(restore, packed, tmp_path):
    path = Path(packed.files[0].location)
    path.rename(path.with_name("aside"))
    bad, *_ = restore(sources=("disk", "tape0")).records
    assert (bad.replica, bad.ok) == ("disk", False)
    packed.vault.rename(packed.vault.with_name("unmounted"))
    with pytest.raises(Transient, match="no copy can be reached"):
        restore(sources=("disk",), target=tmp_path / "out2")


def test_to_wait_for_a_tape_uses_no_attempt(restore, packed, bench, monkeypatch):
    monkeypatch.setattr(bench.tiers["tape"], "poll", lambda _t: {packed.copies[0].location: "pending"})
    with pytest.raises(NotYet, match="still bringing"):
        restore(sources=("tape0",))


def test_while_a_cartridge_is_in_use_the_other_copy_is_read(restore, packed, bench, tmp_path, monkeypatch):
    """Somebody reads it whole, for hours; and nothing is known against the copy on it."""
    in_use, fetch = {packed.copies[0].location}, bench.tiers["tape"].fetch

    def or_not(placed, *more, **named):
        if placed.location in in_use:
            raise InUse("the cartridge is in use by another process")
        return fetch(placed, *more, **named)

    monkeypatch.setattr(bench.tiers["tape"], "fetch", or_not)
    result = restore(sources=("tape0", "tape1"))
    assert [r for r in result.records if isinstance(r, Checked)] == []
    (given,) = [r for r in result.records if isinstance(r, GivenBack)]
    assert given.tier == "tape"
    assert _there(tmp_path / "out", packed.names) == packed.before
    in_use.add(packed.copies[1].location)
    with pytest.raises(InUse):
        restore(sources=("tape0", "tape1"), target=tmp_path / "out2")
