import dataclasses
import json
import multiprocessing
import os
from datetime import UTC, datetime

import pytest

from tomovault.core.errors import IntegrityError, Transient, UserError
from tomovault.tiers.cartridge import FRAME, HEADER, RECORD
from tomovault.tiers.emulated_library import EmulatedLibrary
from tomovault.tiers.faults import Faults

MIB = 1 << 20


def states(shelf):
    return {c["barcode"]: c["state"] for c in json.loads(shelf.state.read_text())["cartridges"]}


def events(shelf, *names):
    lines = [json.loads(line) for line in shelf.log.read_text().splitlines()]
    return [(line["event"], line["barcode"]) for line in lines if line["event"] in names]


def flip(path, offset):
    with open(path, "r+b") as stream:
        stream.seek(offset)
        byte = stream.read(1)[0]
        stream.seek(offset)
        stream.write(bytes([byte ^ 1]))


def test_every_copy_has_a_pool_of_its_own(library, put, parcel, shelf, bucket):
    tier, sent = library(copies=3), parcel("s", b"x" * MIB)
    assert list(tier.domains()) == ["tape:A", "tape:B", "tape:C"]
    placed = [put(tier, sent, pool=pool)[0] for pool in tier_pools(tier)]
    assert [p.location for p in placed] == ["A00001L9#1", "B00001L9#1", "C00001L9#1"]
    assert placed[0].files[0].location == "A00001L9#1/packages/0001/s.0.h5"
    assert shelf.barcodes() == ["A00001L9", "B00001L9", "C00001L9"]
    shelf.cartridge("A00001L9").unlink()
    problems = tier.verify(placed, throttle=bucket)
    assert [bool(p) for p in problems] == [True, False, False]
    assert not tier.health().ok
    assert "A00001L9" in tier.health().detail


def tier_pools(tier):
    return [domain.rpartition(":")[2] for domain in tier.domains()]


def test_cartridges_that_are_all_away_are_not_read_as_lost(library, put, parcel, shelf, bucket, tmp_path):
    tier = library()
    (placed,) = put(tier, parcel("s", b"s"))
    os.rename(shelf.path / "cartridges", tmp_path / "unmounted")
    for act in (
        lambda: tier.verify([placed], throttle=bucket),
        lambda: tier.fetch(placed, str(tmp_path), throttle=bucket, progress=lambda *_: None),
        lambda: tier.poll(tier.stage([placed.location])),
        lambda: put(tier, parcel("t", b"t")),
    ):
        with pytest.raises(Transient, match="none of its 1 cartridges"):
            act()
    assert shelf.barcodes() == []
    os.rmdir(shelf.path / "cartridges")
    os.rename(tmp_path / "unmounted", shelf.path / "cartridges")
    assert list(tier.verify([placed], throttle=bucket)) == [""]
    assert states(shelf) == {"A00001L9": "filling"}


def test_memory_is_bounded_by_blocks(library, put, parcel, bucket):
    put(library(capacity="64MiB"), parcel("s", bytes(9 * MIB)))
    assert bucket.largest <= MIB


def test_at_the_end_of_the_medium_a_bundle_starts_again_on_the_next(library, put, parcel, shelf, bucket):
    tier = library()
    placed = [put(tier, parcel(f"s{n}", os.urandom(3 * MIB)))[0] for n in range(4)]
    assert [p.location for p in placed] == ["A00001L9#1", "A00001L9#2", "A00002L9#1", "A00002L9#2"]
    assert states(shelf)["A00001L9"] == "full"
    first = shelf.cartridge("A00001L9")
    assert first.stat().st_size == HEADER + (1 + 2 * 14) * (FRAME + RECORD) + 3 * FRAME
    assert list(tier.verify(placed, throttle=bucket)) == [""] * 4


def test_near_the_end_nothing_new_is_begun(library, put, parcel, shelf):
    tier = library()
    put(tier, parcel("s", os.urandom(6 * MIB + 900_000)))
    assert states(shelf) == {"A00001L9": "full"}
    assert put(tier, parcel("t", b"t"))[0].location == "A00002L9#1"


