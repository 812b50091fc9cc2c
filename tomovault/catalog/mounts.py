"""Which file system a path is on, read from the mount table; SQLite's locks are not safe on a network one."""

from __future__ import annotations

import os
import re

from tomovault.core.errors import UserError

#: File systems where locks or shared memory between processes cannot be trusted by SQLite in WAL mode.
NETWORK_TYPES = frozenset(
    "nfs nfs4 cifs smb3 smbfs afs ceph fuse.ceph fuse.sshfs fuse.glusterfs glusterfs lustre gpfs beegfs"
    " pvfs2 orangefs 9p fuse.s3fs fuse.rclone ncpfs coda panfs wekafs".split()
)

_MOUNT_TABLE = "/proc/self/mounts"
_OCTAL = re.compile(r"\\([0-7]{3})")


def file_system_type(path: str, table: str | None = None) -> str:
    """Type of the file system that `path` (which need not exist yet) is on; '' where it cannot be known.

    `table` is the text of a mount table; by default that of this process.
    """
    if table is None:
        table = _read_table()
    real = os.path.realpath(path)
    found, longest = "", -1
    for line in table.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = _OCTAL.sub(lambda m: chr(int(m[1], 8)), fields[1])
        inside = point == "/" or real == point or real.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= longest:
            found, longest = fields[2], len(point)
    return found


def refuse_network(path: str, table: str | None = None) -> None:
    """Raise UserError if `path` is on a network file system."""
    kind = file_system_type(path, table)
    if kind in NETWORK_TYPES:
        raise UserError(
            f"the SQLite catalogue {path} is on a network file system ({kind})",
            hint="put it on a local disk, or use PostgreSQL: catalogue: postgresql+psycopg://user@host/db",
        )


def _read_table() -> str:
    try:
        with open(_MOUNT_TABLE, encoding="utf-8", errors="surrogateescape") as table:
            return table.read()
    except FileNotFoundError:
        return ""
