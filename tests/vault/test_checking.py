import os
import shutil

import pytest

from tomovault.vault.checking import check_policies, run_doctor


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


def test_every_file_is_told_with_its_mistakes(town):
    mine = town.folder / "policies" / "mine.yaml"
    mine.write_text("name: mine\nversion: 1\nrules:\n  - {name: a, do: pak}\n  - {name: b, do: prone}\n")
    page = check_policies(town.folder, [])
    assert not page["ok"]
    rows = {os.path.basename(row["file"]): row for row in page["files"]}
    assert rows["tomovault.yaml"]["ok"]
    first, second = rows["mine.yaml"]["errors"]
    assert "mine.yaml:4:19" in first
    assert "mine.yaml:5:19" in second
    assert [error.splitlines()[-1].strip() for error in (first, second)] == ["^", "^"]


@pytest.mark.parametrize(("content", "word"), [(None, "No such file"), (b"\xff", "not UTF-8")])
def test_a_file_that_cannot_be_read_is_an_error_of_its_own(tmp_path, content, word):
    path = tmp_path / "mine.yaml"
    if content is not None:
        path.write_bytes(content)
    (row,) = check_policies(None, [path])["files"]
    assert word in row["errors"][0]
