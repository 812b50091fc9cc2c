"""A byte that rots, on disk or on tape: it is found, told, never relied on, and made good from what is whole."""

import pytest


@pytest.fixture
def site(new_site):
    site = new_site("edf")
    site.write("edf", "bone_")
    site.live()
    return site


def _spoil(path, at):
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 0x40]))


def _spoil_cartridge(site, location):
    """One byte in the middle of what is on the cartridge; returns its barcode."""
    barcode = location.split("#")[0]
    folder = site.folder / "tape" / "cartridges" / barcode
    path = max((p for p in ([folder] if folder.is_file() else folder.rglob("*")) if p.is_file()), key=_size)
    _spoil(path, _size(path) // 2)
    return barcode


def _size(path):
    return path.stat().st_size


def test_in_a_package_on_disk(site, replicas, digests, tmp_path):
    before = digests(site.areas["edf"] / "bone_")
    (package,) = replicas(site.show("bone_"), form="package", tier="edf")
    _spoil(package["location"], _size(site.folder / package["location"]) // 2)
    page = site.ask("verify", "bone_", code=4)
    (bad,) = page["bad"]
    assert bad["replica"] == package["id"]
    assert bad["tier"] == "edf"
    assert bad["reason"]
    after = site.show("bone_")
    assert [r["state"] for r in after["replicas"] if r["id"] == package["id"]] == ["suspect"]
    assert after["stages"]["packed"] != "done" or replicas(after, form="package", tier="tape", state="verified")
    given = site.ask("restore", "bone_", "--to", str(tmp_path / "back"), "--wait")
    assert given["tier"] == "tape", "the good copy was used"
    assert digests(tmp_path / "back") == before

    site.pruned("bone_")
    site.live()
    assert site.ask("verify", "--all")["bad"] == []


def test_on_a_cartridge(site, replicas, digests, tmp_path):
    copies = replicas(site.show("bone_"), form="package", tier="tape")
    _spoil_cartridge(site, copies[0]["location"])
    (bad,) = site.ask("verify", "--all", code=4)["bad"]
    assert bad["replica"] == copies[0]["id"]
    page = site.show("bone_")
    assert page["stages"]["archived"] == "due", "by itself, for the fact is not true any more"
    site.live()
    page = site.show("bone_")
    assert page["stages"]["archived"] == "done"
    good = replicas(page, form="package", tier="tape", state="verified")
    assert len({r["domain"] for r in good}) == 2
    after = site.ask("verify", "--all")
    assert after["bad"] == [], "a good copy stands for it: nothing is left to be done"
    assert [old["replica"] for old in after["replaced"]] == [copies[0]["id"]], "told all the same, not hidden"
    assert site.ask("verify", "bone_", code=4)["bad"][0]["replica"] == copies[0]["id"], "by name it is read again"
    assert site.ask("status")["suspect"] == []
    _spoil_cartridge(site, copies[1]["location"])
    (worse,) = site.ask("verify", "--all", code=4)["bad"]
    assert worse["replica"] == copies[1]["id"]
    both = {copy["id"] for copy in copies}
    assert {one["replica"] for one in site.ask("status")["suspect"]} == both, "too few are good, so both are missed"
    assert {bad["replica"] for bad in site.ask("verify", "--all", code=4)["bad"]} == both


def test_on_a_cartridge_when_no_package_is_left_on_disk(site, replicas, digests, tmp_path):
    """The other cartridge has it all: it is recalled and archived again."""
    before = digests(site.areas["edf"] / "bone_")
    site.pruned("bone_")
    site.live()
    page = site.show("bone_")
    assert not replicas(page, form="package", tier="edf", state="verified")
    copies = replicas(page, form="package", tier="tape", state="verified")
    _spoil_cartridge(site, copies[0]["location"])
    site.ask("verify", "--all", code=4)
    site.ask("restore", "bone_", "--to", str(tmp_path / "back"), "--from", "tape", "--wait")
    assert digests(tmp_path / "back") == before
    site.live()
    page = site.show("bone_")
    assert page["stages"]["archived"] == "done", page["jobs"]
    assert len({r["domain"] for r in replicas(page, form="package", tier="tape", state="verified")}) == 2


def test_recall_for_archiving_needs_no_person(site, replicas):
    site.pruned("bone_")
    site.live()
    copies = replicas(site.show("bone_"), form="package", tier="tape", state="verified")
    _spoil_cartridge(site, copies[0]["location"])
    site.ask("verify", "--all", code=4)
    site.live()
    page = site.show("bone_")
    assert page["stages"]["archived"] == "done", (page["stages"], page["jobs"])


def test_prune_refuses_to_rely_on_it(site, replicas, digests):
    """With one copy in doubt nothing is removed, until the other is made."""
    before = digests(site.areas["edf"] / "bone_")
    for copy in replicas(site.show("bone_"), form="package", tier="tape"):
        _spoil_cartridge(site, copy["location"])
    site.ask("verify", "--all", code=4)
    (site.folder / "tape" / "cartridges").chmod(0o755)
    site.change(tiers={"tape": {"capacity": "1kB"}}, retries={"attempts": 1, "after": "0.1s"})
    site.pruned("bone_")
    site.live(failed_ok=True)
    assert digests(site.areas["edf"] / "bone_") == before
    page = site.show("bone_")
    assert page["permits"] == []
    assert page["stages"]["archived"] != "done"