def test_verify_unmounts_and_mounts_again(library, put, parcel, shelf, bucket):
    tier = library()
    (placed,) = put(tier, parcel("s", b"x"))
    before = len(events(shelf, "mount"))
    tier.verify([placed], throttle=bucket)
    assert events(shelf, "mount", "unmount")[before:] == [("unmount", "A00001L9"), ("mount", "A00001L9")]


def test_a_batch_is_read_cartridge_by_cartridge_from_where_the_heads_are(library, put, parcel, shelf, tmp_path, bucket):
    tier = library(drives=1)
    placed = {}
    for n in range(6):
        item = put(tier, parcel(f"s{n}", bytes([n]) * 2 * MIB))[0]
        placed[item.location] = item
    arrival = [list(placed)[n] for n in (5, 0, 3, 1, 4, 2)]
    order = list(library().poll(tier.stage(arrival)))
    cartridges = [location.partition("#")[0] for location in order]
    assert sorted(order) == sorted(placed)
    assert cartridges == [c for c in dict.fromkeys(cartridges) for _ in range(cartridges.count(c))]
    before = len(events(shelf, "mount"))
    (tmp_path / "back").mkdir()
    for location in order:
        tier.fetch(placed[location], str(tmp_path / "back"), throttle=bucket, progress=lambda *_: None)
    assert len(events(shelf, "mount")) - before <= 2


def test_fetch_reads_only_its_own_records(library, put, parcel, tmp_path, shelf):
    tier = library()
    _, second = put(tier, parcel("s", bytes(3 * MIB)), parcel("t", b"t" * 1000))
    (tmp_path / "back").mkdir()

    class Counting(Faults):
        read_records = 0

        def reading(self, barcode, file, record):
            Counting.read_records += 1

    tier.faults = Counting()
    tier.fetch(second, str(tmp_path / "back"), throttle=NoLimit(), progress=lambda *_: None)
    assert Counting.read_records == 2


class NoLimit:
    def spend(self, count):
        return None


def test_two_packages_of_one_bundle_are_removed_one_by_one(library, put, parcel, tmp_path, bucket):
    tier = library()
    one, two = put(tier, parcel("s", b"one"), parcel("t", b"two"))
    assert one.location == two.location
    tier.remove(one)
    assert tier.poll(tier.stage([one.location])) == {one.location: "ready"}
    with pytest.raises(IntegrityError, match="removed"):
        tier.fetch(one, str(tmp_path), throttle=bucket, progress=lambda *_: None)
    assert tier.fetch(two, str(tmp_path), throttle=bucket, progress=lambda *_: None)
    tier.remove(two)
    assert tier.poll(tier.stage([one.location]))[one.location].startswith("failed")


class PowerCut(BaseException):
    pass


class Injured(Faults):
    """Fails in the tape file of a bundle, once unless lasting."""

    def __init__(self, what, at=2, *, lasting=False):
        self.what, self.at, self.done, self.lasting = what, at, False, lasting

    def _now(self, what, file, record=None):
        if self.done or what != self.what or file == 0 or record not in (None, self.at):
            return False
        self.done = not self.lasting
        return True

    def writing(self, barcode, file, record):
        if self._now("drive lost", file, record):
            raise OSError(5, "Input/output error")

    def marking(self, barcode, file):
        if self._now("power cut", file):
            raise PowerCut

    def reading(self, barcode, file, record):
        if self._now("read error", file, record):
            raise OSError(5, "Input/output error")

    def read(self, barcode, file, record, payload):
        return payload[:1000] if self._now("short record", file, record) else payload

    def syncing(self, barcode, fd):
        if self.what == "lying sync":
            return
        os.fsync(fd)


def test_a_drive_lost_mid_write_leaves_nothing(library, put, parcel, shelf, bucket):
    tier, sent = library(), parcel("s", bytes(2 * MIB))
    tier.faults = Injured("drive lost")
    with pytest.raises(Transient, match="Input/output"):
        put(tier, sent)
    (placed,) = put(tier, sent)
    assert placed.location == "A00001L9#1"
    assert list(tier.verify([placed], throttle=bucket)) == [""]


