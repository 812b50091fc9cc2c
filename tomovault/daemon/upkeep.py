"""What comes round by the clock: old copies queued for a re-read, usage recounted and its history kept, the audit head
exported.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Collection, Generator, Sequence
from datetime import UTC, datetime, timedelta

import structlog
from apscheduler.schedulers.background import BackgroundScheduler

from tomovault.catalog.outbox import forget_in_turns
from tomovault.catalog.work import Late, asked_since, unfinished_by_place
from tomovault.core.errors import TomovaultError, Transient
from tomovault.core.known import SCRUB
from tomovault.daemon.nightly import Nightly
from tomovault.vault.backing_up import backup_is_due
from tomovault.vault.drilling import drill_is_due
from tomovault.vault.limits import note_exceeded
from tomovault.vault.notices import post_digest
from tomovault.vault.tier_facts import places_to_prune
from tomovault.vault.vault import Vault

log = structlog.get_logger(__name__)

#: Re-reads of old copies of an area that wait or run at a time; as some end, others are queued. Few, since what else
#: is to be done there waits behind them.
_UNFINISHED = 10

#: Notices are kept so long, but for those that are on their way or that a warning rests on.
_NOTICES_KEPT = timedelta(days=90)


class Upkeep:
    """Timers put names into a queue; what they stand for is done when the owner of the catalogue asks."""

    def __init__(self, vault: Vault, is_draining: Callable[[str], bool] = lambda _place: False) -> None:
        """`is_draining` says whether an area or a tier is on its way to its low mark."""
        self._vault = vault
        self._is_draining = is_draining
        self._due: queue.Queue[str] = queue.Queue()
        self._counting: Generator[None, None, list[str]] | None = None
        self._thinning: Generator[None, None, None] | None = None
        self._forgetting: Generator[None, None, None] | None = None
        self._looked_at: dict[str, Late] = {}
        self._behind: set[str] = set()
        #: Whatever is known is compared with what is there, once a night.
        self.nightly = Nightly(vault)

    def start(self, *, leads: bool = True) -> BackgroundScheduler:
        """Timers run. For one who leads, old copies are looked for at once, too, for a daemon that never lives for an
        hour. One who follows compares what is in the areas of its machine, which nobody else can look at.
        """
        timers = BackgroundScheduler(
            timezone="UTC", job_defaults={"coalesce": True, "misfire_grace_time": None, "max_instances": 1}
        )
        if not leads:
            timers.add_job(self.ask, "cron", args=["compare"], hour=3, id="compare")
            timers.start()
            return timers
        timers.add_job(self.ask, "interval", args=["overdue"], hours=1, id="overdue")
        timers.add_job(self.ask, "interval", args=["behind"], minutes=1, id="behind")
        timers.add_job(self.ask, "interval", args=["room"], minutes=1, id="room")
        timers.add_job(self.ask, "interval", args=["usage"], hours=1, id="usage")
        timers.add_job(self.ask, "cron", args=["nightly"], hour=3, id="nightly")
        if self._vault.site.backup.nightly:
            hour, minute = self._vault.site.backup.at
            timers.add_job(self.ask, "cron", args=["backup"], hour=hour, minute=minute, id="backup")
            timers.add_job(self.ask, "interval", args=["backup"], hours=1, id="backup missed")
        if (conf := self._vault.site.notify) is not None:
            hour, minute = conf.digest_at
            timers.add_job(self.ask, "cron", args=["digest"], hour=hour, minute=minute, id="digest")
        timers.add_job(self.ask, "interval", args=["drill"], hours=1, id="drill")
        timers.start()
        self.ask("leftovers")
        self.ask("overdue")
        self.ask("usage")
        return timers

    def ask(self, name: str) -> None:
        """`overdue`, `behind`, `room`, `usage`, `nightly`, `backup`, `drill`, `leftovers` (of drills), `compare` or
        `digest` is due now.
        """
        self._due.put(name)

    def take(self) -> tuple[int, bool]:
        """What is due was done: (jobs queued, whether the room of the areas should be looked at).

        A recount of the usage, the forgetting of old notices and a long look for old copies go on by one short
        transaction each time. Where the
        catalogue is busy, Transient is raised, and what was due is due still.
        """
        queued, room = 0, False
        self._count_on()
        self._thinning = _gone_on(self._thinning)
        self._forgetting = _gone_on(self._forgetting)
        if self._looked_at:
            queued += self.queue_overdue(self._looked_at)
        while True:
            try:
                name = self._due.get_nowait()
            except queue.Empty:
                return queued, room
            if name == "room":
                room = True
                continue
            try:
                queued += self._do(name)
            except Transient:
                self._due.put(name)
                if room:
                    self._due.put("room")
                raise

    def _do(self, name: str) -> int:
        """What a timer stands for was done; returns how many jobs were queued."""
        if name == "overdue":
            return self.queue_overdue(self._vault.site.areas)
        if name == "behind":
            return self.queue_overdue(self._behind)
        if name == "usage":
            self.keep_history(datetime.now(UTC))
            return 0
        if name == "backup":
            with self._vault.catalogue.reading() as tx:
                due = backup_is_due(self._vault, tx, datetime.now(UTC))
            if due:
                self.nightly.back_up()
            return 0
        if name in ("drill", "leftovers"):
            self._drill(datetime.now(UTC), due=name == "drill")
            return 0
        if name == "compare":
            self.nightly.begin(own=True)
            return 0
        if name == "digest":
            with self._vault.catalogue.writing() as tx:
                post_digest(self._vault, tx, datetime.now(UTC))
            return 0
        if self._counting is None:
            self._counting = self._vault.catalogue.recount_in_turns()
        if self._thinning is None:
            self._thinning = self._vault.catalogue.thin_history_in_turns(datetime.now(UTC))
        if self._forgetting is None:
            self._forgetting = forget_in_turns(self._vault.catalogue.writing, datetime.now(UTC) - _NOTICES_KEPT)
        self.export_head()
        self.nightly.begin()
        return 0

    def _drill(self, now: datetime, *, due: bool) -> None:
        """A drill is under way if one is due, and in any case where one died and left its scratch folder."""
        with self._vault.catalogue.reading() as tx:
            died = bool(self._vault.catalogue.list_drills(tx, 1, under_way=True))
            due = due and drill_is_due(self._vault, tx, now)
        if died or due:
            self.nightly.drill()

    def queue_overdue(self, areas: Collection[str]) -> int:
        """Copies whose last re-read is getting too old are queued for one, a few at a time; returns how many.

        An area with more of them is looked at again soon. Where so many have to be looked at that it would take a
        while, the next turn goes on.
        """
        if not areas:
            return 0
        now = datetime.now(UTC)
        catalogue = self._vault.catalogue
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
        overdue: list[tuple[str, str, str]] = []
        with catalogue.reading() as tx:
            asked = asked_since(tx, "verify", SCRUB, midnight)
            places = places_to_prune(self._vault, tx, now, self._is_draining)
            waiting = unfinished_by_place(tx, "verify", SCRUB)
            looked_at, behind = dict(self._looked_at), set(self._behind)
            for area in areas:
                begun, free = looked_at.pop(area, None), max(0, _UNFINISHED - waiting[area])
                behind.add(area)
                if free == 0:
                    continue
                try:
                    found, after = self._vault.overdue(
                        tx, area, now, limit=free, skip=asked, after=begun, places=places
                    )
                except Transient:
                    raise
                except Exception:  # what is wrong with one area must not end the daemon
                    log.exception("old copies cannot be looked for", area=area)
                    found, after = [], None
                overdue += [(area, late.scan, late.replica) for late in found]
                if len(found) < free:
                    behind.discard(area)
                    if after is not None:
                        looked_at[area] = after
        queued = self._queue(overdue, now) if overdue else 0
        self._looked_at, self._behind = looked_at, behind
        return queued

    def _queue(self, overdue: Sequence[tuple[str, str, str]], now: datetime) -> int:
        catalogue, queued = self._vault.catalogue, 0
        with catalogue.writing() as tx:
            for area, scan_id, replica_id in overdue:
                key, order = f"verify:{replica_id}:{now.date().isoformat()}", {"replicas": [replica_id]}
                job = self._vault.queue_in(tx, area, "verify", scan_id, order, dedup_key=key, rule=SCRUB, now=now)
                queued += job is not None
        return queued

    def _count_on(self) -> None:
        """One more turn of the recount that is under way, if one is; what differed is told at its end.

        One that met a busy catalogue is given up until the next night: Transient is raised.
        """
        if self._counting is None:
            return
        counting, self._counting = self._counting, None
        differences: list[str] = []
        try:
            next(counting)
            self._counting = counting
        except StopIteration as over:
            differences = over.value
        for difference in differences:
            log.error("usage differed from a recount and was mended", difference=difference)

    def keep_history(self, now: datetime) -> None:
        """What is used now is in the history, and since when each soft limit is exceeded is known. Raises Transient."""
        catalogue = self._vault.catalogue
        with catalogue.writing() as tx:
            catalogue.record_usage(tx, now)
            note_exceeded(tx, self._vault.site.quotas.quotas, now)

    def export_head(self) -> None:
        """The head of the audit log stands outside the catalogue, too (law 9)."""
        try:
            self._vault.export_head()
        except (TomovaultError, OSError) as problem:
            log.warning("the head of the audit log cannot be exported", reason=str(problem))


def _gone_on(turns: Generator[None, None, None] | None) -> Generator[None, None, None] | None:
    """What is under way after one more turn of it, None where it is over. Where the catalogue is busy, Transient is
    raised and it ends here: what has ended goes on no more, until the next night.
    """
    return turns if turns is not None and next(turns, True) is None else None
