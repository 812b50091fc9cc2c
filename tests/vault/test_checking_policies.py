"""What `tomovault policy check` says: errors with exit 2, warnings with exit 0, each with its place."""

import os

import pytest

from tomovault.vault.checking_policies import check_policies
from tomovault.vault.policy_files import read_policy_file
from tomovault.vault.site_settings import shipped_policies

HEAD = "name: mine\nversion: 1\nrules:\n"


@pytest.fixture
def check(town):
    """Called with rules of a policy 'mine', in the site's folder: the row that tells of it."""

    def run(*rules, head=HEAD):
        mine = town.folder / "policies" / "mine.yaml"
        mine.write_text(head + "".join(f"  - {rule}\n" for rule in rules))
        rows = {os.path.basename(r["file"]): r for r in check_policies(town.folder, [], town.now)["files"]}
        assert rows["tomovault.yaml"]["ok"]
        assert rows["standard.yaml"]["warnings"] == []
        return rows["mine.yaml"]

    return run


def test_every_file_is_told_with_its_mistakes(town, check):
    row = check("{name: a, do: pak}", "{name: b, do: prone}")
    assert not row["ok"]
    first, second = row["errors"]
    assert "mine.yaml:4:19" in first
    assert "mine.yaml:5:19" in second
    assert [error.splitlines()[-1].strip() for error in (first, second)] == ["^", "^"]


def test_a_contradiction_is_an_error_with_a_caret_and_the_rest_are_warnings(town, check, say, ask):
    row = check(
        "{name: a, do: pack, when: age > 30d and age < 10d}",
        "{name: b, do: preview, until: 2020-01-01}",
        "{name: c, do: pack, when: area = inhosue}",
    )
    (error,) = row["errors"]
    assert "mine.yaml:4:45: this rule can never hold" in error
    assert error.splitlines()[-1].index("^") - error.splitlines()[-2].index("age < 10d") == 0
    assert [w.splitlines()[0].split(": ", 1)[1] for w in row["warnings"]] == [
        "this rule is over since 2020-01-01",
        "the site has no area 'inhosue'; did you mean 'inhouse'?",
    ]
    page = ask("policy", "check", code=2)
    assert page["ok"] is False
    said = say("policy", "check")
    assert said.code == 2
    assert "warning: " in said.out


def test_warnings_alone_exit_with_0(town, check, say):
    check("{name: b, do: preview, until: 2020-01-01}")
    said = say("policy", "check")
    assert said.code == 0, said.err
    assert "mine.yaml: right" in said.out
    assert "this rule is over since 2020-01-01" in said.out


