import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tomovault.policy.document import parse_policy
from tomovault.policy.review import Places, review
from tomovault.policy.yaml_text import point_out

NOW = datetime(2030, 6, 1, tzinfo=UTC)
SITE = Places(areas=("inhouse", "external"), used_by=("inhouse",), tiers=("tape",), beamlines=("ID19",))


def told(*rules, places=None, now=NOW):
    """(line:word, text, whether it is an error) of all that is found in rules, of which the first is in line 4. The
    word is what stands at the place.
    """
    text = "name: t\nversion: 1\nrules:\n" + "".join(f"  - {rule}\n" for rule in rules)
    found = review(parse_policy(text, "t.yaml"), now, places)
    heads = [shown.splitlines()[0] for shown in point_out(text, "t.yaml", [one.fault for one in found])]
    return [(_at(text, head), head.split(": ", 1)[1], one.is_error) for head, one in zip(heads, found, strict=True)]


def _at(text, head):
    line, column = (int(n) for n in head.split(":")[1:3])
    word = re.match(r"[^ ,)}\]]*", text.splitlines()[line - 1][column - 1 :])[0]
    return f"{line}:{word}"


def test_sound_rules_are_not_talked_about():
    assert told("{name: a, do: pack}", "{name: b, do: prune, when: archived and usage > high}", places=SITE) == []


def test_a_sentence_that_no_scan_satisfies_is_an_error_at_the_term_that_clashes():
    (found,) = told("{name: a, do: archive, when: age > 30d and size > 1B and  age  < 10d}")
    assert found == ("4:age", "this rule can never hold; no scan is ever so: age > 30d and age < 10d", True)


def test_the_sentence_of_a_forbid_that_forbids_nothing_is_an_error():
    (found,) = told("{name: a, do: forbid, when: area = a and area = b, with: {actions: [prune]}}")
    assert found[1:] == ("this rule can never hold; no scan is ever so: area = a and area = b", True)


def test_a_sentence_over_several_lines_is_pointed_into():
    (found,) = told("name: a\n    do: pack\n    when: |\n      packed and\n      not packed")
    assert found[0] == "7:packed"


def test_a_rule_that_never_holds_where_it_is_used():
    rule = "{name: a, do: pack, when: packed and area = external}"
    assert told(rule) == []
    (found,) = told(rule, places=SITE)
    assert found == ("4:area", "this rule can never hold in the areas that use the policy: inhouse", False)
    assert told(rule, places=Places(SITE.areas, ("inhouse", "external"), ())) == []


@pytest.mark.parametrize(
    ("later", "shadowed"),
    [
        ("{name: b, do: reconstruct, when: packed and size < 1GB}", True),
        ("{name: b, do: reconstruct, when: size < 1GB}", False),
        ("{name: b, do: reconstruct, when: packed and size < 1GB, order: -1}", False),
        ("{name: b, do: preview, when: packed}", False),
        ("{name: b, do: reconstruct, when: packed, until: 2031-01-01}", True),
    ],
)
def test_a_rule_after_one_that_says_it_all(later, shadowed):
    found = told("{name: a, do: reconstruct, when: packed}", later)
    words = "'a' comes first and holds whenever this rule does, which so never decides anything"
    assert found == ([("5:b", words, False)] if shadowed else [])


def test_a_rule_with_dates_says_not_all_of_one_without():
    first = "{name: a, do: pack, from: 2030-01-01}"
    assert told(first, "{name: b, do: pack}") == []
    assert len(told(first, "{name: b, do: pack, from: 2030-02-01}")) == 1
    assert told("{name: a, do: pack, until: 2031-01-01}", "{name: b, do: pack, until: 2031-02-01}") == []


