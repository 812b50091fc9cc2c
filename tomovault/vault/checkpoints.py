"""Named points around every side effect, where a test may end the process as a power cut would.

With `TOMOVAULT_KILL_AT=name` or `name:3`, or several of them with commas, the process kills itself at the first or
third pass of that point. `TOMOVAULT_KILL_ONCE` names a folder that remembers which points did so: each does it
once, whatever is started again. With `TOMOVAULT_KILL_DAEMON` a job kills the daemon that it belongs to, too. At
`TOMOVAULT_WAIT_AT=name` it waits for a minute instead, or until a signal ends it. With `TOMOVAULT_CHECKPOINTS=FILE`
each pass is written down there, which is how a test learns the names. Otherwise free.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections import Counter
from pathlib import Path

_passes: Counter[str] = Counter()
_masters: list[int] = []


def belong_to(daemon: int) -> None:
    """This process is a job of the daemon with that process id."""
    _masters[:] = [daemon]


def checkpoint(name: str) -> None:
    """Pass a named point."""
    kill_at = os.environ.get("TOMOVAULT_KILL_AT", "")
    wait_at = os.environ.get("TOMOVAULT_WAIT_AT", "")
    journal = os.environ.get("TOMOVAULT_CHECKPOINTS")
    if not kill_at and not wait_at and journal is None:
        return
    _passes[name] += 1
    if journal is not None:
        with Path(journal).open("a", encoding="ascii") as file:
            file.write(f"{name}:{_passes[name]}\n")
    here = {f"{name}:{_passes[name]}", *([name] if _passes[name] == 1 else [])}
    if any(_is_first(point) for point in here.intersection(kill_at.split(","))):
        _kill()
    if any(_is_first(point) for point in here.intersection(wait_at.split(","))):
        time.sleep(60)


def _kill() -> None:
    if os.environ.get("TOMOVAULT_KILL_DAEMON"):
        for master in _masters:
            with contextlib.suppress(ProcessLookupError):
                os.kill(master, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def _is_first(point: str) -> bool:
    once = os.environ.get("TOMOVAULT_KILL_ONCE")
    if once is None:
        return True
    try:
        os.close(os.open(Path(once, point), os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except FileExistsError:
        return False
    return True
