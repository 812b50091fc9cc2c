"""Which disk a folder is on: copies on one disk are lost together, so they count once (law 4)."""

from __future__ import annotations

import contextlib
import os
import re

_BY_UUID = "/dev/disk/by-uuid"
_MOUNTS = "/proc/self/mountinfo"
_OCTAL = re.compile(r"\\([0-7]{3})")


def disk_domain(path: str) -> str:
    """The failure domain of a folder, the same for every folder of one disk, whoever asks.

    It is named by what a restart does not change: the UUID of the file system, or the server and what it exports.
    Only where there is neither, by what the kernel calls the device. Raises OSError where the folder is absent.
    """
    real = os.path.realpath(path, strict=True)
    device = os.stat(real).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    kind, source = _mounted_at(real, number)
    if kind == "zfs":
        return f"disk:zfs:{source.partition('/')[0]}"  # data sets of one pool share its disks
    if source.startswith("/"):
        return f"disk:{_uuid_of(source) or source}"
    return f"disk:{source}" if ":" in source else f"disk:{source or 'device'}-{number}"


def _mounted_at(real: str, number: str) -> tuple[str, str]:
    """Type and source of the file system of a folder, from the kernel's table (proc(5), "mountinfo"): by its number,
    or, as a subvolume has one that stands nowhere, by the mount point that is nearest above. ('', '') for neither.
    """
    by_number = by_place = ("", "")
    nearest = -1
    with (
        contextlib.suppress(OSError),
        open(_MOUNTS, encoding="utf-8", errors="surrogateescape") as lines,
    ):
        for line in lines:
            before, _, after = line.partition(" - ")
            fields, (kind, source, *_) = before.split(), [*after.split(), "", ""]
            if len(fields) < 5:
                continue
            found = (kind, _plain(source))
            if fields[2] == number:
                by_number = found
            point = _plain(fields[4])
            if len(point) >= nearest and (real == point or real.startswith(point.rstrip("/") + "/")):
                nearest, by_place = len(point), found
    return by_number if by_number != ("", "") else by_place


def _plain(field: str) -> str:
    return _OCTAL.sub(lambda found: chr(int(found[1], 8)), field)


def _uuid_of(source: str) -> str:
    """The UUID of the file system on a block device, '' where the machine does not say."""
    with contextlib.suppress(OSError):
        device = os.stat(source).st_rdev
        for name in sorted(os.listdir(_BY_UUID)):
            if device and os.stat(os.path.join(_BY_UUID, name)).st_rdev == device:
                return name
    return ""
