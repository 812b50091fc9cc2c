"""What a person names on the command line, a scan and a part of it, and what becomes of the wish."""

import itertools
from pathlib import Path

from tomovault.vault import asking


def test_a_scan_is_found_by_a_path_from_the_working_folder(town, ask, monkeypatch, tmp_path):
    scan = town.scan("one")
    root = Path(town.known(scan).root)
    root.mkdir()
    monkeypatch.chdir(root)
    assert ask("scan", "show", ".")["id"] == scan
    monkeypatch.chdir(root.parent)
    assert ask("scan", "show", f"./{root.name}/")["id"] == scan
    away = tmp_path / "away"
    away.mkdir()
    monkeypatch.chdir(away)
    away.rmdir()
    assert "is gone" in ask("scan", "show", root.name, code=2)["error"]


def test_parts_of_a_scan_are_asked_for_one_at_a_time(town, ask, tmp_path):
    town.scan("one")
    wishes = ("--flats",), ("--darks",), ("--frames", "0:1"), ("--files", "*")
    for one, other in itertools.combinations(wishes, 2):
        told = ask("restore", "one", "--to", str(tmp_path / "x"), *one, *other, code=2)
        assert "exclude each other" in told["error"]


def test_a_restore_that_nobody_will_take_up_says_so(town, say, tmp_path):
    town.scan("one")
    assert "No daemon runs now" in say("restore", "one", "--to", str(tmp_path / "out")).out
    with town.vault.catalogue.writing() as tx:
        assert town.vault.catalogue.take_lease(tx, asking.LEADER, "daemon", 600.0)
    assert "No daemon runs now" not in say("restore", "one", "--to", str(tmp_path / "out")).out


def test_a_pattern_that_no_file_matches_is_told_before_it_is_queued(town, ask, tmp_path):
    scan = town.scan("one", paths=("a.edf", "sub/b.edf"))
    told = ask("restore", "one", "--to", str(tmp_path / "out"), "--files", "*.tif", code=2)
    assert "no file of one matches *.tif" in told["error"]
    assert town.known(scan).jobs == ()
    ask("restore", "one", "--to", str(tmp_path / "out"), "--files", "*.tif", "--files", "sub/*")
    assert len(town.known(scan).jobs) == 1
