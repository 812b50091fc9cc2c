"""A scientist's evening: look at a volume, wish for another, ask for it, and have the first one back as it was."""

from __future__ import annotations

import hashlib
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401 - registers the filter of the volume
import pytest

PRESET = """\
name: evening
version: 1
parameters:
  filter: hann
  rings: sorting
  rings_width: 5
"""


def content_of(page):
    """sha256 of the decoded values of the volume that stands, and whereabouts."""
    (replica,) = [r for r in page["replicas"] if r["product"] == "volume" and r["state"] == "verified"]
    path = Path(replica["location"])
    with h5py.File(path, "r", locking=False) as file:
        return hashlib.sha256(file["/entry/reconstruction/results/data"][()].tobytes()).hexdigest(), path


@pytest.fixture(scope="module")
def site(new_site):
    """A site whose rules archive scans and make no volume: she asks for those that she wants."""
    site = new_site("edf", without=("reconstruct-small", "preview"))
    site.write("edf", "bone_")
    site.write("edf", "wood_", seed=5)
    site.live()
    assert site.show("bone_")["stages"]["reconstructed"] == "off"
    return site


def test_an_evening(site):
    # She has no daemon of her own running, so what she waits for is done by her command.
    page = site.ask("reconstruct", "bone_", "--wait")
    assert page["status"] == "succeeded"
    first = page["processing"]
    plain, path = content_of(site.show("bone_"))
    assert str(path) == page["location"]

    # Rings. Her first try at a preset has two slips of the pen, which are both told before anything is queued.
    presets = site.folder / "presets"
    presets.mkdir()
    (presets / "evening.yaml").write_text(PRESET.replace("rings:", "ring:").replace("hann", "han"), "utf-8")
    said = site.refuse("reconstruct", "bone_", "--preset", "evening", "--wait", code=2)
    assert "evening.yaml:4:11" in said
    assert "unknown key 'ring'; did you mean 'rings'?" in said
    told = site.say("policy", "check")
    assert told.code == 2
    assert "evening.yaml: wrong" in told.out
    (presets / "evening.yaml").write_text(PRESET, "utf-8")
    assert site.say("policy", "check").code == 0

    page = site.ask("reconstruct", "bone_", "--preset", "evening", "--wait")
    assert page["preset"] == {"name": "evening", "version": 1, "of": "presets"}
    cleaner, _ = content_of(site.show("bone_"))
    assert cleaner != plain
    said = site.say("accept", "bone_", "--reason", "no rings").out
    before_it = said[: said.index("is accepted by")]
    assert str(path) in before_it
    assert "centre" in before_it
    assert "preset   evening, version 1" in before_it
    assert site.show("bone_")["accepted_by"]

    # On second thoughts the first was sharper: it is made again as it was, and has to be accepted by itself.
    page = site.ask("reconstruct", "bone_", "--like", first, "--wait")
    assert (page["like"], page["anew"]) == (first, {})
    again, _ = content_of(site.show("bone_"))
    assert again == plain
    shown = site.show("bone_")
    assert shown["accepted_by"] is None
    volumes = [r["state"] for r in shown["replicas"] if r["product"] == "volume"]
    assert sorted(volumes) == ["gone", "verified"]

    # The parameters, for the next sample: what belongs to the scan is found anew, and she is told what.
    before = site.show("wood_")
    said = site.say("reconstruct", "wood_", "--like", first)
    assert said.code == 0
    assert "not taken over: centre" in said.out
    assert "No daemon runs now" in said.out
    assert site.show("wood_")["products"] == before["products"]
    site.live()
    run = site.show("wood_")["processings"][-1]["parameters"]
    assert run["like"] == first
    assert "mounted" in run["anew"]["centre"]
    assert site.ask("catalogue", "check") == {"ok": True, "problems": []}
    assert site.ask("audit", "verify")["ok"] is True


def test_what_was_restored_is_the_volume_that_was_made_again(site, tmp_path):
    site.ask("restore", "bone_", "--product", "volume", "--to", str(tmp_path), "--wait")
    (copy,) = tmp_path.rglob("*.volume.h5")
    assert copy.read_bytes() == content_of(site.show("bone_"))[1].read_bytes()


def test_a_scan_that_was_never_finished_is_refused_with_what_is_missing(site):
    site.write("edf", "torso_", variant="silent-abort")
    site.live()
    said = site.refuse("reconstruct", "torso_", "--wait", code=3)
    assert "torso_ cannot be reconstructed yet: it is not complete" in said
    assert "life: reconstructed needs packed" in said
