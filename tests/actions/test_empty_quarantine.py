"""Phase two on a tier of folders: it ends from every kill point, and nothing that was not checked goes by its name."""

import os
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import pytest

from tomovault.actions.empty_quarantine import EmptyQuarantine
from tomovault.actions.prune import Prune
from tomovault.core.errors import Transient
from tomovault.core.ports import Parcel
from tomovault.core.record import Outcome, Removed
from tomovault.core.replica import StoredFile
from tomovault.core.wire import to_plain
from tomovault.tiers.place import Place, mark_place
from tomovault.tiers.posix import PosixTier
from tomovault.tiers.sidecar import SIDECAR

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Killed(BaseException):
    """What a kill -9 looks like from inside."""


@pytest.fixture
def mirrored(packed, bench, tmp_path):
    """A package on a marked mirror, moved to the mirror's quarantine; `empty` does the second phase."""
    root = tmp_path / "mirror"
    root.mkdir()
    marker = Place("mirror", str(root), str(tmp_path / "site" / "mirror.json"))
    mark_place(marker, NOW)
    tier = PosixTier("mirror", {"path": str(root), "record": marker.record, "domain": "mirror"}, now=lambda: NOW)
    bench.tiers["mirror"] = tier
    parcel = Parcel("s1", "scan", "original", packed.digest, packed.files, Path(packed.manifest).read_text(), "grp")
    (placed,) = tier.put([parcel], "mirror", job="j0", throttle=bench.throttle(""), checkpoint=lambda _n: None)
    place = {"below": str(root), "root": placed.location, "quarantine": str(root / ".tomovault" / "quarantine" / "m1")}
    order = {"permit": "m1", "area_path": str(root), "identity": None, "tier": to_plain(marker), "place": place}
    Prune().perform(
        {
            **order,
            "form": "package",
            "area": "inhouse",
            "manifest": packed.manifest,
            "files": to_plain(placed.files),
            "keep": [],
            "readme": "",
        },
        bench,
    )
    folder, package = Path(placed.location), Path(placed.files[0].location)
    assert (package.exists(), os.listdir(folder)) == (False, [SIDECAR])

    def empty():
        second = {**order, "area": "inhouse", "placed": to_plain(placed), "tier_name": "mirror"}
        return EmptyQuarantine().perform(second, bench)

    size = sum(f.size for f in placed.files)
    return SimpleNamespace(root=root, folder=folder, package=package, size=size, tier=tier, placed=placed, empty=empty)


def test_what_was_placed_goes_with_its_manifest_and_its_folder(mirrored):
    result = mirrored.empty()
    assert result.outcome is Outcome.SUCCEEDED
    assert result.records == (Removed("m1", 1, mirrored.size),)
    assert not mirrored.folder.exists()


@pytest.mark.parametrize(
    "point", ["remove.begin", "remove.file", "remove.done", "remove.manifest", "remove.folder", "none"]
)
def test_killed_anywhere_the_next_run_ends_it(mirrored, bench, monkeypatch, point):
    def die(reached):
        if reached == point:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(bench, "checkpoint", die)
        try:
            mirrored.empty()
            assert point == "none"
        except Killed:
            pass
    for _ in range(2):
        assert mirrored.empty().outcome is Outcome.SUCCEEDED
        assert not mirrored.folder.exists()
    assert list(mirrored.tier.inventory()) == []


def test_other_bytes_at_the_place_of_the_package_stay_and_are_told(mirrored):
    mirrored.package.write_bytes(b"what a person put there")
    for _ in range(2):
        (record,) = mirrored.empty().records
        assert record.left == (mirrored.package.name,)
        assert mirrored.package.read_bytes() == b"what a person put there"
        assert os.listdir(mirrored.folder) == [mirrored.package.name]


@pytest.mark.parametrize("text", ["{", '{"tomovault-parcel": 1, "sha256": "0", "parcel": {}}'])
def test_a_manifest_that_is_not_ours_any_more_stays_and_is_told(mirrored, text):
    (mirrored.folder / SIDECAR).write_text(text)
    (record,) = mirrored.empty().records
    assert record.left == (SIDECAR,)
    assert (mirrored.folder / SIDECAR).read_text() == text


def test_the_manifest_of_another_package_stays(mirrored, bench, packed, tmp_path):
    other = tmp_path / "other.tomo.h5"
    other.write_bytes(b"x" * 9)
    stored = StoredFile(str(other), 9, sha256(b"x" * 9).hexdigest())
    parcel = Parcel("s2", "scan2", "original", "b" * 64, (stored,), "{}", "grp")
    more = {"job": "j0", "throttle": bench.throttle(""), "checkpoint": lambda _n: None}
    (foreign,) = mirrored.tier.put([parcel], "mirror", **more)
    os.replace(Path(foreign.location) / SIDECAR, mirrored.folder / SIDECAR)
    (record,) = mirrored.empty().records
    assert record.left == (SIDECAR,)


def test_a_group_folder_that_is_gone_is_no_error(mirrored, bench):
    mirrored.empty()
    mirrored.folder.parent.rmdir()
    assert mirrored.empty().outcome is Outcome.SUCCEEDED


def test_the_manifest_stays_where_the_claim_is_lost(mirrored, bench):
    lost_at = []

    def lose(name):
        lost_at.append(name)
        bench.current = name != "remove.done"

    bench.checkpoint = lose
    with pytest.raises(Transient, match="claim"):
        mirrored.empty()
    assert lost_at[-1] == "remove.done"
    assert os.listdir(mirrored.folder) == [SIDECAR]
