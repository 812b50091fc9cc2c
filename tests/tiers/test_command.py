"""What is particular to an archive behind commands: its answers, what is known of it here, and being cut off."""

import dataclasses
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tomovault.core.errors import IntegrityError, NotYet, Refused, Transient, UserError
from tomovault.core.ports import Harm, Parcel
from tomovault.core.replica import StoredFile
from tomovault.tiers.command import CommandTier
from tomovault.tiers.free import FREE

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)

_PUT = 'cp "$1" "$STORE/$2" && echo "$*" >> "$STORE/log" && echo "moved it" && echo "hsm:$2"'
_GET = 'echo "get $1" >> "$STORE/log"; test -e "$STORE/${1#hsm:}" || exit 66; cp "$STORE/${1#hsm:}" "$2"'


@pytest.fixture
def store(tmp_path):
    folder = tmp_path / "store"
    folder.mkdir()
    return folder


@pytest.fixture
def tier(tmp_path, store):
    """Called with bodies of shell scripts by verb for a tier that has them; None takes one away."""

    def make(**bodies):
        spool = tmp_path / "spool"
        spool.mkdir(exist_ok=True)
        about = {"put": ["{file}", "{name}"], "get": ["{uri}", "{file}"], "stage": ["{list}"], "list": []}
        verbs = {"put": _PUT, "get": _GET} | bodies
        options = {
            verb: ["/bin/sh", "-c", f'STORE="{store}"; {body}', verb, *about.get(verb, ["{uri}"])]
            for verb, body in verbs.items()
            if body is not None
        }
        return CommandTier("far", {"path": str(spool), **options}, now=lambda: NOW)

    return make


@pytest.fixture
def parcel(tmp_path):
    def build(scan="one", content=b"frames" * 1000):
        path = tmp_path / f"{scan}.tomo.h5"
        path.write_bytes(content)
        file = StoredFile(str(path), len(content), hashlib.sha256(content).hexdigest())
        return Parcel(scan, f"{scan} of ID19", "original", file.sha256, (file,), '{"files": []}', "ID19")

    return build


def put(tier, *parcels, job="j1"):
    return tier.put(parcels, tier.domains()[0], job=job, throttle=FREE, checkpoint=lambda _name: None)


def fetch(tier, placed, folder):
    folder.mkdir(exist_ok=True)
    files = tier.fetch(placed, str(folder), throttle=FREE, progress=lambda _done, _total: None)
    return [Path(f.location).read_bytes() for f in files]


def objects(store):
    return sorted(name for name in os.listdir(store) if name != "log")


def test_the_last_line_that_put_prints_is_where_it_is(tier, parcel, store):
    (placed,) = put(tier(), parcel())
    (name,) = objects(store)
    assert name.startswith("one_of_ID19.")
    assert placed.location == f"hsm:{name}"


def test_where_put_prints_nothing_its_name_is_the_place(tier, parcel, store, tmp_path):
    silent = tier(put='cp "$1" "$STORE/$2"', get='cp "$STORE/$1" "$2"')
    (placed,) = put(silent, parcel())
    assert [placed.location] == objects(store)
    assert fetch(silent, placed, tmp_path / "back") == [b"frames" * 1000]


@pytest.mark.parametrize("said", ["printf 'a\\033b'", "head -c 2000 /dev/zero | tr '\\0' x"])
def test_an_answer_that_is_no_place_is_told_and_nothing_is_kept_of_it(tier, parcel, said):
    with pytest.raises(Transient, match="which is no place"):
        put(tier(put=said), parcel())
    assert list(tier().inventory()) == []


def test_no_program_is_run_for_a_job_whose_claim_is_lost(tier, parcel, store):
    """Making the bundle may take long, too."""
    made = tier(remove='rm "$STORE/${1#hsm:}"')
    (placed,) = put(made, parcel())
    made.hold_to(lambda: False)
    for call in (
        lambda: put(made, parcel("two")),
        lambda: made.verify([placed], throttle=FREE),
        lambda: made.remove(placed),
    ):
        with pytest.raises(Transient, match="claim"):
            call()
    assert len(objects(store)) == 1


