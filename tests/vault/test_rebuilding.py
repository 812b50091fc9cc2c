"""Thirty scans on two pools and in a folder of packages, and a catalogue that knows nothing of them any more."""

import os
import shutil
import sqlite3
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from tomovault.core.errors import Transient
from tomovault.core.known import CODED_FRAMES
from tomovault.core.layout import Layout
from tomovault.core.ports import Harm, Parcel, Placed, Surveyed
from tomovault.core.record import Inspected, Made, Stored
from tomovault.core.replica import Form, ProductKind, StoredFile
from tomovault.core.scan import (
    Candidate,
    Certificate,
    Condition,
    FileRole,
    FileState,
    FrameCounts,
    ScanFile,
    ScanReport,
    Verdict,
)
from tomovault.core.told import tell
from tomovault.package.manifest import read_text
from tomovault.package.verify import prove_package
from tomovault.package.writer import write_package
from tomovault.tiers import posix, survey
from tomovault.tiers.delivery import deliver
from tomovault.tiers.free import FREE
from tomovault.vault.rebuilding import rebuild
from tomovault.vault.vault import Vault
from tomovault.vault.workbench import open_tier

_SCANS = 30
_SOUND = {"suspect": 0, "backups": 0, "damaged": [], "unreached": [], "notices": [], "stopped": ""}
_TIERS = {"tape": {"kind": "emulated_library", "path": "tape"}, "disk": {"kind": "posix", "path": "disk"}}


@pytest.fixture
def filled(town):
    """The site with its scans archived; their ids in order."""
    (town.folder / "disk").mkdir()
    town.change(tiers=_TIERS)
    with town.vault.catalogue.writing() as tx:
        town.vault.record_tiers(tx)
    return town, [_archive(town, number) for number in range(_SCANS)]


def _archive(town, number):
    """A scan was seen, packed, and put into both pools and the folder, all re-read."""
    folder = town.area / f"bone{number:02}_"
    folder.mkdir()
    (folder / "bone.edf").write_bytes(f"scan {number} ".encode() * 5000)
    (folder / "bone.info").write_bytes(b"Energy= 26")
    report = _report(folder, number)
    catalogue = town.vault.catalogue
    seen = Inspected(Candidate("edf", str(folder)), "snap", True, (report,))
    with catalogue.writing() as tx:
        (scan,) = catalogue.record_inspected(tx, "inhouse", seen, town.now)
    told = tell(town.known(scan)) | {CODED_FRAMES: number}
    written = _pack(town, report, told)
    parcel = Parcel(scan, report.name, "original", written.digest, _proven(written), written.manifest, "p1")
    size, files = written.original_bytes, written.original_files
    made = Made(
        ProductKind.ORIGINAL, written.digest, size, files, manifest=written.manifest, details={CODED_FRAMES: number}
    )
    kept = (Form.FILES, "inhouse", "area:inhouse", str(folder), (), size, written.digest, town.now, town.now)
    records = [made, Stored(ProductKind.ORIGINAL, written.digest, *kept)]
    for tier in (open_tier(town.vault.site, "tape"), open_tier(town.vault.site, "disk")):
        for domain in tier.domains():
            records += _delivered(tier, parcel, domain)
    with catalogue.writing() as tx:
        catalogue.apply_records(tx, records, town.now, scan_id=scan)
    return scan


def _report(folder, number):
    files = []
    for path, role in ((folder / "bone.edf", FileRole.PROJECTION), (folder / "bone.info", FileRole.METADATA)):
        s = path.stat()
        state = FileState(path.name, s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino, s.st_dev, s.st_mode)
        files.append(ScanFile(state, role))
    return ScanReport(
        format="edf",
        name=folder.name,
        root=str(folder),
        entry="",
        identity=f"identity {number}",
        certificate=Certificate(Verdict.COMPLETE, FrameCounts(2, 1, 1), FrameCounts(2, 1, 1), evidence=("bone.info",)),
        files=tuple(files),
        conditions={"energy": Condition(26, "keV", "bone.info"), "sample": Condition("bone", None, "bone.info")},
        acquired_at=datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=number),
        proposal="p1",
        set_name="pair" if number < 2 else None,
        set_size=2 if number < 2 else None,
        metadata={"energy": "26"},
    )


