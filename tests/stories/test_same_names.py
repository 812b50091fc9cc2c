"""Two scans of one name in one folder: neither takes the place of what the vault keeps of the other."""

import os
import shutil

import pytest

from tomovault.testing.one_file_scan import write_one_file_scan

_SMALL = {"shape": (24, 32), "projections": 8, "flats": 2, "darks": 2}
_ROOM = {"prune": "on", "quota": "1kB", "high": "50%", "low": "20%"}


@pytest.fixture(scope="module")
def lived(new_site, digests):
    """`bone.nx` beside `bone.h5`, and a BLISS master beside the NXtomo file that was made of it, with previews."""
    site = new_site("hutch", "bliss", without=("reconstruct-small",))
    area = site.areas["hutch"]
    write_one_file_scan(str(area), "bone", variant="nxtomo-plain", seed=1, **_SMALL)
    write_one_file_scan(str(area), "bone", variant="dataexchange-plain", seed=2, **_SMALL)
    dataset = site.write("bliss", "wood")
    write_one_file_scan(str(site.base / "made"), dataset.name, variant="nxtomo-plain", seed=3, **_SMALL)
    shutil.copy(site.base / "made" / dataset.name / f"{dataset.name}.nx", dataset)
    site.age()
    site.live()
    site.written = {name: digests(path) for name, path in site.areas.items()}
    return site


def _pages(site):
    return [site.show(scan["id"]) for scan in site.ask("scan", "list")["scans"]]


def test_each_is_previewed_packed_archived_and_re_read(lived):
    pages = _pages(lived)
    assert sorted(p["format"] for p in pages) == ["bliss", "dataexchange", "nxtomo", "nxtomo"]
    for page in pages:
        wanted = {page["stages"][stage] for stage in ("complete", "previewed", "packed", "archived")}
        assert wanted == {"done"}, (page["name"], page["format"], page["stages"])
    assert lived.ask("verify", "--all")["bad"] == []


def test_each_has_files_of_its_own_in_the_vault_and_one_keeps_the_plain_name(lived, replicas):
    kept = {}
    for page in _pages(lived):
        for product in ("original", "preview"):
            (copy,) = replicas(page, form="package", product=product, tier=page["area"])
            kept.setdefault(copy["location"], []).append(page["id"])
    assert len(kept) == 8
    assert all(len(ids) == 1 for ids in kept.values())
    names = {os.path.basename(path) for path in kept}
    for stem in ("bone", "wood_0001"):
        assert {f"{stem}.tomo.h5", f"{stem}.preview.h5"} <= names


def test_each_is_pruned_and_comes_back_byte_for_byte(lived, digests, tmp_path):
    lived.change(areas=dict.fromkeys(lived.areas, _ROOM))
    lived.live()
    for page in _pages(lived):
        assert page["stages"]["pruned"] == "done", (page["format"], page["stages"])
        for tier in ((), ("--from", "tape")):
            target = tmp_path / f"{page['id']}{len(tier)}"
            given = lived.ask("restore", page["id"], "--to", str(target), *tier, "--wait")
            assert given["files"] == page["files"]
            root = os.path.relpath(page["path"], lived.areas[page["area"]])
            before = lived.written[page["area"]]
            for path, digest in digests(target).items():
                assert digest == before[os.path.normpath(os.path.join(root, path))], path
    assert lived.ask("verify", "--all")["bad"] == []
