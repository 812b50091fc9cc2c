"""A job process: reads its order, carries it out, writes its result. Knows nothing of the catalogue but its token.

Run as `python -m tomovault.vault.job FOLDER DAEMON_PID`.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import hashlib
import json
import os
import resource
import signal
import sys
import traceback
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from tomovault.core.errors import IntegrityError, NoSpace, NotYet, Refused, TomovaultError, Transient
from tomovault.core.record import Moot, Outcome, Result, Unfinished
from tomovault.core.wire import to_plain
from tomovault.vault.checkpoints import belong_to, checkpoint
from tomovault.vault.job_folder import ORDER, RESULT, write_json

_PR_SET_PDEATHSIG = 1  # prctl(2)
_NOT_NOW = 75

#: A job takes what the acquisition, the people and the daemon on the same machine leave of the processor.
_NICE = 10


class Stopped(Exception):
    """The daemon asks this process to end. Not an error of ours, so that no action takes it for one and goes on."""


def main(arguments: list[str]) -> int:
    """Carry out the order in a job folder; 0 once a result is written, whatever it says.

    SIGTERM ends it as an exception would: what it holds half done is tidied up, and there is no result.
    """
    folder, daemon = Path(arguments[0]), int(arguments[1])
    end_with(daemon)
    belong_to(daemon)
    signal.signal(signal.SIGTERM, _stop)
    with contextlib.suppress(OSError):
        os.nice(_NICE)
    try:
        order = json.loads((folder / ORDER).read_text("utf-8"))
        with _alone(folder.parent, order["job"]):
            checkpoint("job.begin")
            result = carry_out(order, folder)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            checkpoint("job.done")
            write_json(folder / RESULT, result_to_plain(result))
            checkpoint(f"job.written.{order['action']}")
    except Stopped:
        return _NOT_NOW
    return 0


def _stop(_number: int, _frame: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Stopped


@contextlib.contextmanager
def _alone(jobs: Path, job: str) -> Iterator[None]:
    """No other process carries out this job, on whosoever's behalf: both would use the same temporary names.

    One byte of one file is locked for each job, so nothing is left behind when this process dies.
    """
    place = int.from_bytes(hashlib.sha256(job.encode()).digest()[:7])
    with (jobs / ".lock").open("ab") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
        except OSError as problem:
            if problem.errno not in (errno.EACCES, errno.EAGAIN):
                raise
            sys.stderr.write(f"another process works on {job} still\n")
            sys.exit(_NOT_NOW)
        yield


def carry_out(order: dict[str, Any], folder: Path) -> Result:
    """The result of an order; every failure is in it, with a traceback in the log where it is a defect of ours."""
    from tomovault.vault.plugins import load_plugin
    from tomovault.vault.workbench import Workbench

    try:
        with contextlib.closing(Workbench(order, folder)) as bench:
            action = load_plugin("actions", order["action"])()
            result: Result = action.perform(order["order"], bench)
    except Stopped:
        raise
    except Unfinished as part:
        result = replace(_told_of_part(part), records=part.records)
    except Exception as problem:  # noqa: BLE001 - the border of a process: everything becomes a result
        result = _told(problem)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return replace(result, peak_bytes=usage.ru_maxrss * 1024, cpu_s=usage.ru_utime + usage.ru_stime)


def _told_of_part(part: Unfinished) -> Result:
    why = part.__cause__
    if isinstance(why, Stopped):
        return Result(Outcome.WAITING, error="its daemon was stopped; the rest follows", at_once=True)
    return _told(why if isinstance(why, Exception) else part)


def _told(problem: Exception) -> Result:
    if not isinstance(problem, TomovaultError):
        traceback.print_exception(problem)
    return result_of_failure(problem)


def result_of_failure(problem: Exception) -> Result:
    """What an exception means for the job: over with nothing done, tried again, refused, damaged, or failed."""
    hint = problem.hint if isinstance(problem, TomovaultError) else ""
    message = problem.message if isinstance(problem, TomovaultError) else f"{type(problem).__name__}: {problem}"
    if isinstance(problem, Moot):
        return Result(Outcome.SUCCEEDED, error=message)
    if isinstance(problem, Refused):
        return Result(Outcome.REFUSED, error=f"{message} ({problem.by})", hint=hint)
    if isinstance(problem, IntegrityError):
        return Result(Outcome.DAMAGED, error=message, hint=hint)
    if isinstance(problem, NotYet):
        return Result(Outcome.WAITING, error=message, hint=hint, pause_s=problem.PAUSE_S)
    if isinstance(problem, Transient):
        return Result(Outcome.TRANSIENT, error=message, hint=hint)
    if isinstance(problem, OSError) and problem.errno in (errno.ENOSPC, errno.EDQUOT):
        return result_of_failure(NoSpace(f"no space left: {problem.filename or ''}".rstrip(": ")))
    if isinstance(problem, OSError) and problem.errno in (errno.EIO, errno.ESTALE, errno.ENODEV, errno.ETIMEDOUT):
        return Result(Outcome.TRANSIENT, error=message, hint="the file system answered with an error")
    ours = not isinstance(problem, (TomovaultError, OSError, MemoryError))
    return Result(Outcome.DEFECT if ours else Outcome.FAILED, error=message, hint=hint)


def result_to_plain(result: Result) -> dict[str, Any]:
    """A result as JSON, each record with its type's name."""
    plain: dict[str, Any] = to_plain(result)
    plain["records"] = [{"type": type(r).__name__, "record": to_plain(r)} for r in result.records]
    return plain


def end_with(parent: int) -> None:
    """This process is killed by the kernel when its daemon dies: a claim that nobody renews must not go on."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(_NOT_NOW)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
