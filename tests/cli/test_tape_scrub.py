"""`tomovault tape scrub`: cartridges read whole, and held against the catalogue."""

import contextlib
import hashlib
import os
import threading
from datetime import timedelta

import pytest

from tomovault.core.ports import Parcel
from tomovault.core.record import Checked, Made
from tomovault.core.replica import ProductKind, ReplicaState, StoredFile
from tomovault.tiers import cartridge_library
from tomovault.tiers.delivery import deliver
from tomovault.tiers.recovery import FREE
from tomovault.vault import scrubbing
from tomovault.vault.workbench import open_tier


class Shelves:
    """The library of a town, with packages of its scans on real cartridges of 4 MB."""

    def __init__(self, town):
        self.town = town
        town.change(tiers={"tape": {"kind": "emulated_library", "path": "tape", "capacity": "4MB", "wait_s": 20}})
        self.contents = {}

    @property
    def tier(self):
        return open_tier(self.town.vault.site, "tape")

    def path(self, barcode):
        return self.town.folder / "tape" / "cartridges" / barcode

    def write(self, *names, size=2000, pools="AB", recorded=True):
        """The scans are archived, each in a bundle of its own in every pool; returns their ids."""
        scans = [self.town.scan(name, copies=0) for name in names]
        for scan, name in zip(scans, names, strict=True):
            parcel = self._parcel(scan, name, size)
            made = Made(ProductKind.ORIGINAL, parcel.digest, size, 1, manifest=parcel.manifest)
            for pool in pools:
                stored = deliver(
                    self.tier,
                    [parcel],
                    f"tape:{pool}",
                    job="j",
                    now=lambda: self.town.now,
                    may_continue=lambda: True,
                    throttle=FREE,
                    checkpoint=lambda _name: None,
                )
                if recorded:
                    self.apply([made, *stored], scan)
        return scans

    def _parcel(self, scan, name, size):
        content = self.contents[name] = os.urandom(size)
        path = self.town.base / f"{name}.tomo.h5"
        path.write_bytes(content)
        sha = hashlib.sha256(content).hexdigest()
        digest = os.fsencode(name).hex().ljust(64, "0")[:64]
        manifest = '{"files": [{"path": "a.edf", "role": "side"}]}'
        return Parcel(scan, name, "original", digest, (StoredFile(str(path), size, sha),), manifest)

    def apply(self, records, scan=None):
        with self.town.vault.catalogue.writing() as tx:
            self.town.vault.catalogue.apply_records(tx, records, self.town.now, scan_id=scan)

    def flip(self, name, barcode):
        """A bit of a scan's package on this cartridge is wrong."""
        path = self.path(barcode)
        data = bytearray(path.read_bytes())
        data[data.index(self.contents[name][:32]) + 9] ^= 4
        path.write_bytes(bytes(data))

    def copy(self, scan, pool="A"):
        return next(r for r in self.town.known(scan).replicas if r.domain == f"tape:{pool}")


@pytest.fixture
def shelves(town, monkeypatch):
    monkeypatch.setattr(scrubbing, "_REST_S", 0.01)
    return Shelves(town)


def test_every_cartridge_is_read_and_all_is_right(shelves, ask, say, town):
    one, two = shelves.write("one", "two")
    before = shelves.copy(one).verified_at
    page = ask("tape", "scrub")
    assert [(c["cartridge"], c["tier"], c["bundles"], c["state"], c["bad"]) for c in page["cartridges"]] == [
        ("A00001L9", "tape", 2, "filling", []),
        ("B00001L9", "tape", 2, "filling", []),
    ]
    assert all(c["bytes"] > 4000 for c in page["cartridges"])
    assert (page["checked"], page["ok"], page["bad"], page["unreached"]) == (4, 4, [], [])
    assert shelves.copy(one).verified_at > before
    assert shelves.copy(two, "B").state is ReplicaState.VERIFIED
    assert "2 cartridges read" in say("tape", "scrub").out


def test_a_mismatch_makes_a_copy_suspect_as_verify_does(shelves, ask, say, town):
    one, two = shelves.write("one", "two")
    shelves.flip("two", "A00001L9")
    page = ask("tape", "scrub", code=4)
    (bad,) = page["bad"]
    assert (bad["file"], bad["replica"], bad["scan"]) == (2, shelves.copy(two).id, two)
    assert {"replica", "scan", "name", "tier", "location", "reason"} <= set(bad)
    assert "damaged" in bad["reason"]
    assert (page["checked"], page["ok"]) == (4, 3)
    assert page["cartridges"][0]["bad"] == [bad]
    assert page["cartridges"][1]["bad"] == []
    assert shelves.copy(two).state is ReplicaState.SUSPECT
    assert shelves.copy(one).state is ReplicaState.VERIFIED
    same = next(b for b in ask("verify", "two", code=4)["bad"] if b["replica"] == bad["replica"])
    assert same == {key: bad[key] for key in same}
    assert "A00001L9#2: two: " in say("tape", "scrub", "A00001L9").out


