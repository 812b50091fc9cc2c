"""Leases by the database's clock and, on SQLite, by the life of their holder."""

from __future__ import annotations

import fcntl
import glob
import os
import time
from types import TracebackType
from typing import Any

from sqlalchemy import Double, Row, delete, insert, literal_column, select, update

from tomovault.catalog import tables
from tomovault.catalog.transaction import Tx
from tomovault.core.errors import UserError

#: A life lock is made and locked within this.
_YOUNG_S = 2.0


class LifeLock:
    """An OS lock that ends with the process that holds it, whatever its end."""

    def __init__(self, path: str, handle: int) -> None:
        self.path = path
        self._handle = handle

    def close(self) -> None:
        """Let go; the file is removed first, so that nobody finds an unlocked one."""
        if self._handle < 0:
            return
        if os.path.lexists(self.path):
            os.unlink(self.path)
        os.close(self._handle)
        self._handle = -1

    def __enter__(self) -> LifeLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def hold_life_lock(path: str) -> LifeLock | None:
    """Lock the file at `path`, making it; None while another process, or another handle of this one, holds it."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return None
        # The file may have been removed by its last holder between open and lock.
        if _is_at(handle, path):
            return LifeLock(path, handle)
        os.close(handle)


def remove_dead_locks(prefix: str) -> None:
    """Remove the life locks that nobody holds, but for those made just now, which their makers are about to lock."""
    for path in glob.glob(f"{glob.escape(prefix)}.life-*"):
        try:
            age_s = time.time() - os.stat(path, follow_symlinks=False).st_mtime
            lock = hold_life_lock(path) if age_s > _YOUNG_S else None
        except FileNotFoundError:
            continue
        if lock is not None:
            lock.close()


def life_path(prefix: str, holder: str) -> str:
    """Where the life lock of a holder lies, beside the database."""
    if not holder or not all(c.isalnum() or c in "-_." for c in holder) or len(holder) > 100:
        raise UserError(f"a holder's name is letters, digits, '-', '_' and '.': {holder!r}")
    return f"{prefix}.life-{holder}"


def holder_is_dead(tx: Tx, holder: str) -> bool:
    """True only where it is certain: on SQLite, a life lock was held once and is not held now.

    A holder that never made one is judged by its lease alone.
    """
    if tx.life is None:
        return False
    path = life_path(tx.life, holder)
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        return True
    finally:
        os.close(handle)


def take_lease(tx: Tx, name: str, holder: str, ttl_s: float) -> bool:
    """Take or extend a lease for `ttl_s`; False while another live holder has it."""
    lease = tables.lease
    row = tx.first(select(lease).where(lease.c.name == name).with_for_update())
    until = _clock(tx) + ttl_s
    if row is None:
        tx.run(insert(lease).values(name=name, holder=holder, expires=until))
        return True
    if row.holder != holder and _holds(tx, row):
        return False
    changed = tx.changed(
        update(lease)
        .where(lease.c.name == name, lease.c.holder == row.holder, lease.c.expires == row.expires)
        .values(holder=holder, expires=until)
    )
    return changed == 1


def renew_lease(tx: Tx, name: str, holder: str, ttl_s: float) -> bool:
    """Extend a lease that is still this holder's; False where it is not, and then its work must stop."""
    lease = tables.lease
    until = _clock(tx) + ttl_s
    changed = tx.changed(update(lease).where(lease.c.name == name, lease.c.holder == holder).values(expires=until))
    return changed == 1


def drop_lease(tx: Tx, name: str, holder: str) -> None:
    """Give a lease up, if it is this holder's."""
    lease = tables.lease
    tx.run(delete(lease).where(lease.c.name == name, lease.c.holder == holder))


def lease_holder(tx: Tx, name: str) -> str | None:
    """Who holds a lease now, or None."""
    row = tx.first(select(tables.lease).where(tables.lease.c.name == name))
    return str(row.holder) if row is not None and _holds(tx, row) else None


def list_leases(tx: Tx) -> dict[str, str]:
    """Who holds what now: the living holder of every lease, by the lease's name."""
    return {row.name: row.holder for row in tx.rows(select(tables.lease)) if _holds(tx, row)}


def renew_leases(tx: Tx, holder: str, ttl_s: float) -> frozenset[str]:
    """Extend every lease that is still this holder's; returns their names. Work for any other must stop."""
    lease = tables.lease
    names = frozenset(row.name for row in tx.rows(select(lease.c.name).where(lease.c.holder == holder)))
    tx.run(update(lease).where(lease.c.holder == holder).values(expires=_clock(tx) + ttl_s))
    return names


def drop_leases(tx: Tx, holder: str) -> None:
    """Give up every lease of this holder."""
    tx.run(delete(tables.lease).where(tables.lease.c.holder == holder))


def _holds(tx: Tx, row: Row[Any]) -> bool:
    return bool(row.expires > _clock(tx)) and not holder_is_dead(tx, row.holder)


def _clock(tx: Tx) -> float:
    """Seconds since 1970 by the database's clock (on SQLite this machine's, to the millisecond)."""
    now = "(julianday('now') - 2440587.5) * 86400.0" if tx.sqlite else "extract(epoch from clock_timestamp())"
    return float(tx.value(select(literal_column(now, Double))))


def _is_at(handle: int, path: str) -> bool:
    try:
        there = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return False
    held = os.fstat(handle)
    return (held.st_dev, held.st_ino) == (there.st_dev, there.st_ino)
