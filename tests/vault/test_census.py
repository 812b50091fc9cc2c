"""The second half of a census: what no scan explains is added up, and a walk that was ended is gone on with."""

import json
import os

import click
import pytest

from tomovault.vault import census
from tomovault.vault.census import Walk, find_remainder, forget_walk, go_on

FOLDERS = ("a", "b", "c/d", "e")


class Ended(Exception):
    """Somebody pressed Ctrl-C."""


@pytest.fixture
def strewn(town):
    """The folder with the kept walks, of a site with files that no scan explains."""
    for name in FOLDERS:
        (town.area / name).mkdir(parents=True)
        (town.area / name / "left").write_bytes(b"x" * 10)
    return town.vault.run_folder / "census" / "under_way"


def _walk(town, steps=None):
    """The folders with what was found, and what was walked over; raises Ended after so many steps."""
    taken = []

    def progress(_done, _total):
        taken.append(1)
        if steps is not None and len(taken) > steps:
            raise Ended

    found, walked = find_remainder(town.vault, "inhouse", progress)
    return {os.path.relpath(one.folder, town.area): one.bytes for one in found}, walked, len(taken)


def test_a_walk_that_was_ended_goes_on_and_counts_nothing_twice(town, strewn):
    whole, walked, steps = _walk(town)
    assert whole == dict.fromkeys(FOLDERS, 10)
    for _ in range(steps - 2):
        with pytest.raises(Ended):
            _walk(town, steps=1)
    found, again, left = _walk(town)
    assert left < steps
    assert found == whole
    assert (again.folders, again.files, again.bytes) == (walked.folders, walked.files, walked.bytes)


def test_after_a_census_the_next_walk_begins_anew(town, strewn):
    with pytest.raises(Ended):
        _walk(town, steps=3)
    assert list(strewn.iterdir())
    forget_walk(town.vault, "inhouse")
    forget_walk(town.vault, "inhouse")
    assert list(strewn.iterdir()) == []


def test_a_process_that_is_killed_loses_little(town, strewn, monkeypatch):
    monkeypatch.setattr(census, "_KEPT_EVERY_S", -1.0)
    _walk(town)
    (kept,) = strewn.iterdir()
    assert json.loads(kept.read_text())["walk"]["at"] == "e"


@pytest.mark.parametrize("kept", ["{", "[]", '{"at": 1}', '{"at": "2020-01-01T00:00:00Z", "walk": "%s"}'])
def test_what_was_kept_long_ago_or_is_damaged_is_not_gone_on_with(town, strewn, kept):
    with pytest.raises(Ended):
        _walk(town, steps=3)
    (place,) = strewn.iterdir()
    page = json.loads(place.read_text())
    place.write_text(kept.replace('"%s"', json.dumps(page["walk"])))
    assert _walk(town)[0] == dict.fromkeys(FOLDERS, 10)
    assert _walk(town)[1].files == 4


def test_the_command_goes_on_where_it_was(town, strewn, say, ask, monkeypatch):
    monkeypatch.setattr("tomovault.daemon.census.take_census", lambda *_of: None)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    asked = []

    def end(_stop):
        asked.append(1)
        if len(asked) == 4:
            raise click.exceptions.Exit(130)

    monkeypatch.setattr("tomovault.cli.census._go_on_or_end", end)
    assert say("census", "inhouse").code == 130
    before = len(asked)
    page = ask("census", "inhouse")
    whole = Walk("inhouse")
    steps = []
    go_on(town.vault, whole, lambda *_: steps.append(1))
    assert len(asked) - before < 1 + len(steps)
    assert (page["files"], page["folders"]) == (whole.walked.files, whole.walked.folders)
    assert list(strewn.iterdir()) == []
