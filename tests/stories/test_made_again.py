"""A volume goes by a rule since it can be made again: its file does, nothing else, and it is not made for nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

RULE = (
    "  - {name: volumes, when: archived and volume and age > 1d, do: prune, with: {product: volume}}\n"
    "  - {name: previews, when: archived and previewed and age > 1d, do: prune, with: {product: preview}}\n"
)


@pytest.fixture(scope="module")
def lived(new_site, digests):
    """A site on which a scan was archived, previewed and reconstructed, and then lost its volume and its preview."""
    site = new_site("edf", without=())
    root = site.write("edf", "bone_")
    site.live()
    page = site.show("bone_")
    made = {r["product"]: Path(r["location"]) for r in page["replicas"] if r["product"] in ("volume", "preview")}
    assert set(made) == {"volume", "preview"}
    assert all(path.is_file() for path in made.values())
    before = digests(root)
    site.change(areas={"edf": {"prune": "on"}})
    policy = site.folder / "policies" / "standard.yaml"
    policy.write_text(policy.read_text("utf-8") + RULE, "utf-8")
    preview = site.ask("policy", "preview", "--rule", "volumes")
    site.live()
    return site, root, before, made, preview


def test_its_files_are_gone_and_nothing_else_is(lived, replicas, digests):
    site, root, before, made, preview = lived
    page = site.show("bone_")
    for kind, path in made.items():
        (gone,) = replicas(page, product=kind)
        assert gone["state"] == "gone"
        assert not path.exists()
        permit = next(p for p in page["permits"] if p["replica"] == gone["id"])
        assert permit["rule"] == f"{kind}s@standard:1"
        assert {c["tier"] for c in permit["relied_on"]} == {"tape"}, "the copies of the original"
    assert digests(root) == before
    assert [r["state"] for r in page["replicas"] if r["product"] == "original"] == ["verified"] * 4
    (row,) = preview["rules"]
    assert row["scans"] == [page["id"]]


def test_it_is_not_made_again_by_itself(lived):
    site, *_ = lived
    before = site.actions()
    site.live()
    site.live()
    assert site.actions() == before
    actions = [action for action, _ in before]
    assert (actions.count("reconstruct"), actions.count("preview")) == (1, 1)


def test_explain_tells_that_it_went_and_restore_what_is_kept_of_it(lived, tmp_path):
    site, *_ = lived
    stages = {s["stage"]: s for s in site.ask("explain", "bone_")["stages"]}
    assert stages["reconstructed"]["status"] == stages["previewed"]["status"] == "done"
    assert "volumes@standard:1; it can be made again" in stages["reconstructed"]["reason"]
    said = site.say("restore", "bone_", "--product", "volume", "--to", str(tmp_path), "--wait")
    assert said.code == 2
    (run,) = [p for p in site.show("bone_")["processings"] if p["parameters"]["purpose"] == "volume"]
    assert run["id"] in said.err
    assert "can be made again" in said.err
    assert f"--like {run['id']}" in said.err
    assert site.ask("audit", "verify")["ok"] is True
    assert site.ask("catalogue", "check") == {"ok": True, "problems": []}
