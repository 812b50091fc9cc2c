"""A place where we keep copies, the vault of an area or the folder of a tier: by what it is recognised.

Absence is never damage, and no invitation to write: a folder without the marker that was recorded is a mount point with
nothing mounted, or another disk.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import shlex
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from tomovault.core.errors import PlaceAbsent

#: Below the folder of the place; the record in the site's folder has the same text.
MARKER = os.path.join(".tomovault", "place.json")

_CAP = 65536
_TRIES = 5
_LOCK_TRIES = 40
_LOCK_PAUSE_S = 0.05
_NO_HARD_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL)


@dataclass(frozen=True)
class Place:
    """A folder of ours, and the file in the site's folder that says by which marker it is known."""

    name: str
    folder: str
    record: str


def is_recorded(place: Place) -> bool:
    """Whether the site knows the marker of a place."""
    return os.path.exists(place.record)


def is_marked(place: Place) -> bool:
    """Whether a marker is recorded, and the folder has it."""
    try:
        check_place(place)
    except PlaceAbsent:
        return False
    return is_recorded(place)


def check_place(place: Place, root: int | None = None) -> None:
    """Return if the folder, or the one that `root` is a descriptor of, has the marker that was recorded, if one was.

    Raises PlaceAbsent with the reason if it has not.
    """
    try:
        recorded = _uuid_in(place.record, None)
    except FileNotFoundError:
        return
    except (OSError, ValueError) as problem:
        raise PlaceAbsent(f"{place.record} cannot be read: {problem}", hint="put it back from a backup") from problem
    hint = (
        f"mount {place.folder}; if what it held is lost for good, or was moved there without its marker, say so with:"
        f" install -D {shlex.quote(place.record)} {shlex.quote(os.path.join(place.folder, MARKER))}"
    )
    try:
        with _opened(place.folder, root) as folder:
            found = _uuid_in(MARKER, folder)
    except FileNotFoundError:
        gone = "its marker is missing: is it mounted?" if os.path.isdir(place.folder) else "the folder is missing"
        raise PlaceAbsent(f"{place.name} is absent: {place.folder}: {gone}", hint=hint) from None
    except (OSError, ValueError) as problem:
        told = problem.strerror if isinstance(problem, OSError) else problem
        raise PlaceAbsent(f"{place.name} is absent: {place.folder}: its marker: {told}", hint=hint) from problem
    if found != recorded:
        told = f"it is another place, with the marker {found} where {recorded} was recorded"
        raise PlaceAbsent(f"{place.name} is absent: {place.folder}: {told}", hint=hint)


def name_told(place: Place) -> str:
    """Of which place the marker in the folder says to be; '' where there is none, or it cannot be read."""
    try:
        with _opened(place.folder, None) as folder:
            told = json.loads(_text_in(MARKER, folder)).get("place", "")
    except (OSError, ValueError, AttributeError):
        return ""
    return str(told)


def mark_place(place: Place, now: datetime) -> None:
    """The folder, which is there, has a marker, and the record is a copy of it. A marker that is there is kept.

    Raises OSError, or ValueError where the marker that is there is damaged.
    """
    marker, records = os.path.join(place.folder, MARKER), os.path.dirname(place.record)
    os.makedirs(records, exist_ok=True)
    with _one_at_a_time(records):
        if not os.path.lexists(marker):
            with contextlib.suppress(FileExistsError):
                os.mkdir(os.path.dirname(marker))
            told = {"uuid": str(uuid.uuid4()), "place": place.name, "written_at": now.astimezone(UTC).isoformat()}
            _publish(marker, json.dumps(told, indent=1).encode() + b"\n", keep=True)
        _tidy(marker)
        with _opened(place.folder, None) as folder:
            _uuid_in(MARKER, folder)
        with open(marker, "rb") as file:
            text = file.read(_CAP)
        _publish(place.record, text, keep=False)


@contextlib.contextmanager
def _one_at_a_time(folder: str) -> Iterator[None]:
    """No other process of this site marks a place meanwhile, unless one hangs at a place that does not answer."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for _ in range(_LOCK_TRIES):
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(_LOCK_PAUSE_S)
            except OSError:  # the file system of the site has no locks
                break
        yield
    finally:
        os.close(fd)


@contextlib.contextmanager
def _opened(folder: str, root: int | None) -> Iterator[int]:
    if root is not None:
        yield root
        return
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def _uuid_in(name: str, folder: int | None) -> str:
    """Raises OSError, or ValueError for what is no marker."""
    try:
        return str(uuid.UUID(json.loads(_text_in(name, folder))["uuid"]))
    except (KeyError, TypeError, AttributeError) as problem:
        raise ValueError("it has no uuid") from problem


def _text_in(name: str, folder: int | None) -> bytes:
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    with os.fdopen(fd, "rb") as file:
        return file.read(_CAP)


def _publish(path: str, text: bytes, *, keep: bool) -> None:
    """The file is there whole and synced; with `keep` one that is there already stays as it is."""
    folder = os.path.dirname(path)
    for left in reversed(range(_TRIES)):
        _tidy(path)
        try:
            if not _put(path, text, keep=keep):
                return
            break
        except FileNotFoundError:
            # Another site that marks the place took ours for what a dead process left.
            if not left or not os.path.isdir(folder):
                raise
    for synced in (folder, os.path.dirname(folder)):
        fd = os.open(synced, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with contextlib.suppress(OSError):  # some network file systems cannot sync a folder
                os.fsync(fd)
        finally:
            os.close(fd)


def _put(path: str, text: bytes, *, keep: bool) -> bool:
    """Whether the file at the path is this one now; not where one is kept that was there."""
    temporary = f"{path}.{uuid.uuid4().hex}.tmp"
    with open(temporary, "xb") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    try:
        if keep:
            try:
                os.link(temporary, path)
            except FileExistsError:
                return False
            except OSError as problem:
                if problem.errno not in _NO_HARD_LINKS:
                    raise
                os.rename(temporary, path)
        else:
            os.rename(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
    return True


def _tidy(path: str) -> None:
    """Nothing is left of a process that died while it wrote this file: until the place is recorded, this is looked at
    again.
    """
    folder, name = os.path.split(path)
    unfinished = re.compile(re.escape(name) + r"\.[0-9a-f]{32}\.tmp")
    with contextlib.suppress(OSError):
        for left in filter(unfinished.fullmatch, os.listdir(folder)):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(folder, left))
