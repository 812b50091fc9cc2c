"""The daemon: for each scan with changed facts or a passed date, read the facts, decide, queue, run, record.

The clerk does all that in a thread of its own. The loop here turns every tenth of a second whatever the catalogue
does: it shares out the bandwidth of the file servers, hears signals and draws the screen.
"""

from __future__ import annotations

import gc
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import structlog

from tomovault.daemon.clerk import Clerk
from tomovault.daemon.pulse import Pulse
from tomovault.daemon.workers import LIGHT, TRANSFERS
from tomovault.vault.vault import Vault
from tomovault.vault.workbench import guard_folder
from tomovault.watch.guard import GuardLimits, servers_of, shares, write_share

log = structlog.get_logger(__name__)

_TICK_S = 0.1

#: For so long, at most, a thread that computes keeps another waiting; Python's own 5 ms pass with each system call.
_SWITCH_S = 0.0005


class Daemon:
    """One running daemon of a site. `tell` is called with what a person at a terminal may want to see."""

    def __init__(
        self,
        vault: Vault,
        *,
        tell: Callable[[str, dict[str, Any]], None] | None = None,
        busy: Callable[[], bool] | None = None,
    ) -> None:
        """`busy` says whether somebody else still writes into the areas: then the daemon is never idle."""
        self._vault = vault
        self._tell = tell or (lambda _what, _facts: None)
        self._stop = threading.Event()
        self._asked_to_stop = False
        self._over = threading.Event()
        self._failure: BaseException | None = None
        self._failed_jobs = 0
        self._shares: dict[str, float] = {}
        self._clerk = Clerk(vault, stop=self._stop, tell=self._tell, busy=busy or (lambda: False))

    def pulse(self) -> Pulse:
        """The last turn of the loop."""
        return self._clerk.pulse

    def run(self, *, until_idle: bool = False) -> int:
        """Watch and work until stopped, or until nothing is left to do; returns how many jobs failed.

        Raises Transient, naming the holder, if another daemon leads this catalogue.
        """
        clerk = threading.Thread(target=self._let_work, args=[until_idle], name="clerk")
        with _no_long_stalls():
            clerk.start()
            try:
                while not self._over.wait(_TICK_S):
                    if self._asked_to_stop:
                        self._stop.set()
                    self._turn()
            finally:
                self._stop.set()
                clerk.join()
        if self._failure is not None:
            raise self._failure
        return self._failed_jobs

    def stop(self, *_signal: object) -> None:
        """The clerk ends after the step it is in; running jobs are ended and queued again."""
        # Called as a signal's handler, too, which may interrupt whoever holds an event's lock.
        self._asked_to_stop = True

    def _let_work(self, until_idle: bool) -> None:
        try:
            self._failed_jobs = self._clerk.run(until_idle=until_idle)
        except BaseException as failure:  # noqa: BLE001 - raised again in the thread that called `run`
            self._failure = failure
        finally:
            self._over.set()

    def _turn(self) -> None:
        self._tell("tick", {"running": self._clerk.jobs, "unsettled": self._clerk.unsettled})
        try:
            self._share_bandwidth()
        except OSError as problem:
            log.warning("the bandwidth shares cannot be told to the jobs", reason=str(problem))

    def _share_bandwidth(self) -> None:
        guard = self._vault.site.guard
        limits = GuardLimits(guard.full_bps, guard.shrunk_bps, guard.max_pause_s)
        watches = self._clerk.watches
        writing = {name: watch.writing for name, watch in watches.items()}
        servers = servers_of({name: watch.mount_source for name, watch in watches.items()})
        jobs = Counter(r.claimed.place for r in self._clerk.jobs if r.claimed.action not in LIGHT | TRANSFERS)
        wanted = dict(shares(writing, jobs, limits, servers))
        folder = guard_folder(self._vault.site)
        for area, share in wanted.items():
            if self._shares.get(area) != share:
                folder.mkdir(parents=True, exist_ok=True)
                write_share(str(folder), area, share)
        self._shares = wanted


@contextmanager
def _no_long_stalls() -> Iterator[None]:
    """Inside, no thread waits long for another to let it run, or for a collection that looks at every loaded module.

    What is loaded by now stays for good: looking at its 90,000 objects stops every thread for 45 ms.
    """
    before = sys.getswitchinterval()
    gc.collect()
    gc.freeze()
    sys.setswitchinterval(_SWITCH_S)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
        gc.unfreeze()


def run_daemon(
    vault: Vault,
    *,
    until_idle: bool,
    tell: Callable[[str, dict[str, Any]], None] | None,
    metrics: str | None = None,
) -> int:
    """Run a daemon in the foreground; SIGTERM and SIGINT stop it gracefully. Returns how many jobs failed.

    Its metrics are served at the address and port `metrics`, else where the site says, if it does.
    """
    daemon = Daemon(vault, tell=tell)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, daemon.stop)
    listen = metrics or vault.site.metrics
    with _metrics_served(vault, daemon, listen) if listen else nullcontext():
        return daemon.run(until_idle=until_idle)


def _metrics_served(vault: Vault, daemon: Daemon, listen: str) -> AbstractContextManager[int]:
    from tomovault.daemon.metrics import serve_metrics  # loads a library that few sites need

    return serve_metrics(vault, daemon.pulse, listen)
