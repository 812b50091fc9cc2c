"""Restores into a watched area, and products given back as files: what is on the disk at each moment."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from tomovault.actions.restore import Restore
from tomovault.core.errors import AreaAbsent, UserError
from tomovault.core.mark import MARK, read_mark
from tomovault.core.record import Outcome, Stored
from tomovault.core.wire import to_plain
from tomovault.tiers import ground


@pytest.fixture
def give(packed, bench):
    """Called to restore the scan into a folder of its area; returns the result."""

    def perform(target, *, whole=True, **more):
        source = {
            "replica": "disk",
            "tier": "inhouse",
            "tier_class": "server",
            "domain": "d",
            "location": packed.files[0].location,
            "files": to_plain(packed.files),
            "on_disk": True,
        }
        watched = {"area": "inhouse", "path": str(packed.area), "identity": to_plain(packed.identity), "domain": "d"}
        order = {
            "scan_name": "scan",
            "root": str(packed.root),
            "product": "original",
            "digest": packed.digest,
            "sources": [source],
            "target": str(target),
            "watched": watched,
            "elsewhere": {"scan": "s1", "bytes": 6004, "whole": whole},
        }
        return Restore().perform({**order, **more}, bench)

    return perform


def _marked(folder):
    return read_mark((folder / MARK).read_bytes())


def test_the_mark_is_there_before_any_file_and_the_replica_after_all(give, packed, bench):
    target = packed.area / "a" / "b"
    seen = []

    def checkpoint(name):
        names = sorted(p.name for p in target.rglob("*") if not p.name.startswith(".") and p.is_file())
        seen.append((name, (target / MARK).exists(), len(names)))

    bench.checkpoint = checkpoint
    stored, given = give(target).records
    assert ("restore.mark", False, 0) in seen
    assert [name for name, marked, count in seen if count and not marked] == []
    assert isinstance(stored, Stored)
    assert (stored.tier, stored.location, stored.form, stored.verified_at) == ("inhouse", str(target), "files", None)
    assert stored.pinned_until is None
    assert not given.original_place
    (marked,) = _marked(target)
    assert (marked.scan, marked.digest, marked.whole, marked.area) == ("s1", packed.digest, True, packed.identity.uuid)
    for file in marked.files:
        state = os.lstat(target / file.path)
        assert file.link_target is not None or (state.st_size, state.st_mtime_ns) == (file.size, file.mtime_ns)
    assert {f.path for f in marked.files} == set(packed.names)


def test_a_part_is_marked_and_is_no_replica(give, packed):
    target = packed.area / "part"
    (given,) = give(target, whole=False, files=["f1*"]).records
    assert given.files == 1
    assert [(m.whole, [f.path for f in m.files]) for m in _marked(target)] == [(False, ["f1.edf"])]
    give(target, whole=False, files=["f2*"])
    assert [[f.path for f in m.files] for m in _marked(target)] == [["f1.edf", "f2.edf"]]
    give(target)
    assert [(m.whole, len(m.files)) for m in _marked(target)] == [(True, 5)]


def test_a_damaged_mark_is_replaced_and_a_linked_one_not_followed(give, packed, tmp_path):
    target = packed.area / "again"
    target.mkdir()
    (target / MARK).write_text("[" * 100_000)
    give(target)
    assert len(_marked(target)) == 1
    (tmp_path / "mine").write_text("mine")
    (target / MARK).unlink()
    (target / MARK).symlink_to(tmp_path / "mine")
    give(target)
    assert len(_marked(target)) == 1
    assert (tmp_path / "mine").read_text() == "mine"


def test_no_link_is_followed_on_the_way_to_the_target(give, packed, tmp_path):
    (tmp_path / "outside").mkdir()
    (packed.area / "way").symlink_to(tmp_path / "outside")
    with pytest.raises(UserError):
        give(packed.area / "way" / "in")
    assert list((tmp_path / "outside").iterdir()) == []


def test_nothing_is_written_where_the_area_is_another(give, packed):
    identity = to_plain(replace(packed.identity, uuid="00000000-0000-0000-0000-000000000000"))
    watched = {"area": "inhouse", "path": str(packed.area), "identity": identity, "domain": "d"}
    with pytest.raises(AreaAbsent):
        give(packed.area / "x", watched=watched)
    assert not (packed.area / "x").exists()


# --- products given back as files -------------------------------------------------------------------


def test_what_a_restore_made_is_on_its_mark_with_its_time(give, packed):
    """So that no inspection has to read it again."""
    target = packed.area / "volume"
    (given,) = give(target, whole=False, product="volume").records
    state = (target / "scan.tomo.h5").stat()
    (made,) = given.made
    assert (made.location, made.size, made.mtime_ns) == ("scan.tomo.h5", state.st_size, state.st_mtime_ns)
    (marked,) = _marked(target)
    assert [(f.path, f.size, f.mtime_ns, f.sha256) for f in marked.files] == [
        ("scan.tomo.h5", -1, state.st_mtime_ns, made.sha256)
    ]


def test_a_copy_of_a_file_that_fails_leaves_nothing(give, packed, bench, monkeypatch):
    target = packed.area / "volume"

    class Full:
        def spend(self, _count):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(bench, "throttle", lambda _place: Full())
    with pytest.raises(OSError, match="No space"):
        give(target, whole=False, product="volume")
    assert [p.name for p in target.iterdir()] == [MARK]


@pytest.mark.parametrize("at_once", [True, False], ids=["renameat2", "without"])
def test_what_appears_while_a_product_is_copied_is_left(give, packed, bench, monkeypatch, at_once):
    target = packed.area / "volume"

    class Appear:
        def spend(self, _count):
            (target / "scan.tomo.h5").write_text("mine")

    monkeypatch.setattr(bench, "throttle", lambda _place: Appear())
    if not at_once:
        monkeypatch.setattr(ground, "_RENAME_NOREPLACE", 1 << 20)
    with pytest.raises(UserError, match="exists"):
        give(target, whole=False, product="volume")
    assert (target / "scan.tomo.h5").read_text() == "mine"
    assert sorted(p.name for p in target.iterdir()) == sorted([MARK, "scan.tomo.h5"])


def test_a_damaged_file_of_ours_leaves_nothing(give, packed):
    target = packed.area / "volume"
    path = Path(packed.files[0].location)
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    result = give(target, whole=False, product="volume")
    assert result.outcome is Outcome.DAMAGED
    assert [p.name for p in target.iterdir()] == [MARK]


@pytest.mark.parametrize("planted", ["scan.tomo.h5", ".scan.tomo.h5.j1"])
def test_a_planted_link_is_never_written_through(give, packed, tmp_path, planted):
    target = packed.area / "volume"
    target.mkdir()
    (tmp_path / "mine").write_text("mine")
    (target / planted).symlink_to(tmp_path / "mine")
    if planted == "scan.tomo.h5":
        with pytest.raises(UserError, match="exists"):
            give(target, whole=False, product="volume")
    result = give(target, whole=False, product="volume", overwrite=True)
    assert result.outcome is Outcome.SUCCEEDED
    assert (tmp_path / "mine").read_text() == "mine"
    assert not (target / "scan.tomo.h5").is_symlink()
    assert (target / "scan.tomo.h5").read_bytes() == Path(packed.files[0].location).read_bytes()
