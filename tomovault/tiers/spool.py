"""Bundles on their way to an archive and back, as files in a folder of ours."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from datetime import datetime

from tomovault.core.errors import IntegrityError, NoSpace, Transient, waits_for_room
from tomovault.core.ports import Checkpoint, Parcel, Throttle
from tomovault.tiers.blocks import drop_cache, holding, open_regular, shown, sync_folder, translating, write_all
from tomovault.tiers.bundle import (
    Bundle,
    BundlePackage,
    bundle_size,
    check_bundle,
    package_key,
    parcel_key,
    plan_bundle,
    write_bundle,
)
from tomovault.tiers.free import FREE

_OUT, _IN, _LOCKS = "out", "in", "locks"
_SWEEP_WAIT_S = 60.0


class OpenedBundle:
    """A file that is read as a tape file would be; `from_disk`: what memory holds of it is dropped first (law 2)."""

    def __init__(self, path: str, *, dir_fd: int | None = None, from_disk: bool = False) -> None:
        self._fd = open_regular(path, dir_fd=dir_fd)
        self.position = 0
        if not from_disk:
            return
        try:
            drop_cache(self._fd)
        except OSError:
            os.close(self._fd)
            raise

    def __enter__(self) -> OpenedBundle:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def read(self, count: int) -> bytes:
        """See `Source`."""
        parts = []
        while count and (part := os.read(self._fd, count)):
            parts.append(part)
            count -= len(part)
        data = b"".join(parts)
        self.position += len(data)
        return data

    def skip_to(self, position: int) -> None:
        """See `Source`; a way back is one, too. Raises IntegrityError for a place that is not in the file."""
        size = os.fstat(self._fd).st_size
        if not 0 <= position <= size:
            raise IntegrityError(f"it ends at {size}, wanted is {position}", hint="use another copy")
        self.position = os.lseek(self._fd, position, os.SEEK_SET)


class Spool:
    """The folder of one tier."""

    def __init__(self, path: str, tier: str) -> None:
        self._path = path
        self._tier = tier

    def require(self) -> None:
        """Raises Transient where the folder is not there or cannot be written."""
        if not os.path.isdir(self._path) or not os.access(self._path, os.R_OK | os.W_OK | os.X_OK):
            raise Transient(
                f"tier {self._tier}: {shown(self._path)} is no folder that can be written",
                hint=f"mount or make {shown(self._path)}, or correct the path of tier {self._tier}",
            )

    def folder(self, name: str) -> str:
        """A folder in it, which only we may look into."""
        path = os.path.join(self._path, name)
        with translating(f"tier {self._tier}"):
            os.makedirs(path, mode=0o700, exist_ok=True)
        return path

    @contextlib.contextmanager
    def alone(self, what: str, wait_s: float = 1.0) -> Iterator[int]:
        """No other process does the same; a program that is given the descriptor keeps it so, also where it outlives
        this process.
        """
        with holding(os.path.join(self.folder(_LOCKS), what), f"tier {self._tier}: {what}", wait_s) as lock:
            yield lock

    # --- on the way out ------------------------------------------------------------------------------

    def bundle(
        self,
        name: str,
        parcel: Parcel,
        *,
        domain: str,
        job: str,
        now: Callable[[], datetime],
        throttle: Throttle,
        checkpoint: Checkpoint,
    ) -> tuple[str, BundlePackage]:
        """The bundle of a parcel as a file, synced, and what is in it. One that a job before left whole is taken as it
        is, so that the same bytes are sent again. Raises IntegrityError, NoSpace, Transient.
        """
        path = os.path.join(self.folder(_OUT), name)
        if (left := _left(path, parcel)) is not None:
            return path, left
        bundle = plan_bundle([parcel], bundle=name, job=job, tier=self._tier, pool=domain, copy=1, now=now())
        with waits_for_room():
            self._need(bundle_size(bundle))
        self._write(path, bundle, parcel, throttle, checkpoint)
        return path, bundle.packages[0]

    def _write(self, path: str, bundle: Bundle, parcel: Parcel, throttle: Throttle, checkpoint: Checkpoint) -> None:
        part, what = f"{path}.part", f"tier {self._tier}"
        with translating(what):
            fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)

        def write(data: bytes) -> None:
            with translating(what):
                write_all(fd, data)

        try:
            try:
                write_bundle(bundle, [parcel], write, throttle, checkpoint)
                with translating(what):
                    os.fsync(fd)
            finally:
                os.close(fd)
            with translating(what):
                os.rename(part, path)
                sync_folder(os.path.dirname(path))
        except Exception:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(part)
            raise

    def sent(self, path: str) -> None:
        """A bundle is in the archive: its file is gone."""
        with translating(f"tier {self._tier}"):
            os.unlink(path)

    # --- on the way back -----------------------------------------------------------------------------

    @contextlib.contextmanager
    def receiving(self, get: Callable[[str, int], object], size: int) -> Iterator[OpenedBundle]:
        """What `get` brought, for as long as it is used: it is given a path to write to and the descriptor of a lock
        that keeps others from clearing that away. Raises NoSpace, Transient, and what `get` raises.
        """
        folder, what = self.folder(_IN), f"tier {self._tier}"
        self._need(size)
        with self.alone(_IN, _SWEEP_WAIT_S), translating(what):
            _sweep(folder)
            own = os.path.join(folder, f"{os.getpid()}-{os.urandom(4).hex()}")
            os.mkdir(own, 0o700)
            lock = os.open(own, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            file = os.path.join(own, "object.tar")
            get(file, lock)
            try:
                opened = OpenedBundle(file)
            except OSError as problem:
                raise Transient(f"{what}: get wrote no file: {problem.strerror}") from problem
            with opened as source:
                yield source
        finally:
            shutil.rmtree(own, ignore_errors=True)
            os.close(lock)

    def _need(self, count: int) -> None:
        """Raises NoSpace where so many bytes do not fit into the folder."""
        with translating(f"tier {self._tier}"):
            free = shutil.disk_usage(self._path).free
        if count > free:
            raise NoSpace(f"tier {self._tier}: {count} bytes are needed in {shown(self._path)}, {free} are free")


def _left(path: str, parcel: Parcel) -> BundlePackage | None:
    """What is in a file that was left, if that is the bundle of this very parcel and whole."""
    try:
        with OpenedBundle(path) as source:
            packages = check_bundle(source, FREE).packages
    except (OSError, IntegrityError):
        return None
    return packages[0] if [package_key(package) for package in packages] == [parcel_key(parcel)] else None


def _sweep(folder: str) -> None:
    """What dead processes left of what they got is gone; a living one, or its program, holds the lock on its own."""
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            shutil.rmtree(path, ignore_errors=True)
        finally:
            os.close(fd)
