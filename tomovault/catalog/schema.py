"""The schema's history: upgrade in one transaction with a backup before it, and the check of a catalogue."""

from __future__ import annotations

import os
import re
import sqlite3
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine, column, inspect, select, table

from tomovault.catalog.engine import reading, sqlite_path, writing
from tomovault.core.errors import IntegrityError, NoSpace, Refused, TomovaultError, Transient, UserError

if TYPE_CHECKING:
    from alembic.config import Config

#: Alembic's own table, and how our migrations are named: in the order in which they follow each other.
_VERSION = table("alembic_version", column("version_num"))
_MIGRATION = re.compile(r"(\d{4})_\w+\.py$")


def migrations_folder() -> str:
    """The folder of migrations: shipped inside the package, or that of a source checkout."""
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "_shipped" / "migrations", package.parent / "migrations"):
        if (folder / "env.py").is_file():
            return str(folder)
    raise UserError("the migrations are not in this installation", hint="install tomovault again")


def current_revision(conn: Connection) -> str | None:
    """The revision of the catalogue's tables; None for an empty database."""
    if not inspect(conn).has_table(_VERSION.name):
        return None
    return conn.execute(select(_VERSION.c.version_num)).scalar()


def newest_revision(migrations: str | None = None) -> str:
    """The revision that this program works with: the last of the folder's numbers.

    Every command asks for it, and only one that migrates needs Alembic, which takes a while to load.
    """
    names = os.listdir(os.path.join(migrations or migrations_folder(), "versions"))
    return max(found.group(1) for found in map(_MIGRATION.match, names) if found)


def upgrade(engine: Engine, now: datetime, migrations: str | None = None, *, asked: bool = True) -> str | None:
    """Bring the tables to the newest revision, all of it or nothing; returns the backup made before, if any.

    An empty database is filled and one that is up to date is left alone, both without a backup. On SQLite a backup is
    made beside the file. On PostgreSQL the operator's own are relied on, and it is done only where a person `asked` for
    it, since daemons of other machines may be at work. Raises UserError for a catalogue of a newer program, Refused for
    one on PostgreSQL that nobody asked to upgrade.
    """
    head = newest_revision(migrations)
    with writing(engine, migrate=True) as conn:
        found = current_revision(conn)
        if found == head:
            return None
        _refuse_newer(found, migrations)
        if found is not None and not asked and engine.dialect.name != "sqlite":
            raise Refused(
                f"the catalogue's tables are of revision {found}, this program needs {head}",
                by="others may be using it",
                hint="stop the daemons of all machines, make a copy (pg_dump -Fc), then: tomovault catalogue upgrade",
            )
        saved = _backup_beside(engine, found, now) if found is not None else None
        _migrate(conn, migrations)
        _refuse_dangling(conn)
    return saved


def revision_problem(engine: Engine) -> str:
    """'' if the tables are of the revision that this program works with, else what is wrong."""
    with reading(engine) as conn:
        found = current_revision(conn)
    head = newest_revision()
    if found == head:
        return ""
    return f"the catalogue's tables are of revision {found or 'none'}, this program needs {head}"


def database_problems(conn: Connection) -> list[str]:
    """What the database itself says of its files, indexes and references; empty when all is well."""
    if conn.dialect.name != "sqlite":
        return _postgresql_problems(conn)
    told = [str(row[0]) for row in conn.exec_driver_sql("PRAGMA integrity_check")]
    problems = [f"integrity: {text}" for text in told if text != "ok"]
    return problems + [
        f"{row[0]} row {row[1]} refers to a row of {row[2]} that is not there"
        for row in conn.exec_driver_sql("PRAGMA foreign_key_check")
    ]


