"""Jobs as child processes of the daemon on its own machine.

A job does not outlive the daemon that started it: it would hold a claim that nobody renews. What it had
finished is in its result file, which the next daemon reads before it starts anything again.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

#: Variables that every job gets: no child of ours ever takes an HDF5 lock on a user's file (law 1), and numeric
#: libraries keep to one thread each, since jobs are parallel over frames and slices.
JOB_ENVIRONMENT = {
    "HDF5_USE_FILE_LOCKING": "FALSE",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "BLOSC_NTHREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
}


@dataclass
class LocalJob:
    """A running job process; its folder holds order, result, progress and log."""

    folder: Path
    process: subprocess.Popen[bytes] = field(repr=False)

    def running(self) -> bool:
        """Whether the process still runs."""
        return self.process.poll() is None

    def ended_how(self) -> str:
        """In words, how a process that is over ended."""
        code = self.process.returncode
        if code is None:
            return "is running"
        if code < 0:
            with contextlib.suppress(ValueError):
                return f"was ended by {signal.Signals(-code).name}"
        return f"ended with exit code {code}"

    def stop(self, *, patience_s: float = 5.0) -> bool:
        """Whether the process is over: asked first, killed after `patience_s`.

        One that hangs in the kernel, on a file server that does not answer, is left to it after as long again: it
        ends as soon as that lets it go, and until then no other process can carry out its job.
        """
        if not self.running():
            return True
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(patience_s)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(patience_s)
        return not self.running()


def start_job(folder: Path) -> LocalJob:
    """Start a process that carries out the order in `folder`; its output goes to `log.txt` there.

    Must be called from the thread that lives as long as the daemon: the kernel ends the job when it dies.
    """
    environment = os.environ | JOB_ENVIRONMENT
    with (folder / "log.txt").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tomovault.vault.job", str(folder), str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
            close_fds=True,
        )
    return LocalJob(folder, process)