def test_damage_that_no_copy_has_is_named(shelves, ask, town):
    shelves.write("one")
    shelves.write("other", pools="A", recorded=False)
    shelves.flip("other", "A00001L9")
    page = ask("tape", "scrub", code=4)
    (bad,) = page["bad"]
    assert (bad["file"], bad["replica"], bad["scan"]) == (2, None, None)
    assert (page["checked"], page["ok"]) == (2, 2)


def test_the_label_is_held_to_be_bad_alone(shelves, ask, town):
    shelves.write("one")
    path = shelves.path("A00001L9")
    data = bytearray(path.read_bytes())
    data[1300] ^= 1
    path.write_bytes(bytes(data))
    page = ask("tape", "scrub", code=4)
    (bad,) = page["bad"]
    assert (bad["file"], bad["replica"], bad["location"]) == (None, None, "A00001L9")
    assert "label" in bad["reason"]
    assert (page["checked"], page["ok"]) == (2, 2)


def test_what_lies_behind_the_end_of_a_truncated_cartridge_is_suspect(shelves, ask, town):
    (one,) = shelves.write("one")
    size = shelves.path("A00001L9").stat().st_size
    (two,) = shelves.write("two")
    os.truncate(shelves.path("A00001L9"), size + 1000)
    page = ask("tape", "scrub", code=4)
    assert [(bad["file"], bad["scan"]) for bad in page["bad"]] == [(2, two)]
    assert shelves.copy(one).state is ReplicaState.VERIFIED
    assert shelves.copy(two).state is ReplicaState.SUSPECT


def test_a_cartridge_that_is_away_has_bad_copies(shelves, ask, town):
    (one,) = shelves.write("one")
    os.rename(shelves.path("A00001L9"), town.base / "away")
    page = ask("tape", "scrub", code=4)
    assert [(bad["replica"], "not in the library" in bad["reason"]) for bad in page["bad"]] == [
        (shelves.copy(one).id, True)
    ]


def test_packages_that_nobody_recorded_are_told(shelves, ask, say, town):
    shelves.write("one")
    (other,) = shelves.write("other", pools="A", recorded=False)
    page = ask("tape", "scrub")
    (row,) = page["cartridges"][0]["unknown"] + page["cartridges"][1]["unknown"]
    assert (row["file"], row["scan"], row["name"], row["product"]) == (2, other, "other", "original")
    assert "the catalogue does not know it" in say("tape", "scrub").out


def test_an_unknown_barcode_is_wrong_and_the_nearest_is_named(shelves, say, town):
    shelves.write("one")
    said = say("tape", "scrub", "A00010L9")
    assert said.code == 2
    assert "did you mean A00001L9" in said.err


def test_the_named_ones_are_read_and_no_other(shelves, ask, town):
    shelves.write("one")
    assert [c["cartridge"] for c in ask("tape", "scrub", "B00001L9")["cartridges"]] == ["B00001L9"]


def test_the_one_least_recently_read_is_first(shelves, ask, town):
    (one,) = shelves.write("one")
    shelves.apply([Checked(shelves.copy(one, "B").id, True, town.now - timedelta(days=3))])
    assert [c["cartridge"] for c in ask("tape", "scrub")["cartridges"]] == ["B00001L9", "A00001L9"]


def test_only_what_is_due(shelves, ask, say, town):
    (one,) = shelves.write("one")
    assert ask("tape", "scrub", "--due")["cartridges"] == []
    assert "no cartridge to read" in say("tape", "scrub", "--due").out
    shelves.apply([Checked(shelves.copy(one, "B").id, True, town.now - timedelta(days=900))])
    assert [c["cartridge"] for c in ask("tape", "scrub", "--due")["cartridges"]] == ["B00001L9"]
    assert ask("tape", "scrub", "--due")["cartridges"] == []


def test_without_the_library_it_is_tried_again_later(shelves, ask, town):
    (one,) = shelves.write("one")
    os.rename(town.folder / "tape", town.folder / "away")
    page = ask("tape", "scrub", code=75)
    assert page["cartridges"] == []
    assert {row["cartridge"] for row in page["unreached"]} == {"A00001L9", "B00001L9"}
    assert shelves.copy(one).state is ReplicaState.VERIFIED


def test_a_cartridge_that_is_in_use_is_tried_again_later(shelves, ask, town):
    (one,) = shelves.write("one")
    town.change(tiers={"tape": {"wait_s": 0.1}})
    before = shelves.copy(one).verified_at
    with shelves.tier._robot.mount("A00001L9", shelves.tier.faults):
        page = ask("tape", "scrub", code=75)
    assert [c["cartridge"] for c in page["cartridges"]] == ["B00001L9"]
    assert [row["cartridge"] for row in page["unreached"]] == ["A00001L9"]
    assert shelves.copy(one).verified_at == before


