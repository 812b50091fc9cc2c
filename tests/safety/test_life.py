"""The table of the life against the laws, written down a second time here, over every combination of facts."""

import inspect
import itertools
import random
import sys
import types
from dataclasses import fields, replace

import pytest

from tomovault.core import life as life_module
from tomovault.core.life import LIFE, Facts, Removal, Stage, Status, Wants, due, lacking, may_go, standing, standings
from tomovault.core.replica import Form, ProductKind, TierClass

EVERYTHING = Wants(by=dict.fromkeys(Stage, "rule"))
NOTHING = Wants()

FLAGS = [f.name for f in fields(Facts) if f.type == "bool"]
COUNTS = [f.name for f in fields(Facts) if f.type == "int"]


def every_facts(counts):
    for flags in itertools.product((False, True), repeat=len(FLAGS)):
        for numbers in itertools.product(*(counts[name] for name in COUNTS)):
            counted = dict(zip(COUNTS, numbers, strict=True))
            if counted["tiers_lacking"] <= counted["tiers_wanted"]:
                yield Facts(**dict(zip(FLAGS, flags, strict=True)), **counted)


ALL = {"tiers_wanted": (0, 3), "tiers_lacking": range(4), "archive_copies": range(4), "archive_wanted": range(4)}
FEWER = {"tiers_wanted": (0, 1), "tiers_lacking": (0, 1), "archive_copies": (1, 2), "archive_wanted": (0, 3)}
ONE = {"tiers_wanted": (1,), "tiers_lacking": (1,), "archive_copies": (2,), "archive_wanted": (2,)}


def test_the_facts_are_all_in_here():
    assert set(FLAGS) | set(COUNTS) == {f.name for f in fields(Facts)}
    assert set(COUNTS) == set(ALL)


# --- the laws, a second time -----------------------------------------------------------------------------


def steps_that_are_right(f):
    """The actions that the design allows when everything is wanted; written without a look at the table."""
    right = set()
    whole = f.complete
    packed = whole and f.package
    two_or_more = f.archive_copies >= 2 and f.archive_copies >= f.archive_wanted
    resting_unfinished = f.kept_as_found
    if not f.complete:
        right.add("inspect")
    if whole and not f.preview:
        right.add("preview")
    if (whole or resting_unfinished) and not f.package:
        right.add("pack")
    if packed and f.tiers_wanted > 0 and f.tiers_lacking > 0:
        right.add("replicate")
    if (whole or resting_unfinished) and f.package and not two_or_more:
        right.add("archive")
    if packed and not f.volume:
        right.add("reconstruct")
    # `accept` is a person's word; it is never due by itself.
    seen_right = packed and f.volume and f.accepted and (f.set_accepted if f.in_set else True)
    if packed and two_or_more and seen_right and not f.aborted and not f.reduced:
        right.add("reduce")
    if not f.exported:
        right.add("export")
    if packed and not f.files_pruned:
        right.add("prune")
    return right


def names_of(steps):
    return {step.action for step in steps}


def first_difference(table, facts_in_order):
    for facts in facts_in_order:
        if names_of(due(facts, EVERYTHING, table)) != steps_that_are_right(facts):
            return facts
    return None


def test_every_due_step_is_right_and_every_right_step_is_due():
    assert first_difference(LIFE, every_facts(ALL)) is None


def test_nothing_is_due_that_nobody_wants():
    for facts in every_facts(ONE):
        assert names_of(due(facts, NOTHING)) <= {"inspect"}


@pytest.mark.parametrize("stage", list(Stage))
def test_a_want_of_one_stage_makes_no_other_due(stage):
    only = Wants(by={stage: "rule"})
    for facts in every_facts(ONE):
        assert {step.stage for step in due(facts, only)} <= {stage, Stage.COMPLETE}


@pytest.mark.parametrize("kind", ["held", "later"])
def test_what_is_held_or_put_off_is_not_due(kind):
    wants = replace(EVERYTHING, **{kind: dict.fromkeys(Stage, "why")})
    for facts in every_facts(ONE):
        assert not due(facts, wants)
        for stage, found in standings(facts, wants).items():
            if found.status is not Status.DONE:
                assert found.reason, stage


def test_a_rule_cannot_make_due_what_the_table_does_not_allow():
    fewest = Facts(complete=False)
    assert names_of(due(fewest, EVERYTHING)) == {"inspect", "export"}


def test_an_aborted_scan_and_one_of_an_unaccepted_set_are_never_reduced():
    for facts in every_facts(ONE):
        if facts.aborted or (facts.in_set and not facts.set_accepted) or not facts.complete:
            assert "reduce" not in names_of(due(facts, EVERYTHING))


