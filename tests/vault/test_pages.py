from __future__ import annotations

import pytest

from tomovault.core.life import Stage, Status
from tomovault.core.replica import Form
from tomovault.core.scan import Certificate, FrameCounts, Verdict
from tomovault.policy.expression import parse_expression
from tomovault.policy.reading import evaluate
from tomovault.policy.values import values_of
from tomovault.vault.removal_pages import preview_page
from tomovault.vault.scan_pages import views_of

UNFINISHED = {"certificate": Certificate(Verdict.ACQUIRING, FrameCounts(2, 1, 1), FrameCounts(1, 1, 1))}


@pytest.fixture
def scans(town):
    """Archived scans of two sizes, one with a single copy, one without a package, and one that is still written."""
    made = [town.scan("small", size=400), town.scan("large", size=4000), town.scan("single", copies=1)]
    bare = town.scan("bare", copies=0)
    with town.vault.catalogue.writing() as tx:
        town.vault.catalogue.record_missing(tx, town.replica(bare, Form.PACKAGE).id, "lost", town.now)
    return [*made, bare, town.scan("unfinished", **UNFINISHED)]


LARGE_ONLY = ("name: preview\n    when: complete\n", "name: preview\n    when: complete and size > 1kB\n")


@pytest.mark.parametrize("edit", [(), (LARGE_ONLY,), (("copies: 2", "copies: 3"),)])
def test_a_preview_names_each_scan_that_is_due_by_a_rule(town, scans, edit):
    town.policy(*edit)
    vault, now = town.vault, town.now
    with vault.catalogue.reading() as tx:
        views = list(views_of(vault, tx, now))
        rules = {r["rule"]: r["scans"] for r in preview_page(vault, tx, now)["rules"]}
        alone = [preview_page(vault, tx, now, rule=cited.split("@")[0])["rules"] for cited in rules]
    assert len(rules) == 6
    assert any(rules.values())
    for cited, named in rules.items():
        assert sorted(named) == sorted(v.scan.id for v in views if cited in _due_by(v))
    assert [(r["rule"], r["scans"]) for (r,) in alone] == list(rules.items())


def _due_by(view):
    due = [s for s, standing in view.standings.items() if standing.status is Status.DUE and s is not Stage.PRUNED]
    return {view.wants.by.get(stage, "") for stage in due}


def test_scans_are_listed_that_a_sentence_holds_for(town, scans):
    vault, now = town.vault, town.now
    with vault.catalogue.reading() as tx:
        facts = vault.area_facts(tx, "inhouse", now)
        every = list(views_of(vault, tx, now))
        assert len(every) == len(scans)
        for sentence in ("archived", "size > 1kB or not complete", "replicas(tape) = 1", "not packed"):
            tree = parse_expression(sentence)
            listed = [view.scan.id for view in views_of(vault, tx, now, sentence=sentence)]
            assert 0 < len(listed) < len(every)
            assert listed == [v.scan.id for v in every if evaluate(tree, values_of(v.scan, facts, now)).value]
