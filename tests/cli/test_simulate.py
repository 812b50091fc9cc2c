"""The future of a site under a policy, told on a page; and that of a model where there is no site."""

import json
from xml.etree import ElementTree

import pytest

from tomovault.cli import main
from tomovault.core.known import RemovalPhase
from tomovault.core.replica import Form
from tomovault.vault.removals import grant

MODEL = """\
areas:
  a: {quota: 100GB, fill: 60%, high: 50%, low: 30%, prune: on, floor: 0B}
  b: {quota: 200GB, fill: 99%, high: 50%, low: 30%, prune: on, floor: 0B}
quarantine: {hold: 1d, limit: 100%}
arrivals:
  per_day: 10GB
  scans: [{size: 2GB, of: 100%}]
people: {recalls_per_day: 1, of_age: 5d}
"""

SMALL = "arrivals: {per_day: 200B, scans: [{size: 100B, of: 100%}]}\npeople: {recalls_per_day: 0}\n"


@pytest.fixture
def model(tmp_path):
    def write(text):
        path = tmp_path / "model.yaml"
        path.write_text(text, "utf-8")
        return str(path)

    return write


@pytest.fixture
def alone(tmp_path, monkeypatch, capsys):
    """A command where there is no site."""
    (tmp_path / "nowhere").mkdir()
    monkeypatch.chdir(tmp_path / "nowhere")
    monkeypatch.delenv("TOMOVAULT_SITE", raising=False)

    def run(*arguments):
        with pytest.raises(SystemExit) as end:
            main([*arguments])
        said = capsys.readouterr()
        return end.value.code, said.out, said.err

    return run


def test_a_model_is_simulated_where_there_is_no_site(alone, model, tmp_path):
    plot = tmp_path / "fill.svg"
    wish = ("simulate", "aggressive", "--days", "30", "--arrivals", model(MODEL), "--plot", str(plot))
    code, out, err = alone(*wish, "--json")
    page = json.loads(out)
    assert (code, err) == (0, "")
    assert [area["area"] for area in page["areas"]] == ["a", "b"]
    assert page["met"]
    assert page["below_high_from_day"] < 20
    assert page["least_copies_at_a_removal"] == 2
    assert all(area["highest_after"] <= 0.5 for area in page["areas"])
    assert all(area["without"]["full_on_day"] is not None for area in page["areas"])
    assert page["speed"]["times_real_time"] > 0
    assert [len(one["disk"]) for one in page["series"]] == [30, 30]
    titles = {t.text for t in ElementTree.parse(plot).getroot().iter("{http://www.w3.org/2000/svg}text")}
    assert {"a", "b", "30 days under the policy aggressive"} <= titles


def test_a_person_reads_days_copies_and_speed(alone, model):
    code, out, _ = alone("simulate", "aggressive", "--days", "20", "--arrivals", model(MODEL), "--areas", "a")
    assert code == 0
    assert "a, 100 GB, high mark 50 %" in out
    assert "b, 200 GB" not in out
    assert "Every area is below its high mark" in out
    assert "Fewest copies left        2, counted" in out
    assert "times real time" in out


def test_where_it_is_not_met_the_page_says_what_would_meet_it(alone, model):
    path = model(MODEL.replace("prune: on", "prune: off"))
    code, out, _ = alone("simulate", "aggressive", "--days", "20", "--arrivals", path)
    assert code == 0
    assert "a above its high mark: prune is off 100%" in out
    assert "It would be met with `prune: on`: every area below its high mark from day" in out
    assert "Found in 1 simulation of at most 7." in out
    code, out, _ = alone("simulate", "aggressive", "--days", "20", "--arrivals", path, "--prune", "on", "--json")
    assert json.loads(out)["met"]


def test_a_site_is_simulated_with_its_scans_and_nothing_of_it_changes(town, ask, model):
    ids = [town.scan("one"), town.scan("two")]
    town.room(quota="2kB")
    page = ask("simulate", "standard", "--days", "5", "--arrivals", model(SMALL))
    (area,) = page["areas"]
    assert (area["area"], area["start_fill"], area["high"], area["low"]) == ("inhouse", 0.6, 0.5, 0.2)
    assert page["removals_checked"] > 0
    assert page["least_copies_at_a_removal"] == 2
    for scan in map(town.known, ids):
        assert (scan.jobs, scan.permits) == ((), ())


def test_a_removal_that_is_under_way_goes_on(town, ask, model):
    scan = town.scan("one")
    town.room(quota="1kB", high="99%", low="98%")
    rule = next(r for r in town.vault.policy_of("inhouse").rules if r.name == "prune-files")
    with town.vault.catalogue.writing() as tx:
        replica = town.replica(scan, Form.FILES).id
        grant(town.vault, tx, town.known(scan), replica, rule=rule, now=town.now)
    town.quarantine(scan)
    page = ask("simulate", "standard", "--days", "20", "--arrivals", model(SMALL.replace("200B", "0B")))
    assert page["pruned_bytes"] == {"files": 400, "package": 0, "volume": 0}
    assert {p.phase for p in town.known(scan).permits} == {RemovalPhase.QUARANTINED}


def test_a_fill_that_is_given_replaces_the_scans_that_are_known(town, ask, model):
    town.scan("one")
    town.room(quota="1kB", prune="off")
    page = ask("simulate", "standard", "--days", "3", "--arrivals", model(SMALL), "--fill", "90%", "--no-remedy")
    assert page["areas"][0]["start_fill"] == pytest.approx(0.9)
    assert page["packed_bytes"] >= 100
    assert list(page["areas"][0]["held_above_by"]) == ["prune is off"]


@pytest.mark.parametrize(
    ("wish", "told"),
    [
        (("standrd",), "there is no policy 'standrd'"),
        (("standard", "--areas", "elsewhere"), "there is no area 'elsewhere'"),
        (("standard", "--fill", "inhouse=much"), "is not a share"),
        (("standard", "--fill", "elsewhere=3%"), "there is no area 'elsewhere'"),
        (("./none.yaml",), "No such file"),
    ],
)
def test_what_is_not_there_is_told(town, ask, wish, told):
    assert told in ask("simulate", *wish, code=2)["error"]


def test_a_model_without_areas_needs_a_site(alone, model):
    code, _, err = alone("simulate", "standard", "--arrivals", model(SMALL))
    assert code == 2
    assert "has no areas, and there is no site here" in err
