"""Named points around every side effect, where a test may end the process as a power cut would.

With `TOMOVAULT_KILL_AT=name` or `name:3` the process kills itself at the first or third pass of that point; with
`TOMOVAULT_CHECKPOINTS=FILE` each pass is written down there, which is how a test learns the names. Otherwise free.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path

_passes: Counter[str] = Counter()


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
    if kill_at in (name, f"{name}:{_passes[name]}") and _may_still_kill():
        os.kill(os.getpid(), signal.SIGKILL)


def _may_still_kill() -> bool:
    """A kill happens once, even though the restarted process inherits the variable."""
    once = os.environ.get("TOMOVAULT_KILL_ONCE")
    if once is None:
        return True
    try:
        os.close(os.open(once, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except FileExistsError:
        return False
    return True
