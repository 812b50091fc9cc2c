"""A site whose daemon is the real one, step by step, on disks and tapes that are a table in memory, under a clock that
goes as a history says.

What decides and what records is the code of the project: the clerk with its planner, room maker and lookout, the
foreman, every order of a job, and the catalogue. What a job does to bytes is done to the table, so that a history of
months takes a second, and so that the table knows what was really read, and what really went.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
import structlog

from tomovault.catalog.catalogue import Catalogue
from tomovault.catalog.work import confirm_missing
from tomovault.core.errors import TomovaultError, Transient
from tomovault.core.known import RemovalPhase
from tomovault.core.record import Inspected, Outcome, Result
from tomovault.core.replica import Form, ProductKind
from tomovault.core.scan import Candidate, Verdict
from tomovault.daemon.areas import Look
from tomovault.daemon.clerk import Clerk
from tomovault.daemon.clock import WallClock, find_silence
from tomovault.testing.ground import Clock, Copy, Ground, digest_of, records_of, stored
from tomovault.vault import job_folder
from tomovault.vault.asking import ask
from tomovault.vault.destroying import order_destruction, plan_destruction
from tomovault.vault.job import result_to_plain
from tomovault.vault.owner_warnings import extend
from tomovault.vault.removals import pin_after_undo, take_back_order
from tomovault.vault.setting_up import set_up_site
from tomovault.vault.vault import Vault
from tomovault.watch.area import Space
from tomovault.watch.sweep import Seen, Sweep

HOUR, DAY = 3600.0, 86400.0
HOLD = timedelta(days=3)

_COPY = "{name: archive, when: packed, do: archive, with: {copies: %d}}"
_HEAD = (
    "name: %s\nversion: %d\nverified_within: {disk: %s, archive: %s}\nrules:\n  - {name: pack, when: true, do: pack}\n"
)
_FULL = "archived and usage > high"


@dataclass(frozen=True)
class Rules:
    """What a policy of the pool says that law 4 and the rules' own words can be checked against."""

    body: str
    copies: int = 2
    archive_days: int = 400
    disk_days: int = 90
    least_age_days: int = 0
    prunes: bool = True
    archives: bool = True
    wrong: bool = False


def _prunes(when: str = _FULL, more: str = "") -> str:
    return "".join(
        f"  - {{name: {form}, when: {when}, do: prune, with: {{forms: [{form}]}}, order: {order}{more}}}\n"
        for order, form in ((10, "files"), (20, "package"))
    )


def _archive(copies: int) -> str:
    return f"  - {_COPY % copies}\n"


POLICIES = (
    Rules(_archive(2) + _prunes()),
    Rules(_archive(3) + _prunes(), copies=3),
    Rules(_archive(2) + _prunes(), archive_days=5, disk_days=5),
    Rules(_archive(2) + _prunes(f"{_FULL} and age > 30d"), least_age_days=30),
    Rules(_archive(2) + _prunes() + "  - {name: no, when: true, do: forbid, with: {actions: [prune]}}\n", prunes=False),
    Rules(_archive(2), prunes=False),
    Rules(_archive(2) + _prunes(more=", limits: {files: 1}")),
    Rules(_archive(2) + _prunes("archived and usage > hihg"), wrong=True),
    Rules("  - {name: archive, when: packed, do: arch", wrong=True),
    Rules(_archive(2) + _prunes().replace("with: {", "with: {warn: 2d, "), prunes=False),  # nobody can be warned here
)

_MIRROR = "  - {name: mirror, when: packed, do: replicate, with: {tiers: [mirror]}}\n"
_ON_SERVER = "replicas(server) >= 1 and usage > high"
FAST_POLICIES = (
    Rules(_MIRROR + _archive(2) + _prunes(_ON_SERVER)),
    Rules(_MIRROR + _prunes(_ON_SERVER), archives=False),
    Rules(_MIRROR + _archive(2) + _prunes(f"archived and {_ON_SERVER}"), archive_days=5, disk_days=5),
)
POOLS = {"inhouse": POLICIES, "fast": FAST_POLICIES}


class Killed(BaseException):
    """The daemon died here."""