def test_one_place_for_two_objects_is_told(tier, parcel):
    same = tier(put='cp "$1" "$STORE/same"; echo hsm:same')
    put(same, parcel("one"))
    with pytest.raises(Transient, match="put answered hsm:same, where one_of_ID19"):
        put(same, parcel("two"))


def test_the_archive_is_asked_for_all_at_once_and_says_what_is_there(tier, parcel, store):
    made = tier(
        stage='cat "$1" > "$STORE/log"',
        query='case "$1" in *two*) exit 75;; *three*) echo tape is bad >&2; exit 66;; esac',
    )
    placed = [put(made, parcel(scan))[0].location for scan in ("one", "two", "three")]
    ticket = made.stage(placed)
    assert (store / "log").read_text().split() == placed
    assert list(made.poll(ticket).values())[:2] == ["ready", "pending"]
    assert made.poll(ticket)[placed[2]].startswith("failed: tier far: query (sh) ended with 66: tape is bad")
    made.release(ticket)
    with pytest.raises(UserError):
        made.poll(ticket)


def test_a_get_that_says_not_now_waits_and_one_that_fails_says_nothing_of_the_copy(tier, parcel, tmp_path):
    (placed,) = put(tier(), parcel())
    with pytest.raises(NotYet):
        fetch(tier(get="exit 75"), placed, tmp_path / "back")
    for body, told in (("echo no route >&2; exit 1", "no route"), ("true", "get wrote no file")):
        with pytest.raises(Transient, match=told):
            tier(get=body).verify([placed], throttle=FREE)
    assert "ended with 66" in tier(get="exit 66").verify([placed], throttle=FREE)[0]
    assert tier().verify([placed], throttle=FREE) == ("",)


def test_before_a_copy_is_believed_what_the_archive_keeps_on_disk_of_it_is_given_up(tier, parcel, store):
    made = tier(purge='echo "purge $1" >> "$STORE/log"')
    (placed,) = put(made, parcel())
    made.verify([placed], throttle=FREE)
    assert (store / "log").read_text().splitlines()[-2:] == [f"purge {placed.location}", f"get {placed.location}"]


def test_cut_off_after_the_put_the_same_bytes_are_put_again(tier, parcel, store):
    """Nobody knows whether the archive has it: it gets the same object under the same name."""
    sent = parcel()
    with pytest.raises(Transient):
        put(tier(put=f"{_PUT}; exit 1"), sent)
    (name,) = objects(store)
    first = (store / name).read_bytes()
    (placed,) = put(tier(), sent, job="j2")
    assert objects(store) == [name]
    assert (store / name).read_bytes() == first
    assert tier().verify([placed], throttle=FREE) == ("",)


def test_a_bundle_that_was_left_damaged_is_made_anew(tier, parcel, tmp_path):
    sent = parcel()
    with pytest.raises(Transient):
        put(tier(put="exit 1"), sent)
    ((left,),) = [list((tmp_path / "spool" / "out").iterdir())]
    left.write_bytes(left.read_bytes().replace(b"framesframes", b"framesfrane5", 1))
    (placed,) = put(tier(), sent)
    assert tier().verify([placed], throttle=FREE) == ("",)


_KILLED = """
import sys
from tests.tiers import test_command as t
tier = t.CommandTier("far", eval(sys.argv[1]), now=lambda: t.NOW)
file = t.StoredFile(*eval(sys.argv[2]))
t.put(tier, t.Parcel("one", "one of ID19", "original", file.sha256, (file,), '{"files": []}', "ID19"))
"""


def test_while_the_program_of_a_killed_job_runs_no_other_puts_the_same(tier, parcel, store, tmp_path):
    sent, spool, begun = parcel(), tmp_path / "spool", store / "begun"
    slow = tier(put=f'echo $$ > "{begun}"; sleep 60')
    options = {"path": str(spool), **{verb: list(p.words) for verb, p in slow._programs.items()}}
    file = dataclasses.astuple(sent.files[0])
    job = subprocess.Popen([sys.executable, "-c", _KILLED, repr(options), repr(file)])
    until = time.monotonic() + 60
    while not (begun.exists() and begun.read_text().strip()):
        assert job.poll() is None
        assert time.monotonic() < until
        time.sleep(0.02)
    job.kill()
    job.wait()
    try:
        with pytest.raises(Transient, match="in use by another process"):
            put(tier(), sent)
    finally:
        os.killpg(int(begun.read_text()), signal.SIGKILL)
    begun.unlink()
    time.sleep(0.1)
    (placed,) = put(tier(), sent)
    assert tier().verify([placed], throttle=FREE) == ("",)


