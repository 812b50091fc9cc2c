"""What a failure of SQLite means, for those who ask it with SQLAlchemy and for those who ask it without."""

from __future__ import annotations

import sqlite3

from tomovault.core.errors import IntegrityError, NoSpace, TomovaultError, Transient, UserError

_FULL = {sqlite3.SQLITE_FULL}
_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_INTERRUPT}
_BROKEN = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def meaning_on_sqlite(problem: sqlite3.Error) -> TomovaultError | None:
    """NoSpace, Transient, IntegrityError or UserError; None for what can only be a defect of ours."""
    code = getattr(problem, "sqlite_errorcode", 0) & 0xFF
    text = f"the catalogue's database: {problem}"
    if code in _FULL:
        return NoSpace(text, hint="free space on the disk that holds the catalogue")
    if code in _BUSY:
        return Transient(text, hint="another process holds it, or its folder cannot be written to; try again")
    if code in _BROKEN:
        return IntegrityError(text, hint="put the newest backup in its place, or rebuild it from a tier")
    if code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY):
        return Transient(text, hint="look at the disk that holds the catalogue and at its folder's rights")
    if "no such table" in str(problem):
        return no_table()
    return None


def no_table() -> UserError:
    """The database is there, and empty."""
    return UserError("the catalogue has no tables yet", hint="run: tomovault catalogue upgrade")
