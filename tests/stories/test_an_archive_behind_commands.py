"""A site whose central backup is reached by its own scripts: scans go there, come back, and are missed when they go."""

import stat

import pytest

_SCRIPTS = {
    "put": 'cp "$1" "$STORE/$2.new" && mv "$STORE/$2.new" "$STORE/$2" && echo "central:$2"',
    "get": 'test -e "$STORE/${1#central:}" || { echo "no such object" >&2; exit 66; }; cp "$STORE/${1#central:}" "$2"',
    "query": 'test -e "$STORE/${1#central:}" || exit 66',
    "remove": 'rm "$STORE/${1#central:}"',
}
_WORDS = {"put": ["{file}", "{name}"], "get": ["{uri}", "{file}"], "query": ["{uri}"], "remove": ["{uri}"]}


@pytest.fixture
def store(tmp_path):
    folder = tmp_path / "central"
    folder.mkdir()
    return folder


@pytest.fixture
def site(new_site, store, tmp_path):
    """Two copies on the library, and a third where the scripts put it."""
    verbs = {}
    for verb, body in _SCRIPTS.items():
        script = tmp_path / f"central-{verb}"
        script.write_text(f'#!/bin/sh\nset -e\nSTORE="{store}"\n{body}\n')
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
        verbs[verb] = [str(script), *_WORDS[verb]]
    made = new_site("edf", settings={"tiers": {"central": {"kind": "command", "path": "central", **verbs}}})
    (made.folder / "central").mkdir()
    policy = made.folder / "policies" / "standard.yaml"
    policy.write_text(policy.read_text("utf-8").replace("copies: 2", "copies: 3"), "utf-8")
    made.write("edf", "bone_")
    return made


def test_a_scan_goes_there_and_comes_back(site, store, digests, tmp_path):
    before = digests(site.areas["edf"] / "bone_")
    site.live()
    (copy,) = [r for r in site.show("bone_")["replicas"] if r["tier"] == "central"]
    (object_,) = store.iterdir()
    assert (copy["state"], copy["location"]) == ("verified", f"central:{object_.name}")
    assert "its commands can be started: put, get, query, remove" in site.say("doctor").out

    page = site.ask("restore", "bone_", "--to", str(tmp_path / "back"), "--from", "central", "--wait")
    assert (page["tier"], page["cartridge"]) == ("central", None)
    assert digests(tmp_path / "back") == before

    object_.unlink()
    site.ask("verify", "bone_", code=4)
    (copy,) = [r for r in site.show("bone_")["replicas"] if r["tier"] == "central"]
    assert copy["state"] == "suspect"
    site.live()
    good = [r for r in site.show("bone_")["replicas"] if r["tier"] == "central" and r["state"] == "verified"]
    assert len(good) == 1, "another was made in its place"
    assert len(list(store.iterdir())) == 1


def test_the_catalogue_goes_there_too_and_comes_back_without_one(site, store, tmp_path):
    made = site.ask("catalogue", "backup")
    assert sorted(made["placed"]) == ["central", "tape"]
    assert not made["problems"]
    (object_,) = store.iterdir()
    assert made["placed"]["central"] == f"central:{object_.name}"
    page = site.ask("catalogue", "fetch", str(tmp_path / "back.db"), "--from", "central")
    assert (page["tier"], page["sha256"]) == ("central", made["sha256"])
    object_.unlink()
    assert "no backup" not in site.refuse("catalogue", "fetch", str(tmp_path / "no.db"), "--from", "central", code=4)
