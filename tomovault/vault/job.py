"""A job process: reads its order, carries it out, writes its result. Knows nothing of the catalogue but its token.

Run as `python -m tomovault.vault.job FOLDER DAEMON_PID`.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import resource
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

from tomovault.core.errors import IntegrityError, NoSpace, Refused, TomovaultError, Transient
from tomovault.core.record import Outcome, Result
from tomovault.core.wire import to_plain
from tomovault.vault.job_folder import ORDER, RESULT, write_json

_PR_SET_PDEATHSIG = 1  # prctl(2)


def main(arguments: list[str]) -> int:
    """Carry out the order in a job folder; 0 once a result is written, whatever it says."""
    folder = Path(arguments[0])
    _end_with(int(arguments[1]))
    with contextlib.suppress(OSError):
        os.nice(5)
    order = json.loads((folder / ORDER).read_text("utf-8"))
    result = carry_out(order, folder)
    write_json(folder / RESULT, result_to_plain(result))
    return 0


def carry_out(order: dict[str, Any], folder: Path) -> Result:
    """The result of an order; every failure is in it, with a traceback in the log where it is a defect of ours."""
    from tomovault.vault.plugins import load_plugin
    from tomovault.vault.workbench import Workbench

    try:
        bench = Workbench(order, folder)
        action = load_plugin("actions", order["action"])()
        result: Result = action.perform(order["order"], bench)
    except Exception as problem:  # noqa: BLE001 - the border of a process: everything becomes a result
        result = result_of_failure(problem)
        if not isinstance(problem, TomovaultError):
            traceback.print_exc()
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return Result(
        outcome=result.outcome,
        records=result.records,
        error=result.error,
        hint=result.hint,
        peak_bytes=usage.ru_maxrss * 1024,
        cpu_s=usage.ru_utime + usage.ru_stime,
    )


def result_of_failure(problem: Exception) -> Result:
    """What an exception means for the job: tried again, refused, damaged, or failed."""
    hint = problem.hint if isinstance(problem, TomovaultError) else ""
    message = problem.message if isinstance(problem, TomovaultError) else f"{type(problem).__name__}: {problem}"
    if isinstance(problem, Refused):
        return Result(Outcome.REFUSED, error=f"{message} ({problem.by})", hint=hint)
    if isinstance(problem, IntegrityError):
        return Result(Outcome.DAMAGED, error=message, hint=hint)
    if isinstance(problem, Transient):
        return Result(Outcome.TRANSIENT, error=message, hint=hint)
    if isinstance(problem, OSError) and problem.errno in (errno.ENOSPC, errno.EDQUOT):
        return result_of_failure(NoSpace(f"no space left: {problem.filename or ''}".rstrip(": ")))
    if isinstance(problem, OSError) and problem.errno in (errno.EIO, errno.ESTALE, errno.ENODEV, errno.ETIMEDOUT):
        return Result(Outcome.TRANSIENT, error=message, hint="the file system answered with an error")
    return Result(Outcome.FAILED, error=message, hint=hint)


def result_to_plain(result: Result) -> dict[str, Any]:
    """A result as JSON, each record with its type's name."""
    plain: dict[str, Any] = to_plain(result)
    plain["records"] = [{"type": type(r).__name__, "record": to_plain(r)} for r in result.records]
    return plain


def _end_with(parent: int) -> None:
    """This process is killed by the kernel when its daemon dies: a claim that nobody renews must not go on."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(75)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
