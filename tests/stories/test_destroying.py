"""An operator destroys what nobody needs: on disk, on cartridges, and with second thoughts."""

import pytest

_README = "TOMOVAULT-README.txt"


@pytest.fixture(scope="module")
def kept(new_site, digests):
    """A site where one scan is packed and archived; what it was."""
    site = new_site("edf")
    root = site.write("edf", "bone_")
    site.live()
    site.written = {"bone_": digests(root)}
    return site, root


_ORDER = ("destroy", "bone_", "--product", "original", "--reason", "wrong sample", "--confirm", "bone_")


def _destroy(site, tier):
    return site.ask(*_ORDER, "--tier", tier)


def test_one_tier_after_the_other(kept, replicas, digests, tmp_path):
    site, root = kept

    page = _destroy(site, "edf")
    assert not page["last"]
    site.live()
    shown = site.show("bone_")
    assert {r["state"] for r in replicas(shown, tier="edf", product="original")} == {"gone"}
    assert [p.name for p in root.iterdir()] == [_README]
    assert "wrong sample" in (root / _README).read_text()
    assert shown["stages"]["archived"] == "done"
    assert shown["stages"]["packed"] == "done", "on tape it is"

    site.ask("restore", "bone_", "--to", str(tmp_path / "back"), "--wait")
    assert digests(tmp_path / "back") == site.written["bone_"]

    assert "pinned by tomovault" in site.refuse(*_ORDER, "--tier", "edf", code=3), "it was recalled for a person"
    site.ask("unpin", "bone_")
    assert not _destroy(site, "edf")["last"]
    site.live()
    before = site.actions()
    assert _destroy(site, "tape")["last"]
    site.live()
    shown = site.show("bone_")
    assert {r["state"] for r in replicas(shown, tier="tape")} == {"gone"}
    assert shown["stages"]["archived"] == "off"
    assert ("destroy", "succeeded") in site.actions()[len(before) :]
    site.live()
    assert {a for a, _ in site.actions()[len(before) :]} <= {"destroy", "inspect", "prune", "empty_quarantine"}
    assert site.ask("catalogue", "check")["problems"] == []
    assert site.ask("verify", "--all")["bad"] == []

    refused = site.refuse("restore", "bone_", "--from", "tape", "--to", str(tmp_path / "none"), "--wait", code=2)
    assert "tape" in refused
