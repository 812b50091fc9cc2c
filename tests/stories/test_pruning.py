"""Originals go when room is short, and come back: whole, in part, from disk, from a cartridge, or out of the hold."""

import json

import h5py
import pytest

_README = "TOMOVAULT-README.txt"
_ROOM = {"prune": "on", "quota": "1kB", "high": "50%", "low": "20%"}


@pytest.fixture(scope="module")
def pruned(new_site, digests):
    """A site where the originals of both scans are gone, and of one its package on disk too; what they were."""
    site = new_site("edf", "bliss")
    roots = {"bone_": site.write("edf", "bone_"), "foam_0001": site.write("bliss", "foam")}
    (roots["bone_"] / "link to a flat").symlink_to("ref0000_0000.edf")
    (site.areas["bliss"] / "paper").mkdir()
    (site.areas["bliss"] / "paper" / "figure").symlink_to(roots["bone_"] / "bone_0003.edf")
    (site.areas["bliss"] / "paper" / "nothing").symlink_to("nowhere")
    (site.areas["edf"] / "the best").symlink_to("bone_")
    site.live()
    site.written = {name: digests(root) for name, root in roots.items()}
    (roots["bone_"] / "notes.txt").write_text("written after it was packed")
    (roots["bone_"] / "bone_.par").write_text("# parameters of a reconstruction")
    (roots["bone_"] / "bone_.vol").write_bytes(b"\0" * 4096)
    site.change(areas={"edf": _ROOM, "bliss": {**_ROOM, "quota": "400kB", "high": "70%", "low": "60%"}})
    site.live()
    return site, roots


def test_originals_are_gone_with_permit_and_readme(pruned, replicas, digests):
    site, roots = pruned
    for name, root in roots.items():
        page = site.show(name)
        assert page["stages"]["pruned"] == "done"
        (files,) = replicas(page, product="original", form="files")
        assert files["state"] == "gone"
        permit = next(p for p in page["permits"] if p["replica"] == files["id"])
        assert permit["phase"] == "gone"
        assert permit["rule"] == "prune-files@standard:1"
        assert len({c["domain"] for c in permit["relied_on"]}) >= 2
        text = (root / _README).read_text()
        assert page["id"] in text
        assert "tomovault restore" in text
    assert not list((site.areas["edf"] / ".tomovault" / "quarantine").glob("*/*")), "the hold is 0 s"
    assert replicas(site.show("foam_0001"), form="package", tier="bliss", state="verified")
    assert replicas(site.show("bone_"), product="original", form="package", tier="edf", state="gone")


def test_links_into_a_removed_scan_are_listed(pruned):
    site, roots = pruned
    links = [str(site.areas["bliss"] / "paper" / "figure"), str(site.areas["edf"] / "the best")]
    page = json.loads(site.say("explain", "bone_", "--json").out)
    assert sorted(link["path"] for link in page["links"]) == sorted(links)
    text = site.say("explain", "bone_").out
    assert "2 links lead to the files of bone_" in text
    assert f"  {links[1]} -> {roots['bone_']}\n" in text
    note = (roots["bone_"] / _README).read_text()
    assert all(f"  {link}\n" in note for link in links)
    assert "paper/nothing" not in note
    assert "link" not in site.say("explain", "foam_0001").out


def test_new_files_stay(pruned):
    _, roots = pruned
    assert sorted(p.name for p in roots["bone_"].iterdir()) == [_README, "bone_.par", "bone_.vol", "notes.txt"]
    assert (roots["bone_"] / "bone_.vol").read_bytes() == b"\0" * 4096


def test_what_a_prune_left_is_no_new_scan(pruned):
    site, _ = pruned
    before = site.actions()
    site.live()
    assert set(site.scans()) == {"bone_", "foam_0001", "bone__volume"}, "the volume that came is a scan of its own"
    assert site.show("bone__volume")["certificate"]["verdict"] == "undecided"
    assert [site.area_status(area)["problems"] for area in site.areas] == [[], []]
    assert [a for a in site.actions()[len(before) :] if a[0] not in ("inspect",)] == []