def _postgresql_problems(conn: Connection) -> list[str]:
    """References hold there at any time, unless a constraint was added without a look at what was there; a failed
    checksum is counted only where the server was set up with them (`initdb --data-checksums`).
    """
    unchecked = conn.exec_driver_sql(
        "SELECT conrelid::regclass, conname FROM pg_constraint"
        " WHERE NOT convalidated AND connamespace = current_schema()::regnamespace"
    )
    problems = [f"constraint {name} of {table} was never checked" for table, name in unchecked]
    unfit = conn.exec_driver_sql(
        "SELECT indexrelid::regclass FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid"
        " WHERE NOT indisvalid AND relnamespace = current_schema()::regnamespace"
    )
    problems += [f"index {name} is not valid: REINDEX INDEX {name}" for (name,) in unfit]
    failures = conn.exec_driver_sql("SELECT checksum_failures FROM pg_stat_database WHERE datname = current_database()")
    count = failures.scalar()
    return problems + ([f"{count} pages of the database failed their checksum"] if count else [])


def backup(engine: Engine, target: str) -> str:
    """Copy a SQLite catalogue, as of one moment, to a new file, synced; returns its absolute path.

    Raises Refused if the target is there, NoSpace when the disk is full.
    """
    target = os.path.abspath(target)
    if os.path.lexists(target):
        raise Refused(f"{target} is there already", by="no overwriting", hint="name a new file")
    temporary = f"{target}.{os.getpid()}.tmp"
    try:
        _copy_database(sqlite_path(engine.url), temporary)
        os.link(temporary, target)
    except sqlite3.Error as problem:
        raise _copy_failure(problem, target) from problem
    except OSError as problem:
        raise Transient(f"the backup {target} could not be written: {problem.strerror}") from problem
    finally:
        for leftover in (temporary, temporary + "-journal"):
            if os.path.lexists(leftover):
                os.unlink(leftover)
    _sync(os.path.dirname(target))
    return target


def _copy_failure(problem: sqlite3.Error, target: str) -> TomovaultError:
    code = getattr(problem, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return NoSpace(f"no room for the backup {target}")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return IntegrityError(f"the catalogue cannot be copied: {problem}")
    return Transient(f"the backup {target} could not be made: {problem}")


def _copy_database(source: str, target: str) -> None:
    # A connection of our own: a backup through the one that holds the write lock would wait for itself.
    origin = sqlite3.connect(f"file:{_uri_path(source)}?mode=ro", uri=True)
    copy = sqlite3.connect(target)
    try:
        origin.backup(copy)
        copy.execute("PRAGMA journal_mode = DELETE")
        verdict = copy.execute("PRAGMA integrity_check").fetchone()[0]
        if verdict != "ok":
            raise IntegrityError(f"the backup is not sound: {verdict}")
    finally:
        copy.close()
        origin.close()
    _sync(target)


def _uri_path(path: str) -> str:
    return os.path.abspath(path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")


def _sync(path: str) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _backup_beside(engine: Engine, found: str, now: datetime) -> str | None:
    if engine.dialect.name != "sqlite":
        return None
    stem = f"{sqlite_path(engine.url)}.{now:%Y%m%dT%H%M%SZ}.{found}"
    target, number = f"{stem}.backup", 1
    while os.path.lexists(target):
        number += 1
        target = f"{stem}.{number}.backup"
    return backup(engine, target)


def _refuse_newer(found: str | None, migrations: str | None) -> None:
    if found is None:
        return
    from alembic.script import ScriptDirectory
    from alembic.util.exc import CommandError

    try:
        ScriptDirectory.from_config(_config(migrations)).get_revision(found)
    except CommandError as problem:
        raise UserError(
            f"the catalogue is of revision {found}, which this program does not know",
            hint="it was used by a newer tomovault: install that one",
        ) from problem


def _refuse_dangling(conn: Connection) -> None:
    problems = database_problems(conn)
    if problems:
        raise IntegrityError(f"the upgrade was taken back: {problems[0]}")


def _config(migrations: str | None = None) -> Config:
    from alembic.config import Config

    config = Config()
    folder = migrations or migrations_folder()
    config.set_main_option("script_location", folder.replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _migrate(conn: Connection, migrations: str | None) -> None:
    from alembic import command

    config = _config(migrations)
    config.attributes["connection"] = conn
    command.upgrade(config, "head")
