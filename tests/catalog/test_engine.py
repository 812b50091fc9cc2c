from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading

import pytest
from sqlalchemy import create_engine, insert, select, update
from sqlalchemy.exc import DBAPIError

from tomovault.catalog import engine, tables, transaction
from tomovault.catalog.catalogue import Catalogue
from tomovault.catalog.mounts import file_system_type, refuse_network
from tomovault.core.errors import IntegrityError, NoSpace, Transient, UserError


def _add(catalogue, times):
    counter = tables.counter
    for _ in range(times):
        with catalogue.writing() as tx:
            value = tx.value(select(counter.c.value).where(counter.c.name == "n"))
            tx.run(update(counter).where(counter.c.name == "n").values(value=value + 1))


def _start_counter(catalogue):
    with catalogue.writing() as tx:
        tx.run(insert(tables.counter).values(name="n", value=0))


def test_threads_that_read_then_write_lose_no_update(catalogue):
    _start_counter(catalogue)
    problems = []

    def work():
        try:
            _add(catalogue, 25)
        except Exception as problem:  # noqa: BLE001 - carried to the test's own thread
            problems.append(problem)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    with catalogue.reading() as tx:
        assert tx.value(select(tables.counter.c.value)) == 100


_ADDER = """
import sys
from sqlalchemy import select, update
from tomovault.catalog import tables
from tomovault.catalog.catalogue import Catalogue
catalogue = Catalogue.open(sys.argv[1], manifests="/nonexistent")
for _ in range(25):
    with catalogue.writing() as tx:
        value = tx.value(select(tables.counter.c.value))
        tx.run(update(tables.counter).values(value=value + 1))
"""


def test_processes_that_read_then_write_lose_no_update(catalogue, url):
    _start_counter(catalogue)
    children = [subprocess.Popen([sys.executable, "-c", _ADDER, url]) for _ in range(3)]
    _add(catalogue, 25)
    assert [child.wait(60) for child in children] == [0, 0, 0]
    with catalogue.reading() as tx:
        assert tx.value(select(tables.counter.c.value)) == 100


def test_without_the_events_sqlite_does_lose_updates(new_url):
    """What the events are for: the driver's own ways lose updates without an error."""
    plain = create_engine(new_url("sqlite"))
    counter = tables.counter
    with plain.begin() as one:
        one.execute(insert(counter).values(name="n", value=0))
    with plain.connect() as one, plain.connect() as two:
        seen = [c.execute(select(counter.c.value)).scalar() for c in (one, two)]
        for conn, value in zip((one, two), seen, strict=True):
            conn.execute(update(counter).values(value=value + 1))
            conn.commit()
    with plain.connect() as conn:
        assert conn.execute(select(counter.c.value)).scalar() == 1
    plain.dispose()


def test_sqlite_is_opened_for_durable_shared_use(new_url):
    opened = engine.open_engine(new_url("sqlite"))
    with engine.reading(opened) as conn:
        pragma = lambda name: conn.exec_driver_sql(f"PRAGMA {name}").scalar()  # noqa: E731
        assert pragma("journal_mode") == "wal"
        assert pragma("synchronous") == 2
        assert pragma("foreign_keys") == 1
        assert pragma("busy_timeout") == engine.BUSY_TIMEOUT_S * 1000
    opened.dispose()


def test_a_reader_cannot_write(catalogue):
    with pytest.raises((DBAPIError, Transient)), catalogue.reading() as tx:
        tx.run(insert(tables.counter).values(name="n", value=0))
    _start_counter(catalogue)


def test_a_reader_sees_one_moment(catalogue):
    _start_counter(catalogue)
    with catalogue.reading() as tx:
        before = tx.value(select(tables.counter.c.value))
        _add(catalogue, 1)
        assert tx.value(select(tables.counter.c.value)) == before


def test_an_exception_takes_everything_back(catalogue):
    def fail():
        with catalogue.writing() as tx:
            tx.run(insert(tables.counter).values(name="n", value=0))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with catalogue.reading() as tx:
        assert tx.rows(select(tables.counter)) == []


def test_a_held_lock_is_transient(catalogue, backend, monkeypatch, url):
    monkeypatch.setattr(engine, "BUSY_TIMEOUT_S", 0.2 if backend == "sqlite" else 1)
    other = Catalogue.open(url, manifests="/nonexistent")
    if backend == "sqlite":
        monkeypatch.setattr(engine, "BUSY_TIMEOUT_S", 0)
    with catalogue.writing(), pytest.raises(Transient), other.writing():
        pass
    other.close()


