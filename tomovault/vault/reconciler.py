"""What is known compared with what is there, for ever and both ways: data that no scan explains, and copies of ours
that are not where the catalogue has them.

What cannot be looked at is told, and what is behind it is looked at all the same. Nothing is concluded from an
absence: a copy that is not found is queued for a re-read, which calls it suspect if it cannot be read, and too many at
once are only told (law 3). What a night did not get to the next one goes on with.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import structlog

from tomovault.catalog.comparing import Known, list_kept
from tomovault.core.errors import TomovaultError, Transient
from tomovault.core.known import RECONCILE
from tomovault.tiers.blocks import shown, try_lock
from tomovault.vault.census import Walk, census_page, go_on, keep_census
from tomovault.vault.job_folder import write_json
from tomovault.vault.places import find_absence, place_of
from tomovault.vault.reconcile_state import read_state, state_file
from tomovault.vault.sizes import counted
from tomovault.vault.unexplained import tell_owners
from tomovault.vault.vault import Vault
from tomovault.watch.area import check_area
from tomovault.watch.sweep import missing_brake

log = structlog.get_logger(__name__)

#: Copies that one question to the catalogue names.
_AT_ONCE = 500

#: So many copies of one place that a night cannot look at: the place is ill, and is left alone until the next.
_UNREADABLE = 3

#: How far it is is kept this often.
_KEPT_EVERY_S = 5.0


class Enough(Exception):
    """The time is up. Not an error: what was done is kept."""


class Reconciler:
    """Goes through the places of a site, that which waited longest first, each from where it was left."""

    def __init__(self, vault: Vault, *, is_over: Callable[[], bool], own: bool = False) -> None:
        """`is_over` says whether to stop: asked at every folder and every few copies. With `own` only the areas that
        name this machine are looked at: all else somebody else compares.
        """
        self._vault = vault
        self._own = own
        self._is_over = is_over
        self._state: dict[str, Any] = {}
        self._kept_at = time.monotonic()

    def run(self) -> bool:
        """Whether every place was gone through once, before it was time to stop.

        Raises Transient while another process compares, since both would keep how far they are in one file.
        """
        with _alone(self._vault):
            places = self._places()
            known = read_state(self._vault)
            self._state = {name: known.get(name, {}) for name in places}
            try:
                for name in sorted(places, key=self._waited):
                    self._one(name)
            except Enough:
                return False
            finally:
                self._keep()
            return True

    def _places(self) -> list[str]:
        site, here = self._vault.site, {self._vault.host} if self._own else {None, self._vault.host}
        areas = [name for name, area in site.areas.items() if area.host in here]
        tiers = [name for name in site.tiers if place_of(self._vault, name) and site.tiers[name].kind == "posix"]
        tiers = [] if self._own else tiers
        return [*(f"area {name}" for name in areas), *(f"copies {name}" for name in (*areas, *tiers))]

    def _waited(self, name: str) -> tuple[bool, str]:
        """What is under way comes first, then what was done longest ago."""
        state = self._state.get(name, {})
        return "under_way" not in state, str(state.get("at", ""))

    def _one(self, name: str) -> None:
        kind, _, place = name.partition(" ")
        try:
            told = self._area(place) if kind == "area" else self._copies(place)
        except (TomovaultError, OSError) as problem:
            log.warning("cannot be reconciled", place=name, reason=str(problem))
            self._state.setdefault(name, {})["problem"] = str(problem)
            return
        self._state[name] = {"at": datetime.now(UTC).isoformat(), "problem": "", **told}
        self._keep()

    # --- data that no scan explains --------------------------------------------------------------

    def _area(self, area: str) -> dict[str, Any]:
        """The page of a census is kept, as `tomovault census` would tell it."""
        vault, name = self._vault, f"area {area}"
        with vault.catalogue.reading() as tx:
            identity = vault.identity_of(tx, area)
        check_area(str(vault.area(area).path), identity)
        walk = Walk(area)
        with suppress(KeyError, TypeError, ValueError):
            walk = Walk.from_plain(area, self._state.get(name, {})["under_way"])

        def progress(_done: int, _total: int) -> None:
            self._go_on_or_stop(name, walk.to_plain)

        go_on(vault, walk, progress)
        check_area(str(vault.area(area).path), identity)
        now = datetime.now(UTC)
        with vault.catalogue.reading() as tx:
            page = census_page(vault, tx, area, walk.rows(), walk.walked, now)
        keep_census(vault, page)  # a walk of hours is not lost where the catalogue is busy now
        tell_owners(vault, page, now)
        keep_census(vault, page)
        late = [row for row in page["unexplained"] if datetime.fromisoformat(row["deadline"]) <= now]
        return {
            "folders": len(page["unexplained"]),
            "bytes": sum(row["bytes"] for row in page["unexplained"]),
            "late": [{key: row[key] for key in ("folder", "owner", "files", "bytes", "since")} for row in late[:100]],
            "late_bytes": sum(row["bytes"] for row in late),
            "late_folders": len(late),
        }

    # --- copies that are not there ---------------------------------------------------------------

    def _copies(self, tier: str) -> dict[str, Any]:
        """What of our copies is not found on a tier, or in an area's vault, is queued for a re-read."""
        vault, name = self._vault, f"copies {tier}"
        self._require(tier)
        begun = self._state.get(name, {}).get("under_way") or {}
        after, seen = begun.get("after", ""), int(begun.get("seen", 0))
        missing, unread = list(begun.get("missing", [])), list(begun.get("unread", []))
        brake_at = len(unread) + _UNREADABLE

        def here() -> dict[str, Any]:
            return {"after": after, "seen": seen, "missing": missing, "unread": unread}

        while True:
            with vault.catalogue.reading() as tx:
                batch = list_kept(tx, tier, after, _AT_ONCE)
            for known in batch:
                after, seen = known.replica, seen + 1
                try:
                    if problem := why_not_there(known):
                        missing.append(
                            {"replica": known.replica, "scan": known.scan, "area": known.area, "problem": problem}
                        )
                except OSError as problem_:
                    unread.append(f"{shown(problem_.filename or known.location)}: {problem_.strerror}")
                    if len(unread) == brake_at:
                        self._state[name]["under_way"] = here()
                        raise Transient(f"{_told(unread)}; nothing more was looked at there (law 3)") from problem_
            self._go_on_or_stop(name, here)
            if len(batch) < _AT_ONCE:
                break
        self._require(tier)  # what was unmounted meanwhile is not missing
        braked = missing_brake(seen, len(missing))
        if missing and not braked:
            self._queue(missing)
        found = {"seen": seen, "missing": len(missing), "first": missing[:20], "braked": braked, "unread": len(unread)}
        return found | {"problem": _told(unread)} if unread else found

    def _require(self, tier: str) -> None:
        with self._vault.catalogue.reading() as tx:
            absent = find_absence(self._vault, tx, tier)
        if absent is not None:
            raise absent

    def _queue(self, missing: list[dict[str, str]]) -> None:
        vault, now = self._vault, datetime.now(UTC)
        with vault.catalogue.writing() as tx:
            for one in missing:
                if one["area"] not in vault.site.areas:
                    continue
                vault.queue_in(
                    tx,
                    one["area"],
                    "verify",
                    one["scan"],
                    {"replicas": [one["replica"]]},
                    dedup_key=f"reconcile:{one['replica']}:{now.date().isoformat()}",
                    rule=RECONCILE,
                    now=now,
                )

    # --- stopping and going on -------------------------------------------------------------------

    def _go_on_or_stop(self, name: str, how_far: Callable[[], dict[str, Any]]) -> None:
        """Raises Enough when it is time; before that, and now and then, how far a place is is kept."""
        over = self._is_over()
        if over or time.monotonic() - self._kept_at > _KEPT_EVERY_S:
            self._state.setdefault(name, {})["under_way"] = how_far()
            self._keep()
        if over:
            raise Enough

    def _keep(self) -> None:
        write_json(state_file(self._vault), self._state, durable=False)
        self._kept_at = time.monotonic()


@contextmanager
def _alone(vault: Vault) -> Iterator[None]:
    """No other process of this site compares on this machine; the lock ends with the one that held it."""
    vault.run_folder.mkdir(parents=True, exist_ok=True)
    lock = try_lock(str(state_file(vault).with_suffix(".lock")))
    if lock is None:
        raise Transient(
            "another comparison of what is known with what is there is under way",
            hint="it is the daemon's, or another `tomovault reconcile`; `tomovault status` shows what it finds",
        )
    try:
        yield
    finally:
        os.close(lock)


def _told(unread: list[str]) -> str:
    return f"{counted(len(unread), 'copy', 'copies')} cannot be looked at, first {unread[0]}"


def why_not_there(known: Known) -> str:
    """'' if every file of a copy is there with its size. Raises OSError where that cannot be asked."""
    for file in known.files:
        try:
            state = os.lstat(file.location)
        except (FileNotFoundError, NotADirectoryError):
            return f"{file.location} is not there"
        if not stat.S_ISREG(state.st_mode) or state.st_size != file.size:
            return f"{file.location} is not as it was written"
    return ""