def test_what_a_killed_process_had_got_is_cleared_away(tier, parcel, tmp_path):
    made = tier()
    (placed,) = put(made, parcel())
    left = tmp_path / "spool" / "in" / "4711-dead"
    left.mkdir(parents=True)
    (left / "object.tar").write_bytes(b"half")
    made.verify([placed], throttle=FREE)
    assert list((tmp_path / "spool" / "in").iterdir()) == []


def test_a_folder_of_ours_that_was_lost_costs_no_data(tier, parcel, store, tmp_path):
    """By its place an object is got and re-read as ever; it is not removed before it is known again."""
    listing = f'cd "{store}"; ls *.tar | sed s/^/hsm:/'
    (placed,) = put(tier(), parcel())
    (store / "foreign.tar").write_bytes(b"somebody else's")
    os.rename(tmp_path / "spool", tmp_path / "lost")
    made = tier(list=listing, remove='rm "$STORE/${1#hsm:}"')
    assert fetch(made, placed, tmp_path / "back") == [b"frames" * 1000]
    assert made.verify([placed], throttle=FREE) == ("",)
    with pytest.raises(Refused):
        made.remove(placed)
    found = {one.location: one for one in made.survey(lambda _done, _total: None)}
    assert found[placed.location].placed == placed
    assert found[placed.location].written_at == NOW
    assert "manifest" in found["hsm:foreign.tar"].problem
    made.remove(placed)
    assert objects(store) == ["foreign.tar"]


def test_what_another_tier_put_is_told_and_what_cannot_be_got_now_is_not_damaged(tier, parcel, store, tmp_path):
    (placed,) = put(tier(), parcel())
    listing = f'cd "{store}"; ls *.tar | sed s/^/hsm:/'
    other = tier(list=listing)
    other.name = "other"
    (found,) = other.survey(lambda _done, _total: None)
    assert (found.location, found.parcel, found.harm) == (placed.location, None, Harm.COPY)
    assert "'far'" in found.problem
    (away,) = tier(list=listing, get="exit 75").survey(lambda _done, _total: None)
    assert (away.parcel, away.harm) == (None, Harm.UNREACHED)


def test_without_a_command_for_it_what_is_removed_stays_there_and_is_given_out_no_more(tier, parcel, store, tmp_path):
    made = tier()
    (placed,) = put(made, parcel())
    made.remove(placed)
    assert len(objects(store)) == 1
    with pytest.raises(IntegrityError, match="was removed"):
        fetch(made, placed, tmp_path / "back")
    assert made.verify([placed], throttle=FREE) != ("",)
    assert list(made.inventory()) == []


def test_a_record_of_ours_that_is_damaged_is_named(tier, parcel, tmp_path):
    made = tier()
    (placed,) = put(made, parcel())
    (record,) = (tmp_path / "spool" / "objects").glob("u*.json")
    assert json.loads(record.read_text())["uri"] == placed.location
    record.write_text("{}")
    with pytest.raises(Transient, match=f"{record.name} is damaged"):
        made.verify([placed], throttle=FREE)


def test_a_tier_without_put_or_get_is_told_what_it_needs(tmp_path):
    with pytest.raises(UserError, match="needs 'get'"):
        CommandTier("far", {"path": str(tmp_path), "put": ["/bin/cp", "{file}", "/far/{name}"]}, now=lambda: NOW)


def test_a_program_that_is_not_there_is_a_matter_of_health(tier, tmp_path):
    assert tier().health().ok
    options = {"path": str(tmp_path), "put": ["/no/put", "{file}"], "get": ["/no/get", "{uri}", "{file}"]}
    health = CommandTier("far", options, now=lambda: NOW).health()
    assert (health.ok, health.detail) == (False, "/no/put cannot be started")
