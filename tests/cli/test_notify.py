"""Trying a channel, and what doctor and `policy check` say of what is wrong."""

import json

import pytest


@pytest.fixture
def taken(tmp_path):
    """A program that takes messages, and where they are."""
    path, out = tmp_path / "page", tmp_path / "taken.json"
    path.write_text(f"#!/bin/sh\ncat > {out}\n")
    path.chmod(0o755)
    return path, out


def test_a_test_message_says_what_happened(town, ask, taken):
    path, out = taken
    town.change(notify={"channels": {"pager": _command(path), "lost": _command("/bin/false")}})
    page = ask("notify", "test", "pager")
    assert (page["channel"], page["recipients"]) == ("pager", [])
    assert json.loads(out.read_text())["id"] == page["id"]
    assert "ended with 1" in ask("notify", "test", "lost", code=75)["error"]
    assert "did you mean 'pager'" in ask("notify", "test", "pagre", code=2)["error"]
    assert "has no addresses" in ask("notify", "test", "pager", "--to", "a@example.org", code=2)["error"]


def test_doctor_and_check_find_what_would_be_wrong_at_night(town, ask, taken):
    path, _ = taken
    town.change(notify={"channels": {"pager": _command(path), "gone": _command("/nowhere")}})
    town.policy(("{forms: [files]}", "{forms: [files], warn: 7d}"))
    templates = town.folder / "templates"
    templates.mkdir()
    (templates / "warning.txt").write_text("Subject: $area\n$scna")
    checks = {c["name"]: c for c in ask("doctor", code=75)["checks"]}
    assert checks["channel pager"]["ok"]
    assert not checks["channel gone"]["ok"]
    assert "$scna is not known here" in checks["template"]["detail"]
    assert "prune-files@standard:1 waits for warnings" in checks["warnings"]["detail"]
    files = {f["file"]: f for f in ask("policy", "check", code=2)["files"]}
    assert "$scna" in files[str(templates / "warning.txt")]["errors"][0]


def _command(path):
    return {"kind": "command", "argv": [str(path)]}