def test_after_a_power_cut_before_the_filemark_the_tail_is_cut(library, put, parcel, shelf, bucket):
    tier, sent = library(), parcel("s", bytes(2 * MIB))
    (kept,) = put(tier, parcel("r", b"r"))
    tier.faults = Injured("power cut")
    with pytest.raises(PowerCut):
        put(tier, sent)
    size = shelf.cartridge("A00001L9").stat().st_size
    fresh = library()
    assert [p.location for _, p in fresh.inventory()] == [kept.location]
    (placed,) = put(fresh, sent)
    assert placed.location == "A00001L9#2"
    assert shelf.cartridge("A00001L9").stat().st_size == size + FRAME
    assert list(fresh.verify([kept, placed], throttle=bucket)) == ["", ""]


@pytest.mark.parametrize("what", ["read error", "short record"])
@pytest.mark.parametrize("act", ["verify", "fetch"])
def test_what_cannot_be_read_is_said_with_its_record(library, put, parcel, tmp_path, bucket, what, act):
    tier = library()
    (placed,) = put(tier, parcel("s", os.urandom(2 * MIB)))
    tier.faults = Injured(what, lasting=True)
    if act == "verify":
        assert "record 2 of A00001L9#1" in tier.verify([placed], throttle=bucket)[0]
    else:
        with pytest.raises((Transient, IntegrityError), match="record 2 of A00001L9#1"):
            tier.fetch(placed, str(tmp_path), throttle=bucket, progress=lambda *_: None)
    tier.faults = Faults()
    assert list(tier.verify([placed], throttle=bucket)) == [""]


def die_at(path, name):
    import hashlib
    import signal

    from tomovault.core.ports import Parcel
    from tomovault.core.replica import StoredFile

    def checkpoint(reached):
        if reached == name:
            os.kill(os.getpid(), signal.SIGKILL)

    tier = EmulatedLibrary("tape", {"path": path, "capacity": "8MiB"}, now=lambda: datetime(2026, 3, 1, tzinfo=UTC))
    source = f"{path}.source"
    with open(source, "rb") as stream:
        content = stream.read()
    stored = StoredFile(source, len(content), hashlib.sha256(content).hexdigest())
    parcel = Parcel("s", "s", "original", "0" * 64, (stored,), "{}")
    tier.put([parcel], "tape:A", job="j", throttle=NoLimit(), checkpoint=checkpoint)


@pytest.mark.parametrize("name", ["archive.labelled", "archive.member", "archive.synced"])
def test_a_killed_process_leaves_no_lock_and_no_half_copy(library, shelf, tmp_path, bucket, name):
    tier = library()
    (tmp_path / "tape.source").write_bytes(os.urandom(MIB))
    child = multiprocessing.get_context("spawn").Process(target=die_at, args=(str(shelf.path), name))
    child.start()
    child.join(timeout=60)
    assert child.exitcode == -9
    die_at(str(shelf.path), "nowhere")
    ((_, placed),) = tier.inventory()
    assert placed.location == "A00001L9#1"
    assert list(tier.verify([placed], throttle=bucket)) == [""]
    assert not [p for p in shelf.path.rglob("*") if p.suffix == ".tmp"]


def test_a_sync_that_lied_is_found_and_the_cartridge_left_alone(library, put, parcel, shelf, bucket):
    tier = library()
    (kept,) = put(tier, parcel("r", os.urandom(MIB)))
    size = shelf.cartridge("A00001L9").stat().st_size
    tier.faults = Injured("lying sync")
    (lost,) = put(tier, parcel("s", os.urandom(MIB)))
    os.truncate(shelf.cartridge("A00001L9"), size + 1000)  # what the power cut left of it
    tier.faults = Faults()
    problems = tier.verify([kept, lost], throttle=bucket)
    assert problems[0] == ""
    assert "tape files" in problems[1]
    (again,) = put(tier, parcel("s", os.urandom(MIB)))
    assert again.location == "A00002L9#1"
    assert states(shelf) == {"A00001L9": "suspect", "A00002L9": "filling"}
    assert "A00001L9" in tier.health().detail
    assert shelf.cartridge("A00001L9").stat().st_size == size + 1000
    assert list(tier.verify([kept, again], throttle=bucket)) == ["", ""]


