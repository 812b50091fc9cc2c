"""The folder of an HSM: files that are on tape only, and the programs that send and bring them."""

import errno
import os
import threading
from pathlib import Path

import pytest

from tomovault.core.errors import NotYet, Transient
from tomovault.core.ports import Harm
from tomovault.tiers import volume_folder
from tomovault.tiers.free import FREE

_ASKED = 'cat "$1" >> "$TAPE/../asked"; echo -- >> "$TAPE/../asked"; '


def test_a_copy_counts_when_it_was_on_tape_only_and_came_back(hsm, put, parcel, asked, tmp_path):
    made = hsm()
    placed = put(made, parcel("one", b"1" * 9000), parcel("two", b"2"))
    assert made.verify(placed, throttle=FREE) == ("", "")
    assert sorted(os.listdir(tmp_path / "tape")) == sorted(os.path.basename(p.location) for p in placed)
    assert asked() == [["one", "two"]]
    bad = tmp_path / "tape" / os.path.basename(placed[0].location)
    bad.write_bytes(bad.read_bytes().replace(b"1111", b"1711", 1))
    for item in placed:
        size = os.path.getsize(item.location)
        Path(item.location).write_bytes(b"")
        os.truncate(item.location, size)
    damaged, fine = made.verify(placed, throttle=FREE)
    assert (bool(damaged), fine) == (True, "")


def test_what_stays_on_disk_proves_no_tape(hsm, put, parcel):
    (placed,) = put(hsm(), parcel("s", b"abc"))
    with pytest.raises(Transient, match="is on disk still after `migrate`"):
        hsm(migrate="true").verify([placed], throttle=FREE)


def test_without_a_program_for_it_what_is_on_disk_is_read(hsm, put, parcel, tmp_path, asked):
    made = hsm(migrate=None)
    (placed,) = put(made, parcel("s", b"abc"))
    assert made.verify([placed], throttle=FREE) == ("",)
    assert os.listdir(tmp_path / "tape") == []
    assert asked() == []


def test_no_program_is_run_for_a_job_whose_claim_is_lost(hsm, put, parcel, asked, tmp_path, to_tape):
    made = hsm()
    (placed,) = put(made, parcel("s", b"abc"))
    made.hold_to(lambda: False)
    for on_tape in (False, True):  # to be sent there, and to be brought back
        with pytest.raises(Transient, match="claim"):
            made.verify([placed], throttle=FREE)
        if not on_tape:
            to_tape(tmp_path, placed)
    with pytest.raises(Transient, match="claim"):
        made.remove(placed)
    assert os.path.exists(placed.location)
    assert asked() == []


def test_a_stub_is_brought_before_it_is_read(hsm, put, parcel, tmp_path, asked, fetch, to_tape):
    made = hsm(recall="exit 0")
    (placed,) = put(made, parcel("s", b"abc"))
    to_tape(tmp_path, placed)
    ticket = made.stage([placed.location])
    assert made.poll(ticket) == {placed.location: "pending"}
    with pytest.raises(NotYet, match="is on tape only"):
        fetch(made, placed, tmp_path / "back")
    made.release(ticket)
    made = hsm()
    ticket = made.stage([placed.location])
    assert made.poll(ticket) == {placed.location: "ready"}
    assert asked() == [["s"]]
    assert fetch(made, placed, tmp_path / "back") == [b"abc"]


def test_a_copy_that_is_a_stub_is_put_no_second_time(hsm, put, parcel, root, asked, tmp_path, files_below, to_tape):
    sent = parcel("s", b"abc")
    (placed,) = put(hsm(), sent)
    to_tape(tmp_path, placed)
    assert list(put(hsm(), sent, job="job2")) == [placed]
    assert asked() == [["s"]]
    assert len(files_below(root)) == 1


def test_where_nothing_brings_stubs_reading_does(tier, put, parcel, tmp_path, to_tape):
    (tmp_path / "tape").mkdir()
    (placed,) = put(tier(), parcel("s", b"abc"))
    to_tape(tmp_path, placed)
    assert tier().poll(tier().stage([placed.location])) == {placed.location: "ready"}
    assert tier().verify([placed], throttle=FREE) != ("",), "a file of nothing is no stub that an HSM would bring"


def test_a_stub_that_keeps_its_first_bytes_is_one(hsm, put, parcel, tmp_path):
    (placed,) = put(hsm(), parcel("s", os.urandom(900_000)))
    content = Path(placed.location).read_bytes()
    with open(placed.location, "wb") as file:
        file.write(content[:4096])
        file.flush()
        os.fsync(file.fileno())
        file.truncate(len(content))
    assert hsm(recall="exit 0").poll(f'["{placed.location}"]') == {placed.location: "ready"}
    assert hsm(recall="exit 0", stub="64KiB").poll(f'["{placed.location}"]') == {placed.location: "pending"}


