"""Opening the database: the events without which SQLite loses updates silently, and the same on PostgreSQL.

The driver of SQLite opens no transaction before a SELECT, so read-then-update loses updates without an
error. Every writing transaction here begins with BEGIN IMMEDIATE on SQLite, and with one advisory lock on
PostgreSQL: there is one writer at a time on both, and what a writer reads stays true until it commits.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from tomovault.catalog.mounts import refuse_network
from tomovault.catalog.transaction import translated
from tomovault.core.errors import Transient, UserError

#: How long a writer waits for another one.
BUSY_TIMEOUT_S = 30

#: The advisory lock of writers: the bytes of 'tomovaul'.
_WRITER_LOCK = int.from_bytes(b"tomovaul", "big")

_MODE = "tomovault_mode"


def open_engine(url: str) -> Engine:
    """An engine for `sqlite:////absolute/path` or `postgresql+psycopg://...`; nothing is connected yet.

    Raises UserError for another database, an in-memory one, a folder that is not there, or SQLite on a
    network file system.
    """
    parsed = _parse(url)
    if parsed.get_backend_name() == "sqlite":
        return _open_sqlite(parsed)
    try:
        engine = create_engine(parsed, pool_pre_ping=True, connect_args={"connect_timeout": 10})
    except ModuleNotFoundError as problem:
        raise UserError(
            f"PostgreSQL needs a driver: {problem}", hint="install it: pip install 'tomovault[postgresql]'"
        ) from problem
    event.listen(engine, "begin", _begin_postgresql)
    return engine


def sqlite_path(url: URL) -> str:
    """The database file of a SQLite URL."""
    return url.database or ""


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
    except (ArgumentError, NoSuchModuleError, ValueError) as problem:
        raise UserError(f"not a database URL: {url!r}", hint="such as sqlite:///catalogue.db") from problem
    if backend == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    if backend != "sqlite":
        raise UserError(f"the catalogue cannot be kept in {backend}", hint="sqlite or postgresql+psycopg")
    if parsed.database in (None, "", ":memory:") or str(parsed.database).startswith("file:"):
        raise UserError("the catalogue must be a file", hint="such as sqlite:///catalogue.db")
    return parsed.set(drivername="sqlite")


def _open_sqlite(url: URL) -> Engine:
    path = sqlite_path(url)
    folder = os.path.dirname(os.path.abspath(path))
    refuse_network(folder)
    if not os.path.isdir(folder):
        raise UserError(f"the folder of the catalogue is not there: {folder}", hint="make it, or name another")
    engine = create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_S, "check_same_thread": False})
    event.listen(engine, "connect", _connect_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _connect_sqlite(driver: Any, _record: Any) -> None:
    driver.isolation_level = None
    cursor = driver.cursor()
    try:
        cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_S * 1000}")
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA foreign_keys = ON")
    finally:
        cursor.close()


def _begin_sqlite(conn: Connection) -> None:
    mode = conn.get_execution_options().get(_MODE, "write")
    conn.exec_driver_sql(f"PRAGMA query_only = {'ON' if mode == 'read' else 'OFF'}")
    if mode == "migrate":
        conn.exec_driver_sql("PRAGMA foreign_keys = OFF")
    conn.exec_driver_sql("BEGIN" if mode == "read" else "BEGIN IMMEDIATE")


def _begin_postgresql(conn: Connection) -> None:
    if conn.get_execution_options().get(_MODE, "write") != "read":
        conn.exec_driver_sql(f"SET LOCAL lock_timeout = '{BUSY_TIMEOUT_S}s'")
        conn.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_WRITER_LOCK})")


@contextmanager
def writing(engine: Engine, *, migrate: bool = False) -> Iterator[Connection]:
    """The one writing transaction: committed at the end, rolled back on any exception.

    With `migrate`, SQLite checks no foreign keys inside, since tables are remade. Raises Transient when
    another writer held it for longer than BUSY_TIMEOUT_S, NoSpace when the disk is full.
    """
    with translated(), engine.connect() as conn:
        try:
            with conn.execution_options(**{_MODE: "migrate" if migrate else "write"}).begin():
                yield conn
        finally:
            if migrate:
                conn.invalidate()


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A read-only transaction over one snapshot; a write inside fails."""
    options: dict[str, Any] = {_MODE: "read"}
    if engine.dialect.name == "postgresql":
        options |= {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    with translated(), engine.connect() as conn, conn.execution_options(**options).begin():
        yield conn


def require_file(engine: Engine) -> None:
    """Raise Transient if the file of a SQLite catalogue is not there, rather than make an empty one."""
    if engine.dialect.name == "sqlite" and not os.path.exists(sqlite_path(engine.url)):
        raise Transient(f"the catalogue {sqlite_path(engine.url)} is not there", hint="tomovault catalogue upgrade")
