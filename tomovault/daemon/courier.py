"""Sending what is in the outbox: one thread a channel, so that one which hangs keeps neither others nor the daemon."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial

import structlog

from tomovault.catalog.outbox import (
    Delivery,
    count_untried,
    give_up_unknown,
    list_deliveries,
    record_sent,
    record_unsent,
)
from tomovault.catalog.owner_warnings import Running
from tomovault.core.errors import TomovaultError, Transient
from tomovault.core.notice import harmless
from tomovault.daemon.clock import machine_running
from tomovault.vault.notices import message_of, open_channel
from tomovault.vault.site_settings import ChannelSettings
from tomovault.vault.vault import Vault

log = structlog.get_logger(__name__)

#: The outbox is looked at this often.
_PERIOD_S = 1.0

#: After a look that failed, since the catalogue is busy or has a defect, nothing is sent for so long.
_REST_S = 10.0

_AT_ONCE = 20

Clock = Callable[[], datetime]


def _now() -> datetime:
    return datetime.now(UTC)


class Postman:
    """One channel: what is due on it is sent, and that recorded. Lives in a thread of its own."""

    def __init__(
        self,
        vault: Vault,
        conf: ChannelSettings,
        *,
        now: Clock = _now,
        running: Callable[[], Running] = machine_running,
    ) -> None:
        self._vault = vault
        self._conf = conf
        self._now = now
        self._running = running
        #: Sent, and not recorded yet: the catalogue was busy. They are not sent again while this process lives.
        self._unrecorded: dict[str, None] = {}

    def round(self, stop: Callable[[], bool] = lambda: False) -> int:
        """What is due was tried, some at most; returns how many. Raises Transient where the catalogue is busy."""
        self._record_late()
        with self._vault.catalogue.reading() as tx:
            due = list_deliveries(tx, self._conf.name, self._now(), _AT_ONCE)
        for delivery in due:
            if stop():
                break
            problem = self._send(delivery)
            if problem:
                self._record_problem(delivery, problem)
            else:
                self._unrecorded[delivery.id] = None
                self._record_late()
        return len(due)

    def _send(self, delivery: Delivery) -> str:
        """'' once the other side took it, else why not."""
        try:
            open_channel(self._conf).send(message_of(self._vault.site, delivery, self._now()))
        except TomovaultError as problem:
            return problem.message
        except Exception as problem:
            log.exception("a message cannot be sent", delivery=delivery.id, channel=self._conf.name)
            return f"{type(problem).__name__}: {harmless(problem)}"
        return ""

    def _record_late(self) -> None:
        for delivery in list(self._unrecorded):
            with self._vault.catalogue.writing() as tx:
                record_sent(tx, delivery, self._running(), self._now())
            del self._unrecorded[delivery]

    def _record_problem(self, delivery: Delivery, problem: str) -> None:
        conf = self._vault.site.notify
        patience = timedelta(seconds=conf.give_up_s if conf is not None else 0.0)
        log.warning("a message was not sent", delivery=delivery.id, channel=self._conf.name, reason=problem)
        with self._vault.catalogue.writing() as tx:
            over = record_unsent(tx, delivery.id, problem, self._running(), self._now(), give_up_after=patience)
        if over:
            log.error("a message is given up", delivery=delivery.id, channel=self._conf.name, reason=problem)


class Courier:
    """The postmen of a site, while its daemon leads."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Messages are sent from now on. Those of channels that the site has no more are given up."""
        conf = self._vault.site.notify
        if conf is None or self._threads:
            return
        with self._vault.catalogue.writing() as tx:
            give_up_unknown(tx, conf.channels.keys(), machine_running(), _now())
        for channel in conf.channels.values():
            work = partial(self._run, Postman(self._vault, channel))
            thread = threading.Thread(target=work, name=f"channel-{channel.name}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """Nothing more is sent; a channel that hangs is left behind, and what it was sending is sent again later."""
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=2.0)

    def has_untried(self) -> bool:
        """Whether something is to be sent now that was never tried."""
        if not self._threads:
            return False
        with self._vault.catalogue.reading() as tx:
            return count_untried(tx, _now()) > 0

    def _run(self, postman: Postman) -> None:
        while not self._stop.is_set():
            try:
                pause = _PERIOD_S if postman.round(self._stop.is_set) == 0 else 0.0
            except (Transient, OSError):
                pause = _REST_S
            except Exception:
                log.exception("the outbox cannot be looked at")
                pause = _REST_S
            self._stop.wait(pause)
