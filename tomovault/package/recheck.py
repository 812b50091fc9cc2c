"""Whether the package that a step worked from is what was wrong, where something was."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence

from tomovault.core.errors import IntegrityError, Transient
from tomovault.core.ports import Bench
from tomovault.core.record import Checked, Unfinished
from tomovault.core.replica import StoredFile
from tomovault.package.verify import verify_package


@contextlib.contextmanager
def suspecting(replica: str, files: Sequence[StoredFile], bench: Bench, place: str) -> Iterator[None]:
    """A block that works from the package of `replica`. If it finds damage, and the package does not re-read, then
    Unfinished is raised with that record; damage that was not the package's is raised as it came.
    """
    try:
        yield
    except IntegrityError as damage:
        bad = recheck_package(replica, files, bench, place)
        if not bad:
            raise
        raise Unfinished(bad) from damage


def recheck_package(replica: str, files: Sequence[StoredFile], bench: Bench, place: str) -> tuple[Checked, ...]:
    """The record that a package on disk is bad, if it does not re-read; else nothing.

    Nothing, too, where it cannot be read at all now or is not there: that is no word about its bytes.
    """
    if not replica or not files or not all(os.path.exists(file.location) for file in files):
        return ()
    try:
        problem = verify_package(files, throttle=bench.throttle(place), progress=bench.progress)
    except (Transient, OSError):
        return ()
    return (Checked(replica, ok=False, at=bench.now(), reason=problem),) if problem else ()