@pytest.mark.parametrize("name", ["bone_", "foam_0001"])
@pytest.mark.parametrize("tier", [None, "tape"])
def test_restored_bit_for_bit(pruned, name, tier, tmp_path, digests):
    site, _ = pruned
    more = ["--from", tier] if tier else []
    given = site.ask("restore", name, "--to", str(tmp_path), "--wait", *more)
    assert given["tier"] == ("tape" if tier or name == "bone_" else "bliss")
    assert bool(given["cartridge"]) is (given["tier"] == "tape")
    assert digests(tmp_path) == site.written[name]


def test_a_restored_scan_has_its_dates_and_modes(pruned, tmp_path):
    site, _ = pruned
    site.ask("restore", "foam_0001", "--to", str(tmp_path), "--wait")
    manifest = {f["path"]: f for f in _manifest(site, "foam_0001")["files"]}
    for path, entry in manifest.items():
        state = (tmp_path / path).stat()
        assert (state.st_mtime_ns, state.st_mode & 0o7777) == (entry["mtime_ns"], entry["mode"] & 0o7777), path


def _manifest(site, name):
    found = [r for r in site.show(name)["replicas"] if r["form"] == "package" and r["product"] == "original"]
    (package,) = [r for r in found if "#" not in r["location"]]
    with h5py.File(package["location"], locking=False) as file:
        return json.loads(file["/tomovault/manifest"][()])


def test_some_projections_of_a_series(pruned, tmp_path):
    site, _ = pruned
    given = site.ask("restore", "bone_", "--to", str(tmp_path), "--frames", "2:5", "--wait")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bone_0002.edf", "bone_0003.edf", "bone_0004.edf"]
    assert not given["derived"]


def test_some_projections_of_a_master(pruned, tmp_path):
    site, _ = pruned
    given = site.ask("restore", "foam_0001", "--to", str(tmp_path), "--frames", "2:5", "--wait")
    assert given["derived"]
    (path,) = tmp_path.iterdir()
    assert path.name == "foam_0001.frames_2_5.nx"
    with h5py.File(path, locking=False) as file:
        found = []
        file.visititems(lambda _name, item: found.append(item) if getattr(item, "ndim", 0) == 3 else None)
        assert {item.shape for item in found} == {(3, 24, 32)}


def test_flats_darks_and_files(pruned, tmp_path):
    site, _ = pruned
    for kind, start in (("--flats", "ref"), ("--darks", "dark")):
        site.ask("restore", "bone_", "--to", str(tmp_path / kind), kind, "--wait")
        names = [p.name for p in (tmp_path / kind).iterdir()]
        assert names
        assert all(n.startswith(start) for n in names)
        site.ask("restore", "foam_0001", "--to", str(tmp_path / "bliss" / kind), kind, "--wait")
        assert list((tmp_path / "bliss" / kind).rglob("*"))
    site.ask("restore", "bone_", "--to", str(tmp_path / "some"), "--files", "*.info", "--files", "*_0003.edf", "--wait")
    assert sorted(p.name for p in (tmp_path / "some").iterdir()) == ["bone_.info", "bone_0003.edf"]
    assert site.say("restore", "bone_", "--to", str(tmp_path / "x"), "--files", "*.nothing", "--wait").code == 2
    assert site.say("restore", "bone_", "--to", str(tmp_path / "x"), "--frames", "90:95", "--wait").code == 2


def test_a_different_file_is_never_overwritten_unasked(pruned, tmp_path, digests):
    site, _ = pruned
    target = tmp_path / "bone_0001.edf"
    target.write_text("mine")
    said = site.say("restore", "bone_", "--to", str(tmp_path), "--wait")
    assert said.code in (2, 3)
    assert "bone_0001.edf" in said.err
    assert target.read_text() == "mine"
    site.ask("restore", "bone_", "--to", str(tmp_path), "--overwrite", "--wait")
    assert digests(tmp_path) == site.written["bone_"]
    site.ask("restore", "bone_", "--to", str(tmp_path), "--wait")
    assert digests(tmp_path) == site.written["bone_"], "again over the same files"


def test_what_comes_from_tape_stays_for_a_while(pruned):
    """A recall writes a pin, or the area, which is too full for it, would lose it at once."""
    site, _ = pruned
    page = site.show("bone_")
    assert page["pins"]
    site.live()
    assert site.show("bone_")["replicas"] == page["replicas"]