class Process:
    """Stands where the process of a job would: what it does is done when somebody asks whether it still runs."""

    def __init__(self, folder: Path, history: History, clerk: Clerk) -> None:
        self.folder, self._history, self._clerk = folder, history, clerk
        self._over = False

    def running(self) -> bool:
        if not self._over:
            self._over = True
            self._carry_out()
        return False

    def ended_how(self) -> str:
        return "was ended by SIGKILL"

    def stop(self) -> bool:
        self._over = True
        return True

    def _carry_out(self) -> None:
        told = json.loads((self.folder / job_folder.ORDER).read_text("utf-8"))
        history, ground = self._history, self._history.ground
        with self._clerk.vault.catalogue.reading() as tx:
            if not self._clerk.vault.catalogue.token_is_current(tx, told["job"], told["token"]):
                return
        fault, ground.fault = ground.fault, ""
        records: list[Any] = []
        result = Result(Outcome.SUCCEEDED)
        try:
            if told["order"].get("area") in ground.absent:
                raise Transient("the area is not there")
            history.laws.before_act(told["action"], told["order"])
            if fault in ("transient", "failed", "defect"):
                result = Result(Outcome(fault), error="planted")
            else:
                for record in getattr(ground, told["action"])(told["order"]):
                    records.append(record)
                    if fault == "half":
                        result = Result(Outcome.TRANSIENT, error="planted, half way")
                        break
        except TomovaultError as problem:
            result = Result(
                Outcome.TRANSIENT if isinstance(problem, Transient) else Outcome.DAMAGED, error=str(problem)
            )
        history.point("job.acted")
        if fault != "lost":
            job_folder.write_json(
                self.folder / job_folder.RESULT, result_to_plain(replace(result, records=tuple(records))), durable=False
            )
        history.point("job.written")


class _Watch:
    """Stands where the thread would that sweeps an area: it sees what the ground has."""

    def __init__(self, area: str, folder: str, ground: Ground) -> None:
        self._area, self._folder, self._ground = area, folder, ground
        self._known: dict[str, int] = {}
        self.writing, self.mount_source = False, ""

    def look(self) -> Look:
        if self._area in self._ground.absent:
            return Look(self._area, None, "its marker is not there")
        there = {p: c for p, c in self._ground.copies.items() if c.form is Form.FILES and c.tier == self._area}
        self._known = {p: 0 if p in there else n + 1 for p, n in self._known.items()} | dict.fromkeys(there, 0)
        seen = tuple(
            Seen(Candidate("edf", path), f"v{copy.version}", True, 1e6, copy.size, copy.version)
            for path, copy in sorted(there.items())
        )
        absent = tuple((Candidate("edf", path), n) for path, n in sorted(self._known.items()) if n)
        vanished = tuple(candidate for candidate, n in absent if n == 1)
        return Look(self._area, Sweep(seen, vanished, (), 1, 1, 0.0, changed=seen, absent=absent))

    def forget(self, candidates: list[Candidate]) -> None:
        for candidate in candidates:
            self._known.pop(candidate.folder, None)

    def stop(self) -> None:
        """Nothing to stop."""


class NoWatch:
    """Looks on, and finds nothing wrong."""

    def before_act(self, action: str, order: dict[str, Any]) -> None:
        """A job is about to touch bytes."""

    def after_turn(self) -> None:
        """The daemon did one thing."""

    def after_event(self) -> None:
        """Something happened, and all that the daemon did about it."""


MARKS = (
    {"prune": True, "quota": 3000, "high": 0.5, "low": 0.2},
    {"prune": True, "quota": 3000, "high": 0.9, "low": 0.7},
    {"prune": True, "quota": 900, "high": 0.5, "low": 0.2},
    {"prune": False, "quota": 900, "high": 0.5, "low": 0.2},
    {"prune": True, "quota": 20_000, "high": 0.8, "low": 0.5},
)
SPANS = (60.0, HOUR, 6 * HOUR, DAY, 3 * DAY + HOUR, 10 * DAY, 40 * DAY, 100 * DAY)
JUMPS = (-2 * HOUR, 2 * HOUR, DAY, -DAY, 5 * DAY, -5 * DAY, 60 * DAY, 500 * DAY)
FAULTS = ("transient", "failed", "defect", "half", "lost")