def test_interrupted_it_says_how_far_it_came(shelves, say, ask, town, monkeypatch):
    (one,) = shelves.write("one")
    before = {pool: shelves.copy(one, pool) for pool in "AB"}
    shelves.flip("one", "B00001L9")
    real = cartridge_library.read_whole

    def interrupted(drive, entry, placed, throttle, progress):
        found = real(drive, entry, placed, throttle, progress)
        if drive.cartridge.header.barcode == "B00001L9":
            raise KeyboardInterrupt
        return found

    with monkeypatch.context() as patch:
        patch.setattr(cartridge_library, "read_whole", interrupted)
        said = say("tape", "scrub")
    assert said.code == 130
    assert "1 of 2 cartridges read to the end; B00001L9 was not" in said.out
    assert shelves.copy(one, "A").verified_at > before["A"].verified_at
    assert shelves.copy(one, "B") == before["B"]
    assert len(ask("tape", "scrub", code=4)["bad"]) == 1, "the drive is free again"


@pytest.mark.parametrize("as_json", [True, False])
def test_an_interrupt_does_not_hide_damage_that_was_found(shelves, say, ask, town, monkeypatch, as_json):
    (one,) = shelves.write("one")
    shelves.flip("one", "A00001L9")
    real = cartridge_library.read_whole

    def interrupted(drive, *more):
        if drive.cartridge.header.barcode == "B00001L9":
            raise KeyboardInterrupt
        return real(drive, *more)

    monkeypatch.setattr(cartridge_library, "read_whole", interrupted)
    if as_json:
        page = ask("tape", "scrub", code=4)
        assert (page["stopped"], [bad["scan"] for bad in page["bad"]]) == ("B00001L9", [one])
    else:
        said = say("tape", "scrub")
        assert said.code == 4
        assert "A00001L9#1: one: " in said.out
        assert "stopped: 1 of 2 cartridges" in said.out
    assert shelves.copy(one).state is ReplicaState.SUSPECT


def test_a_restore_that_waits_goes_between_two_cartridges(shelves, ask, town, monkeypatch, tmp_path):
    """The only drive is given back after each cartridge."""
    town.change(tiers={"tape": {"drives": 1, "copies": 3}})
    monkeypatch.setattr(scrubbing, "_REST_S", 0.2)
    shelves.write("one", pools="ABC")
    placed = next(p for _, p in shelves.tier.inventory() if p.domain == "tape:C")
    order = []

    def fetch():
        shelves.tier.fetch(placed, str(tmp_path), throttle=FREE, progress=lambda *_: None)
        order.append("restore")

    waiter = threading.Thread(target=fetch)
    real = cartridge_library.read_whole

    def noted(drive, *more):
        order.append(drive.cartridge.header.barcode)
        if not waiter.ident:
            waiter.start()
        return real(drive, *more)

    monkeypatch.setattr(cartridge_library, "read_whole", noted)
    ask("tape", "scrub")
    waiter.join(20)
    assert order == ["A00001L9", "restore", "B00001L9", "C00001L9"]


def test_a_copy_that_went_meanwhile_stays_as_it_is(shelves, ask, town, monkeypatch):
    (one,) = shelves.write("one")
    shelves.flip("one", "A00001L9")
    real = cartridge_library.read_whole
    wrong = shelves.copy(one)

    def meanwhile(drive, *more):
        found = real(drive, *more)
        if drive.cartridge.header.barcode == "A00001L9":
            with town.vault.catalogue.writing() as tx:
                _forget(tx, wrong.id)
        return found

    monkeypatch.setattr(cartridge_library, "read_whole", meanwhile)
    page = ask("tape", "scrub")
    assert (page["checked"], page["bad"]) == (1, [])
    assert shelves.copy(one).state is ReplicaState.GONE


def _forget(tx, replica):
    from sqlalchemy import update

    from tomovault.catalog import tables

    tx.run(update(tables.replica).where(tables.replica.c.id == replica).values(state=ReplicaState.GONE.value))


def test_on_a_terminal_it_shows_how_fast_and_how_long(shelves, say, town, monkeypatch):
    shelves.write("one")
    told = []

    @contextlib.contextmanager
    def drawn(**_more):
        yield lambda *step: told.append(step)

    monkeypatch.setattr("tomovault.cli._progress.open_progress", drawn)
    assert say("tape", "scrub").code == 0
    done = [step[1] for step in told]
    assert done == sorted(done)
    assert told[-1][1] == told[-1][2] > 0


def test_before_anything_was_written_there_is_nothing_to_read(town, say):
    said = say("tape", "scrub")
    assert (said.code, said.out) == (0, "There is no cartridge to read.\n")