@pytest.mark.parametrize(
    ("first", "later", "shadowed"),
    [
        ("do: archive, with: {copies: 2}", "do: archive, with: {copies: 3}", False),
        ("do: archive, with: {copies: 3}", "do: archive, with: {copies: 3}", True),
        (
            "do: prune, when: usage > high, with: {forms: [files]}",
            "do: prune, when: usage > high, with: {forms: [package]}",
            False,
        ),
        (
            "do: prune, when: usage > high, with: {forms: [files, package]}",
            "do: prune, when: usage > high, with: {forms: [package]}",
            True,
        ),
        ("do: prune, when: usage > high", "do: prune, when: usage > high, with: {copies: 3}", False),
        ("do: forbid, with: {actions: [prune, reduce]}", "do: forbid, with: {actions: [prune]}", True),
        ("do: forbid, with: {actions: [prune]}", "do: forbid, with: {actions: [prune, reduce]}", False),
        ("do: replicate, with: {tiers: [a]}", "do: replicate, with: {tiers: [b]}", False),
    ],
)
def test_settings_that_add_something(first, later, shadowed):
    assert bool(told(f"{{name: a, {first}}}", f"{{name: b, {later}}}")) is shadowed


def test_what_is_always_forbidden():
    keep = "{name: keep, do: forbid, when: 'proposal in (a, b)', with: {actions: [prune]}}"
    (found,) = told("{name: room, do: prune, when: proposal = a and usage > high}", keep)
    assert found == ("4:room", "whenever this rule holds, 'keep' forbids to prune", False)
    assert told("{name: room, do: prune, when: archived and usage > high}", keep) == []
    assert (
        told(
            "{name: room, do: prune, when: proposal = a and usage > high}", keep.replace("}}", "}, until: 2031-01-01}")
        )
        == []
    )


def test_a_rule_that_had_its_time_gets_a_warning():
    rule = "{name: a, do: pack, until: 2030-05-01}"
    assert told(rule) == [("4:2030-05-01", "this rule is over since 2030-05-01", False)]
    assert told(rule, now=datetime(2030, 4, 1, tzinfo=UTC)) == []


def test_an_age_without_a_unit_gets_a_warning():
    (found,) = told("{name: a, do: pack, when: age > 30}")
    assert found == ("4:age", "an age without a unit is in seconds: write 30d for days, or 30s", False)
    assert told("{name: a, do: pack, when: age > 0}") == []


@pytest.mark.parametrize(
    ("rule", "told_of", "near", "error"),
    [
        ("do: pack, when: area = inhosue or packed", "area 'inhosue'", "inhouse", False),
        ("do: pack, when: 'area in (inhouse, xternal)'", "area 'xternal'", "external", False),
        ("do: pack, when: replicas(taep) > 1", "tier 'taep'", "tape", False),
        ("do: pack, when: beamline = ID91", "beamline 'ID91'", "ID19", False),
        ("do: archive, with: {tiers: [taep]}", "tier 'taep'", "tape", True),
        ("do: replicate, with: {form: files, to: inhosue}", "area 'inhosue'", "inhouse", True),
    ],
)
def test_names_that_the_site_does_not_have(rule, told_of, near, error):
    line = f"{{name: a, {rule}}}"
    assert told(line) == []
    (found,) = told(line, places=SITE)
    word = told_of.split("'")[1]
    assert found == (f"4:{word}", f"the site has no {told_of}; did you mean {near!r}?", error)


@pytest.mark.parametrize(
    "rule",
    [
        "do: pack, when: replicas(archive) > 1 and replicas(inhouse) > 0",
        "do: verify, with: {verified_within: 9d, tiers: [archive]}",
    ],
)
def test_classes_of_tiers_and_areas_hold_copies(rule):
    assert told(f"{{name: a, {rule}}}", places=SITE) == []


def test_any_beamline_may_be_where_areas_have_none():
    assert told("{name: a, do: pack, when: beamline = BM05}", places=Places(("a",), ("a",), ())) == []


def test_nothing_is_to_be_said_of_the_policies_that_come_with_us():
    files = sorted((Path(__file__).parents[2] / "policies").glob("*.yaml"))
    assert len(files) >= 2
    found = {path.name: review(parse_policy(path.read_text("utf-8"), path.name), NOW) for path in files}
    assert {name: told for name, told in found.items() if told} == {}


