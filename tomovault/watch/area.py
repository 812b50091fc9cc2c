"""The identity of an area, its room, and what we may do there. Absence is never an order: without its
identity an area is absent, and nothing in it may be read as missing.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
import uuid as uuids
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tomovault.core.errors import AreaAbsent, Refused, UserError
from tomovault.watch.mounts import mount_of, read_mounts

#: The folder of ours under an area's root; the walker never enters it.
OWN_FOLDER = ".tomovault"
MARKER = "area.json"

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_MARKER_CAP = 65536

#: File systems whose id comes from a UUID on the medium. Elsewhere the number may follow the device
#: number (xfs) or the moment of mounting (overlay, tmpfs), so it is not the same after a restart.
_LASTING_IDS = frozenset({"ext2", "ext3", "ext4", "btrfs", "f2fs"})

_READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)
_NO_HARD_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL)


@dataclass(frozen=True)
class AreaIdentity:
    """By what an area is recognised. `uuid` is None where it has no marker (an area that we may not write).

    `fsid` is 'FSTYPE:ID' with the id of statvfs in hexadecimal; `mount_source` is what is mounted there.
    """

    uuid: str | None
    simulated: bool
    fsid: str
    mount_source: str
    name: str = ""


@dataclass(frozen=True)
class Space:
    """Bytes of a file system: all of it, and what is left for an unprivileged writer."""

    total: int
    free: int


@dataclass(frozen=True)
class Rights:
    """What was really done under the area's own folder just now; `detail` says what failed."""

    read: bool
    rename: bool
    unlink: bool
    detail: str = ""


# --- marker --------------------------------------------------------------------------------------


def write_marker(path: str, *, name: str, simulated: bool, now: datetime) -> AreaIdentity:
    """Mark the folder `path` as the area `name` and return its identity.

    A marker of the same name and meaning is kept, with its uuid. Where the folder can be read but not
    written no marker is made and the identity has no uuid: such an area is archive-only. Raises UserError
    if it is no folder or its marker is damaged; Refused if it is marked under another name, was first
    marked as real and is asked to become simulated (or the reverse), or cannot hold the flag `simulated`.
    """
    with _open_root(path) as root:
        try:
            own = _open_own(root, create=True)
        except OSError as problem:
            return _without_marker(path, simulated, problem)
        try:
            found = _existing_marker(own, path)
            if found is None:
                try:
                    found = _make_marker(own, path, name=name, simulated=simulated, now=now)
                except OSError as problem:
                    return _without_marker(path, simulated, problem)
            _require_same_meaning(found, path, name, simulated)
        finally:
            os.close(own)
    return read_identity(path)


def check_marker(path: str, *, name: str, simulated: bool) -> None:
    """What `write_marker` would refuse because of a marker that is there is refused; nothing is written."""
    try:
        with _open_root(path) as root:
            own = _open_own(root, create=False)
    except OSError:
        return
    try:
        found = _existing_marker(own, path)
    finally:
        os.close(own)
    if found is not None:
        _require_same_meaning(found, path, name, simulated)


def _existing_marker(own: int, path: str) -> dict[str, Any] | None:
    try:
        return _read_marker(own, path)
    except OSError as problem:
        raise _damaged(path, str(problem.strerror)) from problem


def _without_marker(path: str, simulated: bool, problem: OSError) -> AreaIdentity:
    if problem.errno not in _READ_ONLY:
        raise UserError(
            f"the marker of the area {path} cannot be written: {problem.strerror}",
            hint=f"look at {os.path.join(path, OWN_FOLDER)}: it must be a folder that tomovault may write",
        ) from problem
    if simulated:
        raise Refused(
            f"{path} cannot be written, so it cannot be marked as simulated",
            by="law 4",
            hint="give tomovault write access to the folder, or leave --simulated out",
        ) from problem
    return read_identity(path)


def _require_same_meaning(found: dict[str, Any], path: str, name: str, simulated: bool) -> None:
    where = os.path.join(path, OWN_FOLDER, MARKER)
    if found["name"] != name:
        raise Refused(
            f"{path} is already marked as the area {found['name']!r}, not {name!r}",
            by="law 3",
            hint=f"use that name, or look at {where} before you move it away",
        )
    if found["simulated"] != simulated:
        first, asked = ("simulated", "real") if found["simulated"] else ("real", "simulated")
        raise Refused(
            f"{path} was first marked as {first} and cannot become {asked}",
            by="law 4",
            hint=f"use another folder; {where} says since when",
        )


