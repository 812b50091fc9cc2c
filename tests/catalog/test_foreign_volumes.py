"""Which volumes of others belong to which scan."""

from __future__ import annotations

import pytest

from tomovault.catalog.foreign_volumes import volumes_of
from tomovault.core.errors import UserError
from tomovault.core.replica import ProductKind
from tomovault.vault.foreign_volume import foreign_volume


@pytest.fixture
def put(site, make, now):
    def go(root, **more):
        report = make.report(root, identity=root, **more)
        with site.writing() as tx:
            return site.record_inspected(tx, "inhouse", make.inspected(report), now)[0]

    return go


@pytest.fixture
def volume(put):
    return lambda root, of, **more: put(root, format="volume", metadata={"of": of}, **more)


def found(site, scan_id):
    with site.reading() as tx:
        return [v.id for v in volumes_of(tx, site.known(tx, scan_id))]


def test_a_volume_is_found_by_the_name_of_its_scan(site, put, volume):
    scan, other = put("/data/inhouse/raw/bone_"), put("/data/inhouse/raw/wood_")
    mine = volume("/data/inhouse/recon/v1", "bone_")
    loose = volume("/data/inhouse/recon/v2", "bone")
    volume("/data/inhouse/recon/v3", "stone")
    assert sorted(found(site, scan)) == sorted([mine, loose])
    assert found(site, other) == []


def test_of_two_scans_of_one_name_the_nearest_has_it(site, put, volume):
    first, second = put("/data/inhouse/a/raw/bone"), put("/data/inhouse/b/raw/bone")
    of_second = volume("/data/inhouse/b/recon/bone", "bone")
    nobodys = volume("/data/inhouse/c/recon/bone", "bone")
    assert found(site, second) == [of_second]
    assert found(site, first) == []
    assert nobodys not in found(site, first) + found(site, second)


def test_the_one_volume_is_given_back_and_several_are_listed(site, make, put, volume, now):
    scan = put("/data/inhouse/raw/bone")
    with site.reading() as tx:
        assert foreign_volume(tx, site.known(tx, scan)) is None
    mine = volume("/data/inhouse/recon/v1", "bone")
    with site.reading() as tx:
        assert foreign_volume(tx, site.known(tx, scan)).id == mine
    second = volume("/data/inhouse/recon/v2", "bone")
    with site.reading() as tx, pytest.raises(UserError, match="others made 2 volumes") as told:
        foreign_volume(tx, site.known(tx, scan))
    assert mine in told.value.hint
    assert second in told.value.hint
    with site.writing() as tx:
        site.apply_records(tx, [make.made(ProductKind.VOLUME, make.digest("f"))], now, scan_id=scan)
    with site.reading() as tx:
        assert foreign_volume(tx, site.known(tx, scan)) is None
