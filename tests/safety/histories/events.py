"""Everything that may happen to a site: each event is a method with two small numbers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

from tomovault.catalog.work import confirm_missing
from tomovault.core.errors import TomovaultError
from tomovault.core.known import RemovalPhase
from tomovault.core.record import Inspected
from tomovault.core.replica import Form, ProductKind
from tomovault.core.scan import Candidate, Verdict
from tomovault.testing.ground import Copy, digest_of, records_of, stored
from tomovault.vault.asking import ask
from tomovault.vault.destroying import order_destruction, plan_destruction
from tomovault.vault.owner_warnings import extend
from tomovault.vault.removals import pin_after_undo, take_back_order

from .policies import POOLS
from .site import MARKS, Stage

HOUR, DAY = 3600.0, 86400.0
SPANS = (60.0, HOUR, 6 * HOUR, DAY, 3 * DAY + HOUR, 10 * DAY, 40 * DAY, 100 * DAY)
JUMPS = (-2 * HOUR, 2 * HOUR, DAY, -DAY, 5 * DAY, -5 * DAY, 60 * DAY, 500 * DAY)
FAULTS = ("transient", "failed", "defect", "half", "lost")

#: How often each event happens beside the others.
EVENTS = {
    "live": 14,
    "time": 8,
    "arrive": 4,
    "established": 6,
    "mark": 3,
    "grow": 1,
    "vanish": 1,
    "confirm": 1,
    "spoil": 3,
    "verify": 2,
    "policy": 3,
    "fast_policy": 1,
    "pin": 2,
    "unpin": 1,
    "extension": 1,
    "undo": 2,
    "destroy": 2,
    "restore": 2,
    "absence": 2,
    "filled": 1,
    "fault": 3,
    "kill": 3,
    "jump": 1,
    "second": 1,
    "silence": 1,
}

_OPEN = (RemovalPhase.GRANTED, RemovalPhase.QUARANTINED, RemovalPhase.LEAVING)


class Beamline(Stage):
    """What comes to the disks, and what becomes of it there."""

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


class Machines(Stage):
    """What happens to clocks, disks and daemons."""

    def time(self, a: int, _b: int) -> None:
        """Time passes, as the daemon lives or not."""
        self.pass_time(SPANS[a % len(SPANS)])
        for daemon in self.daemons.values():
            daemon.clerk.upkeep.ask("overdue")
            daemon.clerk.upkeep.ask("room")

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
        self.kill_in, self.fine = a + 8 * (b % 3), b > 3
        self.live(3)
        self.fine = False
        if self.kill_in >= 0:
            self.kill_in = -1
            self.die()

    def second(self, _a: int, _b: int) -> None:
        """Another daemon of this machine wants to begin on the same catalogue: it is told that there is one."""
        self.refuse_second()

    def filled(self, a: int, b: int) -> None:
        """Others fill a disk, or free it."""
        self.others["mirror" if b > 5 else "fast" if a % 3 == 2 else "inhouse"] = (a // 3) * 600

    def silence(self, _a: int, _b: int) -> None:
        """Nobody takes messages any more, or somebody does again."""
        self.mute = not self.mute


class People(Stage):
    """What those who look after a site, and those whose data it has, say to it."""

    def policy(self, a: int, b: int) -> None:
        """The policy of the file server is edited, sometimes into something wrong."""
        self.edit("inhouse", POOLS["inhouse"][(a + 8 * (b % 2)) % len(POOLS["inhouse"])])

    def fast_policy(self, a: int, _b: int) -> None:
        """The policy of the fast disk is edited."""
        self.edit("fast", POOLS["fast"][a % len(POOLS["fast"])])

    def mark(self, a: int, b: int) -> None:
        """The marks of a place are changed, and the daemon started again for it."""
        self.marks[("inhouse", "inhouse", "fast", "mirror")[b % 4]] = MARKS[a % len(MARKS)]
        self.start_again()

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
        leaving = sorted((s for s in scans if any(p.phase in _OPEN for p in s.permits)), key=lambda s: s.name)
        if not leaving:
            return
        scan, vault = leaving[a % len(leaving)], self.clerk.vault
        with self.catalogue.writing() as tx:
            pin_after_undo(vault, tx, scan, "anna", self.clock.wall)
        tiers = {r.id: r.tier for r in scan.replicas}
        for permit in (p for p in scan.permits if p.phase in _OPEN):
            with contextlib.suppress(TomovaultError):
                if tiers[permit.replica] in vault.site.areas or not permit.ordered_by:
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


class History(Beamline, Machines, People):
    """A site, its daemon, and everything that may happen to them."""
