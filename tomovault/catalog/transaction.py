"""One transaction of the catalogue, and what its failures mean."""

from __future__ import annotations

import hashlib
import sqlite3
import uuid
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Connection, CursorResult, Executable, Row
from sqlalchemy.exc import DBAPIError, OperationalError

from tomovault.catalog.meaning import meaning_on_sqlite, no_table
from tomovault.core.errors import NoSpace, TomovaultError, Transient
from tomovault.core.manifest import path_bytes

T = TypeVar("T")

#: Well below SQLite's and PostgreSQL's limits on bound values in one statement.
_CHUNK = 500

_AT_A_TIME = 500

#: SQLSTATE classes of PostgreSQL (its manual, appendix A) that another try may pass.
_TRANSIENT_STATES = ("08", "40", "53", "55P03", "57")


@dataclass(frozen=True)
class Tx:
    """A transaction, handed to every function of the catalogue.

    `manifests` is the folder of manifest texts. `life` is the prefix of the life locks of lease holders
    (SQLite only): the database's path.
    """

    conn: Connection
    manifests: str
    life: str | None

    @property
    def sqlite(self) -> bool:
        """True on SQLite, False on PostgreSQL."""
        return self.conn.dialect.name == "sqlite"

    def run(self, statement: Executable, values: Any = None) -> CursorResult[Any]:
        """Execute a statement."""
        result: CursorResult[Any] = self.conn.execute(statement, values)
        return result

    def changed(self, statement: Executable) -> int:
        """Execute an UPDATE or DELETE; returns how many rows it met, which is how a compare-and-set is checked."""
        return self.run(statement).rowcount

    @contextmanager
    def set_apart(self) -> Iterator[None]:
        """What is written inside is undone, and nothing else, where an exception leaves it."""
        with translated(), self.conn.begin_nested():
            yield

    def rows(self, statement: Executable) -> Sequence[Row[Any]]:
        """Every row."""
        return self.run(statement).all()

    def stream(self, statement: Executable) -> Generator[Row[Any], None, None]:
        """Every row, some in memory at a time; to be read while the transaction lasts."""
        with self.run(statement.execution_options(yield_per=_AT_A_TIME)) as rows:
            yield from rows

    def first(self, statement: Executable) -> Row[Any] | None:
        """The first row, or None."""
        return self.run(statement).first()

    def value(self, statement: Executable) -> Any:
        """The first column of the first row, or None."""
        return self.run(statement).scalar()


def new_id(letter: str) -> str:
    """A new identifier: a letter for its kind and 12 hexadecimal digits."""
    return letter + uuid.uuid4().hex[:12]


def place_hash(*parts: str) -> str:
    """Hex sha256 that stands for a place in an index: no two lists of parts share one."""
    digest = hashlib.sha256()
    for part in parts:
        raw = path_bytes(part)
        digest.update(len(raw).to_bytes(8, "big") + raw)
    return digest.hexdigest()


def chunks(items: Iterable[T]) -> Iterator[list[T]]:
    """The items in lists short enough for one IN clause."""
    batch: list[T] = []
    for item in items:
        batch.append(item)
        if len(batch) == _CHUNK:
            yield batch
            batch = []
    if batch:
        yield batch


@contextmanager
def translated() -> Iterator[None]:
    """Give a database's failures their meaning: NoSpace, Transient, IntegrityError or UserError."""
    try:
        yield
    except DBAPIError as problem:
        meaning = _meaning(problem)
        if meaning is None:
            raise
        raise meaning from problem


def _meaning(problem: DBAPIError) -> TomovaultError | None:
    if isinstance(problem.orig, sqlite3.Error):
        return meaning_on_sqlite(problem.orig)
    state = str(getattr(problem.orig, "sqlstate", None) or "")
    text = f"the catalogue's database: {str(problem.orig).strip().splitlines()[0] if str(problem.orig) else state}"
    if state == "53100":
        return NoSpace(text, hint="free space on the database server's disk")
    if state == "42P01":
        return no_table()
    if state.startswith(_TRANSIENT_STATES) or (not state and isinstance(problem, OperationalError)):
        return Transient(text, hint="is the database server up, and does it let this account in?")
    return None
