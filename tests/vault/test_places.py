"""Vaults and tiers that are not there: nothing is read as damaged, and nothing is written below a mount point."""

import errno
import hashlib
import os
import shutil
import uuid
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from tomovault.core.errors import PlaceAbsent, Transient
from tomovault.core.ports import Parcel
from tomovault.core.record import Outcome, Stored
from tomovault.core.replica import Form, ProductKind, StoredFile
from tomovault.tiers.place import MARKER
from tomovault.vault import places
from tomovault.vault.checking import run_doctor
from tomovault.vault.domains import domain_now
from tomovault.vault.job import carry_out
from tomovault.vault.orders import build_order
from tomovault.vault.places import require_place
from tomovault.vault.requests import Request
from tomovault.vault.status_pages import status_page
from tomovault.vault.workbench import open_tier

KINDS = ("vault", "posix", "ltfs", "tape")


class _Free:
    def spend(self, _count):
        pass


class _Kept:
    """A copy that is really there: a file in the vault, or a parcel on a tier of that kind."""

    def __init__(self, town, kind):
        self.town, self.kind = town, kind
        self.scan = town.scan("one", copies=0)
        self.tier = {"vault": "inhouse", "posix": "server", "ltfs": "server", "tape": "tape"}[kind]
        if kind in ("posix", "ltfs"):
            (town.base / "server").mkdir()
            town.change(tiers={"server": {"kind": kind, "class": "server", "path": str(town.base / "server")}})
        site = town.vault.site
        self.folder = Path(site.areas["inhouse"].vault if kind == "vault" else site.tiers[self.tier].options["path"])
        self.package = town.replica(self.scan, Form.PACKAGE)
        text = b"package" * 1000
        digest = hashlib.sha256(text).hexdigest()
        path = Path(self.package.location)
        path.write_bytes(text)
        files, domain = (StoredFile(str(path), len(text), digest),), "area:inhouse"
        location = str(path)
        if kind != "vault":
            with town.vault.catalogue.reading() as tx:
                require_place(town.vault, tx, self.tier)
            tier = open_tier(town.vault.site, self.tier)
            parcel = Parcel(self.scan, "one", "original", self.package.digest, files, "{}")
            domain = tier.domains()[0]
            (placed,) = tier.put([parcel], domain, job="j", throttle=_Free(), checkpoint=lambda _name: None)
            files, location = placed.files, placed.location
        with town.vault.catalogue.writing() as tx:
            town.vault.record_tiers(tx)
            copy = Stored(
                *(ProductKind.ORIGINAL, self.package.digest, Form.PACKAGE, self.tier, domain, location),
                *(files, len(text), digest, town.now, town.now),
            )
            town.vault.catalogue.apply_records(tx, [copy], town.now, scan_id=self.scan)

    @property
    def replica(self):
        return next(r for r in self.town.known(self.scan).replicas if r.tier == self.tier and r.form is Form.PACKAGE)

    def order(self, action, **wish):
        catalogue = self.town.vault.catalogue
        with catalogue.reading() as tx:
            known = catalogue.known(tx, self.scan)
            return build_order(action, Request(self.town.vault, tx, known, wish, self.town.now, "rule"))

    def do(self, action, order):
        catalogue, key = self.town.vault.catalogue, uuid.uuid4().hex
        with catalogue.writing() as tx:
            catalogue.queue_job(tx, action, self.scan, {}, dedup_key=key, rule="r", now=self.town.now, place="inhouse")
            job = catalogue.claim_job(tx, "somebody", now=self.town.now + timedelta(days=1), actions=[action])
        order = {"action": action, "order": order, "site": str(self.town.folder), "job": job.id, "token": job.token}
        (self.town.base / "job").mkdir(exist_ok=True)
        return carry_out(order, self.town.base / "job")

    def verify(self):
        return self.do("verify", self.order("verify", replicas=[self.replica.id]))

    def unmount(self):
        self.folder.rename(self.folder.with_name("away"))
        self.folder.mkdir()

    def mount(self):
        shutil.rmtree(self.folder)
        self.folder.with_name("away").rename(self.folder)

    def page(self):
        with self.town.vault.catalogue.reading() as tx:
            return status_page(self.town.vault, tx, {}, self.town.now)


@pytest.fixture(params=KINDS)
def kept(town, request):
    return _Kept(town, request.param)


def test_a_copy_in_a_place_that_is_absent_is_not_judged(kept):
    kept.unmount()
    result = kept.verify()
    assert result.outcome is Outcome.TRANSIENT
    assert result.records == ()
    assert "marker is missing" in result.error
    assert "mount" in result.hint
    assert list(kept.folder.iterdir()) == [], "nothing is written there"
    kept.mount()
    if kept.kind != "vault":  # the package in the vault is no real one
        assert [r.ok for r in kept.verify().records] == [True]


def test_a_copy_that_is_missing_from_a_place_that_is_there_is_bad(kept):
    for path in [p for p in kept.folder.rglob("*") if p.is_file() and p.name != "place.json"]:
        os.unlink(path)
    assert [r.ok for r in kept.verify().records] == [False]


def test_what_would_write_into_a_vault_that_is_absent_waits(town):
    kept = _Kept(town, "vault")
    assert kept.order("preview")["folder"] == f"{kept.folder}/one"
    kept.unmount()
    for action in ("pack", "preview", "archive"):
        with pytest.raises(PlaceAbsent, match="vault of inhouse is absent"):
            kept.order(action)
    assert list(kept.folder.iterdir()) == []
    kept.mount()
    kept.order("preview")


