"""Names of files in the vault: the scan's own, told apart where another scan has it."""

import os
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from tomovault.core.record import Inspected, Made, Stored
from tomovault.core.replica import Form, ProductKind, ReplicaState, StoredFile
from tomovault.core.scan import (
    Candidate,
    Certificate,
    FileRole,
    FileState,
    FrameCounts,
    ScanFile,
    ScanReport,
    Verdict,
)
from tomovault.package.names import check_stem
from tomovault.vault.stems import own_locations, stem_of

_COUNTS = FrameCounts(2, 1, 1)


def _see(town, name, format_name, identity="one", later=0):
    """A complete scan of a format was seen in the folder `s`, so much later; returns its id."""
    root = str(town.area / "s")
    file = ScanFile(FileState(f"{name}.{format_name}", 9, 1000, 1000, 1, 1, 0o100644), FileRole.MASTER)
    report = ScanReport(
        format=format_name,
        name=name,
        root=root,
        entry="",
        identity=identity,
        certificate=Certificate(Verdict.COMPLETE, _COUNTS, _COUNTS),
        files=(file,),
    )
    seen = Inspected(Candidate(format_name, root, name), "snap", True, (report,))
    with town.vault.catalogue.writing() as tx:
        return town.vault.catalogue.record_inspected(tx, "inhouse", seen, town.now + timedelta(seconds=later))[0]


def _stem(town, scan):
    with town.vault.catalogue.reading() as tx:
        return stem_of(town.vault.catalogue.known(tx, scan), town.vault, tx)


def _store(town, scan, stem, kind=ProductKind.ORIGINAL, ending=".tomo.h5"):
    """The scan has a product under a stem in the vault; returns where."""
    digest = os.fsencode(scan + kind).hex().ljust(64, "0")[:64]
    location = str(Path(town.vault.site.areas["inhouse"].vault, "s", stem + ending))
    manifest = '{"files": []}' if kind is ProductKind.ORIGINAL else ""
    file = StoredFile(location, 5, digest)
    copy = Stored(
        *(kind, digest, Form.PACKAGE, "inhouse", "area:inhouse", location, (file,), 5, digest, town.now, town.now)
    )
    with town.vault.catalogue.writing() as tx:
        made = Made(kind, digest, 5, 1, manifest=manifest)
        town.vault.catalogue.apply_records(tx, [made, copy], town.now, scan_id=scan)
    return location


@pytest.fixture
def pair(town):
    """`a` of two formats in one folder, the first seen first."""
    with town.vault.catalogue.writing() as tx:
        town.vault.record_tiers(tx)
    return _see(town, "a", "nxtomo"), _see(town, "a", "bliss", later=1)


def test_a_scan_alone_has_its_plain_name(town):
    assert _stem(town, town.scan("bone_")) == "bone_"


def test_of_two_that_wait_the_first_one_seen_has_the_plain_name(town, pair):
    first, second = pair
    assert [_stem(town, s) for s in pair] == ["a", f"a-{second}"]
    _store(town, first, "a")
    assert [_stem(town, s) for s in pair] == ["a", f"a-{second}"]
    _store(town, second, f"a-{second}")
    assert [_stem(town, s) for s in pair] == ["a", f"a-{second}"]


@pytest.mark.parametrize("kind", [ProductKind.ORIGINAL, ProductKind.PREVIEW, ProductKind.VOLUME])
def test_who_has_files_under_a_name_keeps_it(town, pair, kind):
    first, second = pair
    ending = {"original": ".tomo.h5", "preview": ".preview.h5", "volume": ".volume.h5"}[kind]
    place = _store(town, second, "a", kind, ending)
    assert [_stem(town, s) for s in pair] == [f"a-{first}", "a"]
    with town.vault.catalogue.reading() as tx:
        assert own_locations(town.vault.catalogue.known(tx, second)) == [place]


def test_a_package_goes_before_a_preview(town, pair):
    first, second = pair
    _store(town, first, "a", ProductKind.PREVIEW, ".preview.h5")
    _store(town, second, "a")
    assert [_stem(town, s) for s in pair] == [f"a-{first}", "a"]


def test_a_name_is_told_apart_for_good(town, pair):
    """Whatever becomes of the other scan, and of what has the name."""
    first, second = pair
    _store(town, second, f"a-{second}", ProductKind.PREVIEW, ".preview.h5")
    assert _see(town, "a", "nxtomo", identity="two", later=2) != first
    assert _stem(town, second) == f"a-{second}"


def test_the_name_of_a_package_that_may_be_recalled_is_not_given_away(town, pair):
    first, second = pair
    place = _store(town, first, "a")
    with town.vault.catalogue.writing() as tx:
        known = town.vault.catalogue.known(tx, first)
        (copy,) = known.replicas
        tx.conn.exec_driver_sql(f"UPDATE replica SET state = 'gone' WHERE id = '{copy.id}'")
    assert [_stem(town, s) for s in pair] == ["a", f"a-{second}"]
    with town.vault.catalogue.reading() as tx:
        known = town.vault.catalogue.known(tx, first)
    assert [r.state for r in known.replicas] == [ReplicaState.GONE]
    assert own_locations(known) == [], f"what stands at {place} now is not known to be its"


def test_a_superseded_scan_without_files_holds_no_name(town, pair):
    first, second = pair
    again = _see(town, "a", "nxtomo", identity="two", later=2)
    assert again != first
    assert _stem(town, second) == "a"
    assert _stem(town, again) == "a_2"


def test_names_fit_a_file_system(town, pair):
    _, second = pair
    with town.vault.catalogue.reading() as tx:
        known = town.vault.catalogue.known(tx, second)
        for name in ("n" * 400, "ä" * 150, "/" * 150, ".", "x" * 150, "x" * 136):
            stem = stem_of(replace(known, name=name), town.vault, tx)
            assert check_stem(stem) == stem
