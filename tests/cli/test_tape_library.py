"""The commands about tape, on a library behind the stand-ins for the kernel's driver and mtx."""

import hashlib
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from tomovault.core.ports import Parcel
from tomovault.core.record import Made
from tomovault.core.replica import ProductKind, StoredFile
from tomovault.simulation.scenario import Machines
from tomovault.testing import mtx_stand
from tomovault.testing.tape_stand import TapeStand, make_stand
from tomovault.tiers import changer, st
from tomovault.tiers.delivery import deliver
from tomovault.tiers.free import FREE
from tomovault.vault import simulating
from tomovault.vault.places import mark_places
from tomovault.vault.workbench import open_tier


@pytest.fixture
def stand(town, monkeypatch):
    """A scan of the town is on a cartridge of each pool; the folder of what stands in for the library."""
    folder = town.base / "behind"
    make_stand(str(folder), {1: "TA0001L9", 2: "TB0001L9"})
    monkeypatch.setattr(st, "SYSTEM", TapeStand(str(folder), capacity=4_000_000))
    monkeypatch.setattr(changer.Changer, "_run", lambda self, *words: mtx_stand.answer(["-f", self.device, *words])[1])
    devices = [str(folder / "nst0"), str(folder / "nst1")]
    options = {"pools": {"A": "TA*", "B": "TB*"}, "devices": devices, "changer": str(folder / "state.json")}
    town.change(tiers={"deep": {"kind": "tape_library", "path": "deep", "capacity": "4MB", "ready_s": 0, **options}})
    (town.folder / "deep").mkdir(exist_ok=True)
    with town.vault.catalogue.writing() as tx:
        town.vault.record_tiers(tx)
    mark_places(town.vault)
    (scan,) = [town.scan("s1", copies=0)]
    path = town.base / "s1.tomo.h5"
    path.write_bytes(content := os.urandom(2000))
    stored = StoredFile(str(path), 2000, hashlib.sha256(content).hexdigest())
    manifest = '{"files": [{"path": "a.edf", "role": "side"}]}'
    parcel = Parcel(scan, "s1", "original", stored.sha256, (stored,), manifest)
    made = Made(ProductKind.ORIGINAL, parcel.digest, 2000, 1, manifest=manifest)
    for pool in "AB":
        copies = deliver(
            open_tier(town.vault.site, "deep"),
            [parcel],
            f"deep:{pool}",
            job="j",
            now=lambda: town.now,
            may_continue=lambda: True,
            throttle=FREE,
            checkpoint=lambda _name: None,
        )
        with town.vault.catalogue.writing() as tx:
            town.vault.catalogue.apply_records(tx, [made, *copies], town.now, scan_id=scan)
    return Path(folder)


def flip(stand, barcode, content):
    path = stand / "media" / barcode
    data = bytearray(path.read_bytes())
    data[data.index(content[:32]) + 9] ^= 4
    path.write_bytes(bytes(data))


def test_the_cartridges_are_listed_with_what_is_on_them(stand, ask):
    rows = {row["barcode"]: row for row in ask("tape", "list")["cartridges"]}
    assert {b: (row["state"], row["generation"]) for b, row in rows.items()} == {
        "TA0001L9": ("filling", "L9"),
        "TB0001L9": ("filling", "L9"),
    }
    assert [b["scan_name"] for b in rows["TA0001L9"]["bundles"]] == ["s1"]
    assert ask("tape", "show", "TA0001L9")["bundles"][0]["file"] == 1


def test_a_scrub_finds_the_damaged_copy(stand, town, ask):
    flip(stand, "TA0001L9", (town.base / "s1.tomo.h5").read_bytes())
    told = ask("tape", "scrub", code=4)
    assert [one["cartridge"] for one in told["cartridges"] if one["bad"]] == ["TA0001L9"]


def test_doctor_tells_of_the_library(stand, say):
    assert "1 cartridges in pool A" in say("doctor", "--json").out
    (stand / "nst1").unlink()
    assert "nst1 cannot be read and written" in say("doctor", "--json").out


def test_a_rebuild_reads_the_media_alone(stand, town, ask):
    """What the catalogue knows already is not made twice."""
    (town.folder / "deep" / "library.json").unlink()
    told = ask("catalogue", "rebuild", "--from", "deep", code=4)
    assert {one["location"].partition("#")[0] for one in told["damaged"]} == {"TA0001L9", "TB0001L9"}, told


def test_a_simulated_future_has_the_pools_and_drives_of_the_library(stand, town):
    model = SimpleNamespace(keeps_s=None)
    (plan,) = [one for one in simulating._tapes(town.vault.site, model) if one.name == "deep"]
    assert plan.domains == ("deep:A", "deep:B")
    assert plan.counts
    assert simulating._machines(town.vault.site, Machines()).drives == 2
