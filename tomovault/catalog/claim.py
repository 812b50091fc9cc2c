"""Whether the claim on a job stands still: what a job process asks before each step that changes something.

Most jobs are short, and to load SQLAlchemy with every table takes as long as all the rest of them: a catalogue in a
file is asked by the driver alone.
"""

from __future__ import annotations

import os
import sqlite3
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from tomovault.catalog.meaning import meaning_on_sqlite
from tomovault.catalog.mounts import refuse_network
from tomovault.core.known import JobStatus

if TYPE_CHECKING:
    from tomovault.catalog.catalogue import Catalogue

#: As long as a writer of the catalogue waits for another one.
_BUSY_TIMEOUT_S = 30.0

_QUERY = "SELECT 1 FROM job WHERE id = ? AND token = ? AND status = ?"


class Claim:
    """One claim on one job, in the catalogue at a URL."""

    def __init__(self, url: str, job: str, token: int) -> None:
        """Nothing is opened yet."""
        self._url, self._job, self._token = url, job, token

    def stands(self) -> bool:
        """True while the job is being done under this very claim, by the catalogue now.

        Raises Transient where the catalogue cannot be read now, UserError where it cannot be used.
        """
        if self._file is None:
            catalogue = self._catalogue
            with catalogue.reading() as tx:
                return catalogue.token_is_current(tx, self._job, self._token)
        try:
            row = self._connection.execute(_QUERY, (self._job, self._token, JobStatus.DOING.value)).fetchone()
        except sqlite3.Error as problem:
            meaning = meaning_on_sqlite(problem)
            if meaning is None:
                raise
            raise meaning from problem
        return row is not None

    def close(self) -> None:
        """Nothing is open any more."""
        for name in ("_connection", "_catalogue"):
            opened = self.__dict__.pop(name, None)
            if opened is not None:
                opened.close()

    @property
    def _file(self) -> str | None:
        """The file of a plain URL of SQLite; what has options, and any other database, goes the long way."""
        path = self._url.removeprefix("sqlite:///")
        return path if path != self._url and "?" not in path else None

    @cached_property
    def _connection(self) -> sqlite3.Connection:
        path = os.path.abspath(str(self._file))
        refuse_network(os.path.dirname(path))
        # Opened for writing, since the last reader of a log in shared memory may have to tidy it up; never made.
        uri = f"{Path(path).as_uri()}?mode=rw"
        return sqlite3.connect(uri, uri=True, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)

    @cached_property
    def _catalogue(self) -> Catalogue:
        from tomovault.catalog.catalogue import Catalogue

        return Catalogue.open(self._url, manifests="")