def test_restored_to_its_old_place_it_is_no_new_scan(pruned, digests):
    site, roots = pruned
    site.ask("restore", "bone_", "--to", str(roots["bone_"]), "--wait")
    back = digests(roots["bone_"])
    assert {p: d for p, d in back.items() if p in site.written["bone_"]} == site.written["bone_"]
    site.live()
    assert set(site.scans()) == {"bone_", "foam_0001", "bone__volume"}
    assert {p: d for p, d in digests(roots["bone_"]).items() if p in site.written["bone_"]} == (site.written["bone_"])


def test_everything_still_holds(pruned):
    site, _ = pruned
    assert site.ask("verify", "--all")["bad"] == []
    assert site.ask("audit", "verify")["ok"] is True
    assert site.ask("catalogue", "check") == {"ok": True, "problems": []}


@pytest.fixture(scope="module")
def held(new_site, digests):
    """A site with a hold of a day: one scan in quarantine, one pinned."""
    site = new_site("edf", settings={"quarantine": {"hold": "1d", "limit": "1GB"}})
    roots = [site.write("edf", name, seed=n) for n, name in enumerate(("one_", "two_"))]
    before = [digests(root) for root in roots]
    site.live()
    site.ask("pin", "two_", "--until", "2099-01-01", "--reason", "a paper")
    site.pruned("one_")
    site.live()
    return site, roots, before


class TestHold:
    """What is in quarantine can be taken back; a pin keeps it from going there."""

    def test_a_pin_holds(self, held, digests):
        site, roots, before = held
        assert digests(roots[1]) == before[1]
        stage = next(s for s in site.ask("explain", "two_")["stages"] if s["stage"] == "pruned")
        assert stage["status"] == "held"
        assert "a paper" in stage["reason"]

    def test_a_person_takes_it_back(self, held, digests):
        site, roots, before = held
        (row,) = [r for r in site.ask("prune", "list")["quarantine"] if r["form"] == "files"]
        assert row["name"] == "one_"
        assert row["phase"] == "quarantined"
        assert sorted(p.name for p in roots[0].iterdir()) == [_README]
        area = site.area_status("edf")
        assert area["quarantine_bytes"] >= row["bytes"]
        back = site.ask("prune", "undo", "one_")
        assert {p["phase"] for p in back["permits"]} == {"undone"}
        assert digests(roots[0]) == before[0]
        assert site.ask("prune", "list")["quarantine"] == []
        site.live()
        assert digests(roots[0]) == before[0], "an undo pins"
        assert set(site.scans()) == {"one_", "two_"}
        assert site.show("one_")["stages"]["pruned"] == "held"

    def test_unpinned_it_goes(self, held):
        site, roots, _ = held
        site.ask("unpin", "two_")
        site.live()
        assert site.scans()["two_"]["stages"]["pruned"] == "done"
        assert sorted(p.name for p in roots[1].iterdir()) == [_README]


class TestRealSite:
    """Where data is real the emulated library is no copy, whatever the settings say."""

    def test_nothing_is_pruned(self, new_site, digests, replicas):
        site = new_site("edf", simulated=False)
        root = site.write("edf", "bone_")
        before = digests(root)
        site.live()
        site.pruned("bone_")
        site.live()
        assert digests(root) == before
        page = site.show("bone_")
        assert page["stages"]["pruned"] in ("held", "waiting")
        assert page["permits"] == []
        assert replicas(page, form="package", tier="tape"), "it is archived there all the same"
        (alarm,) = site.area_status("edf")["alarms"]
        assert "nothing may go" in alarm
        assert site.ask("policy", "preview", "--rule", "prune-files")["rules"][0]["bytes_freed"] == {}

        other = site.base / "other"
        said = site.say("init", str(other), "--area", f"edf={site.areas['edf']}", "--simulated")
        assert said.code == 3
        assert "real" in said.err

        site.change(simulated=True)
        site.start("--until-idle").wait(150)
        assert digests(root) == before, "the marker says what the data was called first"
        assert site.show("bone_")["permits"] == []
