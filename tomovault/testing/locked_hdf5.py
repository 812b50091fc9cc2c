"""HDF5 opened as an acquisition opens it: for writing, with the lock that a careless reader takes away."""

from __future__ import annotations

import errno
import os
from typing import Any

import h5py

from tomovault.core.errors import Transient
from tomovault.testing.timeline import Timeline
from tomovault.testing.truth import TruthLog

_TRIES = 5


def open_locked(path: str, mode: str, log: TruthLog, *, at_s: float, libver: str | None = None) -> h5py.File:
    """The file, open for writing and locked. Every open is logged, and every errno 11 that it met.

    Raises Transient when the lock could not be had in five tries; a beamline's writer would call the scan failed.
    """
    for _ in range(_TRIES):
        try:
            file = h5py.File(path, mode, locking=True, track_order=True, libver=libver)
        except OSError as problem:
            if not _is_locked(problem):
                raise
            log.add("errno11", path, at_s=at_s, error=str(problem)[:200])
            continue
        log.add("open", path, at_s=at_s, size=os.path.getsize(path), mode=mode)
        return file
    raise Transient(f"another process holds a lock on {path}", hint="a reader opened it with file locking")


def open_repeatedly(path: str, times: int, timeline: Timeline, log: TruthLog, *, pause_s: float = 0.0) -> int:
    """Open and close a master `times` times as its writer does; returns how many of the opens met errno 11."""
    before = log.errno11
    for _ in range(times):
        try:
            open_locked(path, "a", log, at_s=timeline.now_s).close()
        except Transient:
            continue
        if pause_s:
            timeline.clock.sleep(pause_s)
    return log.errno11 - before


def put_tree(group: h5py.Group, tree: dict[str, Any], nx_class: str = "NXcollection") -> h5py.Group:
    """Write nested dicts as groups, (value, unit) pairs and plain values as datasets; '@KEY' as attributes."""
    if "NX_class" not in group.attrs:
        group.attrs["NX_class"] = nx_class
    for key, value in tree.items():
        if key.startswith("@"):
            group.attrs[key[1:]] = value
        elif isinstance(value, dict):
            put_tree(group.require_group(key), value)
        elif isinstance(value, tuple):
            group.create_dataset(key, data=value[0]).attrs["units"] = value[1]
        else:
            group.create_dataset(key, data=value)
    return group


def _is_locked(problem: OSError) -> bool:
    return problem.errno == errno.EAGAIN or f"errno = {errno.EAGAIN}" in str(problem)