def test_what_is_kept_as_found_is_packed_and_archived_and_nothing_else():
    for facts in every_facts(ONE):
        if facts.kept_as_found and not facts.complete:
            assert names_of(due(facts, EVERYTHING)) <= {"inspect", "pack", "archive", "export"}


def test_the_accepting_of_a_volume_waits_for_a_person():
    found = standing(Stage.ACCEPTED, Facts(complete=True, package=True, volume=True), EVERYTHING)
    assert found.status is Status.WAITING
    assert "person" in found.reason


def test_lacking_covers_the_whole_ancestry():
    assert lacking(Stage.REDUCED, Facts()) == (
        Stage.COMPLETE,
        Stage.PACKED,
        Stage.ARCHIVED,
        Stage.RECONSTRUCTED,
        Stage.ACCEPTED,
    )
    lost = Facts(complete=True, package=True, volume=True, accepted=True, archive_copies=1)
    assert lacking(Stage.REDUCED, lost) == (Stage.ARCHIVED,)


def test_a_copy_that_goes_bad_makes_the_step_due_again():
    good = Facts(complete=True, package=True, archive_copies=2)
    assert standing(Stage.ARCHIVED, good, EVERYTHING).status is Status.DONE
    assert standing(Stage.ARCHIVED, replace(good, archive_copies=1), EVERYTHING).status is Status.DUE


# --- planted mistakes in the table -----------------------------------------------------------------------


def changed(stage, **change):
    return tuple(replace(step, **change) if step.stage is stage else step for step in LIFE)


def planted():
    for step in LIFE:
        for need in step.needs:
            kept = tuple(n for n in step.needs if n is not need)
            yield f"{step.stage} does not need {need}", changed(step.stage, needs=kept)
        yield f"{step.stage} is always done", changed(step.stage, done=lambda _f: True)
        yield f"{step.stage} is never done", changed(step.stage, done=lambda _f: False)
        yield f"{step.stage}: who decides is flipped", changed(step.stage, by_person=not step.by_person)
        yield (
            f"{step.stage} is left out",
            tuple(replace(s, needs=tuple(n for n in s.needs if n is not step.stage)) for s in LIFE if s is not step),
        )
    yield "reduce has no further needs", changed(Stage.REDUCED, also=lambda _f: "")
    for name in ("aborted", "in_set"):
        yield (
            f"reduce does not look at {name}",
            changed(
                Stage.REDUCED,
                also=lambda f, name=name: life_module._reduce_needs(replace(f, **{name: False})),
            ),
        )
    yield (
        "a set is accepted by its member",
        changed(Stage.REDUCED, also=lambda f: life_module._reduce_needs(replace(f, set_accepted=f.accepted))),
    )
    for stage in (Stage.PREVIEWED, Stage.REPLICATED, Stage.RECONSTRUCTED):
        yield f"{stage} of what is kept as found", changed(stage, as_found=True)
    for stage in (Stage.PACKED, Stage.ARCHIVED):
        yield f"{stage} never of what is kept as found", changed(stage, as_found=False)
    for stage in (Stage.PRUNED, Stage.REDUCED):
        yield f"{stage} of what is kept as found", changed(stage, as_found=True, also=lambda _f: "")
    yield "one copy is an archive", changed(Stage.ARCHIVED, done=lambda f: f.archive_copies >= 1)
    yield "two copies are always enough", changed(Stage.ARCHIVED, done=lambda f: f.archive_copies >= 2)
    yield "a rule may ask for fewer", changed(Stage.ARCHIVED, done=lambda f: f.archive_copies >= f.archive_wanted)
    yield "one more than wanted", changed(Stage.ARCHIVED, done=lambda f: f.archive_copies > max(f.archive_wanted, 2))
    yield "the want is the fact", changed(Stage.ARCHIVED, done=lambda f: f.archive_wanted >= 2)
    yield "nothing is lacking where nothing is wanted", changed(Stage.REPLICATED, also=lambda _f: "")
    yield "a package is a replica everywhere", changed(Stage.REPLICATED, done=lambda f: f.package)
    yield "reduced counts as packed", changed(Stage.PACKED, done=lambda f: f.package or f.reduced)
    yield "accepted without a volume", changed(Stage.RECONSTRUCTED, done=lambda f: f.volume or f.accepted)
    yield "aborted is complete", changed(Stage.COMPLETE, done=lambda f: f.complete or f.aborted)
    yield "kept as found is complete", changed(Stage.COMPLETE, done=lambda f: f.complete or f.kept_as_found)


PLANTED = dict(planted())


@pytest.fixture(scope="module")
def shuffled():
    found = list(every_facts(FEWER))
    random.Random(7).shuffle(found)
    return found