def _make_marker(own: int, path: str, *, name: str, simulated: bool, now: datetime) -> dict[str, Any]:
    marker = {
        "uuid": str(uuids.uuid4()),
        "name": name,
        "simulated": simulated,
        "written_at": now.astimezone(UTC).isoformat(),
    }
    text = json.dumps(marker, indent=1).encode() + b"\n"
    temporary = f"{MARKER}.{marker['uuid']}.tmp"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644, dir_fd=own)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        _publish(own, temporary)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=own)
    _sync_folder(own)
    published = _read_marker(own, path)
    if published is None:
        raise UserError(f"the marker of the area {path} vanished while it was written", hint="try again")
    return published


def _sync_folder(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as problem:
        if problem.errno != errno.EINVAL:  # some network file systems cannot sync a folder
            raise


def _publish(own: int, temporary: str) -> None:
    # A hard link does not replace a marker that another command wrote meanwhile; a rename would.
    try:
        os.link(temporary, MARKER, src_dir_fd=own, dst_dir_fd=own, follow_symlinks=False)
    except FileExistsError:
        return
    except OSError as problem:
        if problem.errno not in _NO_HARD_LINKS:
            raise
        os.rename(temporary, MARKER, src_dir_fd=own, dst_dir_fd=own)


def _read_marker(own: int, path: str) -> dict[str, Any] | None:
    """The marker's content, None if there is none. Raises UserError if it is no marker, OSError if unreadable."""
    try:
        descriptor = os.open(MARKER, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=own)
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor, "rb") as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise _damaged(path, "it is not a file")
        text = stream.read(_MARKER_CAP)
    try:
        found = json.loads(text)
        uuids.UUID(found["uuid"])
        if not isinstance(found["name"], str) or not isinstance(found["simulated"], bool):
            raise TypeError("name or simulated has a wrong type")
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        raise _damaged(path, str(problem)) from problem
    return dict(found)


def _damaged(path: str, why: str) -> UserError:
    return UserError(
        f"the marker of the area {path} is damaged or cannot be read: {why}",
        hint=f"put {os.path.join(path, OWN_FOLDER, MARKER)} back from a backup; the catalogue knows its uuid",
    )


@contextlib.contextmanager
def _open_root(path: str) -> Iterator[int]:
    try:
        root = os.open(path, _DIRECTORY)
    except OSError as problem:
        raise UserError(f"{path} is not a folder that can be opened: {problem.strerror}") from problem
    try:
        yield root
    finally:
        os.close(root)


def _open_own(root: int, *, create: bool) -> int:
    if create:
        with contextlib.suppress(FileExistsError):
            os.mkdir(OWN_FOLDER, 0o755, dir_fd=root)
            _sync_folder(root)
    return os.open(OWN_FOLDER, _DIRECTORY | os.O_NOFOLLOW, dir_fd=root)


# --- identity ------------------------------------------------------------------------------------


def read_identity(path: str) -> AreaIdentity:
    """Who the folder `path` is now. Raises AreaAbsent if it or its marker cannot be read, with the reason."""
    try:
        root = os.open(path, _DIRECTORY)
    except FileNotFoundError as problem:
        raise AreaAbsent(f"the area's folder {path} is missing", hint="is its file system mounted?") from problem
    except OSError as problem:
        raise AreaAbsent(f"the area's folder {path} cannot be opened: {problem.strerror}") from problem
    try:
        marker = _marker_below(root, path)
        fsid, source = _file_system(root, path)
    except OSError as problem:
        raise AreaAbsent(f"the marker of the area {path} cannot be read: {problem.strerror}") from problem
    except UserError as problem:
        raise AreaAbsent(problem.message, hint=problem.hint) from problem
    finally:
        os.close(root)
    if marker is None:
        return AreaIdentity(None, False, fsid, source)
    return AreaIdentity(marker["uuid"], marker["simulated"], fsid, source, marker["name"])