@pytest.mark.parametrize("kind", ["posix", "tape"])
def test_a_tier_unmounted_after_the_order_is_not_written_to(town, kind):
    """A job's own look comes later than that of whoever gave it its order."""
    kept = _Kept(town, kind)
    tier = open_tier(kept.town.vault.site, kept.tier)
    kept.unmount()
    file = StoredFile(kept.package.location, 7000, kept.package.sha256)
    parcel = Parcel(kept.scan, "one", "original", kept.package.digest, (file,), "{}")
    with pytest.raises(Transient):
        tier.put([parcel], kept.replica.domain, job="j", throttle=_Free(), checkpoint=lambda _name: None)
    assert list(kept.folder.iterdir()) == []


def test_another_disk_in_its_place_is_told_from_it(kept):
    kept.unmount()
    (kept.folder / ".tomovault").mkdir()
    (kept.folder / MARKER).write_text('{"uuid": "00000000-0000-0000-0000-000000000001"}')
    assert "another place" in kept.verify().error


def test_doctor_and_status_say_what_is_absent_and_what_to_do(kept):
    assert kept.page()["absent_places"] == []
    kept.unmount()
    (told,) = kept.page()["absent_places"]
    checks = {c.name: c for c in run_doctor(kept.town.folder)}
    check = checks["vault of inhouse" if kept.kind == "vault" else f"tier {kept.tier}"]
    assert not check.ok
    assert (check.detail, check.hint) == (told["problem"], told["hint"])
    assert "marker is missing" in check.detail
    command = check.hint.partition(": ")[2]
    assert os.system(command) == 0, "what it says to do when all is lost can be done"
    assert kept.page()["absent_places"] == []


def test_a_site_from_before_there_were_markers_goes_on(kept):
    """Its copies are there, so the place is; where none is there, it is not."""
    shutil.rmtree(kept.town.folder / "places")
    os.unlink(kept.folder / MARKER)
    kept.unmount()
    assert kept.verify().records == ()
    assert len(kept.page()["absent_places"]) == 1
    assert list(kept.folder.iterdir()) == []
    kept.mount()
    assert len(kept.verify().records) == 1
    assert (kept.folder / MARKER).is_file()
    kept.unmount()
    assert kept.verify().records == ()


def test_a_place_from_before_that_cannot_be_written_can_be_read(town, monkeypatch):
    kept = _Kept(town, "posix")
    shutil.rmtree(town.folder / "places")
    shutil.rmtree(kept.folder / ".tomovault")

    def refuse(place, _now):
        raise OSError(errno.EROFS, "Read-only file system", place.folder)

    monkeypatch.setattr(places, "mark_place", refuse)
    assert [r.ok for r in kept.verify().records] == [True]
    kept.unmount()
    assert kept.verify().records == ()


def test_a_place_with_nothing_in_it_may_be_chosen_anew(town):
    """A person moves the vault of a fresh site in tomovault.yaml, where it was marked already."""
    other = town.base / "other"
    town.change(areas={"inhouse": {"vault": str(other)}})
    with town.vault.catalogue.reading() as tx:
        require_place(town.vault, tx, "inhouse")
    assert (other / MARKER).is_file()


def test_status_marks_nothing(town):
    (town.base / "server").mkdir()
    town.change(tiers={"server": {"kind": "posix", "class": "server", "path": str(town.base / "server")}})
    with town.vault.catalogue.reading() as tx:
        assert status_page(town.vault, tx, {}, town.now)["absent_places"] == []
    assert list((town.base / "server").iterdir()) == []


def test_a_restore_takes_a_copy_that_is_there(town, tmp_path):
    kept = _Kept(town, "posix")
    vault = Path(town.vault.site.areas["inhouse"].vault)
    wish = {"to": str(tmp_path / "back")}
    assert [s["tier"] for s in kept.order("restore", **wish)["sources"]] == ["inhouse", "server"]
    vault.rename(vault.with_name("vault-away"))
    assert [s["tier"] for s in kept.order("restore", **wish)["sources"]] == ["server"]
    kept.unmount()
    with pytest.raises(PlaceAbsent):
        kept.order("restore", **wish)


def test_the_disk_of_a_place_that_is_absent_is_not_known(town):
    kept = _Kept(town, "posix")
    replica = replace(kept.replica, domain="posix:/dev/sda")
    with town.vault.catalogue.reading() as tx:
        assert domain_now(town.vault, tx, replica).startswith("disk:")
        kept.unmount()
        assert domain_now(town.vault, tx, replica) == ""


def test_a_tape_librarys_folder_holds_no_copies_and_may_be_a_new_one(town):
    folder = town.base / "library"
    town.change(
        tiers={
            "library": {
                **{"kind": "tape_library", "path": str(folder), "changer": "/dev/sg0", "devices": ["/dev/nst0"]},
                "pools": {"A": "A*", "B": "B*"},
            }
        }
    )
    scan = town.scan("one", copies=0)
    package = town.replica(scan, Form.PACKAGE)
    with town.vault.catalogue.writing() as tx:
        town.vault.record_tiers(tx)
        copy = Stored(
            *(ProductKind.ORIGINAL, package.digest, Form.PACKAGE, "library", "library:A", "A00001L9#1"),
            *((StoredFile("A00001L9#1", 7, "0" * 64),), 7, "0" * 64, town.now, town.now),
        )
        town.vault.catalogue.apply_records(tx, [copy], town.now, scan_id=scan)
    with town.vault.catalogue.reading() as tx:
        with pytest.raises(PlaceAbsent, match="no folder"):
            require_place(town.vault, tx, "library")
        folder.mkdir()
        require_place(town.vault, tx, "library")
    assert (folder / MARKER).exists()
