"""The backup of a night: a copy on disk, one on each tier that archives, and each once."""

import json
from datetime import timedelta
from pathlib import Path

import pytest

from tomovault.core.backup import read_backup
from tomovault.core.errors import InUse, NoSpace, UserError
from tomovault.tiers.blocks import holding
from tomovault.vault import backing_up
from tomovault.vault.backing_up import back_up, backup_is_due
from tomovault.vault.backup_state import alarms_of, newest_archived, read_state
from tomovault.vault.cartridges import list_cartridges
from tomovault.vault.fetching_backup import fetch_backup
from tomovault.vault.scrubbing import choose_cartridges, scrub_cartridges
from tomovault.vault.site import load_site
from tomovault.vault.workbench import open_tier


@pytest.fixture
def town(town, request):
    if town.vault.shared:
        town.change(catalogue_backup={"pg_dump": request.getfixturevalue("pg_dump")})
    return town


@pytest.fixture
def on_day(town, monkeypatch):
    """Called with a number of days for a clock that is so much later."""

    def go(days):
        monkeypatch.setattr(backing_up, "_now", lambda: town.now + timedelta(days=days))
        return town.now + timedelta(days=days)

    return go


def due(town, now):
    with town.vault.catalogue.reading() as tx:
        return backup_is_due(town.vault, tx, now)


def backups(town):
    with town.vault.catalogue.reading() as tx:
        return town.vault.catalogue.list_backups(tx)


def files_in(town):
    return sorted(path.name for path in Path(town.vault.site.backup.folder).iterdir())


def test_it_is_on_disk_and_on_tape_as_what_it_is(town, on_day):
    town.scan("one")
    now = on_day(0)
    assert due(town, now)
    done = back_up(town.vault, "somebody", anew=False)
    assert done.problems == done.waiting == {}
    assert not due(town, now)
    assert files_in(town) == [Path(done.file).name]
    ((parcel, placed),) = open_tier(town.vault.site, "tape").inventory()
    assert (parcel.scan, parcel.product, parcel.size) == ("", "catalogue", Path(done.file).stat().st_size)
    told = read_backup(parcel.manifest)
    assert told.sha256 == parcel.digest == parcel.files[0].sha256
    assert done.placed == {"tape": placed.location}
    with town.vault.catalogue.reading() as tx:
        ops = [(row.op, row.body["sha256"]) for row in town.vault.catalogue.list_audit(tx, limit=2)]
        assert newest_archived(town.vault, tx) == {"": told.made_at, "tape": told.made_at}
        assert [row.bytes for row in town.vault.catalogue.usage(tx, "tier") if row.value == "tape"] == [400]
    assert ops == [("catalogue.archived", told.sha256), ("catalogue.backup", told.sha256)]


def test_a_cartridge_shows_it_and_is_read_with_it(town):
    back_up(town.vault, "somebody", anew=False)
    (cartridge,) = list_cartridges(town.vault)
    (row,) = cartridge["bundles"]
    assert (row["product"], row["scan"], row["state"]) == ("catalogue", "", "verified")
    page = scrub(town)
    assert (page["bad"], page["cartridges"][0]["unknown"]) == ([], [])


def scrub(town):
    chosen = choose_cartridges(town.vault, [], due=False, now=town.now)
    return scrub_cartridges(town.vault, chosen, named=False, progress=lambda *_: None)


def test_one_that_went_bad_on_tape_is_known_as_bad(town):
    back_up(town.vault, "somebody", anew=False)
    (cartridge,) = list_cartridges(town.vault)
    with Path(cartridge["path"]).open("r+b") as stream:
        stream.seek(-300_000, 2)
        byte = stream.read(1)
        stream.seek(-1, 1)
        stream.write(bytes([byte[0] ^ 1]))
    assert len(scrub(town)["bad"]) == 1
    assert backups(town)[0].copies["tape"].problem
    (cartridge,) = list_cartridges(town.vault)
    assert cartridge["bundles"][0]["state"] == "suspect"


def test_one_a_night_each_in_another_pool_and_the_last_on_disk(town, on_day):
    town.change(catalogue_backup={"keep": 2})
    made = []
    for day in range(4):
        now = on_day(day)
        assert due(town, now)
        made.append(back_up(town.vault, "daemon", anew=False))
        again = back_up(town.vault, "daemon", anew=False)
        assert (again.file, again.placed) == (made[-1].file, made[-1].placed)
        assert not due(town, now)
    assert files_in(town) == [Path(one.file).name for one in made[-2:]]
    pools = [backup.copies["tape"].placed.domain for backup in backups(town)]
    assert sorted(pools) == ["tape:A", "tape:A", "tape:B", "tape:B"]
    assert pools[0] != pools[1]


