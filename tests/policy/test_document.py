from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tomovault.core.errors import UserError
from tomovault.core.replica import Form
from tomovault.policy.document import NEEDED_BY, SETTINGS_OF, STAGE_OF, Settings, parse_policy

SHIPPED = Path(__file__).parents[2] / "policies"


def problems_of(text):
    with pytest.raises(UserError) as caught:
        parse_policy(text, "p.yaml")
    return [line for line in caught.value.message.splitlines() if line.startswith("p.yaml:")]


def one(rule):
    return problems_of(f"name: a\nversion: 1\nrules:\n  - {{name: r, {rule}}}\n")


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.yaml")), ids=lambda p: p.name)
def test_shipped_policies(path):
    policy = parse_policy(path.read_text("utf-8"), str(path))
    assert policy.name == path.stem
    assert policy.description


def test_the_standard_policy():
    policy = parse_policy((SHIPPED / "standard.yaml").read_text("utf-8"), "standard.yaml")
    assert [rule.do for rule in policy.rules] == ["pack", "archive", "preview", "reconstruct", "prune", "prune"]
    assert [rule.settings.forms for rule in policy.rules if rule.do == "prune"] == [(Form.FILES,), (Form.PACKAGE,)]
    assert [policy.cite(rule) for rule in policy.ordered()][-2:] == [
        "prune-files@standard:1",
        "prune-packages@standard:1",
    ]
    assert [d.days for d in policy.verified_within()] == [90, 400]


def test_every_line_of_the_standard_policy_that_says_something_is_explained():
    blocks = (SHIPPED / "standard.yaml").read_text("utf-8").split("\n\n")
    for block in blocks:
        if any(line.strip() and not line.strip().startswith("#") for line in block.splitlines()):
            assert "#" in block or "description:" in block or "name: standard" in block, block


def test_every_action_knows_its_settings():
    keys = set(Settings.model_fields)
    for action, legal in SETTINGS_OF.items():
        assert legal <= keys
        assert NEEDED_BY.get(action, frozenset()) <= legal
    assert set(STAGE_OF) | {"verify", "forbid", "notify"} == set(SETTINGS_OF)


@pytest.mark.parametrize(
    ("rule", "word"),
    [
        ("do: arhcive", "did you mean 'archive'"),
        ("do: pack, with: {copies: 3}", "no settings at all"),
        ("do: archive, with: {copies: 1}", "greater than or equal to 2"),
        ("do: archive, with: {copies: true}", "integer"),
        ("do: archive, with: {forms: [files]}", "does not understand 'forms'"),
        ("do: archive, with: {copis: 3}", "did you mean 'copies'"),
        ("do: replicate", "needs 'tiers'"),
        ("do: replicate, with: {to: b, tiers: [a]}", "is for 'form: files'"),
        ("do: replicate, with: {form: files}", "needs 'to'"),
        ("do: replicate, with: {form: files, to: b, tiers: [a]}", "files go 'to' an area"),
        ("do: replicate, with: {form: files, to: b, path: '{propsal}/x'}", "did you mean 'proposal'"),
        ("do: replicate, with: {form: files, to: b, path: '{proposal'}", "never closed"),
        ("do: replicate, with: {form: files, to: b, path: '{proposal:>9}'}", "is not known"),
        ("do: replicate, with: {form: files, to: b, path: /abs}", "a path below the area"),
        ("do: replicate, with: {form: files, to: b, path: a/../b}", "a path below the area"),
        ("do: replicate, with: {form: files, to: b, path: .tomovault/x}", "a path below the area"),
        ("do: forbid, with: {actions: [verify]}", "cannot be forbidden"),
        ("do: forbid", "needs 'actions'"),
        ("do: prune, with: {forms: []}", "at least one of"),
        ("do: prune, with: {forms: [fils]}", "did you mean 'files'"),
        ("do: preview, with: {preset: quick}", "no preset 'quick'"),
        ("do: pack, when: 7", "not a sentence"),
        ("do: pack, when: sise > 3", "did you mean 'size'"),
        ("do: pack, limits: {bytes: 3XB}", "not a size"),
        ("do: pack, limits: {files: 0}", "greater than or equal to 1"),
        ("do: pack, limits: {files: 3}", "only 'prune' knows limits"),
        ("do: pack, notifi: [anna]", "did you mean 'notify'"),
        ("do: verify", "needs 'verified_within'"),
        ("do: verify, with: {verified_within: 1h}", "once a day at most"),
        ("do: pack, wen: complete", "did you mean 'when'"),
        ("do: pack, from: 2027-02-30", "no day or time that there is"),
        ("do: pack, until: 2027-03-01T12:00", "has no zone"),
        ("do: pack, until: soon", "is not a date"),
        ("do: pack, from: 2027-03-01, until: 2027-03-01", "ends before it begins"),
        ("do: pack, form: 2027-03-01", "did you mean 'from'"),
        ("when: complete", "'do' is missing"),
    ],
)
def test_mistakes(rule, word):
    (problem,) = one(rule)
    assert word in problem


