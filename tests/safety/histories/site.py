"""A site whose daemons are the real ones, step by step, on disks and tapes that are a table in memory, under a clock
that goes as a history says.

What decides and what records is the code of the project: the clerk with its planner, room maker and lookout, the
foreman, every order of a job, the catalogue, and the postman. What a job does to bytes is done to the table, so that a
history of months takes a second, and so that the table knows what was really read, and what really went.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tomovault.catalog.catalogue import Catalogue
from tomovault.catalog.owner_warnings import Running
from tomovault.core.errors import Transient
from tomovault.core.replica import TierClass
from tomovault.daemon.clerk import Clerk
from tomovault.daemon.clock import WallClock, find_silence
from tomovault.daemon.courier import Postman
from tomovault.daemon.teller import Teller
from tomovault.testing.ground import Clock, Ground
from tomovault.vault.fellows import LEADER
from tomovault.vault.setting_up import set_up_site
from tomovault.vault.site_settings import Area, Marks, Site, TierSettings
from tomovault.vault.vault import Vault
from tomovault.watch.area import Space

from .policies import COSTS, POOLS, Rules
from .stand_ins import NoWatch, Process, Watch

HOLD = timedelta(days=3)
LEASE_S = 60.0

#: What may be said of how full a place may be.
MARKS = (
    {"prune": True, "quota": 3000, "high": 0.5, "low": 0.2},
    {"prune": True, "quota": 3000, "high": 0.9, "low": 0.7},
    {"prune": True, "quota": 900, "high": 0.5, "low": 0.2},
    {"prune": False, "quota": 900, "high": 0.5, "low": 0.2},
    {"prune": True, "quota": 20_000, "high": 0.8, "low": 0.5},
)


class Killed(BaseException):
    """The daemon died here."""


@dataclass
class Daemon:
    """A daemon, and when it began: by the wall, and by the time that the machine has run."""

    clerk: Clerk
    began: tuple[datetime, float]


class Stage:
    """A site with its daemons, one on each of the `hosts`, and the messages that were taken from its channel."""

    def __init__(self, base: Path, template: Path, clock: Clock, url: str = "", hosts: tuple[str, ...] = ("",)) -> None:
        self.base, self.clock, self.url = base, clock, url
        self.ground = Ground(clock)
        self.laws: Any = NoWatch()
        self.folder = base / "site"
        self.areas = {name: base / name for name in POOLS}
        for path in self.areas.values():
            path.mkdir()
            Path(f"{path}.vault").mkdir()
        for name in ("mirror", "policies"):
            (self.folder / name).mkdir(parents=True)
        if not url:
            shutil.copy(template, self.folder / "catalogue.db")
        self.marks = {"inhouse": MARKS[0], "fast": MARKS[2], "mirror": MARKS[4]}
        self.others = dict.fromkeys(self.marks, 0)
        self.vanished: set[str] = set()
        self.editions: dict[tuple[str, int], Rules] = {}
        self.version = 0
        self.newest: dict[str, int] = {}
        for area, pool in POOLS.items():
            self.edit(area, pool[0])
        areas = {n: str(p) for n, p in self.areas.items()}
        set_up_site(self.folder, areas, simulated=True, settings=self._settings(len(hosts) > 1))
        self.kill_in = -1
        self.fine = self.in_turn = self.interrupted = False
        self.deaths = 0
        self.mute = False
        self.messages: list[tuple[Any, datetime, float]] = []
        self.processes: list[Process] = []
        self.hosts, self.acting = hosts, hosts[0]
        self.daemons: dict[str, Daemon] = {}

    def begin(self) -> None:
        """A daemon has its place on each host, the first of them leads."""
        for host in self.hosts:
            self.daemons[host] = self._employ(host)

    def _settings(self, several: bool) -> dict[str, Any]:
        told = {topic: {"channels": ["page"]} for topic in ("warnings", "rules", "failures")}
        settings: dict[str, Any] = {
            "quarantine": {"hold": f"{HOLD.days}d", "limit": "100%"},
            "tiers": {
                "tape": {"kind": "emulated_library", "path": "tape", "copies": 3},
                "mirror": {"kind": "posix", "class": "server", "path": "mirror", "quota": "20kB"},
            },
            "jobs": {"cpus": 2},
            "retries": {"attempts": 3, "after": "60s"},
            "costs": COSTS,
            "globus": {
                "collection": "6c54cade-bde5-45c1-bdea-f4bd71dba2cc",
                "paths": {str(self.base): "/site"},
                "names": {"home": "5ec1f21c-b05c-4c3c-9e4d-1c3b6c0e2a52"},
            },
            "notify": {
                "channels": {"page": {"kind": "command", "argv": ["/bin/true"]}},
                **told,
            },
        }
        if self.url:
            settings |= {"catalogue": self.url, "lease": f"{LEASE_S:.0f}s"}
        settings["areas"] = {name: {"policy": name} for name in POOLS}
        if several:
            settings["areas"]["fast"]["host"] = "two"
        return settings

    # --- daemons -------------------------------------------------------------------------------------

    @property
    def clerk(self) -> Clerk:
        """The one that acts now."""
        return self.daemons[self.acting].clerk

    @property
    def catalogue(self) -> Catalogue:
        return self.clerk.vault.catalogue

    def _employ(self, host: str) -> Daemon:
        """A daemon has its place, as `Clerk.run` would have given it one."""
        vault = Vault.open(self.folder, upgrade=False, as_recorded=True)
        vault = Vault(self._as_marked(vault.site), vault.catalogue)
        if host:
            vault.host = host
        vault.space_of = self._space_of
        self._break_in(vault.catalogue)
        clerk = Clerk(vault, stop=threading.Event(), tell=lambda _what, _facts: None, busy=lambda: False)
        clerk._teller = Teller(vault, steady=lambda: self.clock.running_s, running=self._running(host))
        newest, now = clerk._lead.join(), self.clock.wall
        clerk._clock = WallClock(
            now,
            newest=newest,
            silence=find_silence(vault, now),
            running=lambda: self.clock.running_s,
            is_synchronised=lambda: False,
        )
        clerk.foreman.leads = False
        clerk._take_place()
        return Daemon(clerk, (now, self.clock.running_s))

    def _running(self, host: str) -> Any:
        return lambda: Running(f"boot of {host}", self.clock.running_s)

    def _as_marked(self, site: Site) -> Site:
        marks = {name: dict(self.marks[name]) for name in self.marks}
        areas = {
            name: replace(a, tier_class=TierClass.FAST if name == "fast" else a.tier_class, **marks[name])
            for name, a in site.areas.items()
        }
        mirror = replace(site.tiers["mirror"], marks=Marks(**marks["mirror"]))
        return replace(site, areas=areas, tiers={**site.tiers, "mirror": mirror})

    def _space_of(self, place: Area | TierSettings) -> Space | None:
        if place.name in self.ground.absent:
            return None
        quota = self.marks[place.name]["quota"]
        return Space(quota, max(0, quota - self.ground.used(place.name) - self.others[place.name]))

    def watch(self, vault: Vault, area: str) -> Watch:
        """What sweeps an area for a daemon."""
        with vault.catalogue.reading() as tx:
            known = [entry.candidate.folder for entry in vault.catalogue.list_candidates(tx, area)]
        return Watch(area, self.ground, known)

    # --- where a daemon may be stopped ---------------------------------------------------------------

    def point(self, name: str) -> None:
        """A point at which a daemon may die: those that the foreman names or, where it goes fine, any transaction."""
        if self.fine or name != "transaction":
            if self.kill_in == 0:
                self.kill_in = -1
                raise Killed
            self.kill_in -= self.kill_in > 0

    def _break_in(self, catalogue: Catalogue) -> None:
        """Before each transaction of a daemon's turn there is a point."""
        inside: list[None] = []

        def watched(begin: Any) -> Any:
            @contextlib.contextmanager
            def opened() -> Iterator[Any]:
                if self.in_turn and not inside:
                    self.point("transaction")
                inside.append(None)
                try:
                    with begin() as tx:
                        yield tx
                finally:
                    inside.pop()

            return opened

        catalogue.writing, catalogue.reading = watched(catalogue.writing), watched(catalogue.reading)

    # --- turns ---------------------------------------------------------------------------------------

    def turn(self) -> bool:
        """The acting daemon took a turn, and lives; whether something was done."""
        self.in_turn = True
        try:
            acted = bool(self.clerk._turn())
        except Killed:
            self.in_turn = False
            self.die()
            return True
        finally:
            self.in_turn = False
        return acted

    def die(self) -> None:
        """Nothing that the acting daemon had in memory is left, and its jobs died with it; another takes its place."""
        self.deaths += 1
        if self.url:  # its leases run out
            with self.catalogue.writing() as tx:
                self.catalogue.drop_leases(tx, self.clerk.holder)
        else:
            life = self.clerk._lead._life
            os.close(life._handle)
            life._handle = -1
        self.clerk.vault.close()
        self.daemons[self.acting] = self._employ(self.acting)

    def start_again(self) -> None:
        """Every daemon is another one now, which begins with what the site says today."""
        self.die()

    def refuse_second(self) -> None:
        """Another daemon that would begin on the machine of the acting one is refused, and told whose place it is."""
        vault = Vault.open(self.folder, upgrade=False, as_recorded=True)
        if self.acting:
            vault.host = self.acting
        other = Clerk(vault, stop=threading.Event(), tell=lambda _what, _facts: None, busy=lambda: False)
        try:
            with pytest.raises(Transient, match=self.clerk.holder):
                other._lead.join()
        finally:
            vault.close()

    def sweep(self) -> None:
        """Every area that the acting daemon watches is swept."""
        for watch in self.clerk.watches.values():
            self.clerk.presence.looks.put(watch.look())

    def live(self, turns: int, _b: int = 0) -> bool:
        """The daemon takes so many turns of up to a few hundred; it sweeps its areas first, and messages are sent.
        Whether it had nothing more to do before the last.
        """
        self.sweep()
        idle = False
        for _ in range(4 ** (1 + turns % 4)):
            self.interrupted = False
            acted = self.turn()
            if acted:
                self.laws.after_turn(whole=not self.interrupted)
            elif self.clerk.room_maker.over:
                idle = True
                break
        self.post()
        return idle

    def pass_time(self, seconds: float) -> None:
        """Time passes, while every daemon is there and keeps what it holds."""
        self.clock.go(seconds)
        for daemon in self.daemons.values():
            self.keep_leases(daemon.clerk)

    def keep_leases(self, clerk: Clerk) -> None:
        """A daemon has renewed its leases just now; one from which the lead was taken does not know yet."""
        with clerk.vault.catalogue.writing() as tx:
            held = clerk.vault.catalogue.renew_leases(tx, clerk.holder, LEASE_S)
        if held and (LEADER in held or not clerk._lead.leads):
            clerk._lead._renewed_at = self.clock.running_s

    def post(self) -> None:
        """What waits in the outbox goes out, if the daemon leads and the channel takes anything."""
        if self.clerk._lead.leads:
            vault = self.clerk.vault
            conf = vault.site.notify.channels["page"]
            running = self._running(self.acting)
            Postman(vault, conf, now=lambda: self.clock.wall, running=running).round()

    def send(self, message: Any) -> None:
        """The channel takes a message. Raises Transient where it does not."""
        if self.mute:
            raise Transient("nobody answers")
        self.messages.append((message, self.clock.wall, self.clock.running_s))

    # --- policies ------------------------------------------------------------------------------------

    def edit(self, area: str, rules: Rules) -> None:
        """The file of a policy is another one from now on."""
        self.version += 1
        path = self.folder / "policies" / f"{area}.yaml"
        path.write_text(rules.text(area, self.version), "utf-8")
        os.utime(path, (1e9 + self.version, 1e9 + self.version))  # settled
        if rules.wrong:  # what was written right before it was maybe never looked at
            self.newest.pop(area, None)
        else:
            self.editions[area, self.version] = rules
            self.newest[area] = self.version

    def rules(self, area: str) -> Rules:
        """The rules that the acting daemon decides by."""
        return self.editions[area, self.clerk.vault.policies[area].version]

    def close(self) -> None:
        """Everything is closed."""
        for daemon in self.daemons.values():
            daemon.clerk._lead._end_life()
            daemon.clerk.vault.close()
