"""Backups of the catalogue, as they are known in it."""

import dataclasses
import subprocess

import pytest
import sqlalchemy as sa

from tomovault.catalog import dumping
from tomovault.catalog.catalogue import Catalogue
from tomovault.core.backup import BackupTold, read_backup, tell_backup
from tomovault.core.errors import IntegrityError, Refused, Transient, UserError
from tomovault.core.ports import Placed
from tomovault.core.replica import StoredFile


@pytest.fixture
def told(now):
    return BackupTold("id19", now, "sqlite", "0011", "catalogue-1.db", 1234, "ab" * 32, 7, "cd" * 32, "1.0")


@pytest.fixture
def placed(told):
    return Placed("A00001L9#3", "tape:A", (StoredFile("A00001L9#3/c.db", told.bytes, told.sha256),))


def only(catalogue):
    with catalogue.reading() as tx:
        (backup,) = catalogue.list_backups(tx)
    return backup


def test_its_digest_is_in_the_audit_log(catalogue, told, placed, now):
    with catalogue.writing() as tx:
        backup = catalogue.record_backup(tx, told, "daemon", now)
        assert catalogue.record_backup(tx, told, "daemon", now) == backup, "the same bytes are one backup"
        catalogue.begin_backup_copy(tx, backup, "tape", "tape:A", now)
    assert only(catalogue).copies["tape"].unfinished
    with catalogue.writing() as tx:
        catalogue.end_backup_copy(tx, only(catalogue), "tape", placed, "daemon", now, now)
    known = only(catalogue)
    assert known.told == told
    assert known.copies["tape"].placed == placed
    assert known.copies["tape"].verified_at == now
    assert not known.copies["tape"].unfinished
    with catalogue.reading() as tx:
        archived, made = catalogue.list_audit(tx, limit=2)
        assert catalogue.verify_audit(tx).ok
    assert (made.op, made.body["sha256"]) == ("catalogue.backup", told.sha256)
    assert (archived.op, archived.body["sha256"]) == ("catalogue.archived", told.sha256)
    assert archived.body["location"] == "A00001L9#3"


def test_one_that_failed_is_over_until_it_is_begun_again(catalogue, told, now):
    with catalogue.writing() as tx:
        backup = catalogue.record_backup(tx, told, "daemon", now)
        catalogue.begin_backup_copy(tx, backup, "tape", "tape:A", now)
        catalogue.fail_backup_copy(tx, backup, "tape", "no drive")
    copy = only(catalogue).copies["tape"]
    assert (copy.problem, copy.unfinished, copy.placed) == ("no drive", False, None)
    with catalogue.writing() as tx:
        catalogue.begin_backup_copy(tx, backup, "tape", "tape:B", now)
    copy = only(catalogue).copies["tape"]
    assert (copy.problem, copy.unfinished, copy.domain) == ("", True, "tape:B")


def test_what_a_medium_tells_is_known_once_and_not_as_re_read(catalogue, told, placed, now):
    with catalogue.writing() as tx:
        assert catalogue.record_found_backup(tx, told, "tape", placed, now, "")
        assert not catalogue.record_found_backup(tx, told, "tape", placed, now, "")
    copy = only(catalogue).copies["tape"]
    assert (copy.placed, copy.verified_at, copy.unfinished) == (placed, None, False)
    with catalogue.writing() as tx:
        catalogue.record_found_backup(tx, told, "tape", placed, now, "a record is damaged")
    assert only(catalogue).copies["tape"].problem == "a record is damaged"
    with catalogue.writing() as tx:
        catalogue.reread_backup_copy(tx, only(catalogue).id, "tape", now)
    copy = only(catalogue).copies["tape"]
    assert (copy.problem, copy.verified_at) == ("", now)


def test_what_it_says_of_itself_is_read_again(told):
    assert read_backup(tell_backup(told)) == told
    assert "pg_restore" in tell_backup(dataclasses.replace(told, database="postgresql"))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"tomovault-catalogue-backup": 2}', "null", "[" * 99999])
def test_what_is_no_backup_is_damage(text):
    with pytest.raises(IntegrityError):
        read_backup(text)


@pytest.mark.component("postgresql")
def test_one_on_postgresql_is_a_dump_that_is_restored_as_it_was(new_url, pg_dump, told, now, tmp_path, postgresql):
    url = new_url("postgresql")
    catalogue = Catalogue.open(url, manifests=str(tmp_path))
    with catalogue.writing() as tx:
        catalogue.record_backup(tx, told, "daemon", now)
    file = catalogue.backup(str(tmp_path / "c.dump"), pg_dump=pg_dump)
    catalogue.close()
    assert [path.name for path in tmp_path.iterdir()] == ["c.dump"]
    other = postgresql.new_database()
    target = dumping._conninfo(sa.make_url(other))
    restore = pg_dump.replace("bin/pg_dump", "bin/pg_restore")
    subprocess.run([restore, "--no-owner", "--dbname", target, file], check=True)
    again = Catalogue.open(other, manifests=str(tmp_path))
    assert again.check() == []
    assert only(again).told == told
    again.close()


@pytest.mark.component("postgresql")
def test_a_dump_that_cannot_be_read_back_is_none(new_url, pg_dump, tmp_path):
    """The program said that all went well, and half of the file is there."""
    half = tmp_path / "bin" / "pg_dump"
    half.parent.mkdir()
    half.write_text(f'#!/bin/sh\n{pg_dump} "$@" || exit 1\ntruncate -s 9000 "$4"\n')
    half.chmod(0o755)
    (half.parent / "pg_restore").symlink_to(pg_dump.replace("bin/pg_dump", "bin/pg_restore"))
    catalogue = Catalogue.open(new_url("postgresql"), manifests=str(tmp_path))
    with pytest.raises(IntegrityError):
        catalogue.backup(str(tmp_path / "c.dump"), pg_dump=str(half))
    catalogue.close()
    assert not list(tmp_path.glob("c.dump*"))


def test_a_server_that_is_not_there_is_tried_again(tmp_path, pg_dump):
    url = sa.make_url("postgresql+psycopg://nobody:secret@127.0.0.1:1/nothing")
    with pytest.raises(Transient) as problem:
        dumping.dump(url, str(tmp_path / "c.dump"), pg_dump)
    assert "secret" not in str(problem.value)
    assert "secret" not in dumping._conninfo(url)
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten_and_a_missing_program_is_named(tmp_path):
    url = sa.make_url("postgresql+psycopg://nobody@127.0.0.1:1/nothing")
    with pytest.raises(UserError) as missing:
        dumping.dump(url, str(tmp_path / "c.dump"), "/nowhere/pg_dump")
    assert "/nowhere/pg_dump" in missing.value.message
    (tmp_path / "c.dump").write_text("mine")
    with pytest.raises(Refused):
        dumping.dump(url, str(tmp_path / "c.dump"), "/nowhere/pg_dump")
    assert (tmp_path / "c.dump").read_text() == "mine"