def test_other_files_in_the_folder_stay_and_what_was_cut_short_goes(town):
    town.change(catalogue_backup={"keep": 1})
    folder = Path(town.vault.site.backup.folder)
    folder.mkdir()
    (folder / "catalogue-20260101T000000Z.db.123.tmp").write_text("half")
    (folder / "notes.txt").write_text("mine")
    (folder / "catalogue-mine.db").write_text("mine")
    for _ in range(3):
        back_up(town.vault, "somebody", anew=True)
    assert len(files_in(town)) == 3
    assert {"notes.txt", "catalogue-mine.db"} <= set(files_in(town))


def test_a_tier_that_cannot_take_it_is_told_and_tried_no_more_that_night(town, on_day, monkeypatch):
    """A drive is not asked for again and again because of a backup."""
    asked = []

    def refuse(*_given, **_more):
        asked.append("tape")
        raise InUse("every drive is in use")

    on_day(0)
    monkeypatch.setattr(backing_up, "bring", refuse)
    done = back_up(town.vault, "daemon", anew=False)
    assert done.problems == {"tape": "every drive is in use"}
    assert not due(town, town.now)
    assert back_up(town.vault, "daemon", anew=False).problems == done.problems
    assert asked == ["tape"]
    (told,) = alarms_of(read_state(town.vault)).values()
    assert told == ("tape", "the backup of the catalogue could not be archived: every drive is in use")
    monkeypatch.undo()
    on_day(0)
    assert back_up(town.vault, "somebody", anew=True).problems == {}
    assert alarms_of(read_state(town.vault)) == {}


def test_no_room_for_it_is_told(town, monkeypatch):
    if town.vault.shared:
        # The room is asked by the size of SQLite's file; a full disk under pg_dump ends that program, and is told so.
        pytest.skip("what a server holds is not known before")
    monkeypatch.setattr(backing_up.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    with pytest.raises(NoSpace):
        back_up(town.vault, "daemon", anew=False)
    ((place, text),) = alarms_of(read_state(town.vault)).values()
    assert place == "catalogue"
    assert "1000 are free" in text
    assert backups(town) == []


def test_two_are_not_made_at_once(town):
    town.vault.run_folder.mkdir(exist_ok=True)
    with holding(str(town.vault.run_folder / "backup.lock"), "it", 0.0), pytest.raises(InUse):
        back_up(town.vault, "somebody", anew=True)


def test_a_site_may_keep_them_from_the_archive_or_make_none(town):
    town.change(catalogue_backup={"tiers": [], "folder": "elsewhere"})
    done = back_up(town.vault, "somebody", anew=True)
    assert done.placed == {}
    assert Path(done.file).parent.name == "elsewhere"
    town.change(catalogue_backup={"nightly": "off"})
    assert not due(town, town.now + timedelta(days=9))


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ({"at": "25:00"}, "catalogue_backup"),
        ({"keep": 0}, "greater than or equal to 1"),
        ({"tiers": ["tap"]}, "did you mean 'tape'"),
        ({"nihgtly": "on"}, "nihgtly"),
        ({"folder": ""}, "is not a path"),
    ],
)
def test_what_is_wrong_in_the_section_is_pointed_at(town, section, told):
    if town.vault.shared:
        # The file is read before any database is asked, and this town's has the section, with its pg_dump, once.
        pytest.skip("the section is in the file already")
    _write_sections(town, {"catalogue_backup": section})
    with pytest.raises(UserError) as problem:
        load_site(town.folder)
    assert told in str(problem.value)
    assert "tomovault.yaml:" in str(problem.value)


def _write_sections(town, sections):
    path = Path(town.folder) / "tomovault.yaml"
    lines = [f"{name}: {json.dumps(section)}" for name, section in sections.items()]
    path.write_text(path.read_text("utf-8") + "\n" + "\n".join(lines) + "\n", "utf-8")


@pytest.mark.parametrize("kind", ["posix", "ltfs"])
def test_a_folder_that_archives_holds_it_as_what_it_is(town, kind):
    (town.folder / "shelf").mkdir()
    town.change(tiers={"shelf": {"kind": kind, "path": "shelf", "class": "archive"}})
    done = back_up(town.vault, "somebody", anew=True)
    assert done.problems == {}
    assert sorted(done.placed) == ["shelf", "tape"]
    found = [parcel for parcel, _ in open_tier(town.vault.site, "shelf").inventory()]
    assert [(parcel.scan, parcel.product) for parcel in found] == [("", "catalogue")]
    target = town.base / "back"
    page = fetch_backup(town.vault.site, str(target), "shelf", None, lambda _text: None)
    assert page["tier"] == "shelf"
    assert target.read_bytes() == Path(done.file).read_bytes()
    assert back_up(town.vault, "somebody", anew=True).problems == {}