def _pack(town, report, told):
    return write_package(
        report.root,
        report.files,
        Layout(),
        str(town.base / "inhouse.vault"),
        report.name,
        scan=told,
        job="j1",
        now=town.now,
        throttle=FREE,
        checkpoint=lambda _name: None,
        progress=lambda _done, _total: None,
    )


def _proven(written):
    return prove_package(written, throttle=FREE, progress=lambda _done, _total: None)


def _delivered(tier, parcel, domain):
    return deliver(
        tier,
        [parcel],
        domain,
        job=f"j-{domain}",
        now=lambda: datetime.now(UTC),
        may_continue=lambda: True,
        throttle=FREE,
        checkpoint=lambda _name: None,
    )


def _lose(town):
    """The catalogue is empty, as that of a new site; the site's file and the media are there."""
    town.vault.close()
    for name in ("catalogue.db", "catalogue.db-wal", "catalogue.db-shm"):
        (town.folder / name).unlink(missing_ok=True)
    shutil.rmtree(town.folder / "manifests", ignore_errors=True)
    town.vault = Vault.open(town.folder)


def _copies(scan, tier):
    """What is told of the copies on a tier, but for when they were written and read."""
    found = [r for r in scan.replicas if r.tier == tier]
    return sorted((r.location, r.domain, r.bytes, r.sha256, r.digest, r.form, r.lossless) for r in found)


def _facts(scan):
    """What a medium tells of a scan."""
    names = "id name root area format entry identity certificate settled first_seen_at changed_at bytes files".split()
    names += "acquired_at beamline proposal sample owner sources set_name set_size candidate superseded_by".split()
    names += ["declared", "conditions", "metadata"]
    products = [(p.kind, p.digest, p.bytes, p.files, p.lossless, p.made_by_us, p.details) for p in scan.products]
    return {name: getattr(scan, name) for name in names} | {"products": products}


@pytest.fixture
def on_a_file(town):
    if town.vault.catalogue.sqlite_path is None:
        # How a lost catalogue of a server is replaced is the server's; what is then written goes through the same code.
        pytest.skip("a catalogue in a file is taken away here")