def test_a_full_disk_is_no_space(new_url, tmp_path):
    catalogue = Catalogue.open(new_url("sqlite"), manifests=str(tmp_path))
    rows = [{"name": f"{i:032}", "value": i} for i in range(5000)]

    def fill():
        with catalogue.writing() as tx:
            tx.conn.exec_driver_sql("PRAGMA max_page_count = 1")
            tx.run(insert(tables.counter), rows)

    with pytest.raises(NoSpace) as full:
        fill()
    assert full.value.hint
    with catalogue.reading() as tx:
        assert tx.rows(select(tables.counter)) == []
    assert catalogue.check() == []
    catalogue.close()


@pytest.mark.parametrize(
    ("state", "kind"),
    [("53100", NoSpace), ("55P03", Transient), ("40001", Transient), ("08006", Transient), ("42P01", UserError)],
)
def test_what_postgresql_says_has_the_same_meaning(state, kind):
    class Told(Exception):
        sqlstate = state

    with pytest.raises(kind), transaction.translated():
        raise DBAPIError("x", {}, Told("said"))


@pytest.mark.parametrize("state", ["23505", "22P02"])
def test_a_defect_of_ours_stays_one(state):
    class Told(Exception):
        sqlstate = state

    with pytest.raises(DBAPIError), transaction.translated():
        raise DBAPIError("x", {}, Told("said"))


def test_a_damaged_file_is_an_integrity_error(tmp_path):
    path = tmp_path / "c.db"
    path.write_bytes(b"not a database at all, but long enough to be looked at" * 100)
    catalogue = Catalogue.open(f"sqlite:///{path}", manifests=str(tmp_path))
    with pytest.raises(IntegrityError), catalogue.reading():
        pass
    catalogue.close()


def test_a_catalogue_that_is_not_there_is_not_made(tmp_path):
    catalogue = Catalogue.open(f"sqlite:///{tmp_path}/c.db", manifests=str(tmp_path))
    for use in (catalogue.writing, catalogue.reading):
        with pytest.raises(Transient, match="not there"), use():
            pass
    assert os.listdir(tmp_path) == []


def test_no_tables_is_said_with_what_to_do(backend, new_url, tmp_path):
    url = new_url(backend, migrated=False)
    if backend == "sqlite":
        sqlite3.connect(url.removeprefix("sqlite:///")).close()
    catalogue = Catalogue.open(url, manifests=str(tmp_path))
    with pytest.raises(UserError, match="no tables") as said, catalogue.reading() as tx:
        catalogue.list_areas(tx)
    assert "catalogue upgrade" in said.value.hint
    assert "revision none" in catalogue.check()[0]
    catalogue.close()


@pytest.mark.parametrize(
    "url", ["nonsense", "mysql://h/d", "sqlite://", "sqlite:///:memory:", "sqlite:////no/such/folder/c.db", "x://"]
)
def test_a_url_that_cannot_be_a_catalogue_is_refused(url):
    with pytest.raises(UserError) as refused:
        Catalogue.open(url, manifests="/m")
    assert refused.value.hint


def test_a_server_that_is_away_is_transient(tmp_path):
    pytest.importorskip("psycopg")
    catalogue = Catalogue.open(f"postgresql://nobody@/none?host={tmp_path}", manifests=str(tmp_path))
    with pytest.raises(Transient), catalogue.reading():
        pass
    catalogue.close()


TABLE = "\n".join(
    [
        "/dev/sda1 / ext4 rw 0 0",
        "server:/x /mnt nfs4 rw 0 0",
        "/dev/sdb1 /mnt/local xfs rw 0 0",
        "host:/y /with\\040blank fuse.sshfs rw 0 0",
        "short",
    ]
)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "ext4"),
        ("/mnt", "nfs4"),
        ("/mnt/a/b", "nfs4"),
        ("/mntx", "ext4"),
        ("/mnt/local/c.db", "xfs"),
        ("/with blank/c", "fuse.sshfs"),
    ],
)
def test_the_deepest_mount_decides(path, kind):
    assert file_system_type(path, TABLE) == kind
    if kind in ("nfs4", "fuse.sshfs"):
        with pytest.raises(UserError, match="network") as refused:
            refuse_network(path, TABLE)
        assert "PostgreSQL" in refused.value.hint
    else:
        refuse_network(path, TABLE)


def test_sqlite_is_refused_on_a_network_file_system(tmp_path, monkeypatch):
    from tomovault.catalog import mounts

    monkeypatch.setattr(mounts, "_read_table", lambda: f"s:/ / ext4 rw 0 0\ns:/x {tmp_path} lustre rw 0 0\n")
    with pytest.raises(UserError, match="lustre"):
        Catalogue.open(f"sqlite:///{tmp_path}/c.db", manifests=str(tmp_path))