@pytest.mark.parametrize("name", list(PLANTED))
def test_a_planted_mistake_is_caught(name, shuffled):
    assert first_difference(PLANTED[name], shuffled) is not None


@pytest.mark.parametrize(
    "table",
    [
        changed(Stage.PRUNED, also=lambda _f: ""),
        changed(Stage.PRUNED, as_found=True),
        changed(Stage.REDUCED, as_found=True),
    ],
    ids=["prune by its needs alone", "prune by its own look alone", "reduce by its own look alone"],
)
def test_what_removes_or_replaces_is_locked_twice(table, shuffled):
    assert first_difference(table, shuffled) is None


# --- law 4 -----------------------------------------------------------------------------------------------


def every_removal():
    names = [f.name for f in fields(Removal)]
    values = {
        "product": list(ProductKind),
        "form": list(Form),
        "tier_class": list(TierClass),
        "pinned_by": ["", "anna"],
        "archive_copies_elsewhere": range(4),
        "server_copies_elsewhere": range(2),
        "good_copies_elsewhere": range(2),
        "copies_asked": range(4),
    }
    for combination in itertools.product(*(values.get(name, (False, True)) for name in names)):
        yield Removal(**dict(zip(names, combination, strict=True)))


def law_4(r):
    """True where the replica may go; law 4 in other words than the code's."""
    if r.pinned_by or not (r.enabled and r.complete):
        return False
    lossless_and_safe = r.archive_copies_elsewhere >= 2 and r.archive_copies_elsewhere >= r.copies_asked
    if r.product is ProductKind.ORIGINAL or not r.made_by_us:
        on_its_way = r.server_copies_elsewhere > 0 and r.archiving_hopeful
        return lossless_and_safe or (r.tier_class is TierClass.FAST and on_its_way)
    if r.product is ProductKind.REDUCED:
        return lossless_and_safe
    return r.good_copies_elsewhere > 0 or r.reproducible


def first_breach(decide):
    for removal in every_removal():
        if (decide(removal) == ()) is not law_4(removal):
            return removal
    return None


def test_may_go_is_law_4():
    assert first_breach(may_go) is None


def test_an_original_on_a_server_never_goes_with_fewer_than_two_archive_domains():
    for removal in every_removal():
        if removal.product is ProductKind.ORIGINAL and removal.archive_copies_elsewhere < 2:
            reasons = may_go(removal)
            if removal.tier_class is not TierClass.FAST:
                assert any("law 4" in reason for reason in reasons)


def test_every_reason_is_said_at_once():
    worst = Removal(ProductKind.ORIGINAL, Form.FILES, TierClass.SERVER, complete=False, enabled=False, pinned_by="anna")
    assert len(may_go(worst)) == 4


MISTAKES = [
    ("if not removal.enabled:", "if False:"),
    ("if removal.pinned_by:", "if False:"),
    ("if not removal.complete:", "if False:"),
    ("removal.product is ProductKind.ORIGINAL or not removal.made_by_us", "removal.product is ProductKind.ORIGINAL"),
    ("removal.product is ProductKind.ORIGINAL or not removal.made_by_us", "not removal.made_by_us"),
    ("removal.product is ProductKind.REDUCED", "False"),
    ("removal.good_copies_elsewhere < 1 and not", "removal.good_copies_elsewhere < 1 and False and not"),
    ("removal.good_copies_elsewhere < 1 and not removal.reproducible", "removal.good_copies_elsewhere < 1"),
    ("removal.good_copies_elsewhere < 1 and not", "not"),
    ("if removal.archive_copies_elsewhere < _asked(removal):", "if removal.archive_copies_elsewhere < 1:"),
    ("if removal.archive_copies_elsewhere >= _asked(removal):", "if removal.archive_copies_elsewhere >= 1:"),
    ("if removal.archive_copies_elsewhere >= _asked(removal):", "if removal.archive_copies_elsewhere > 2:"),
    ("return max(removal.copies_asked, LEAST_COPIES)", "return removal.copies_asked"),
    ("return max(removal.copies_asked, LEAST_COPIES)", "return LEAST_COPIES"),
    ("return max(removal.copies_asked, LEAST_COPIES)", "return min(removal.copies_asked, LEAST_COPIES)"),
    ("if removal.tier_class is TierClass.FAST and", "if"),
    ("if removal.tier_class is TierClass.FAST and", "if removal.tier_class is TierClass.SERVER and"),
    (" and removal.server_copies_elsewhere >= 1:", ":"),
    ("if removal.archiving_hopeful:", "if True:"),
    ("if removal.archiving_hopeful:", "if False:"),
    ("    return [_too_few(removal)]\n", "    return []\n"),
]


