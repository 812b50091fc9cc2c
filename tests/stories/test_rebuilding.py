"""The catalogue is lost, and what is on the cartridges is all that anybody knows."""

import contextlib
import shutil

import pytest

from tomovault.catalog.rebuilding import list_strangers
from tomovault.vault.rebuilding import rebuild
from tomovault.vault.vault import Vault

_SCANS = 4
_LOST = ("catalogue.db", "catalogue.db-wal", "catalogue.db-shm", "manifests", "run", "audit-heads.jsonl")

#: What no medium can know, as the operator's guide lists it.
_UNKNOWN = {"jobs", "pins", "permits", "transfers", "restored", "stages", "accepted_by"}


@pytest.fixture(scope="module")
def lived(new_site, digests):
    """A site with scans that are archived in two pools, what was known of them, and their files."""
    site = new_site("edf")
    if not (site.folder / "catalogue.db").exists():
        # How a lost catalogue of a server is replaced is the server's; what is then written goes through the same code.
        pytest.skip("a catalogue in a file is taken away here")
    folders = {f"bone{n:02}_": site.write("edf", f"bone{n:02}_", seed=n + 1) for n in range(_SCANS)}
    site.live()
    pages = {name: site.show(name) for name in folders}
    assert all(page["stages"]["archived"] == "done" for page in pages.values())
    return site, pages, {name: digests(folder) for name, folder in folders.items()}


def _lose(site):
    for name in _LOST:
        path = site.folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _told(page):
    """What a page tells that a medium can know."""
    kept = {key: value for key, value in page.items() if key not in _UNKNOWN}
    kept["products"] = [(p["product"], p["digest"], p["bytes"], p["files"], p["lossless"]) for p in page["products"]]
    kept["replicas"] = _on_tape(page)
    return kept


def _on_tape(page, **wanted):
    rows = [r for r in page["replicas"] if r["tier"] == "tape" and all(r[k] == v for k, v in wanted.items())]
    return sorted((r["location"], r["domain"], r["bytes"], r["sha256"], r["form"]) for r in rows)


@pytest.fixture(scope="module")
def rebuilt(lived):
    """The catalogue was lost and rebuilt; the first run was stopped on its way."""
    site, _, _ = lived
    _lose(site)

    def stop(done, total):
        if done * 2 > total:
            raise KeyboardInterrupt

    with contextlib.closing(Vault.open(site.folder)) as vault:
        assert rebuild(vault, "tape", stop).stopped
    first = len(site.scans())
    assert first
    return site, first, site.ask("catalogue", "rebuild", "--from", "tape")


def test_an_interrupted_run_goes_on(rebuilt):
    _, first, page = rebuilt
    assert page["scans"] == page["products"] == _SCANS - first
    assert page["damaged"] == []


def test_everything_is_back(rebuilt, lived):
    site, _, _ = rebuilt
    _, before, _ = lived
    assert set(site.scans()) == set(before)
    for name, page in before.items():
        after = site.show(name)
        assert _told(after) == _told(page)
        assert {r["state"] for r in after["replicas"] if r["tier"] == "tape"} == {"present"}
        assert [r["verified_at"] for r in after["replicas"]] == [None] * len(after["replicas"])
    assert site.ask("catalogue", "check")["ok"] is True
    assert site.ask("audit", "verify")["ok"] is True


def test_once_more_adds_nothing(rebuilt):
    site, _, _ = rebuilt
    page = site.ask("catalogue", "rebuild", "--from", "tape")
    assert [page[key] for key in ("scans", "products", "replicas", "suspect", "damaged")] == [0, 0, 0, 0, []]


def test_nothing_may_go_before_it_was_read_again(rebuilt, lived, digests):
    """Originals are found again as the same scans, and neither removed nor packed or archived once more."""
    site, _, _ = rebuilt
    _, before, written = lived
    site.pruned("bone00_")
    site.live()
    assert {n: s["id"] for n, s in site.scans().items()} == {n: p["id"] for n, p in before.items()}
    assert {action for action, _ in site.actions()} <= {"inspect"}
    for name, page in before.items():
        after = site.show(name)
        assert after["permits"] == []
        (files,) = [r for r in after["replicas"] if r["form"] == "files"]
        assert (files["state"], files["location"]) == ("present", page["path"])
        kept = digests(site.areas["edf"] / name)
        assert {path: kept[path] for path in written[name]} == written[name]
    told = site.ask("explain", "bone00_")["stages"]
    assert "verify" in str([row for row in told if row["stage"] in ("packed", "archived")])


def test_what_is_read_again_counts(rebuilt, lived, tmp_path, digests):
    site, _, _ = rebuilt
    _, _, written = lived
    site.change(areas={"edf": {"prune": "off"}})
    assert site.ask("verify", "--all")["bad"] == []
    site.live()
    assert "archive" not in {action for action, _ in site.actions()}
    for page in map(site.show, ("bone00_", "bone03_")):
        assert {r["state"] for r in page["replicas"]} == {"verified"}
        assert page["stages"]["archived"] == "done"
    site.ask("restore", "bone02_", "--to", str(tmp_path / "back"), "--from", "tape", "--wait")
    assert digests(tmp_path / "back") == written["bone02_"]
    site.pruned("bone00_")
    site.live()
    assert any(site.show(name)["permits"] for name in written), "the same room is made now that the copies count"


def test_damage_is_named_and_hides_nothing_else(lived, rebuilt):
    """One cartridge with a flipped bit, and one that was cut."""
    site, before = lived[0], lived[1]
    _lose(site)
    (flipped,), (cut,) = ([*(site.folder / "tape" / "cartridges").glob(f"{pool}*")] for pool in "AB")
    content = bytearray(flipped.read_bytes())
    content[len(content) // 2] ^= 1
    flipped.write_bytes(content)
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 3])
    page = site.ask("catalogue", "rebuild", "--from", "tape", code=4)
    bad = {one["location"].partition("/")[0] for one in page["damaged"]}
    assert all(one["reason"] for one in page["damaged"])
    assert len([place for place in bad if place.startswith("A")]) == 1
    assert len([place for place in bad if place.startswith("B")]) >= _SCANS // 2
    after = {s["id"]: site.show(s["id"]) for s in site.ask("scan", "list")["scans"]}
    for scan in before.values():
        intact = [row for row in _on_tape(scan) if row[0] not in bad]
        assert intact == (_on_tape(after[scan["id"]], state="present") if scan["id"] in after else [])


def test_a_catalogue_with_other_scans_is_refused(new_site):
    site = new_site("edf")
    site.write("edf", "other_")
    site.change(tiers={"disk": {"kind": "posix", "path": "disk", "class": "archive"}})
    (site.folder / "disk").mkdir()
    site.live(failed_ok=True)
    with contextlib.closing(Vault.open(site.folder)) as vault, vault.catalogue.reading() as tx:
        assert list(list_strangers(tx).values()) == ["other_"]
    assert "scans that are not on the tier" in site.refuse("catalogue", "rebuild", "--from", "disk", code=3)
    site.refuse("catalogue", "rebuild", "--from", "nowhere", code=2)
