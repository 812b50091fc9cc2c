"""A site whose archive is a folder: of an HSM, where files turn into stubs overnight, or an LTFS volume in a drive."""

import errno
import os
import shutil
import stat

import pytest

VOLUME = "0b5e7b7a-9f2c-4a6b-8f0d-2f6f5c1f7a11"

_MIGRATE = """
while read -r file; do
  cp "$file" "$TAPE/${file##*/}"; size=$(stat -c %s "$file"); : > "$file"; truncate -s "$size" "$file"
done < "$1"
"""
_RECALL = """
wc -l < "$1" >> "$TAPE/../asked"
while read -r file; do cat "$TAPE/${file##*/}" > "$file"; done < "$1"
"""


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "archive"
    path.mkdir()
    return path


@pytest.fixture
def tape(tmp_path):
    path = tmp_path / "tape"
    path.mkdir()
    return path


@pytest.fixture
def programs(tape, tmp_path):
    """The HSM's own, as its administrator wrote them."""
    found = {}
    for verb, body in {"migrate": _MIGRATE, "recall": _RECALL}.items():
        script = tmp_path / f"hsm-{verb}"
        script.write_text(f'#!/bin/sh\nset -e\nTAPE="{tape}"\n{body}')
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
        found[verb] = [str(script), "{list}"]
    return found


@pytest.fixture
def archived(new_site, folder):
    """Called with the options of the tier for a site with two copies on the library and a third in the folder."""

    def live(**options):
        options = {"kind": "ltfs", "path": str(folder), **options}
        made = new_site("edf", settings={"tiers": {"deep": options}})
        policy = made.folder / "policies" / "standard.yaml"
        policy.write_text(policy.read_text("utf-8").replace("copies: 2", "copies: 3"), "utf-8")
        made.write("edf", "bone_")
        made.live()
        return made

    return live


def copies(site, **wanted):
    found = [r for r in site.show("bone_")["replicas"] if r["tier"] == "deep"]
    return [r for r in found if all(r[key] == value for key, value in wanted.items())]


def leave_stub(path):
    size = os.path.getsize(path)
    os.truncate(path, 0)
    os.truncate(path, size)


def test_what_an_hsm_sent_to_tape_comes_back(archived, programs, tape, folder, digests, tmp_path):
    spool = tmp_path / "spool"
    spool.mkdir()
    site = archived(**programs, spool=str(spool), gather=0, domain="cellar")
    before = digests(site.areas["edf"] / "bone_")
    (copy,) = copies(site, state="verified")
    (on_tape,) = tape.iterdir()
    assert (os.path.basename(copy["location"]), copy["domain"]) == (on_tape.name, "cellar")
    assert "without what LTFS tells" in site.say("doctor").out
    asked = tmp_path / "asked"
    assert asked.read_text().split() == ["1"], "it counted when it had been on tape only, and came back"

    leave_stub(copy["location"])
    page = site.ask("restore", "bone_", "--to", str(tmp_path / "back"), "--from", "deep", "--wait")
    assert page["tier"] == "deep"
    assert digests(tmp_path / "back") == before
    assert asked.read_text().split() == ["1", "1"]

    leave_stub(copy["location"])
    on_tape.write_bytes(on_tape.read_bytes()[:-600_000] + b"worn out")
    site.ask("verify", "bone_", code=4)
    assert [c["location"] for c in copies(site, state="suspect")] == [copy["location"]]
    site.live()
    (good,) = copies(site, state="verified")
    assert good["location"] != copy["location"], "another was made beside the bad one"


def test_a_volume_that_was_taken_out_is_missed_and_not_mourned(archived, folder, digests, tmp_path):
    try:
        for name, value in {"volumeUUID": VOLUME, "volumeSerial": "TOM001"}.items():
            os.setxattr(folder, f"user.ltfs.{name}", value.encode())
    except OSError as problem:
        if problem.errno != errno.ENOTSUP:
            raise
        pytest.skip("the file system of the temporary folder takes no attributes `user.*`")
    site = archived(volume="TOM001")
    before = digests(site.areas["edf"] / "bone_")
    (copy,) = copies(site, state="verified")
    assert copy["domain"] == f"ltfs:{VOLUME}"
    assert f"LTFS volume {VOLUME} TOM001" in site.say("doctor").out

    folder.rename(tmp_path / "shelf")
    folder.mkdir()
    assert "tier deep is absent" in site.say("doctor").out
    site.say("verify", "bone_")
    site.live(failed_ok=True)
    assert [c["location"] for c in copies(site, state="verified")] == [copy["location"]], (
        "a cartridge on the shelf is no damaged one"
    )
    assert list(folder.iterdir()) == [], "and an empty mount point is no empty cartridge"

    folder.rmdir()
    (tmp_path / "shelf").rename(folder)
    site.ask("restore", "bone_", "--to", str(tmp_path / "back"), "--from", "deep", "--wait")
    assert digests(tmp_path / "back") == before


def test_the_folder_alone_tells_what_is_in_it(archived, folder, digests, tmp_path):
    site = archived(domain="cellar")
    if not (site.folder / "catalogue.db").exists():
        # How a lost catalogue of a server is replaced is the server's; what is then written goes through the same code.
        pytest.skip("a catalogue in a file is taken away here")
    before, known = digests(site.areas["edf"] / "bone_"), copies(site)
    for name in ("catalogue.db", "catalogue.db-wal", "catalogue.db-shm", "audit-heads.jsonl"):
        (site.folder / name).unlink(missing_ok=True)
    for name in ("manifests", "run"):
        shutil.rmtree(site.folder / name)
    site.ask("catalogue", "rebuild", "--from", "deep")
    (found,) = copies(site)
    same = ("location", "domain", "bytes", "sha256")
    assert [found[key] for key in same] == [known[0][key] for key in same]
    assert found["state"] != "verified", "nobody has re-read it for the new catalogue"
    site.ask("verify", "bone_")
    site.ask("restore", "bone_", "--to", str(tmp_path / "back"), "--from", "deep", "--wait")
    assert digests(tmp_path / "back") == before