@pytest.mark.usefixtures("on_a_file")
class TestRebuilding:
    def test_everything_is_back_and_nothing_is_verified(self, filled, ask):
        town, ids = filled
        before = [town.known(scan) for scan in ids]
        _lose(town)
        page = ask("catalogue", "rebuild", "--from", "tape")
        assert page == {"tier": "tape", "scans": 30, "products": 30, "replicas": 60, **_SOUND}
        for old in before:
            new = town.known(old.id)
            assert _facts(new) == _facts(old)
            assert _copies(new, "tape") == _copies(old, "tape")
            assert not any(r.good for r in new.replicas)
            assert not any(r.verified_within(timedelta(days=99999), town.now) for r in new.replicas)
        assert ask("catalogue", "check")["ok"] is True
        assert ask("audit", "verify")["ok"] is True

    def test_a_second_run_adds_nothing_and_a_second_tier_its_copies(self, filled, ask):
        town, ids = filled
        before = [town.known(scan) for scan in ids]
        _lose(town)
        ask("catalogue", "rebuild", "--from", "disk")
        again = ask("catalogue", "rebuild", "--from", "disk")
        assert (again["scans"], again["products"], again["replicas"]) == (0, 0, 0)
        more = ask("catalogue", "rebuild", "--from", "tape")
        assert (more["scans"], more["products"], more["replicas"]) == (0, 0, 60)
        for old in before:
            assert _copies(town.known(old.id), "disk") == _copies(old, "disk")
            assert _copies(town.known(old.id), "tape") == _copies(old, "tape")

    def test_a_flipped_bit_and_a_cut_are_named_and_hide_nothing(self, filled, ask):
        town, ids = filled
        before = [town.known(scan) for scan in ids]
        _lose(town)
        folder = town.folder / "tape" / "cartridges"
        (flipped,), (cut,) = folder.glob("A*"), folder.glob("B*")
        where = next(r.location for r in before[7].replicas if r.location.startswith(flipped.name))
        content = bytearray(flipped.read_bytes())
        at = content.index(b"packages/0001/bone07_") + 2000
        content[at] ^= 1
        flipped.write_bytes(content)
        cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
        page = ask("catalogue", "rebuild", "--from", "tape", code=4)
        bad = {one["location"].partition("/")[0] for one in page["damaged"]}
        assert all(one["reason"] for one in page["damaged"])
        assert {place for place in bad if place.startswith("A")} == {where}
        assert len(bad) > _SCANS // 3
        assert page["scans"] >= _SCANS - 1
        for old in before:
            wanted = [row for row in _copies(old, "tape") if row[0] not in bad]
            known = [s for s in ids if s == old.id and (s != before[7].id or wanted)]
            for scan in known:
                kept = [r for r in town.known(scan).replicas if r.tier == "tape" and r.state.value == "present"]
                assert sorted(r.location for r in kept) == [row[0] for row in wanted]

    def test_without_the_librarys_own_file_the_cut_is_named_too(self, filled, ask):
        town, _ = filled
        _lose(town)
        (town.folder / "tape" / "library.json").unlink()
        cut = next((town.folder / "tape" / "cartridges").glob("B*"))
        cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
        page = ask("catalogue", "rebuild", "--from", "tape", code=4)
        assert page["scans"] == _SCANS
        assert {one["location"].partition("#")[0] for one in page["damaged"]} == {cut.name}

    def test_a_damaged_manifest_in_a_folder_is_named(self, filled, ask):
        town, ids = filled
        _lose(town)
        sidecars = sorted((town.folder / "disk").rglob("tomovault-manifest.json"))
        sidecars[0].write_text("{}")
        sidecars[1].unlink()
        package = next(p for p in sidecars[2].parent.iterdir() if p.suffix == ".h5")
        package.write_bytes(package.read_bytes()[:-1])
        page = ask("catalogue", "rebuild", "--from", "disk", code=4)
        assert [one["location"] for one in page["damaged"]] == [str(p.parent) for p in sidecars[:3]]
        assert page["scans"] == len(ids) - 2
        with town.vault.catalogue.reading() as tx:
            kept = [r for scan in town.vault.catalogue.list_scans(tx) for r in scan.replicas if r.tier == "disk"]
        assert sorted(r.state.value for r in kept) == ["present"] * (len(ids) - 3) + ["suspect"]

    def test_a_known_copy_that_is_read_as_bad_is_verified_no_more(self, town, ask):
        """A backup of the catalogue was put back, and says verified of what was damaged since."""
        scan = _one_archived(town)["id"]
        _archive(town, 1)
        package = next((town.folder / "disk").rglob("bone00_*.h5"))
        package.write_bytes(package.read_bytes()[:-1] + b"?")
        page = ask("catalogue", "rebuild", "--from", "disk", code=4)
        assert (page["replicas"], len(page["damaged"])) == (0, 1)
        with town.vault.catalogue.reading() as tx:
            known = {s.id: s for s in town.vault.catalogue.list_scans(tx)}
        states = {s: r.state.value for s, one in known.items() for r in one.replicas if r.tier == "disk"}
        assert states.pop(scan) == "suspect"
        assert list(states.values()) == ["verified"]

    @pytest.mark.parametrize("left", ["{}", None])
    def test_a_known_copy_without_a_readable_manifest_is_verified_no_more(self, town, ask, say, left):
        scan = _one_archived(town)["id"]
        other = _archive(town, 1)
        sidecar = next(p for p in (town.folder / "disk").rglob("tomovault-manifest.json") if "bone00" in str(p))
        sidecar.unlink()
        if left is not None:
            sidecar.write_text(left)
        page = ask("catalogue", "rebuild", "--from", "disk", code=4)
        assert (page["suspect"], len(page["damaged"])) == (1, 1)
        assert _states(town, scan, "disk") == ["suspect"]
        assert _states(town, other, "disk") == ["verified"]
        assert ask("catalogue", "rebuild", "--from", "disk", code=4)["suspect"] == 0
        assert "suspect now" not in say("catalogue", "rebuild", "--from", "disk").out

    def test_a_known_copy_in_a_bundle_without_a_readable_manifest_is_verified_no_more(self, town, ask):
        first, second = _one_archived(town)["id"], _archive(town, 1)
        cartridge = next((town.folder / "tape" / "cartridges").glob("A*"))
        content = bytearray(cartridge.read_bytes())
        content[content.index(b"tomovault-bundle")] ^= 1
        cartridge.write_bytes(content)
        page = ask("catalogue", "rebuild", "--from", "tape", code=4)
        assert [one["location"] for one in page["damaged"]] == [f"{cartridge.name}#1"]
        assert _states(town, first, "tape") == ["suspect", "verified"]
        assert _states(town, second, "tape") == ["verified", "verified"]

    @pytest.mark.parametrize("away", [True, False])
    def test_what_is_known_on_a_cartridge_that_cannot_be_read_is_verified_no_more(self, town, ask, away):
        first, second = _one_archived(town)["id"], _archive(town, 1)
        cartridge = next((town.folder / "tape" / "cartridges").glob("A*"))
        if away:
            cartridge.unlink()
        else:
            cartridge.write_bytes(bytes(512) + cartridge.read_bytes()[512:])
        page = ask("catalogue", "rebuild", "--from", "tape", code=4)
        assert (page["suspect"], [one["location"] for one in page["damaged"]]) == (2, [cartridge.name])
        for scan in (first, second):
            assert _states(town, scan, "tape") == ["suspect", "verified"]

    @pytest.mark.parametrize(
        ("harm", "state", "key", "code"),
        [
            (Harm.COPY, "suspect", "damaged", 4),
            (Harm.ALL, "verified", "damaged", 4),  # nothing is known within it
            (Harm.NONE, "verified", "damaged", 4),
            (Harm.UNREACHED, "verified", "unreached", 75),
            (Harm.NOTICE, "verified", "notices", 0),
        ],
    )
    def test_only_damage_makes_a_known_copy_suspect(self, town, ask, say, monkeypatch, harm, state, key, code):
        scan = _one_archived(town)["id"]
        (copy,) = [r for r in town.known(scan).replicas if r.tier == "disk"]
        found = [Surveyed(copy.location, problem="odd", harm=harm)]
        monkeypatch.setattr(posix.PLUGIN, "survey", lambda _tier, _progress: iter(found))
        page = ask("catalogue", "rebuild", "--from", "disk", code=code)
        assert [one["reason"] for one in page[key]] == ["odd"]
        assert _states(town, scan, "disk") == [state]
        assert "odd" in say("catalogue", "rebuild", "--from", "disk").out

    @pytest.mark.parametrize(("its_own", "state"), [(True, "suspect"), (False, "verified")])
    def test_of_several_copies_at_a_place_the_named_one_is_suspect(self, town, ask, monkeypatch, its_own, state):
        scan = _one_archived(town)["id"]
        (copy,) = [r for r in town.known(scan).replicas if r.tier == "disk"]
        with town.vault.catalogue.reading() as tx:
            (file,) = town.vault.catalogue.replica_parts(tx, copy.id)
        placed = Placed(copy.location, copy.domain, (file if its_own else StoredFile("/other", 1, "0" * 64),))
        found = [Surveyed(f"{copy.location}/list", placed=placed, problem="odd")]
        monkeypatch.setattr(posix.PLUGIN, "survey", lambda _tier, _progress: iter(found))
        ask("catalogue", "rebuild", "--from", "disk", code=4)
        assert _states(town, scan, "disk") == [state]

    def test_a_folder_with_the_marker_of_another_tier_is_refused(self, town, ask):
        _one_archived(town)
        ask("catalogue", "rebuild", "--from", "disk")
        (town.folder / "disk").rename(town.folder / "moved")
        (town.folder / "disk").mkdir()
        _lose(town)
        town.change(tiers={"other": {"kind": "posix", "path": "moved"}})
        page = ask("catalogue", "rebuild", "--from", "other", code=3)
        assert "tier disk" in page["error"]
        assert ask("scan", "list")["scans"] == []

    def test_cartridges_of_another_tier_are_told_and_not_recorded(self, town, ask):
        _one_archived(town)
        _lose(town)
        (town.folder / "tape").rename(town.folder / "moved")
        shutil.rmtree(town.folder / "moved" / ".tomovault", ignore_errors=True)
        town.change(tiers={"other": {"kind": "emulated_library", "path": "moved"}})
        page = ask("catalogue", "rebuild", "--from", "other", code=4)
        assert (page["scans"], len(page["damaged"])) == (0, 2)
        assert all("'tape'" in one["reason"] for one in page["damaged"])

    def test_a_lost_state_of_a_library_is_told(self, town, ask, say):
        _one_archived(town)
        _lose(town)
        (town.folder / "tape" / "library.json").unlink()
        (notice,) = ask("catalogue", "rebuild", "--from", "tape")["notices"]
        assert notice["location"] == str(town.folder / "tape" / "library.json")
        assert "lost" in notice["reason"]
        assert "library.json: note: " in say("catalogue", "rebuild", "--from", "tape").out

    def test_what_lies_in_quarantine_on_the_medium_is_told(self, town, ask):
        _one_archived(town)
        _lose(town)
        quarantine = town.folder / "disk" / ".tomovault" / "quarantine"
        for name, file in (("m1", "files/deep/a.h5"), ("m2", "journal")):
            (quarantine / name / file).parent.mkdir(parents=True)
            (quarantine / name / file).write_bytes(b"12345")
        page = ask("catalogue", "rebuild", "--from", "disk")
        (notice,) = page["notices"]
        assert notice["location"] == str(quarantine / "m1")
        assert "1 file(s) of 5 bytes" in notice["reason"]

    def test_what_is_found_is_told_at_once(self, town, monkeypatch):
        _one_archived(town)
        told = []

        def survey(_tier, _progress):
            yield Surveyed("/a", problem="odd")
            assert [noted.location for noted in told] == ["/a"]

        monkeypatch.setattr(posix.PLUGIN, "survey", survey)
        assert rebuild(town.vault, "disk", lambda _done, _total: None, told.append).exit_code == 4

    @pytest.mark.parametrize(("end", "code"), [(Transient("away"), 75), (KeyboardInterrupt(), 130)])
    def test_what_ends_it_hides_no_damage(self, town, ask, say, monkeypatch, end, code):
        _one_archived(town)
        _lose(town)
        found = [Surveyed("/a", problem="odd")]

        def cut(_tier, _progress):
            yield from found
            raise end

        monkeypatch.setattr(posix.PLUGIN, "survey", cut)
        said = say("catalogue", "rebuild", "--from", "disk")
        assert said.code == 4
        assert "/a: odd" in said.out
        assert "stopped" in said.out
        page = ask("catalogue", "rebuild", "--from", "disk", code=4)
        assert page["stopped"]
        found.clear()
        ask("catalogue", "rebuild", "--from", "disk", code=code)

    def test_a_catalogue_with_other_scans_is_refused(self, filled, ask):
        town, _ = filled
        assert ask("catalogue", "rebuild", "--from", "tape")["replicas"] == 0
        lost = town.scan("lost")
        page = ask("catalogue", "rebuild", "--from", "tape", code=4)
        assert [(one["name"], page["suspect"]) for one in page["damaged"]] == [("lost", 2)]
        assert _states(town, lost, "tape") == ["suspect", "suspect"]
        town.scan("stranger", copies=0)
        page = ask("catalogue", "rebuild", "--from", "tape", code=3)
        assert "stranger" in page["error"]
        ask("catalogue", "rebuild", "--from", "nowhere", code=2)

    def test_an_interrupted_run_goes_on(self, filled, ask):
        town, _ = filled
        _lose(town)

        def stop(done, total):
            if done * 2 > total:
                raise KeyboardInterrupt

        assert rebuild(town.vault, "disk", stop).exit_code == 130
        page = ask("catalogue", "rebuild", "--from", "disk")
        assert 0 < page["scans"] < _SCANS
        assert page["scans"] == page["replicas"]

    def test_files_that_still_lie_there_are_the_same_scan(self, filled, ask):
        town, ids = filled
        _lose(town)
        ask("catalogue", "rebuild", "--from", "tape")
        catalogue = town.vault.catalogue
        for number in (0, 1):
            folder = town.area / f"bone{number:02}_"
            if number:
                Path(folder, "bone.edf").write_bytes(b"cut")
            seen = Inspected(Candidate("edf", str(folder)), "snap", True, (_report(folder, number),))
            with catalogue.writing() as tx:
                assert catalogue.record_inspected(tx, "inhouse", seen, town.now) == [ids[number]]
        assert [r.state.value for r in town.known(ids[0]).replicas if r.form is Form.FILES] == ["present"]
        assert [r.state.value for r in town.known(ids[1]).replicas if r.form is Form.FILES] == ["gone"]
        assert len(ask("scan", "list")["scans"]) == _SCANS
        assert ask("catalogue", "check")["ok"] is True

    @pytest.mark.parametrize("earlier_first", [True, False])
    def test_the_newest_original_is_that_of_the_latest_look_whichever_is_read_last(self, town, ask, earlier_first):
        (town.folder / "disk").mkdir()
        town.change(tiers=_TIERS)
        with town.vault.catalogue.writing() as tx:
            town.vault.record_tiers(tx)
        scan = _archive(town, 0)
        told = tell(town.known(scan))
        looks = [town.now - timedelta(days=1), town.now + timedelta(days=1)]
        digests = {}
        for look in looks if earlier_first else reversed(looks):
            shutil.rmtree(town.base / "more", ignore_errors=True)
            (town.area / "bone00_" / "bone.edf").write_bytes(f"looked at {look}".encode() * 100)
            digests[look] = _put(town, told | {"changed_at": look.isoformat()}).digest
        _lose(town)
        ask("catalogue", "rebuild", "--from", "disk")
        assert town.known(scan).product(ProductKind.ORIGINAL).digest == digests[looks[1]]

    @pytest.mark.parametrize(
        "odd",
        [
            {"changed_at": "2026-01-01T00:00:00"},
            {"acquired_at": "0001-01-01T00:00:00+05:00"},
            {"declared": {"verdict": "complete", "by": "anna", "reason": "seen", "at": "2026-01-01T00:00:00"}},
            {"root": "bone"},
            {"root": "/a/../b"},
            {"id": "s" * 33},
            {"set": "pair", "set_size": 1 << 70},
        ],
    )
    def test_a_package_that_tells_what_cannot_be_is_named_and_ends_nothing(self, town, ask, odd):
        told = _one_archived(town)
        _put(town, told | {"id": "s0000000000aa", "name": "a_odd"} | odd, town.area / "bone00_")
        _lose(town)
        page = ask("catalogue", "rebuild", "--from", "disk", code=4)
        assert page["scans"] == 1
        (damaged,) = page["damaged"]
        assert damaged["name"] == "a_odd"
        assert any(word in damaged["reason"] for word in ("cannot be understood", "cannot be recorded", "no id"))

    def test_a_file_dated_beyond_what_a_database_holds_ends_nothing(self, town, ask, monkeypatch):
        told = _one_archived(town)
        _lose(town)
        real = read_text

        def late(text):
            found = real(text)
            files = [replace(f, meta=replace(f.meta, mtime_ns=1 << 63)) for f in found.contents.files]
            return replace(found, contents=replace(found.contents, files=tuple(files)))

        monkeypatch.setattr("tomovault.vault.rebuilding.read_text", late)
        assert ask("catalogue", "rebuild", "--from", "disk")["scans"] == 1
        assert town.known(told["id"]).id == told["id"]

    @pytest.mark.parametrize("odd", ["2026-01-01T00:00:00", "0001-01-01T00:00:00+05:00"])
    def test_a_bundle_with_a_date_that_cannot_be_kept_is_named_and_ends_nothing(self, town, ask, monkeypatch, odd):
        _one_archived(town)
        _lose(town)
        real = survey.read_manifest

        def dated(reader):
            found = real(reader)
            return replace(found, written_at=datetime.fromisoformat(odd)) if found.pool == "A" else found

        monkeypatch.setattr(survey, "read_manifest", dated)
        monkeypatch.setattr(survey, "check_bundle", lambda reader, _throttle: dated(reader))
        page = ask("catalogue", "rebuild", "--from", "tape", code=4)
        assert (page["scans"], page["replicas"], len(page["damaged"])) == (1, 1, 1)

    def test_a_folder_whose_manifest_is_dated_beyond_all_years_ends_nothing(self, town, ask, monkeypatch):
        _one_archived(town)
        _archive(town, 1)
        _lose(town)
        sidecar = min((town.folder / "disk").rglob("tomovault-manifest.json"))
        os.utime(sidecar, (4e8, 4e8))

        class Far(datetime):
            @classmethod
            def fromtimestamp(cls, moment, zone=None):
                return datetime.fromtimestamp(1e12 if moment == 4e8 else moment, zone)

        monkeypatch.setattr(posix, "datetime", Far)
        page = ask("catalogue", "rebuild", "--from", "disk", code=4)
        assert page["scans"] == 1
        assert [one["location"] for one in page["damaged"]] == [str(sidecar.parent)]

    def test_a_database_that_cannot_be_written_ends_it(self, town, ask, monkeypatch):
        _one_archived(town)
        _lose(town)

        def fail(*_arguments, **_more):
            raise OperationalError("insert", {}, sqlite3_error(sqlite3.SQLITE_IOERR))

        monkeypatch.setattr("tomovault.catalog.rebuilding.record_made", fail)
        assert "disk" in ask("catalogue", "rebuild", "--from", "disk", code=75)["error"]

    def test_an_area_that_was_not_mounted_is_added_afterwards(self, town, ask, say):
        """Step 3 of the guide."""
        told = _one_archived(town)
        _lose(town)
        away = town.area.rename(town.base / "away")
        assert ask("catalogue", "rebuild", "--from", "disk")["scans"] == 1
        away.rename(town.area)
        assert ask("area", "add", f"inhouse={town.area}")["marked"] is True
        with town.vault.catalogue.reading() as tx:
            (area,) = town.vault.catalogue.list_areas(tx)
        assert area.uuid
        assert area.simulated
        assert told["id"] in say("scan", "list", "--json").out

    def test_a_scan_that_was_not_read_again_yet_says_what_gives_it_back(self, town, ask):
        scan = _one_archived(town)["id"]
        _lose(town)
        ask("catalogue", "rebuild", "--from", "disk")
        page = ask("restore", scan, "--to", str(town.base / "back"), code=2)
        assert "re-read" in page["error"]
        assert page["hint"] == f"tomovault verify {scan}"

    def test_it_waits_while_a_daemon_runs(self, town, monkeypatch):
        monkeypatch.setattr(town.vault.catalogue, "list_leases", lambda _tx: {"leader": "somebody"}, raising=False)
        with pytest.raises(Transient, match="somebody"):
            rebuild(town.vault, "tape", lambda _done, _total: None)

    def test_of_scans_written_in_one_place_the_last_stands_there(self, town, ask):
        """Whichever is read first; and a package that tells no place is a scan all the same."""
        (town.folder / "disk").mkdir()
        town.change(tiers=_TIERS)
        with town.vault.catalogue.writing() as tx:
            town.vault.record_tiers(tx)
        first = _archive(town, 0)
        told = tell(town.known(first))
        later = (town.now + timedelta(days=1)).isoformat()
        old = {key: value for key, value in told.items() if key not in ("candidate", "first_seen_at", "changed_at")}
        _put(town, told | {"id": "s00000000000f", "first_seen_at": later, "name": "bone00__2"})
        _put(town, old | {"id": "s00000000000e", "name": "old"})
        _lose(town)
        assert ask("catalogue", "rebuild", "--from", "disk")["scans"] == 3
        assert town.known(first).superseded_by == "s00000000000f"
        assert town.known("s00000000000f").superseded_by is None
        assert town.known("s00000000000e").candidate is None
        assert ask("catalogue", "check")["ok"] is True


