"""Which mounted file system a path is on, read from the kernel's own table."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

MOUNT_TABLE = "/proc/self/mountinfo"

_OCTAL = re.compile(rb"\\([0-7]{3})")


@dataclass(frozen=True)
class Mount:
    """One line of the table. `source` is what was mounted, with the folder inside it in brackets if not its root."""

    point: str
    device: int
    fstype: str
    source: str


def read_mounts(table: str = MOUNT_TABLE) -> tuple[Mount, ...]:
    """Every mount of this process in the order it was made (a later one hides an earlier one at its point).

    The format of a line is that of proc(5), "mountinfo". Empty where there is no such table or it cannot be read.
    """
    try:
        with open(table, "rb") as stream:
            lines = stream.read().splitlines()
    except OSError:
        return ()
    return tuple(mount for mount in map(_parse_line, lines) if mount is not None)


def _parse_line(line: bytes) -> Mount | None:
    fields = line.split(b" ")
    try:
        dash = fields.index(b"-", 6)
        major, minor = fields[2].split(b":")
        device = os.makedev(int(major), int(minor))
        root, point, fstype, source = fields[3], fields[4], fields[dash + 1], fields[dash + 2]
    except (ValueError, IndexError):
        return None
    inner = _plain(root)
    shown = _plain(source) + (f"[{inner}]" if inner != "/" else "")
    return Mount(_plain(point), device, _plain(fstype), shown)


def _plain(field: bytes) -> str:
    return os.fsdecode(_OCTAL.sub(lambda found: bytes([int(found[1], 8)]), field))


def mount_of(path: str, mounts: tuple[Mount, ...]) -> Mount | None:
    """The mount that `path` is on: the longest mount point above it among those of its device, else of any.

    A subvolume has a device number of its own that the table does not hold, hence the second choice.
    Raises OSError if the path cannot be looked up.
    """
    real = os.path.realpath(path, strict=True)
    device = os.stat(real).st_dev
    above = [mount for mount in mounts if _is_below(real, mount.point)]
    same = [mount for mount in above if mount.device == device]
    best: Mount | None = None
    for mount in same or above:
        if best is None or len(mount.point) >= len(best.point):
            best = mount
    return best


def mounted_below(path: str, mounts: tuple[Mount, ...]) -> frozenset[str]:
    """Relative paths of folders strictly under `path` where something else is mounted (bind mounts too)."""
    real = os.path.realpath(path)
    return frozenset(
        os.path.relpath(mount.point, real) for mount in mounts if mount.point != real and _is_below(mount.point, real)
    )


def _is_below(path: str, top: str) -> bool:
    return path == top or path.startswith(top.rstrip("/") + "/")