def test_a_damaged_last_filemark_never_costs_a_noted_bundle(library, put, parcel, shelf, bucket):
    tier = library()
    put(tier, parcel("s", b"s"))
    path = shelf.cartridge("A00001L9")
    size = path.stat().st_size
    flip(path, size - 5)
    assert put(tier, parcel("t", b"t"))[0].location == "A00002L9#1"
    assert path.stat().st_size == size
    shelf.state.unlink()
    assert put(library(), parcel("u", b"u"))[0].location == "A00002L9#2"
    assert path.stat().st_size == size


@pytest.mark.parametrize("content", [None, "", "{}", "nonsense", '{"tomovault-library": 1}'])
def test_the_state_is_rebuilt_from_the_cartridges(library, put, parcel, shelf, content):
    tier, sent = library(), parcel("s", bytes(3 * MIB))
    first = put(tier, sent)
    put(tier, sent, pool="B")
    put(tier, parcel("t", bytes(3 * MIB)))
    put(tier, parcel("u", bytes(3 * MIB)))
    before = json.loads(shelf.state.read_text())
    if content is None:
        shelf.state.unlink()
    else:
        shelf.state.write_text(content)
    assert put(library(), sent) == first
    after = json.loads(shelf.state.read_text())
    for library_state in (before, after):
        for cartridge in library_state["cartridges"]:
            cartridge["state"] = cartridge["state"].replace("full", "filling")
    assert after == before


def test_a_catalogue_can_be_made_from_the_cartridges_alone(library, put, parcel, shelf):
    tier = library()
    sent = {(p, f"s{n}"): put(tier, parcel(f"s{n}", bytes([n]) * 5), pool=p)[0] for n in range(3) for p in "AB"}
    shelf.state.unlink()
    found = {(where.domain[-1], p.scan): where for p, where in library().inventory()}
    assert found == sent
    assert not shelf.state.exists()


def test_a_damaged_cartridge_does_not_hide_the_others(library, put, parcel, shelf):
    tier = library()
    put(tier, parcel("s", b"s"))
    (good,) = put(tier, parcel("s", b"s"), pool="B")
    flip(shelf.cartridge("A00001L9"), 30)
    assert [where for _, where in tier.inventory()] == [good]
    assert put(tier, parcel("t", b"t"))[0].location == "A00002L9#1"
    assert states(shelf)["A00001L9"] == "suspect"


def test_a_damaged_manifest_leaves_the_other_bundles(library, put, parcel, shelf, bucket):
    tier = library()
    bad, good = put(tier, parcel("s", b"s"))[0], put(tier, parcel("t", b"t"))[0]
    flip(shelf.cartridge("A00001L9"), HEADER + (FRAME + RECORD) + FRAME + FRAME + 700)
    assert [where for _, where in tier.inventory()] == [good]
    problems = tier.verify([bad, good], throttle=bucket)
    assert problems[0]
    assert not problems[1]


def test_a_wrong_barcode_is_told(library, put, parcel, shelf, bucket):
    tier = library()
    (placed,) = put(tier, parcel("s", b"s"))
    put(tier, parcel("s", b"s"), pool="B")
    os.rename(shelf.cartridge("B00001L9"), shelf.cartridge("A00001L9"))
    assert "says that it is B00001L9" in tier.verify([placed], throttle=bucket)[0]


def test_a_new_cartridge_never_takes_the_barcode_of_one_that_is_there(library, put, parcel, shelf):
    tier = library()
    put(tier, parcel("s", b"s"), pool="B")
    foreign = shelf.cartridge("A00001L9")
    foreign.write_bytes(b"somebody's")
    assert put(tier, parcel("s", b"s"))[0].location == "A00002L9#1"
    assert foreign.read_bytes() == b"somebody's"