def test_what_many_want_goes_into_one_list(hsm, put, parcel, clock, asked, tmp_path, to_tape):
    made = hsm(gather=60, recall=_ASKED + "true")
    placed = put(made, *(parcel(name, name.encode()) for name in "cab"))
    to_tape(tmp_path, *placed)
    tickets = []
    for item in placed:
        tickets.append(made.stage([item.location]))
        clock.later(20)
    assert asked() == []
    assert set(made.poll(tickets[0]).values()) == {"pending"}
    assert asked() == [["a", "b", "c"]]
    made.stage([placed[0].location])
    assert len(asked()) == 1, "it is on its way"


def test_what_does_not_come_is_asked_for_again_and_what_is_released_is_not(
    hsm, put, parcel, clock, asked, tmp_path, to_tape
):
    made = hsm(recall=_ASKED + "true")
    one, two = put(made, parcel("one", b"1"), parcel("two", b"2"))
    to_tape(tmp_path, one, two)
    first = made.stage([one.location, two.location])
    clock.later(7200)
    made.release(made.stage([two.location]))
    assert asked() == [["one", "two"], ["one", "two"]]
    clock.later(7200)
    made.poll(first)
    assert asked()[2:] == [["one"]]
    clock.later(3 * 86400)
    made.poll(first)
    assert len(asked()) == 3, "nobody has asked for it since"


def test_a_program_that_fails_says_nothing_of_the_copies(hsm, put, parcel, asked, tmp_path, to_tape):
    made = hsm()
    (placed,) = put(made, parcel("s", b"abc"))
    to_tape(tmp_path, placed)
    for code in (1, 66):
        with pytest.raises(Transient, match="no drive"):
            hsm(recall=f"echo no drive >&2; exit {code}").stage([placed.location])
    with pytest.raises(NotYet):
        hsm(recall="exit 75").stage([placed.location])
    assert set(made.poll(made.stage([placed.location])).values()) == {"ready"}


def test_what_does_not_come_back_in_time_is_waited_for_again(hsm, put, parcel, tmp_path, to_tape):
    made = hsm()
    (placed,) = put(made, parcel("s", b"abc"))
    to_tape(tmp_path, placed)
    with pytest.raises(NotYet, match="was not back within"):
        hsm(recall="exit 0", timeout=0.2).verify([placed], throttle=FREE)


def test_a_stub_that_cannot_be_read_is_not_damaged(hsm, put, parcel, tmp_path, monkeypatch, failing, to_tape):
    made = hsm(migrate=None, recall=None)
    (placed,) = put(made, parcel("s", b"abc"))
    to_tape(tmp_path, placed)
    monkeypatch.setattr(volume_folder.VolumeFolder, "opened", failing(errno.EIO))
    with pytest.raises(Transient, match="does not come back from tape"):
        made.verify([placed], throttle=FREE)


@pytest.mark.parametrize(
    ("number", "stub", "harm"),
    [
        (errno.EIO, True, Harm.UNREACHED),
        (errno.EIO, False, Harm.COPY),
        (errno.EACCES, False, Harm.UNREACHED),
        (errno.ENOENT, False, Harm.UNREACHED),
    ],
)
def test_a_survey_calls_bad_only_what_the_medium_could_not_give(
    hsm, put, parcel, tmp_path, monkeypatch, number, stub, harm, failing, survey, to_tape
):
    made = hsm(migrate=None, recall=None)
    (placed,) = put(made, parcel("s", b"abc"))
    if stub:
        to_tape(tmp_path, placed)
    monkeypatch.setattr(volume_folder.VolumeFolder, "opened", failing(number))
    (found,) = survey(made)
    assert (found.location, found.harm, bool(found.problem)) == (placed.location, harm, True)


def test_an_inventory_goes_on_behind_what_the_medium_cannot_give(tier, put, parcel, monkeypatch):
    _, good = put(tier(), parcel("a bad one", b"b"), parcel("good", b"g"))
    real = volume_folder.VolumeFolder.opened

    def opened(self, root, location, **named):
        if "bad" in location:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(self, root, location, **named)

    monkeypatch.setattr(volume_folder.VolumeFolder, "opened", opened)
    assert [where for _, where in tier().inventory()] == [good]


def test_many_stubs_are_brought_some_at_a_time_where_all_are_read(
    hsm, put, parcel, asked, tmp_path, monkeypatch, survey, to_tape
):
    monkeypatch.setattr("tomovault.tiers.ltfs._BATCH", 2)
    made = hsm()
    placed = put(made, *(parcel(name, name.encode()) for name in "abc"))
    to_tape(tmp_path, *placed)
    assert [found.problem for found in survey(made)] == ["", "", ""]
    assert asked() == [["a", "b"], ["c"]]


def test_two_jobs_that_want_the_same_ask_once(hsm, put, parcel, asked, tmp_path, to_tape):
    made = hsm(recall=_ASKED + "sleep 0.3")
    (placed,) = put(made, parcel("s", b"abc"))
    to_tape(tmp_path, placed)
    jobs = [threading.Thread(target=made.stage, args=([placed.location],)) for _ in range(4)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert asked() == [["s"]]
