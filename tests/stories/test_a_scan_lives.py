"""From the first file to two copies on tape, and everything that the commands promise to tell on the way."""

import shutil
from datetime import datetime

import pytest

_STAGES = {
    "complete",
    "previewed",
    "packed",
    "replicated",
    "archived",
    "reconstructed",
    "accepted",
    "reduced",
    "exported",
    "pruned",
}
_WORDS = {"done", "due", "waiting", "held", "off"}


@pytest.fixture(scope="module")
def site(new_site):
    site = new_site("edf", "bliss", without=())
    site.write("edf", "bone_")
    site.write("bliss", "foam")
    site.live()
    return site


def _is_time(text):
    return text is None or (text.endswith("Z") and datetime.fromisoformat(text).tzinfo is not None)


def test_every_stage_is_reached(site):
    scans = site.scans()
    assert set(scans) == {"bone_", "foam_0001"}
    for scan in scans.values():
        done = {stage for stage, status in scan["stages"].items() if status == "done"}
        assert done == {"complete", "previewed", "packed", "archived", "reconstructed"}
        assert scan["stages"]["accepted"] == "waiting"
        assert scan["stages"]["pruned"] == "off", "prune is off, and no rule asks for it"
        assert scan["stages"]["reduced"] == scan["stages"]["exported"] == "off"


def test_scan_list_tells_every_scan(site):
    scans = site.ask("scan", "list")["scans"]
    for scan in scans:
        for key in ("id", "name", "path", "area", "format", "owner"):
            assert isinstance(scan[key], str), key
        for key in ("beamline", "proposal", "sample", "set"):
            assert scan[key] is None or isinstance(scan[key], str), key
        assert isinstance(scan["bytes"], int)
        assert isinstance(scan["files"], int)
        assert _is_time(scan["acquired_at"])
        assert set(scan["stages"]) == _STAGES
        assert set(scan["stages"].values()) <= _WORDS
    assert [s["name"] for s in site.ask("scan", "list", "--where", "format == 'edf'")["scans"]] == ["bone_"]


def test_scan_show_tells_all_that_is_promised(site, replicas):
    for name, kind in (("bone_", "edf"), ("foam_0001", "bliss")):
        page = site.show(name)
        assert page["format"] == kind
        certificate = page["certificate"]
        assert certificate["verdict"] == "complete"
        assert certificate["found"] == certificate["expected"]
        assert set(certificate["found"]) == {"projections", "flats", "darks"}
        assert certificate["problems"] == []
        assert all(isinstance(text, str) for text in certificate["evidence"])
        assert certificate["evidence"]
        for key in ("energy", "distance", "pixel_size", "exposure", "scan_range", "n_projections"):
            condition = page["conditions"][key]
            assert set(condition) == {"value", "unit", "source"}, key
            assert isinstance(condition["value"], int | float), key
        assert {p["product"] for p in page["products"]} == {"original", "preview", "volume"}
        assert all(len(p["digest"]) == 64 and set(p["stages"]) <= _STAGES for p in page["products"])
        for replica in page["replicas"]:
            assert {"id", "product", "form", "tier", "location", "bytes", "state", "sha256"} <= set(replica)
            assert isinstance(replica["bytes"], int)
            assert replica["form"] in ("files", "package")
            assert _is_time(replica["written_at"])
            assert _is_time(replica["verified_at"])
        copies = replicas(page, tier="tape", product="original", state="verified")
        assert len({c["location"].split("#")[0] for c in copies}) == 2
        assert all((site.folder / "tape" / "cartridges" / c["location"].split("#")[0]).exists() for c in copies)
        original = next(p["digest"] for p in page["products"] if p["product"] == "original")
        (files,) = replicas(page, product="original", form="files")
        assert files["sha256"] == original
        assert len(page["processings"]) == 2, "preview and volume"
        for run in page["processings"]:
            assert {"id", "engine_version", "outputs"} <= set(run)
            assert run["engine"] == "fourier"
            assert isinstance(run["parameters"], dict)
            assert _is_time(run["started_at"])
            assert _is_time(run["finished_at"])
        assert page["reductions"] == []
        assert {j["status"] for j in page["jobs"]} == {"succeeded"}
        assert all({"id", "action", "attempts", "error", "rule"} <= set(j) for j in page["jobs"])


def test_the_volume_and_the_package_can_be_opened(site, replicas):
    import h5py
    import hdf5plugin  # noqa: F401 - registers the codecs

    page = site.show("bone_")
    (package,) = replicas(page, product="original", form="package", tier="edf")
    with h5py.File(package["location"], locking=False) as file:
        detector = file["/entry/instrument/detector"]
        assert len(detector["data"]) == len(detector["image_key"])
        assert detector["data"][0].shape == (24, 32)
        manifest = file["/tomovault/manifest"][()]
    assert b'"mtime_ns"' in manifest
    (volume,) = replicas(page, product="volume")
    assert volume["location"].endswith(".volume.h5")
    with h5py.File(volume["location"], locking=False) as file:
        assert file["/entry/reconstruction/results/data"].ndim == 3