def test_a_stage_of_what_is_not_there_fails_with_a_reason(library, put, parcel, shelf):
    tier = library()
    (placed,) = put(tier, parcel("s", b"s"))
    answers = tier.poll(tier.stage([placed.location, "A00001L9#7", "A00009L9#1"]))
    assert answers[placed.location] == "ready"
    assert answers["A00001L9#7"].startswith("failed: no finished bundle")
    assert answers["A00009L9#1"].startswith("failed: cartridge")
    with pytest.raises(UserError):
        tier.stage(["../../etc/passwd"])
    with pytest.raises(UserError):
        tier.poll("../library")
    ticket = tier.stage([placed.location])
    tier.release(ticket)
    tier.release(ticket)
    with pytest.raises(UserError):
        tier.poll(ticket)


@pytest.mark.parametrize(
    "options",
    [
        {"capacity": "many"},
        {"capacity": -1},
        {"copies": 0},
        {"copies": 27},
        {"slots": True},
        {"generation": "a/b"},
        {"load_s": "x"},
        {"load_s": -1},
        {"wraps": 0},
        {"stream_rate": float("nan")},
    ],
)
def test_wrong_options_are_told(library, options):
    with pytest.raises(UserError, match="tape"):
        library(**options)


def archive_some(path, worker, count, results):
    from tomovault.core.ports import Parcel
    from tomovault.core.replica import StoredFile

    tier = EmulatedLibrary(
        "tape", {"path": path, "capacity": "8MiB", "drives": 2}, now=lambda: datetime(2026, 3, 1, tzinfo=UTC)
    )
    import hashlib

    for n in range(count):
        content = f"{worker}.{n}".encode() * 150_000
        source = f"{path}.{worker}.{n}"
        with open(source, "wb") as stream:
            stream.write(content)
        stored = StoredFile(source, len(content), hashlib.sha256(content).hexdigest())
        parcel = Parcel(
            f"{worker}.{n}", "scan", "original", hashlib.sha256(source.encode()).hexdigest(), (stored,), "{}"
        )
        for domain in tier.domains():
            placed = tier.put([parcel], domain, job=f"{worker}", throttle=NoLimit(), checkpoint=lambda _: None)
            results.put((placed[0].location, list(tier.verify(placed, throttle=NoLimit()))))


def test_two_processes_share_a_library(library, shelf):
    tier = library(wait_s=600)
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    workers = [context.Process(target=archive_some, args=(str(shelf.path), w, 4, results)) for w in range(2)]
    for worker in workers:
        worker.start()
    answers = [results.get(timeout=100) for _ in range(16)]
    for worker in workers:
        worker.join(timeout=60)
    assert [w.exitcode for w in workers] == [0, 0]
    assert all(problem == [""] for _, problem in answers)
    assert len({location for location, _ in answers}) == 16
    assert sorted(where.location for _, where in tier.inventory()) == sorted(location for location, _ in answers)
    inside = {}
    for line in map(json.loads, shelf.log.read_text().splitlines()):
        if line["event"] == "mount":
            assert line["barcode"] not in inside.values()
            assert inside.get(line["drive"]) is None
            inside[line["drive"]] = line["barcode"]
        elif line["event"] == "unmount":
            assert inside.pop(line["drive"]) == line["barcode"]


def test_a_cartridge_in_use_is_waited_for_no_longer_than_said(library, put, parcel, tmp_path, bucket):
    tier = library(wait_s=0)
    (placed,) = put(tier, parcel("s", b"s"))
    with tier._robot.mount("A00001L9", Faults()):
        with pytest.raises(Transient, match="A00001L9 is in use"):
            library(wait_s=0).fetch(placed, str(tmp_path), throttle=bucket, progress=lambda *_: None)
    assert library(wait_s=0).fetch(placed, str(tmp_path), throttle=bucket, progress=lambda *_: None)


def test_a_parcel_asked_twice_at_once_is_written_once(library, put, parcel):
    sent = parcel("s", b"s")
    one, two = put(library(), sent, dataclasses.replace(sent))
    assert one == two
    assert one.files[0].location.endswith("packages/0001/s.0.h5")