def _one_archived(town):
    """One scan is on the disk; returns what its package tells of it."""
    (town.folder / "disk").mkdir()
    town.change(tiers=_TIERS)
    with town.vault.catalogue.writing() as tx:
        town.vault.record_tiers(tx)
    return tell(town.known(_archive(town, 0)))


def _states(town, scan, tier):
    """Of the scan's copies on a tier, in the order of their domains."""
    copies = sorted((r for r in town.known(scan).replicas if r.tier == tier), key=lambda r: r.domain)
    return [r.state.value for r in copies]


def sqlite3_error(code):
    problem = sqlite3.OperationalError("disk I/O error")
    problem.sqlite_errorcode = code
    return problem


def _put(town, told, folder=None):
    """A package that tells this is on the disk; returns its parcel."""
    folder = folder or Path(told["root"])
    written = write_package(
        str(folder),
        _report(folder, 0).files,
        Layout(),
        str(town.base / "more"),
        told["name"],
        scan=told,
        job="j1",
        now=town.now,
        throttle=FREE,
        checkpoint=lambda _name: None,
        progress=lambda _done, _total: None,
    )
    parcel = Parcel(told["id"], told["name"], "original", written.digest, _proven(written), written.manifest, "p1")
    tier = open_tier(town.vault.site, "disk")
    _delivered(tier, parcel, tier.domains()[0])
    return parcel
