"""What the page about notifications shows is what the program understands."""

import re

import pytest
from ruamel.yaml import YAML

from tomovault.daemon.metrics import _HELP
from tomovault.notify.texts import FIELDS
from tomovault.policy.document import parse_policy
from tomovault.vault.site_file import parse_site


@pytest.fixture(scope="module")
def page(repository):
    return (repository / "docs" / "notifications.md").read_text("utf-8")


@pytest.fixture(scope="module")
def blocks(page):
    """Each block of YAML, by its first key."""
    found = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    return {text.partition(":")[0]: text for text in found}


def test_the_sections_are_legal(blocks, tmp_path):
    site = parse_site(blocks["notify"] + blocks["metrics"], "tomovault.yaml", tmp_path)
    assert set(site.notify.channels) == {"mail", "chat", "pager"}
    assert len(site.notify.routes) == 5
    assert site.metrics == "127.0.0.1:9464"


def test_the_rule_is_legal(page):
    (rule,) = re.findall(r"```yaml\n# in a policy\n(.*?)```", page, re.DOTALL)
    policy = parse_policy(f"name: p\nversion: 1\n{rule}", "p.yaml")
    assert policy.rules[0].settings.warn.days == 7


def test_the_rule_that_tells_is_legal(page):
    (rule,) = re.findall(r"```yaml\n# also in a policy\n(.*?)```", page, re.DOTALL)
    assert parse_policy(f"name: p\nversion: 1\n{rule}", "p.yaml").rules[0].notify == ("chat", "owner")


def test_the_alerts_are_rules_about_metrics_that_there_are(page):
    (text,) = re.findall(r"```yaml\n(groups:.*?)```", page, re.DOTALL)
    (group,) = YAML(typ="safe", pure=True).load(text)["groups"]
    named = set()
    for rule in group["rules"]:
        assert {"alert", "expr", "labels", "annotations"} <= rule.keys()
        assert rule["alert"].startswith("Tomovault")
        named |= set(re.findall(r"tomovault_(\w+)", rule["expr"]))
    assert named <= set(_HELP)
    assert len(named) >= 6


def test_every_metric_is_on_the_page(page):
    table = page.partition("## Metrics")[2]
    assert [name for name in _HELP if f"tomovault_{name}`" not in table and f"`_{name}`" not in table] == []


def test_every_name_of_a_template_is_on_the_page(page):
    rows = dict(re.findall(r"\| ([^|]*\.txt[^|]*) \| `([^|`]*)` \|", page))
    told = {name: set(names.split()) for files, names in rows.items() for name in re.findall(r"`(\w+)\.txt`", files)}
    assert told == {name: set(fields) for name, fields in FIELDS.items()}