def test_a_file_by_itself_is_not_compared_with_any_site(town, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(HEAD.replace("mine", "other") + "  - {name: a, do: archive, when: area = x, with: {tiers: [y]}}\n")
    (row,) = check_policies(None, [path], town.now)["files"]
    assert (row["ok"], row["errors"], row["warnings"]) == (True, [], [])


def test_a_place_that_the_site_does_not_have_is_an_error(check):
    assert (
        "the site has no tier 'taep'; did you mean 'tape'?"
        in check("{name: a, do: archive, with: {tiers: [taep]}}")["errors"][0]
    )


@pytest.mark.parametrize(
    ("marks", "when", "told"),
    [
        ({}, "archived", "nothing ever goes from mirror by this rule: it has no mark; write `high`, `low` and"),
        ({}, "archived and usage > high", "nothing ever goes from mirror by this rule: it has no mark"),
        ({"high": "80%", "prune": "on"}, "archived", "nothing goes by it below the high mark of a tier"),
        ({"high": "80%", "prune": "on"}, "archived and usage > high", ""),
    ],
)
def test_a_prune_from_a_tier_that_can_never_act_is_told_with_what_to_write(town, check, marks, when, told):
    mirror = {"kind": "posix", "path": str(town.base / "mirror"), "class": "server", **marks}
    town.change(tiers={"mirror": mirror})
    row = check(f"{{name: a, do: prune, when: {when}, with: {{tiers: [mirror]}}}}")
    assert row["ok"]
    assert len(row["warnings"]) == bool(told)
    for warning in row["warnings"]:
        assert "mine.yaml:4:" in warning
        assert told in warning


def test_nothing_goes_from_an_archive_by_a_rule(check):
    (warning,) = check("{name: a, do: prune, when: archived, with: {tiers: [tape]}}")["warnings"]
    assert "nothing ever goes from tape by this rule: no mark removes anything from a tier of class archive" in warning


VOLUMES = "{name: v, do: prune, when: archived and cheaper to recompute, with: {product: volume}}"


def test_prices_that_nothing_asks_for_are_told_with_what_may_be_meant(town, check, say):
    check(VOLUMES)
    town.change(
        areas={"inhouse": {"policy": "mine"}},
        tiers={"inhouse2": {"kind": "posix", "path": str(town.base / "more"), "class": "server"}},
        costs={"tb_month": {"inhouse": 5, "inhouse2": 1}, "core_hour": 1},
    )
    told = say("policy", "check")
    assert told.code == 0
    assert "'inhouse2' is a tier, and only volumes in an area are; did you mean 'inhouse'?" in told.out
    assert "no rule of the policy" not in told.out
    check("{name: p, do: pack}")
    assert "no rule of the policy 'mine' asks for this" in say("policy", "check").out


def test_a_rule_that_asks_for_a_price_that_an_area_does_not_have(town, check):
    check(VOLUMES)
    town.change(areas={"inhouse": {"policy": "mine"}}, costs={"tb_month": {"tape": 1}, "core_hour": 1})
    (told,) = check(VOLUMES)["warnings"]
    assert "this is never known in inhouse" in told


def test_a_rule_that_never_holds_in_the_areas_of_its_policy(town, check):
    town.change(areas={"inhouse": {"policy": "standard"}})
    rule = "{name: a, do: pack, when: area != inhouse}"
    assert check(rule)["warnings"] == []
    town.change(areas={"inhouse": {"policy": "mine"}})
    assert "can never hold in the areas that use the policy: inhouse" in check(rule)["warnings"][0]


def test_a_name_that_is_not_the_one_of_the_file(check):
    (told,) = check("{name: a, do: pack}", head=HEAD.replace("name: mine", "name: yours"))["warnings"]
    assert "mine.yaml:1:7: areas know this policy as 'mine'" in told


def test_a_version_that_stood_for_another_text(town, check):
    rule = "{name: a, do: pack}"
    assert check(rule)["warnings"] == []
    file = read_policy_file(town.folder, "mine")
    with town.vault.catalogue.writing() as tx:
        town.vault.catalogue.record_policy(tx, "mine", 1, file.sha256, file.text, town.now)
    assert check(rule)["warnings"] == []
    (told,) = check(rule, "{name: b, do: preview}")["warnings"]
    assert "mine.yaml:2:10: the policy 'mine' was in force as version 1 with another text: raise its `version`" in told
    assert check(rule, "{name: b, do: preview}", head=HEAD.replace("version: 1", "version: 2"))["warnings"] == []


def test_without_a_catalogue_the_files_are_checked_all_the_same(town, check, backend):
    if backend == "postgresql":
        pytest.skip("the catalogue of PostgreSQL is no file of the site")
    town.vault.close()
    (town.folder / "catalogue.db").unlink()
    assert check("{name: a, do: pack}")["warnings"] == []
    assert not (town.folder / "catalogue.db").exists()


@pytest.mark.parametrize(("content", "word"), [(None, "No such file"), (b"\xff", "not UTF-8")])
def test_a_file_that_cannot_be_read_is_an_error_of_its_own(tmp_path, town, content, word):
    path = tmp_path / "mine.yaml"
    if content is not None:
        path.write_bytes(content)
    (row,) = check_policies(None, [path], town.now)["files"]
    assert word in row["errors"][0]


def test_what_goes_however_empty_the_area_is_is_noted(town, check, say):
    row = check(
        "{name: old, do: prune, when: archived and age > 30d}",
        "{name: full, do: prune, when: archived and usage > high}",
        "{name: made, do: prune, when: archived and age > 1d, with: {product: volume}}",
    )
    assert [note.split(" whenever")[0] for note in row["notes"]] == ["'old' removes (files)", "'made' removes (volume)"]
    assert (row["ok"], row["warnings"]) == (True, [])
    said = say("policy", "check")
    assert said.code == 0
    assert "  note: 'old' removes (files) whenever its sentence holds, however empty the area is" in said.out


def test_a_shipped_policy_that_an_area_uses_is_checked_against_the_site(town, ask):
    (town.base / "fast").mkdir()
    fast = {"path": str(town.base / "fast"), "policy": "mover"}
    town.change(areas={"disk": {**fast, "class": "fast"}})
    shipped = str(shipped_policies() / "mover.yaml")
    rows = {row["file"]: row for row in check_policies(town.folder, [], town.now)["files"]}
    assert (rows[shipped]["ok"], rows[shipped]["errors"]) == (True, [])
    assert str(shipped_policies() / "standard.yaml") not in rows, "the site has one of its own"

    path = town.folder / "tomovault.yaml"
    path.write_text(path.read_text("utf-8").replace("  inhouse:", "  server:"), "utf-8")
    page = ask("policy", "check", code=2)
    (row,) = (row for row in page["files"] if row["file"] == shipped)
    (error,) = row["errors"]
    assert error.startswith(shipped)
    assert "the site has no area 'inhouse'" in error
    assert "area disk uses this policy as it was shipped" in error.splitlines()[0]
    assert f"write one of your own in {town.folder}/policies/mover.yaml" in error.splitlines()[0]


def test_presets_are_checked_with_the_site_and_by_themselves(town, say):
    folder = town.folder / "presets"
    folder.mkdir()
    (folder / "fine.yaml").write_text("name: fine\nversion: 1\nparameters: {filtre: hann, eps: 9}\n", "utf-8")
    (folder / "good.yaml").write_text("name: good\nversion: 1\n", "utf-8")
    rows = {os.path.basename(r["file"]): r for r in check_policies(town.folder, [], town.now)["files"]}
    assert rows["good.yaml"]["ok"]
    first, second = rows["fine.yaml"]["errors"]
    assert "fine.yaml:3:14: unknown key 'filtre'; did you mean 'filter'?" in first
    assert "fine.yaml:3:33: 9" in second
    said = say("policy", "check", str(folder / "fine.yaml"))
    assert (said.code, "fine.yaml:3:14" in said.out) == (2, True)
    assert say("policy", "check", str(folder / "good.yaml")).code == 0


def test_a_rule_may_name_a_preset_of_a_file_and_no_other(town, check):
    (town.folder / "presets").mkdir()
    (town.folder / "presets" / "fine.yaml").write_text("name: fine\nversion: 1\n", "utf-8")
    assert check("{name: a, do: reconstruct, with: {preset: fine}}")["ok"]
    assert check("{name: a, do: reconstruct, with: {preset: clean}}")["ok"]
    (error,) = check("{name: a, do: reconstruct, with: {preset: fien}}")["errors"]
    assert "there is no preset 'fien', here or in presets/; did you mean 'fine'?" in error
