import os
import shutil

import pytest

from tomovault.vault.checking import run_doctor


@pytest.fixture
def checks(town):
    """Called for what the doctor says, by name."""

    def run():
        return {check.name: check for check in run_doctor(town.folder)}

    return run


def test_a_sound_site_is_sound(checks):
    found = checks()
    assert [c.name for c in found.values() if c.needed and not c.ok] == []
    assert {"site", "catalogue", "area inhouse", "vault of inhouse", "tier tape"} <= set(found)
    assert "read yes, rename yes, unlink yes" in found["area inhouse"].detail
    assert not found["daemon"].ok
    assert not found["daemon"].needed


def test_an_area_without_its_marker_is_not_ready(town, checks):
    shutil.rmtree(town.area / ".tomovault")
    found = checks()["area inhouse"]
    assert not found.ok
    assert found.hint


def test_the_policy_of_each_area_is_told_and_a_wrong_one_is_not_ready(town, checks):
    assert checks()["policy of inhouse"].detail == "standard, version 1"
    path = town.folder / "policies" / "standard.yaml"
    text = path.read_text("utf-8")
    with town.vault.catalogue.writing() as tx:
        town.vault.catalogue.record_policy(tx, "standard", 1, "another", text, town.now)
    found = checks()["policy of inhouse"]
    assert (found.ok, found.needed) == (False, False)
    assert "raise its `version`" in found.detail
    path.write_text(text.replace("do: pack", "do: pakc"), "utf-8")
    found = checks()["policy of inhouse"]
    assert (found.ok, found.needed) == (False, True)
    assert "'pakc'" in found.detail


def test_a_vault_that_cannot_be_written_is_named(town, checks):
    vault = town.vault.site.areas["inhouse"].vault
    if os.path.isdir(vault):
        shutil.rmtree(vault)
    with open(vault, "w") as file:
        file.write("in the way")
    found = checks()["vault of inhouse"]
    assert (found.ok, found.hint) == (False, "give the daemon's account the right to write there")


def test_without_a_site_the_rest_is_not_looked_at(tmp_path):
    found = {check.name: check for check in run_doctor(tmp_path)}
    assert not found["site"].ok
    assert "catalogue" not in found