def _marker_below(root: int, path: str) -> dict[str, Any] | None:
    try:
        own = _open_own(root, create=False)
    except FileNotFoundError:
        return None
    try:
        return _read_marker(own, path)
    finally:
        os.close(own)


def _file_system(root: int, path: str) -> tuple[str, str]:
    number = os.fstatvfs(root).f_fsid & 0xFFFF_FFFF_FFFF_FFFF
    mount = mount_of(path, read_mounts())
    if mount is None:
        return f"unknown:{number:x}", ""
    return f"{mount.fstype}:{number:x}", mount.source


def check_area(path: str, recorded: AreaIdentity) -> None:
    """Return if `path` is the area that was recorded. Raises AreaAbsent with the reason if it is not.

    With the right marker, the number of the file system is compared only where it outlives a remount.
    """
    found = read_identity(path)
    hint = "mount the right file system; if the area was moved on purpose, say so with: tomovault area add"
    if recorded.uuid is not None and found.uuid is None:
        raise AreaAbsent(f"the area's marker is missing below {path}: the file system is not mounted", hint=hint)
    if recorded.uuid is not None and found.uuid != recorded.uuid:
        raise AreaAbsent(f"{path} is another area: marker {found.uuid}, expected {recorded.uuid}", hint=hint)
    if recorded.uuid is not None and found.simulated != recorded.simulated:
        raise AreaAbsent(f"the marker below {path} changed its meaning: simulated is {found.simulated}", hint=hint)
    if found.mount_source != recorded.mount_source:
        raise AreaAbsent(
            f"{path} is mounted from {found.mount_source!r}, expected {recorded.mount_source!r}", hint=hint
        )
    if not _same_file_system(found.fsid, recorded.fsid, marked=recorded.uuid is not None):
        raise AreaAbsent(f"{path} is on file system {found.fsid}, expected {recorded.fsid}", hint=hint)


def _same_file_system(found: str, recorded: str, *, marked: bool) -> bool:
    if not marked or found.partition(":")[0] in _LASTING_IDS:
        return found == recorded
    return found.partition(":")[0] == recorded.partition(":")[0]


# --- room and rights -----------------------------------------------------------------------------


def disk_space(path: str) -> Space | None:
    """Room on the file system of `path` in bytes; None where it cannot be asked or the answer makes no sense."""
    try:
        answer = os.statvfs(path)
    except OSError:
        return None
    return sane_space(answer.f_blocks * answer.f_frsize, answer.f_bavail * answer.f_frsize)


def sane_space(total: int, free: int) -> Space | None:
    """The two figures as a Space, None if they cannot be true (servers do answer zeros, or more free than there is)."""
    if total <= 0 or not 0 <= free <= total:
        return None
    return Space(total, free)


def rights(path: str) -> Rights:
    """Try to read, rename and unlink below the area's own folder, and leave nothing behind.

    What fails is False, with the reason in `detail`; nothing is raised. Without the area's own folder
    nothing is tried by writing.
    """
    try:
        root = os.open(path, _DIRECTORY)
    except OSError as problem:
        return Rights(False, False, False, f"open: {problem.strerror}")
    try:
        with os.scandir(root) as entries:
            next(entries, None)
        own = _open_own(root, create=False)
    except FileNotFoundError:
        return Rights(True, False, False, f"there is no folder {OWN_FOLDER}")
    except OSError as problem:
        return Rights(False, False, False, f"read: {problem.strerror}")
    finally:
        os.close(root)
    try:
        return _try_writing(own)
    finally:
        os.close(own)


def _try_writing(own: int) -> Rights:
    first = f"probe.{uuids.uuid4().hex}"
    second = first + ".renamed"
    step, renamed = "create", False
    try:
        os.close(os.open(first, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=own))
        step = "rename"
        os.rename(first, second, src_dir_fd=own, dst_dir_fd=own)
        step, renamed = "unlink", True
        os.unlink(second, dir_fd=own)
    except OSError as problem:
        if step == "rename":
            with contextlib.suppress(OSError):
                os.unlink(first, dir_fd=own)
        return Rights(True, renamed, False, f"{step}: {problem.strerror}")
    return Rights(True, True, True)
