"""A copy of a catalogue on PostgreSQL, made by the server's own tools and read back whole before it counts."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Sequence

from sqlalchemy import URL

from tomovault.core.errors import IntegrityError, NoSpace, Refused, Transient, UserError

#: The program where the site's file names none: the one of the search path.
PG_DUMP = "pg_dump"

_NO_SPACE = "No space left on device"


def dump(url: URL, target: str, program: str = PG_DUMP) -> str:
    """A catalogue on PostgreSQL, as of one moment, is in a new file of `pg_dump -Fc`, read back whole and synced;
    returns its absolute path.

    Raises Refused if the target is there, UserError where a program is missing or does not fit the server, Transient
    where the server cannot be reached, NoSpace, IntegrityError where the file does not read back.
    """
    target = os.path.abspath(target)
    if os.path.lexists(target):
        raise Refused(f"{target} is there already", by="no overwriting", hint="name a new file")
    temporary = f"{target}.{os.getpid()}.tmp"
    try:
        _run([program, "-Fc", "--no-password", "--file", temporary, "--dbname", _conninfo(url)], url)
        # It writes every row as SQL to nowhere: what cannot be restored is found now.
        _run([_restore_program(program), "--file", os.devnull, temporary], url, reads=True)
        with open(temporary, "rb") as stream:
            os.fsync(stream.fileno())
        os.link(temporary, target)
    except OSError as problem:
        raise Transient(f"the backup {target} could not be written: {problem.strerror}") from problem
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
    folder = os.open(os.path.dirname(target), os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return target


def _conninfo(url: URL) -> str:
    """The database without its password, which would be seen among the processes."""
    plain = URL.create("postgresql", url.username, None, url.host, url.port, url.database, url.query)
    return plain.render_as_string()


def _restore_program(program: str) -> str:
    folder, name = os.path.split(program)
    return os.path.join(folder, name.replace("pg_dump", "pg_restore"))


def _run(command: Sequence[str], url: URL, *, reads: bool = False) -> None:
    environment = dict(os.environ)
    if url.password is not None:
        environment["PGPASSWORD"] = str(url.password)
    try:
        done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    except (FileNotFoundError, PermissionError, NotADirectoryError) as problem:
        raise UserError(
            f"a PostgreSQL catalogue is backed up by its own tools, and {command[0]} cannot be run: {problem.strerror}",
            hint="install them, name it (catalogue_backup: {pg_dump: PATH}), or run pg_dump -Fc elsewhere",
        ) from problem
    if done.returncode == 0:
        return
    lines = done.stderr.decode("utf-8", "replace").strip().splitlines() or [f"exit code {done.returncode}"]
    told = lines[0].replace(": error: ", ": ", 1)
    if any(_NO_SPACE in line for line in lines):
        raise NoSpace(told)
    if reads:
        raise IntegrityError(f"the backup cannot be read back: {told}")
    if "version mismatch" in "".join(lines):
        raise UserError("; ".join([told, *lines[1:]]), hint="name a pg_dump that is as new as the server")
    raise Transient(told, hint="is the database server up, and does it let this account in?")