@pytest.mark.parametrize("when", ["archived or usage > high", "age > 1d and not usage > 80%", "usage < 50%"])
def test_a_prune_that_asks_for_usage_but_holds_in_an_empty_area_is_told_that_it_waits_for_the_mark(when):
    (found,) = told(f"{{name: old, do: prune, when: {when}}}")
    assert found[0] == "4:old"
    assert found[1].startswith("since it asks for usage, nothing goes by this rule below the high mark")
    assert found[2] is False


@pytest.mark.parametrize(
    "when", ["archived and age > 30d", "archived and age > 30d and usage > low", "usage >= 80% and not aborted"]
)
def test_a_prune_by_evidence_and_one_for_room_are_both_sound(when):
    assert told(f"{{name: old, do: prune, when: {when}}}") == []


@pytest.mark.parametrize(
    ("collections", "to", "told_of_it"),
    [
        (None, "home:/in", "no `globus` section"),
        ((), "home:/in", "no collection 'home'"),
        (("house",), "hous:/in", "did you mean 'house'?"),
    ],
)
def test_an_address_that_the_site_does_not_know_is_an_error_in_its_place(collections, to, told_of_it):
    rule = f"{{name: a, do: export, with: {{to: '{to}'}}}}"
    ((at, text, is_error),) = told(rule, places=replace(SITE, collections=collections))
    assert (at.partition(":")[0], is_error) == ("4", True)
    assert told_of_it in text


@pytest.mark.parametrize("to", ["house:/in", "31CE9BA0-176d-45a5-add3-f37d233ba47d:/in"])
def test_an_address_that_the_site_knows_is_right(to):
    rule = f"{{name: a, do: export, with: {{to: '{to}'}}}}"
    assert told(rule, places=replace(SITE, collections=("house",))) == []


def test_a_second_export_decides_too_unless_it_is_the_same():
    first, other = (f"{{name: {name}, do: export, with: {{to: 'a:/{name}'}}}}" for name in "xy")
    assert told(first, other) == []
    ((_, text, _),) = told(first, first.replace("name: x", "name: z"))
    assert "never decides anything" in text


def test_a_site_without_an_archive_is_told_of_rules_that_archive():
    rule = "{name: a, do: archive, when: packed}"
    assert told(rule, places=SITE) == []
    ((at, text, is_error),) = told(rule, places=replace(SITE, archives=False))
    assert (at, is_error) == ("4:archive", False)
    assert "no tier that is an archive" in text


MIRROR = "{name: a, do: prune, when: %s, with: {tiers: [mirror]}}"


def test_a_prune_from_tiers_that_does_not_ask_for_usage_is_told_that_it_waits_for_a_mark():
    (found,) = told(MIRROR % "archived and age > 6 months")
    assert (found[0], found[2]) == ("4:[mirror", False)
    assert "nothing goes by it below the high mark of a tier" in found[1]
    assert "write `and usage > high` in its `when`, and `high`, `low` and `prune: on` for the tier" in found[1]
    assert told(MIRROR % "archived and usage > high") == []
    site = replace(SITE, tiers=("tape", "mirror"))
    ((at, text, is_error),) = told(MIRROR % "archived", places=site)
    assert (at, is_error) == ("4:[mirror", False)
    assert text.endswith("write `and usage > high` in its `when`")
    assert told(MIRROR % "archived and usage > high", places=site) == []


@pytest.mark.parametrize("when", ["archived", "archived and usage > high"])
def test_a_tier_that_nothing_ever_goes_from_is_told_at_its_name(when):
    site = replace(SITE, tiers=("tape", "mirror"), unpruned={"mirror": "it has no mark; write one"})
    (found,) = told(MIRROR % when, places=site)
    assert found == ("4:mirror", "nothing ever goes from mirror by this rule: it has no mark; write one", False)


def test_of_a_tier_that_the_site_does_not_have_nothing_more_is_told():
    (found,) = told(MIRROR % "archived", places=SITE)
    assert found[1:] == ("the site has no tier 'mirror'; known here: tape", True)