def test_a_mistake_in_a_sentence_is_shown_where_it_stands():
    head = "name: a\nversion: 1\nrules:\n  - name: r\n    do: pack\n"
    assert problems_of(head + "    when: complete and sise > 3\n")[0].startswith("p.yaml:6:24:")
    assert problems_of(head + '    when: "complete and sise > 3"\n')[0].startswith("p.yaml:6:25:")
    assert problems_of(head + "    when: |\n      complete and\n        sise > 3\n")[0].startswith("p.yaml:8:9:")
    assert problems_of(head + "    when: >\n      complete\n      and sise > 3\n")[0].startswith("p.yaml:")


def test_a_date_that_there_is_not_is_shown_where_it_stands():
    text = "name: a\nversion: 1\nrules:\n  - name: r\n    do: pack\n    until: 2027-02-29\n"
    (problem,) = problems_of(text)
    assert problem.startswith("p.yaml:6:12: '2027-02-29' is no day")


def test_dates_are_midnights_in_utc_and_until_is_the_first_moment_without():
    rule = parse_policy(
        "name: a\nversion: 1\nrules: [{name: r, do: pack, from: 2027-03-01, until: 2027-04-01T00:00+02:00}]", "p"
    ).rules[0]
    start, end = datetime(2027, 3, 1, tzinfo=UTC), datetime(2027, 3, 31, 22, tzinfo=UTC)
    instant = timedelta(microseconds=1)
    assert [rule.is_in_force(at) for at in (start - instant, start, end - instant, end)] == [False, True, True, False]
    assert rule.is_over(end)
    assert not rule.has_begun(start - instant)


def test_two_rules_of_one_name():
    (problem,) = problems_of("name: a\nversion: 1\nrules:\n  - {name: r, do: pack}\n  - {name: r, do: preview}\n")
    assert problem.startswith("p.yaml:5:12: a rule named 'r' is here already")


def test_rules_are_asked_in_their_order():
    policy = parse_policy(
        "name: a\nversion: 1\nrules:\n"
        "  - {name: late, do: prune, order: 5}\n  - {name: one, do: pack}\n  - {name: first, do: preview, order: -1}\n",
        "p",
    )
    assert [rule.name for rule in policy.ordered()] == ["first", "one", "late"]
    assert policy.cite(policy.rules[0]) == "late@a:1"


def test_a_prune_rule_that_names_tiers_is_for_packages():
    text = "name: x\nversion: 1\nrules:\n  - {name: a, do: prune, with: {tiers: [mirror]%s}}\n"
    (rule,) = parse_policy(text % "", "x.yaml").rules
    assert rule.settings.tiers == ("mirror",)
    parse_policy(text % ", forms: [package]", "x.yaml")
    with pytest.raises(UserError, match="a rule that names tiers is for those alone"):
        parse_policy(text % ", forms: [files]", "x.yaml")
