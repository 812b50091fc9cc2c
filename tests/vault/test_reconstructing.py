"""A person asks for a volume: what is refused and why, and what the job is given."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from tomovault.core.errors import Refused, UserError
from tomovault.core.record import Made, Processing
from tomovault.core.replica import ProductKind
from tomovault.core.scan import Certificate, FrameCounts, Verdict
from tomovault.vault.orders import build_order
from tomovault.vault.reconstructing import last_run, wish_for
from tomovault.vault.requests import Request

STORED = {
    "purpose": "volume",
    "centre": 15.5,
    "rows": [0, 1],
    "filter": "hann",
    "preset": {"name": "fine", "version": 2, "of": "presets"},
    "anew": {},
    "warnings": ["there are no darks: nothing is subtracted"],
}


@pytest.fixture
def order(town):
    def build(scan, **wish):
        catalogue = town.vault.catalogue
        with catalogue.reading() as tx:
            request = Request(town.vault, tx, catalogue.known(tx, scan), wish, town.now, "anna")
            return build_order("reconstruct", request)

    return build


@pytest.fixture
def preset(town):
    def write(name, text):
        folder = town.folder / "presets"
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.yaml").write_text(f"name: {name}\n{text}", "utf-8")

    return write


def made(town, scan, parameters=None, digest="d" * 64, engine="fourier"):
    """The scan has a volume; returns the run's id."""
    run = Processing(engine, "1", parameters or STORED, town.now, town.now, (digest,))
    with town.vault.catalogue.writing() as tx:
        town.vault.catalogue.apply_records(
            tx, [Made(ProductKind.VOLUME, digest, 9, 1, processing=run)], town.now, scan_id=scan
        )
    return next(key for key, known in town.known(scan).processings if digest in known.outputs)


def test_without_a_wish_it_is_as_the_rules_say(town, order):
    found = order(town.scan("one"))
    assert found["parameters"] == {}
    assert found["resolved"] is None
    assert found["told"] == {"preset": {"name": "quick", "version": 1, "of": "policy standard"}}


def test_a_preset_of_the_site_is_taken_for_the_scan_it_is_of(town, order, preset):
    preset(
        "fine",
        "version: 4\nparameters: {filter: hann}\nvariants:\n"
        "  - {for: {format: edf, half_acquisition: true}, parameters: {rings: sorting}}\n"
        "  - {for: {beamline: ID19}, parameters: {zingers: 0.3}}\n",
    )
    plain = town.scan("one")
    half = town.scan("two", metadata={"field_of_view": "Half"})
    found = order(plain, preset="fine")
    assert found["parameters"] == {"filter": "hann"}
    assert found["told"] == {"preset": {"name": "fine", "version": 4, "of": "presets"}}
    assert order(half, preset="fine")["parameters"] == {"filter": "hann", "rings": "sorting"}
    town.change(areas={"inhouse": {"beamline": "ID19"}})
    on_id19 = town.scan("three")
    assert order(on_id19, preset="fine")["parameters"].get("zingers") in (None, 0.3)


def test_a_preset_of_the_policy_comes_before_a_file_and_a_file_before_a_shipped_one(town, order, preset):
    preset("quick", "version: 9\nparameters: {filter: ramp}\n")
    scan = town.scan("one")
    assert order(scan, preset="quick")["told"]["preset"]["of"] == "policy standard"
    assert order(scan, preset="clean")["parameters"]["rings"] == "sorting"
    preset("clean", "version: 9\nparameters: {filter: ramp}\n")
    assert order(scan, preset="clean")["parameters"] == {"filter": "ramp"}


def test_a_rule_may_name_a_preset_of_the_site(town, order, preset):
    preset("fine", "version: 1\nparameters: {filter: hann}\n")
    old = "do: reconstruct\n    with: {preset: quick}"
    town.policy((old, "do: reconstruct\n    with: {preset: fine}"))
    assert order(town.scan("one"))["parameters"] == {"filter": "hann"}


def test_a_preset_that_there_is_not_or_that_is_wrong_says_so(town, order, preset):
    scan = town.scan("one")
    with pytest.raises(UserError, match="there is no preset 'cleen'; did you mean 'clean'"):
        order(scan, preset="cleen")
    preset("bad", "version: 1\nparameters: {filtre: hann, eps: 7}\n")
    with pytest.raises(UserError, match=r"bad.yaml:3:14: unknown key 'filtre'[\s\S]*bad.yaml:3:33"):
        order(scan, preset="bad")
    (town.folder / "presets" / "bad.yaml").write_text("name: worse\nversion: 1\n", "utf-8")
    with pytest.raises(UserError, match=r"bad.yaml:1:7: a preset is known by its file"):
        order(scan, preset="bad")
    preset("other", "version: 1\nengine: nabu\n")
    with pytest.raises(UserError, match="'other' is for the engine nabu, and this site has fourier"):
        order(scan, preset="other")


def test_a_run_is_repeated_with_what_was_stored_of_it(town, order):
    scan = town.scan("one")
    found = order(scan, like=made(town, scan))
    assert found["parameters"] == {}
    assert found["resolved"] == {k: STORED[k] for k in ("centre", "rows", "filter", "warnings")}
    assert found["told"]["preset"] == STORED["preset"]
    assert found["dtype"] == "float32"
    counts = made(town, scan, {**STORED, "cast": {"dtype": "uint16"}}, digest="e" * 64)
    assert order(scan, like=counts)["dtype"] == "uint16"
    preview = made(town, scan, {**STORED, "purpose": "preview", "slice_row": 0}, digest="f" * 64)
    assert "rows" not in order(scan, like=preview)["resolved"]


