"""Named points around every side effect, where a test may end the process as a power cut would.

With `TOMOVAULT_KILL_AT=name` or `name:3`, or several of them with commas, the process kills itself at the first or
third pass of that point. `TOMOVAULT_KILL_ONCE` names a folder that remembers which points have killed: each does it
once, whatever is started again. With `TOMOVAULT_KILL_DAEMON` a job kills the daemon that it belongs to, too. With
`TOMOVAULT_CHECKPOINTS=FILE` each pass is written down there, which is how a test learns the names. Otherwise free.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections import Counter
from pathlib import Path

_passes: Counter[str] = Counter()
_masters: list[int] = []


def belong_to(daemon: int) -> None:
    """This process is a job of the daemon with that process id."""
    _masters[:] = [daemon]


def checkpoint(name: str) -> None:
    """Pass a named point."""
    kill_at = os.environ.get("TOMOVAULT_KILL_AT")
    journal = os.environ.get("TOMOVAULT_CHECKPOINTS")
    if kill_at is None and journal is None:
        return
    _passes[name] += 1
    if journal is not None:
        with Path(journal).open("a", encoding="ascii") as file:
            file.write(f"{name}:{_passes[name]}\n")
    wanted = set((kill_at or "").split(",")) & {f"{name}:{_passes[name]}", *([name] if _passes[name] == 1 else [])}
    if any(_may_still_kill(point) for point in wanted):
        _kill()


def _kill() -> None:
    if os.environ.get("TOMOVAULT_KILL_DAEMON"):
        for master in _masters:
            with contextlib.suppress(ProcessLookupError):
                os.kill(master, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def _may_still_kill(point: str) -> bool:
    once = os.environ.get("TOMOVAULT_KILL_ONCE")
    if once is None:
        return True
    try:
        os.close(os.open(Path(once, point), os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except FileExistsError:
        return False
    return True
