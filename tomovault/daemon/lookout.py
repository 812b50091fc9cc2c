"""From what sweeps see to what is known: candidates noted, inspections queued, absences believed slowly."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import structlog

from tomovault.catalog.unclaimed import drop_vanished, list_without_scan
from tomovault.catalog.work import confirmed_missing, record_vanished
from tomovault.core.errors import Transient
from tomovault.core.known import WATCH
from tomovault.core.scan import Candidate
from tomovault.core.wire import to_plain
from tomovault.vault.vault import Vault
from tomovault.watch.sweep import Seen, Sweep

log = structlog.get_logger(__name__)

#: Candidates for one inspection job: few enough that a bad one does not hold up many.
_BATCH = 16

#: Candidates noted in one transaction: the first sweep of a large area would hold the catalogue for minutes.
_AT_ONCE = 500

#: So many sweeps must find a scan's place readable and the scan not there before it is called missing.
_SWEEPS_TO_BELIEVE = 3

#: What had settled and was found unsettled, or could not be read just then, is inspected again so many seconds after
#: the first inspections, and as seldom as that after each later one; and when the daemon starts.
_AGAIN_AFTER_S = (30.0, 300.0, 3000.0, 20000.0)


@dataclass(frozen=True)
class _Unbelieved:
    """A settled snapshot whose last inspection, at that time, did not find it settled or could not read it; and how
    often it was told, -1 for an inspection of an earlier daemon.
    """

    snapshot: str
    inspected_at: datetime
    count: int
    asked: bool = False


class Lookout:
    """Notes sweeps in the catalogue. Keeps in memory only what it told last, so that quiet areas cost nothing."""

    def __init__(self, vault: Vault, *, only_settled: bool = False) -> None:
        """With `only_settled` nothing is looked into while it may still be written."""
        self._vault = vault
        self._only_settled = only_settled
        self._noted: dict[Candidate, tuple[str, bool]] = {}
        self._inspected_unsettled: dict[Candidate, datetime] = {}
        self._unbelieved: dict[str, dict[Candidate, _Unbelieved]] = {}
        self._asked_catalogue_at: dict[str, datetime] = {}
        self._begun_at: datetime | None = None
        self._told_missing: set[Candidate] = set()
        self.unsettled: dict[str, int] = {}
        self.trouble: dict[str, str] = {}
        self.stopped: set[str] = set()
        self.to_forget: list[tuple[str, Candidate]] = []
        self.swept: dict[str, int] = {}
        self.swept_at: dict[str, float] = {}
        self.more = False
        self._left: tuple[Sweep, list[Seen]] | None = None
        #: Folders in which links were seen, until one whole sweep of the area has seen each.
        self._linked: dict[str, set[str] | None] = {}

    def take(self, area: str, sweep: Sweep, now: datetime) -> int:
        """The sweep is noted, or a part of it: then `more` is True and the same sweep is to be given again. Returns
        how many inspections were queued.
        """
        self.more = False
        self._begun_at = self._begun_at or now
        if self._left is None or self._left[0] is not sweep:
            self._note_links(area, sweep, now)
        self.unsettled[area] = len(sweep.unsettled)
        if sweep.stopped:
            self.trouble[area] = sweep.stopped
            self.stopped.add(area)
            if sweep.vanished:
                self._take_confirmed(area, sweep.vanished)
            return 0
        self.stopped.discard(area)
        self.trouble.pop(area, None)
        if sweep.unreadable:
            path, reason = sweep.unreadable[0]
            self.trouble[area] = f"{len(sweep.unreadable)} places cannot be read, first {path}: {reason}"
        changed = self._changed(sweep)
        left = changed[_AT_ONCE:]
        self.more = bool(left)
        queued = 0
        self._ask_catalogue(area, now, at_once=any(s.settled for s in changed))
        gone, again = [], []
        if self.more:
            changed = changed[:_AT_ONCE]
        else:
            gone = [c for c, sweeps in sweep.absent if sweeps >= _SWEEPS_TO_BELIEVE and c not in self._told_missing]
            again = self._due_again(area, sweep, now)
        if changed or gone or again:
            with self._vault.catalogue.writing() as tx:
                looks = [s for s in changed if self._note(tx, area, s, now)]
                looks += [s for s in again if s not in looks]
                queued = self._queue(tx, area, looks, now)
                gone = [candidate for candidate in gone if self._vanish(tx, area, candidate, now)]
            for seen in changed:
                self._noted[seen.candidate] = (seen.snapshot, seen.settled)
                self._told_missing.discard(seen.candidate)
            known = self._unbelieved.get(area, {})
            for seen in looks:
                if seen.settled and seen.candidate in known:
                    known[seen.candidate] = replace(known[seen.candidate], asked=True)
            for candidate in gone:
                self._told_missing.add(candidate)
                self._noted.pop(candidate, None)
        self._left = (sweep, left) if self.more else None
        if not self.more:
            self.swept[area] = self.swept.get(area, 0) + 1
            self.swept_at[area] = time.monotonic()
        return queued

    def _note_links(self, area: str, sweep: Sweep, now: datetime) -> None:
        """Links are known as they were seen last; one that the first whole sweep of the area did not see is none."""
        for start in range(0, len(sweep.links), _AT_ONCE):
            with self._vault.catalogue.writing() as tx:
                for found in sweep.links[start : start + _AT_ONCE]:
                    self._vault.catalogue.note_links(tx, area, found.folder, found.links, now)
        linked = self._linked.setdefault(area, set())
        if linked is None:
            return
        linked.update(found.folder for found in sweep.links)
        if not sweep.stopped and not sweep.unreadable:
            with self._vault.catalogue.writing() as tx:
                self._vault.catalogue.drop_other_links(tx, area, linked)
            self._linked[area] = None

    def _changed(self, sweep: Sweep) -> list[Seen]:
        """What the sweep saw and was not noted yet; of one that was noted in part, what was left then."""
        if self._left is not None and self._left[0] is sweep:
            return self._left[1]
        return [s for s in sweep.seen if self._noted.get(s.candidate) != (s.snapshot, s.settled)]

    def _ask_catalogue(self, area: str, now: datetime, *, at_once: bool) -> None:
        """What was not believed is known again; quiet areas are asked about now and then only."""
        last = self._asked_catalogue_at.get(area)
        if not at_once and last is not None and 0.0 <= (now - last).total_seconds() < _AGAIN_AFTER_S[0]:
            return
        self._asked_catalogue_at[area] = now
        before = self._unbelieved.get(area, {})
        with self._vault.catalogue.reading() as tx:
            told = self._vault.catalogue.list_unbelieved(tx, area)
        known = {}
        for candidate, snapshot, inspected_at in told:
            old = before.get(candidate)
            if old is None or old.snapshot != snapshot:
                earlier = self._begun_at is not None and inspected_at < self._begun_at
                old = _Unbelieved(snapshot, inspected_at, -1 if earlier else 0)
            elif old.inspected_at != inspected_at:
                old = _Unbelieved(snapshot, inspected_at, old.count + 1)
            known[candidate] = old
        self._unbelieved[area] = known

    def _due_again(self, area: str, sweep: Sweep, now: datetime) -> list[Seen]:
        """What is still as it was when its inspection did not find it settled, and has waited; each once."""
        unbelieved = self._unbelieved.get(area)
        due = []
        for seen in sweep.seen if unbelieved else ():
            last = unbelieved.get(seen.candidate) if unbelieved else None
            if last is None or last.asked:
                continue
            waited_s = (now - last.inspected_at).total_seconds()
            pause_s = 0.0 if last.count < 0 else _AGAIN_AFTER_S[min(last.count, len(_AGAIN_AFTER_S) - 1)]
            if seen.settled and seen.snapshot == last.snapshot and waited_s >= pause_s:
                due.append(seen)
        return due

    def _take_confirmed(self, area: str, vanished: Sequence[Candidate]) -> None:
        """What a person confirmed as gone, and what held no scan, need not be missed any longer."""
        with self._vault.catalogue.reading() as tx:
            without = list_without_scan(tx, area)
            nothing = confirmed_missing(tx, area) | without
        no_scans = [candidate for candidate in vanished if candidate in without]
        if no_scans:
            with self._vault.catalogue.writing() as tx:
                drop_vanished(tx, area, no_scans)
        self.to_forget.extend((area, candidate) for candidate in vanished if candidate in nothing)

    def _vanish(self, tx: Any, area: str, candidate: Candidate, now: datetime) -> bool:
        """Whether it is recorded that a candidate vanished: one's defect stops no other, and is told at each sweep."""
        try:
            with tx.set_apart():
                record_vanished(tx, area, candidate, now)
        except Transient:
            raise
        except Exception:
            log.exception("what vanished cannot be recorded", area=area, folder=candidate.folder, key=candidate.key)
            return False
        return True

    def _note(self, tx: Any, area: str, seen: Seen, now: datetime) -> bool:
        """Whether the candidate should be looked into now."""
        wants = self._vault.catalogue.note_candidate(tx, area, seen.candidate, seen.snapshot, seen.settled, now)
        if seen.settled or self._only_settled:
            return wants and seen.settled
        last = self._inspected_unsettled.get(seen.candidate)
        pause_s = max(30.0, self._vault.site.watch.quiet_s)
        if last is not None and (now - last).total_seconds() < pause_s:
            return False
        self._inspected_unsettled[seen.candidate] = now
        return True

    def _queue(self, tx: Any, area: str, looks: Sequence[Seen], now: datetime) -> int:
        # Several formats may ask about one file; one process looks into it for all of them.
        looks = sorted(looks, key=lambda seen: (seen.candidate.folder, seen.candidate.key))
        for start in range(0, len(looks), _BATCH):
            batch = looks[start : start + _BATCH]
            order = {
                "area": area,
                "looks": [
                    {"candidate": to_plain(s.candidate), "snapshot": s.snapshot, "settled": s.settled} for s in batch
                ],
            }
            # One that was inspected before is asked for anew, not a repetition of that job.
            earlier = self._unbelieved.get(area, {})
            text = repr([(s.candidate, s.snapshot, s.settled, _inspected_at(earlier, s)) for s in batch])
            key = hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:24]
            self._vault.queue_in(
                tx, area, "inspect", None, order, dedup_key=f"inspect:{area}:{key}", rule=WATCH, now=now
            )
        return len(looks)


def _inspected_at(unbelieved: Mapping[Candidate, _Unbelieved], seen: Seen) -> str:
    last = unbelieved.get(seen.candidate)
    return last.inspected_at.isoformat() if last is not None and last.snapshot == seen.snapshot else ""