def test_a_run_that_there_is_not_names_the_nearest(town, order):
    scan = town.scan("one")
    run = made(town, scan)
    with town.vault.catalogue.reading() as tx:
        known = town.vault.catalogue.known(tx, scan)
        with pytest.raises(UserError, match=f"did you mean '{run}'"):
            wish_for(tx, known, None, run[:-1])
        assert wish_for(tx, known, None, run).anew == {}
        assert wish_for(tx, known, "fine", None).plain == {"preset": "fine"}
    with pytest.raises(UserError, match=f"of one there are: {run}"):
        order(scan, like="x1")
    with pytest.raises(UserError, match="was made by the engine nabu, and this site has fourier"):
        order(scan, like=made(town, scan, digest="e" * 64, engine="nabu"))


def test_of_a_run_of_another_scan_it_is_said_what_is_found_anew(town):
    one, two = town.scan("one"), town.scan("two")
    run = made(town, one)
    with town.vault.catalogue.reading() as tx:
        wish = wish_for(tx, town.vault.catalogue.known(tx, two), None, run)
    assert wish.plain == {"like": run}
    assert {"centre", "angles", "flats"} <= wish.anew.keys()


def test_a_scan_that_is_not_complete_or_not_packed_is_refused_by_life(town, order):
    counts = FrameCounts(2, 1, 1)
    unfinished = town.scan("one", certificate=Certificate(Verdict.INCOMPLETE, counts, FrameCounts(1, 1, 1)))
    with pytest.raises(Refused, match="one cannot be reconstructed yet: it is not complete") as refused:
        order(unfinished)
    assert refused.value.by.startswith("life")
    assert refused.value.exit_code == 3


def test_a_rule_or_the_format_may_forbid_it(town, order):
    none = town.scan("none", metadata={"no_reconstruction": "its volumes are made by others"})
    with pytest.raises(Refused, match="its volumes are made by others"):
        order(none)
    forbid = "  - {name: hands-off, do: forbid, when: true, with: {actions: [reconstruct]}}\n"
    town.policy(("rules:\n", "rules:\n" + forbid))
    with pytest.raises(Refused, match="must not be reconstructed now") as refused:
        order(town.scan("one"))
    assert refused.value.by == "hands-off@standard:1"


def test_the_command_queues_it_and_says_what_is_wrong(town, say, ask):
    one = town.scan("one")
    page = ask("reconstruct", "one", "--preset", "clean")
    assert (page["scan"], page["status"]) == (one, "todo")
    (job,) = town.jobs(one, "reconstruct")
    assert job.id == page["job"]
    assert job.order == {"preset": "clean"}
    said = say("reconstruct", "one")
    assert said.code == 0
    assert "No daemon runs now" in said.out
    run = made(town, one)
    town.scan("two")
    said = say("reconstruct", "two", "--like", run)
    assert "not taken over: centre" in said.out
    for words, code, word in (
        (("nothing",), 2, "no scan is known"),
        (("one", "--preset", "cleen"), 2, "did you mean 'clean'"),
        (("one", "--like", run + "x"), 2, f"did you mean '{run}'"),
        (("one", "--like", run, "--preset", "clean"), 2, "exclude each other"),
    ):
        said = say("reconstruct", *words)
        assert (said.code, word in said.err) == (code, True), said
    counts = FrameCounts(2, 1, 1)
    town.scan("half", certificate=Certificate(Verdict.INCOMPLETE, counts, replace(counts, projections=1)))
    said = say("reconstruct", "half")
    assert said.code == 3
    assert "not complete" in said.err


def test_what_the_last_run_found_is_told(town):
    scan = town.scan("one")
    run = made(town, scan)
    told = last_run(town.known(scan))
    assert told["processing"] == run
    assert told["found"]["centre"] == 15.5
    assert told["warnings"] == STORED["warnings"]
    assert told["preset"]["version"] == 2
    json.dumps(told)


def test_a_volume_made_again_is_the_newest_once_more(town):
    scan = town.scan("one")
    first, second = "a" * 64, "b" * 64
    made(town, scan, digest=first)
    town.now = town.now.replace(year=town.now.year + 1)
    made(town, scan, digest=second)
    assert town.known(scan).product(ProductKind.VOLUME).digest == second
    town.now = town.now.replace(year=town.now.year + 1)
    made(town, scan, digest=first)
    assert town.known(scan).product(ProductKind.VOLUME).digest == first
    assert len([p for p in town.known(scan).products if p.kind is ProductKind.VOLUME]) == 2


def test_while_a_volume_is_being_made_another_is_not_asked_for(town, ask, say):
    scan = town.scan("one")
    job = ask("reconstruct", "one")["job"]
    with town.vault.catalogue.writing() as tx:
        town.vault.catalogue.claim_job(tx, "somebody", now=town.now + timedelta(days=9), actions=["reconstruct"])
    said = say("reconstruct", scan)
    assert (said.code, job in said.err) == (75, True), said
