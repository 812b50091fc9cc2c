"""What a person names on the command line: a scan, and a part of it."""

import itertools
from pathlib import Path


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
