"""Scans whose camera compresses its frames: their files are kept whole in the package, and they live as any other."""

import pytest

_MADE = ("previewed", "reconstructed")


@pytest.fixture(scope="module")
def compressed(new_site):
    """A site with a scan of each filter, lived as far as there is room."""
    site = new_site("bliss", without=())
    for name in ("camera-gzip", "camera-bitshuffle"):
        site.write("bliss", name.replace("-", "_"), variant=name)
    site.live()
    return site


@pytest.mark.parametrize("name", ["camera_gzip_0001", "camera_bitshuffle_0001"])
def test_it_has_a_preview_and_a_volume_from_its_files(compressed, name):
    page = compressed.show(name)
    assert {stage: page["stages"][stage] for stage in _MADE} == dict.fromkeys(_MADE, "done")
    runs = {run["parameters"]["purpose"]: run for run in page["processings"]}
    assert set(runs) == {"preview", "volume"}
    assert [j for j in page["jobs"] if j["action"] in ("preview", "reconstruct") and j["attempts"] != 1] == []


def test_what_is_not_made_before_the_files_go_is_held_with_the_reason(new_site):
    """Nothing is tried from what was taken away, nobody is sent to `retry`, and `explain` says what the daemon does."""
    site = new_site("bliss")
    site.write("bliss", "bone", variant="camera-gzip")
    site.live()
    site.pruned("bone_0001")
    site.live()
    assert site.show("bone_0001")["stages"]["pruned"] == "done"
    policy = site.folder / "policies" / "standard.yaml"
    rules = "".join(f"  - {{name: {do}, when: complete, do: {do}}}\n" for do in ("preview", "reconstruct"))
    policy.write_text(policy.read_text("utf-8").replace("\nrules:\n", "\nrules:\n" + rules), "utf-8")
    site.live()
    page = site.show("bone_0001")
    assert [j for j in page["jobs"] if j["action"] in ("preview", "reconstruct")] == []
    told = {s["stage"]: s for s in site.ask("explain", "bone_0001")["stages"]}
    for stage in _MADE:
        assert told[stage]["status"] == "held", stage
        assert "tomovault restore" in told[stage]["reason"]
        assert "retry" not in told[stage]["reason"]

    site.change(areas={"bliss": {"prune": "off"}})
    site.ask("restore", page["id"], "--to", page["path"], "--wait")
    site.live()
    page = site.show("bone_0001")
    assert {stage: page["stages"][stage] for stage in _MADE} == dict.fromkeys(_MADE, "done")