@pytest.mark.parametrize("by", ["area", "tier", "proposal", "owner", "beamline"])
def test_quota(site, by):
    page = site.ask("quota", "--by", by)
    assert _is_time(page["at"])
    assert page["by"] == by
    assert page["rows"]
    for row in page["rows"]:
        assert {by, "bytes", "files", "scans", "limit_bytes", "used_fraction", "high", "low", "days_to_full"} <= set(
            row
        )
        assert isinstance(row["bytes"], int)
        assert row["bytes"] > 0
    if by == "area":
        stored = {s["area"]: 0 for s in site.scans().values()}
        for name in site.scans():
            for replica in site.show(name)["replicas"]:
                if replica["tier"] in stored:
                    stored[replica["tier"]] += replica["bytes"]
        assert {row["area"]: row["bytes"] for row in page["rows"]} == stored


def test_verify_status_preview_and_doctor(site):
    verified = site.ask("verify", "--all")
    assert verified["bad"] == []
    assert verified["checked"] == verified["ok"] == sum(len(site.show(n)["replicas"]) for n in site.scans())
    status = site.ask("status")
    assert status["daemon"]["running"] is False
    assert status["daemon"]["leader"] is None
    assert set(status["jobs"]) == {"todo", "doing", "succeeded", "failed", "cancelled"}
    assert status["failed"] == []
    assert {a["area"] for a in status["areas"]} == {"edf", "bliss"}
    for rule in site.ask("policy", "preview")["rules"]:
        assert isinstance(rule["rule"], str)
        assert isinstance(rule["action"], str)
        assert rule["scans"] == []
        assert rule["bytes_freed"] == {}
    for check in site.ask("doctor")["checks"]:
        assert {"name", "ok", "detail", "hint"} <= set(check)
        assert isinstance(check["ok"], bool)
    stages = {s["stage"]: s for s in site.ask("explain", "bone_")["stages"]}
    assert set(stages) == _STAGES
    assert stages["pruned"]["status"] == "off"
    assert stages["pruned"]["reason"]
    assert stages["archived"]["rule"] == "archive@standard:1"
    assert site.ask("audit", "verify")["ok"] is True
    assert site.ask("catalogue", "check") == {"ok": True, "problems": []}


def test_a_person_accepts_the_volume(site):
    site.ask("accept", "bone_", "--reason", "looked at it")
    assert site.scans()["bone_"]["stages"]["accepted"] == "done"
    assert site.scans()["foam_0001"]["stages"]["accepted"] == "waiting"


def test_nothing_is_done_again_after_a_restart(site):
    before = site.actions()
    site.live()
    after = site.actions()
    assert after == before


def test_the_volume_comes_back(site, tmp_path):
    given = site.ask("restore", "bone_", "--to", str(tmp_path), "--product", "volume", "--wait")
    assert given["files"] == 1
    assert [p.suffix for p in tmp_path.iterdir()] == [".h5"]


class TestExitCodes:
    def test_wrong_requests(self, site, tmp_path):
        assert "no scan is known" in site.refuse("scan", "show", "nobody", code=2)
        site.refuse("restore", "bone_", "--to", str(tmp_path), "--frames", "5", code=2)
        site.refuse("no-such-command", code=2)
        policy = tmp_path / "mine.yaml"
        policy.write_text("name: mine\nversion: 1\nrules:\n  - {name: a, do: pak}\n")
        assert site.say("policy", "check", str(policy)).code == 2

    def test_nothing_here_may_be_refused_silently(self, site):
        said = site.say("prune", "undo", "bone_")
        assert said.code == 2
        assert "quarantine" in said.err

    def test_a_site_cannot_be_made_twice(self, site):
        assert "is a site" in site.refuse("init", str(site.folder), code=2)

    def test_an_area_of_another_name_is_refused(self, site, new_site, tmp_path):
        said = site.say("init", str(tmp_path / "other"), "--area", f"mine={site.areas['edf']}", "--simulated")
        assert said.code == 3
        assert "already marked" in said.err


def test_a_real_scan_of_a_beamline_lives(new_site, data_folder, digests, tmp_path):
    """A whole BLISS scan as the beamline wrote it, with what users made of it beside."""
    site = new_site("bm05", without=())
    shutil.copytree(data_folder / "bliss", site.areas["bm05"], dirs_exist_ok=True, copy_function=shutil.copy)
    for path in [site.areas["bm05"], *site.areas["bm05"].rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    site.live()
    (name,) = [n for n, s in site.scans().items() if s["format"] == "bliss"]
    page = site.show(name)
    assert page["certificate"]["verdict"] == "complete", page["certificate"]
    assert page["stages"]["archived"] == page["stages"]["previewed"] == "done"
    assert page["beamline"] == "BM05"
    source = data_folder / "bliss" / "RAW_DATA" / "TestEwoksTomo" / "TestEwoksTomo_0010"
    said = site.say("restore", name, "--to", str(tmp_path), "--from", "tape", "--wait")
    assert said.code == 0, said.err
    assert "A cartridge has to be read for it: expected at 20" in said.err
    assert digests(tmp_path) == digests(source)
    assert digests(site.areas["bm05"] / "RAW_DATA") == digests(data_folder / "bliss" / "RAW_DATA"), (
        "nothing was touched"
    )