class History:
    """A site, its daemon, and everything that may happen to them: each event is a method with two small numbers."""

    def __init__(self, base: Path, template: Path, clock: Clock, url: str = "") -> None:
        self.base, self.clock, self.url = base, clock, url
        self.ground = Ground(clock)
        self.laws: Any = NoWatch()
        self.folder = base / "site"
        self.areas = {name: base / name for name in POOLS}
        for path in self.areas.values():
            path.mkdir()
            Path(f"{path}.vault").mkdir()
        self.folder.mkdir()
        settings: dict[str, Any] = {
            "quarantine": {"hold": f"{HOLD.days}d", "limit": "100%"},
            "tiers": {
                "tape": {"kind": "emulated_library", "path": "tape", "copies": 3},
                "mirror": {"kind": "posix", "class": "server", "path": "mirror"},
            },
            "jobs": {"cpus": 2},
            "retries": {"attempts": 3, "after": "60s"},
        }
        if url:
            settings["catalogue"] = url
        else:
            shutil.copy(template, self.folder / "catalogue.db")
        (self.folder / "mirror").mkdir()
        set_up_site(self.folder, {n: str(p) for n, p in self.areas.items()}, simulated=True, settings=settings)
        self.marks = {"inhouse": MARKS[0], "fast": MARKS[2]}
        self.others = dict.fromkeys(POOLS, 0)
        self.rules = {name: pool[0] for name, pool in POOLS.items()}
        self.version = 0
        self.vanished: set[str] = set()
        self.kill_in = -1
        self.deaths = 0
        self.policy(0, 0)
        self.fast_policy(0, 0)
        self.clerk = self._employ()

    # --- the daemon ----------------------------------------------------------------------------------

    def _employ(self) -> Clerk:
        """A daemon has its place, as `Clerk.run` would have given it one."""
        vault = Vault.open(self.folder, upgrade=False)
        areas = {
            name: replace(a, policy=name, tier_class=type(a.tier_class)("fast" if name == "fast" else "server"), **m)
            for (name, a), m in zip(vault.site.areas.items(), self.marks.values(), strict=True)
        }
        vault = Vault(replace(vault.site, areas=areas), vault.catalogue)
        vault.space_of = self._space_of
        clerk = Clerk(vault, stop=threading.Event(), tell=lambda _what, _facts: None, busy=lambda: False)
        newest, now = clerk._lead.join(), self.clock.wall
        clerk._clock = WallClock(
            now,
            newest=newest,
            silence=find_silence(vault, now),
            running=lambda: self.clock.running_s,
            is_synchronised=lambda: False,
        )
        self.employed_at = (now, self.clock.running_s)
        clerk.foreman.take_up_orphans()
        clerk.foreman.leads = True
        clerk.presence.watches = {n: _Watch(n, str(p), self.ground) for n, p in self.areas.items()}
        for area in clerk.watches:
            with vault.catalogue.reading() as tx:
                for entry in vault.catalogue.list_candidates(tx, area):
                    clerk.watches[area]._known.setdefault(entry.candidate.folder, 0)
        clerk.upkeep.ask("overdue")
        return clerk

    def _space_of(self, area: Any) -> Space | None:
        if area.name in self.ground.absent:
            return None
        return Space(area.quota, max(0, area.quota - self.ground.used(area.name) - self.others[area.name]))

    def point(self, _name: str) -> None:
        """A point at which a daemon may die."""
        if self.kill_in == 0:
            self.kill_in = -1
            raise Killed
        self.kill_in -= self.kill_in > 0

    def _dies(self) -> None:
        """Nothing that the daemon had in memory is left, and its jobs died with it; another takes its place."""
        self.deaths += 1
        if self.url:  # its leases run out
            with self.clerk.vault.catalogue.writing() as tx:
                self.clerk.vault.catalogue.drop_leases(tx, self.clerk.holder)
        else:
            life = self.clerk._lead._life
            os.close(life._handle)
            life._handle = -1
        self.clerk.vault.close()
        self.clerk = self._employ()

    def live(self, turns: int, _b: int = 0) -> None:
        """The daemon takes so many turns of up to a few hundred; it sweeps its areas first."""
        for watch in self.clerk.watches.values():
            self.clerk.presence.looks.put(watch.look())
        for _ in range(4 ** (1 + turns % 4)):
            try:
                acted = self.clerk._turn()
            except Killed:
                self._dies()
                acted = True
            if acted:
                self.laws.after_turn()
            elif self.clerk.room_maker.over:
                break

    @property
    def catalogue(self) -> Catalogue:
        return self.clerk.vault.catalogue

    def close(self) -> None:
        """Everything is closed."""
        self.clerk._lead._end_life()
        self.clerk.vault.close()

    # --- the beamline --------------------------------------------------------------------------------

    def arrive(self, a: int, b: int) -> None:
        """A scan is written, sometimes one that is not complete."""
        area = "fast" if a % 3 == 2 else "inhouse"
        name = f"s{len(self.ground.acquired)}"
        verdict = {6: Verdict.ABORTED, 7: Verdict.INCOMPLETE}.get(b)
        if verdict is not None:
            self.ground.verdicts[name] = verdict
        self._write(area, name, 100 * (1 + b), 0)

    def _write(self, area: str, name: str, size: int, version: int) -> str:
        root = str(self.areas[area] / name)
        self.ground.acquired.setdefault(name, self.clock.wall)
        digest = digest_of(name, version)
        self.ground.copies[root] = Copy(name, version, size, Form.FILES, area, f"area:{area}", digest)
        return root

    def established(self, a: int, b: int) -> None:
        """A scan was written, packed and archived some time ago."""
        name = f"s{len(self.ground.acquired)}"
        area = "fast" if a % 3 == 2 else "inhouse"
        root, now = self._write(area, name, 100 * (1 + b), 0), self.clock.wall
        self.ground.acquired[name] = now - timedelta(days=10 * a)
        copy = self.ground.copies[root]
        location = str(self.base / f"{area}.vault" / name / f"{name}.tomo.h5")
        package = self.ground.copies[location] = replace(copy, form=Form.PACKAGE, size=copy.size // 2)
        self.ground.reads |= {(root, copy.digest, now), (location, copy.digest, now)}
        records = [*records_of(copy, root, now), stored(package, location, now)]
        records += [self.ground._put(package, "tape", domain) for domain in ("tape-1", "tape-2")]
        seen = Inspected(Candidate("edf", root), "v0", True, (self.ground.report(root, copy),))
        with self.catalogue.writing() as tx:
            self.catalogue.note_candidate(tx, area, seen.candidate, "v0", True, now)
            scan = self.catalogue.record_inspected(tx, area, seen, now)[0]
            self.catalogue.apply_records(tx, records, now, scan_id=scan)

    def grow(self, a: int, _b: int) -> None:
        """The master of a scan grows: what stands there is another scan now."""
        if roots := self._roots():
            root = roots[a % len(roots)]
            copy = self.ground.copies[root]
            version = copy.version + 1
            self._write(copy.tier, copy.name, copy.size + 50, version)

    def vanish(self, a: int, _b: int) -> None:
        """Somebody removes the files of a scan with `rm`."""
        if roots := self._roots():
            root = roots[a % len(roots)]
            self.vanished.add(root)
            del self.ground.copies[root]

    def confirm(self, a: int, _b: int) -> None:
        """A person says that it was meant."""
        gone = sorted(self.vanished)
        if gone:
            root = gone[a % len(gone)]
            area = "fast" if "/fast/" in root else "inhouse"
            with contextlib.suppress(TomovaultError), self.catalogue.writing() as tx:
                confirm_missing(tx, area, Candidate("edf", root), "anna", self.clock.wall)

    def spoil(self, a: int, b: int) -> None:
        """A copy goes bad, and nobody knows."""
        names = sorted(self.ground.acquired)
        if names:
            name = names[a % len(names)]
            copies = [c for _, c in sorted(self.ground.copies.items()) if c.name == name]
            if copies:
                copies[b % len(copies)].bad = True

    def _roots(self) -> list[str]:
        return sorted(p for p, c in self.ground.copies.items() if c.form is Form.FILES)

    # --- the machines --------------------------------------------------------------------------------

    def time(self, a: int, _b: int) -> None:
        """Time passes, as the daemon lives or not."""
        self.clock.go(SPANS[a % len(SPANS)])
        self.clerk.upkeep.ask("overdue")
        self.clerk.upkeep.ask("room")

    def jump(self, a: int, _b: int) -> None:
        """The clock is set to another time."""
        self.clock.jump(JUMPS[a % len(JUMPS)])

    def absence(self, a: int, _b: int) -> None:
        """An area is unmounted, or there again."""
        self.ground.absent ^= {"fast" if a % 3 == 2 else "inhouse"}

    def fault(self, a: int, _b: int) -> None:
        """The next job fails, each in a way of its own."""
        self.ground.fault = FAULTS[a % len(FAULTS)]

    def kill(self, a: int, b: int) -> None:
        """The daemon dies at some point of what it does next."""
        self.kill_in = a + 8 * (b % 3)
        self.live(3)
        if self.kill_in >= 0:
            self.kill_in = -1
            self._dies()

    def second(self, _a: int, _b: int) -> None:
        """Another daemon wants to begin on the same catalogue: it is told that one leads."""
        vault = Vault.open(self.folder, upgrade=False)
        other = Clerk(vault, stop=threading.Event(), tell=lambda _what, _facts: None, busy=lambda: False)
        try:
            with pytest.raises(Transient, match=self.clerk.holder):
                other._lead.join()
        finally:
            vault.close()

    def filled(self, a: int, _b: int) -> None:
        """Others fill the disk of an area, or free it."""
        self.others["fast" if a % 3 == 2 else "inhouse"] = (a // 3) * 600

    # --- people --------------------------------------------------------------------------------------

    def policy(self, a: int, _b: int) -> None:
        """The policy of the file server is edited, sometimes into something wrong."""
        self._edit("inhouse", POLICIES[a % len(POLICIES)])

    def fast_policy(self, a: int, _b: int) -> None:
        """The policy of the fast disk is edited."""
        self._edit("fast", FAST_POLICIES[a % len(FAST_POLICIES)])

    def _edit(self, area: str, rules: Rules) -> None:
        self.version += 1
        head = _HEAD % (area, self.version, f"{rules.disk_days}d", f"{rules.archive_days}d")
        path = self.folder / "policies" / f"{area}.yaml"
        path.write_text(head + rules.body, "utf-8")
        os.utime(path, (1e9 + self.version, 1e9 + self.version))  # settled
        if not rules.wrong:
            self.rules[area] = rules

    def mark(self, a: int, b: int) -> None:
        """The marks of an area are changed, and the daemon started again for it."""
        self.marks["fast" if b % 3 == 2 else "inhouse"] = MARKS[a % len(MARKS)]
        self._dies()

    def _scan(self, a: int) -> Any:
        """One of the scans that the catalogue knows, with all that is known of it; None where there is none."""
        with self.catalogue.reading() as tx:
            known = sorted(self.catalogue.list_scans(tx), key=lambda s: (s.name, s.id))
            return self.catalogue.known(tx, known[a % len(known)].id) if known else None

    def _order(self, a: int, do: Callable[[Any], None]) -> None:
        """A person's command about a scan, which may be refused."""
        scan = self._scan(a)
        if scan is not None:
            with contextlib.suppress(TomovaultError):
                do(scan)

    def pin(self, a: int, b: int) -> None:
        until = self.clock.wall + timedelta(seconds=SPANS[1 + b % 6])
        with self.catalogue.writing() as tx:
            if (scan := self._scan(a)) is not None:
                self.catalogue.add_pin(tx, scan.id, "anna", "a paper", until, self.clock.wall)

    def unpin(self, a: int, _b: int) -> None:
        with self.catalogue.writing() as tx:
            if (scan := self._scan(a)) is not None:
                self.catalogue.remove_pins(tx, scan.id, "anna", self.clock.wall)

    def extension(self, a: int, _b: int) -> None:
        """The owner of a scan asks for more days."""

        def do(scan: Any) -> None:
            with self.catalogue.writing() as tx:
                extend(self.clerk.vault, tx, scan, None, "anna", self.clock.wall)

        self._order(a, do)

    def verify(self, a: int, _b: int) -> None:
        self._order(a, lambda scan: ask(self.clerk.vault, "verify", scan.id, {}, by="anna", wait=False) and None)

    def restore(self, a: int, _b: int) -> None:
        def do(scan: Any) -> None:
            ask(self.clerk.vault, "restore", scan.id, {"to": scan.root}, by="anna", wait=False)

        self._order(a, do)

    def undo(self, a: int, _b: int) -> None:
        """`tomovault prune undo`, of the first scan from some on that has something to undo."""
        with self.catalogue.reading() as tx:
            scans = [self.catalogue.known(tx, s.id) for s in self.catalogue.list_scans(tx)]
        open_phases = (RemovalPhase.GRANTED, RemovalPhase.QUARANTINED, RemovalPhase.LEAVING)
        leaving = sorted((s for s in scans if any(p.phase in open_phases for p in s.permits)), key=lambda s: s.name)
        if not leaving:
            return
        scan, vault = leaving[a % len(leaving)], self.clerk.vault
        with self.catalogue.writing() as tx:
            pin_after_undo(vault, tx, scan, "anna", self.clock.wall)
        tiers = {r.id: r.tier for r in scan.replicas}
        for permit in (p for p in scan.permits if p.phase in open_phases):
            with contextlib.suppress(TomovaultError):
                if tiers[permit.replica] in vault.site.areas:
                    ask(vault, "undo_prune", scan.id, {"permit": permit.id}, by="anna", wait=False)
                else:
                    with self.catalogue.writing() as tx:
                        take_back_order(vault, tx, scan, permit, self.clock.wall)

    def destroy(self, a: int, b: int) -> None:
        """An operator orders, by name and with a reason, that an original goes from a tier."""

        def do(scan: Any) -> None:
            tier = ("tape", "inhouse", "fast", "mirror")[b % 4]
            planned = plan_destruction(self.clerk.vault, scan, ProductKind.ORIGINAL, tier, self.clock.wall)
            order_destruction(self.clerk.vault, planned, by="olga", reason="not ours", now=self.clock.wall)

        self._order(a, do)


@pytest.fixture
def begin(
    tmp_path, empty_catalogue, monkeypatch
) -> Iterator[Callable[..., contextlib.AbstractContextManager[History]]]:
    """Called for a site at the beginning of its history, on an empty disk each time; with a `url`, on that database."""
    clocks: list[Clock] = []
    histories: list[History] = []
    count = itertools.count()
    luck = Random()

    class Told(type(datetime)):
        def __instancecheck__(cls, one: object) -> bool:
            return isinstance(one, datetime)

    class WallTime(datetime, metaclass=Told):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return clocks[-1].wall

    for name, module in list(sys.modules.items()):
        if name.startswith("tomovault.") and getattr(module, "datetime", None) is datetime:
            monkeypatch.setattr(module, "datetime", WallTime)
    monkeypatch.setattr("tomovault.vault.foreman.checkpoint", lambda name: histories[-1].point(name))
    monkeypatch.setattr(
        "tomovault.vault.foreman.start_job", lambda folder: Process(folder, histories[-1], histories[-1].clerk)
    )
    plain = job_folder.write_json
    monkeypatch.setattr("tomovault.vault.foreman.write_json", lambda path, value: plain(path, value, durable=False))
    monkeypatch.setattr("tomovault.daemon.clerk.tell", lambda *_told: None)
    monkeypatch.setattr(
        "tomovault.catalog.transaction.uuid", SimpleNamespace(uuid4=lambda: UUID(int=luck.getrandbits(128), version=4))
    )
    configured = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))

    @contextlib.contextmanager
    def make(url: str = "") -> Iterator[History]:
        luck.seed(0)  # the same history is the same each time
        base = tmp_path / f"history-{next(count)}"
        base.mkdir()
        clocks.append(Clock())
        history = History(base, empty_catalogue, clocks[-1], url)
        histories.append(history)
        try:
            yield history
        finally:
            history.close()
            shutil.rmtree(base, ignore_errors=True)

    yield make
    structlog.configure(**configured)