@pytest.fixture
def mutant():
    made = []

    def make(old, new):
        source = inspect.getsource(life_module)
        assert old in source
        module = types.ModuleType("tomovault_mutant_life")
        sys.modules[module.__name__] = module
        made.append(module.__name__)
        exec(compile(source.replace(old, new), "mutant", "exec"), module.__dict__)
        return module

    yield make
    for name in made:
        sys.modules.pop(name, None)


@pytest.mark.parametrize(("old", "new"), MISTAKES, ids=[f"{i}: {new.strip()}" for i, (_, new) in enumerate(MISTAKES)])
def test_a_planted_mistake_in_law_4_is_caught(mutant, old, new):
    assert first_breach(mutant(old, new).may_go) is not None


def test_the_source_without_a_mistake_is_right(mutant):
    assert first_breach(mutant("LEAST_COPIES", "LEAST_COPIES").may_go) is None


def test_the_least_number_of_copies_is_in_the_code(monkeypatch):
    assert life_module.LEAST_COPIES == 2
    monkeypatch.setattr(life_module, "LEAST_COPIES", 1)
    assert first_breach(may_go) is not None
    assert first_difference(LIFE, every_facts(FEWER)) is not None


# --- a thousand cycles -----------------------------------------------------------------------------------

BRINGS = {
    "inspect": {"complete": True},
    "preview": {"preview": True},
    "pack": {"package": True},
    "replicate": {"tiers_lacking": 0},
    "archive": {"archive_copies": 3},
    "reconstruct": {"volume": True},
    "reduce": {"reduced": True},
    "export": {"exported": True},
    "prune": {"files_pruned": True},
}


def live(facts, *, cycles=1000, table=LIFE, succeeds=lambda _action: True, events=None, remember=True):
    """Actions run by a planner that tries a step once until a fact changes; `events` are facts from outside."""
    ran = []
    tried = set()
    for cycle in range(cycles):
        new = (events or {}).get(cycle, {})
        for step in due(replace(facts, **new), EVERYTHING, table):
            if not new and remember and step.action in tried:
                continue
            tried.add(step.action)
            ran.append(step.action)
            if succeeds(step.action):
                new = {**new, **BRINGS[step.action]}
            break
        if replace(facts, **new) != facts:
            facts = replace(facts, **new)
            tried.clear()
    return ran, facts


STARTS = [
    Facts(tiers_wanted=2, tiers_lacking=2, archive_wanted=3),
    Facts(kept_as_found=True, archive_wanted=2),
    Facts(complete=True, aborted=True),
    Facts(complete=True, in_set=True, accepted=True),
    Facts(complete=True, accepted=True, tiers_wanted=1, tiers_lacking=1),
    Facts(complete=True, package=True, files_pruned=True),
]


@pytest.mark.parametrize("start", STARTS)
def test_no_action_repeats_when_every_step_succeeds(start):
    ran, end = live(start, remember=False)
    assert len(ran) == len(set(ran))
    assert not due(end, EVERYTHING)


@pytest.mark.parametrize("start", STARTS)
def test_no_action_repeats_without_a_new_fact_when_every_step_fails(start):
    ran, end = live(start, succeeds=lambda _action: False)
    assert end == start
    assert sorted(ran) == sorted(names_of(due(start, EVERYTHING)))


@pytest.mark.parametrize("failing", sorted(BRINGS))
@pytest.mark.parametrize("start", STARTS)
def test_a_step_that_fails_is_tried_again_only_on_new_facts(start, failing):
    ran, _ = live(start, succeeds=lambda action: action != failing)
    others = [action for action in ran if action != failing]
    assert len(others) == len(set(others))
    assert ran.count(failing) <= 1 + len(others)


def test_a_lost_copy_is_one_new_fact_and_one_more_action():
    start = Facts(complete=True)
    quiet, _ = live(start)
    ran, end = live(start, events={500: {"archive_copies": 1}})
    assert ran == [*quiet, "archive"]
    assert end.archive_copies == 3


def test_a_restored_scan_is_pruned_again_once_for_each_restore():
    quiet, _ = live(Facts(complete=True))
    ran, _ = live(Facts(complete=True), events={n: {"files_pruned": False} for n in (100, 300, 700)})
    assert ran == [*quiet, "prune", "prune", "prune"]


@pytest.mark.parametrize("stage", [s.stage for s in LIFE if s.action in BRINGS])
def test_a_planted_endless_step_is_seen(stage):
    table = changed(stage, done=lambda _f: False)
    ran, _ = live(Facts(complete=True, accepted=True, tiers_wanted=1, tiers_lacking=1), table=table, remember=False)
    assert len(ran) > len(set(ran))
