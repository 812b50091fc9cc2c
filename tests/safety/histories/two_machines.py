"""Two daemons on one catalogue, each on a machine of its own: one decides, the lead moves at any step, and one or the
other is stopped like a process that hangs, and wakes up later.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from tomovault.catalog.work import list_claims

from .events import EVENTS, HOUR, History
from .site import LEASE_S

#: For how long a daemon hangs: less than its lease, just as long, and longer.
_HANGS = (LEASE_S / 2, LEASE_S + 1, HOUR, 2 * 24 * HOUR)

#: What may happen meanwhile.
_MEANWHILE = ("", "pin", "policy", "undo", "spoil", "destroy", "unpin", "absence")

MOVES = {**EVENTS, "hang": 8, "resign": 3, "other": 6}
#: Looks and turns of one daemon are this far apart.
_STEP_S = 1.1


class TwoMachines(History):
    """A history with a daemon on the machine `one`, and one on `two`, which has the fast disk."""

    hang_in = -1
    _hang = (0, 0)

    # --- who acts ------------------------------------------------------------------------------------

    @property
    def _other(self) -> str:
        return next(host for host in self.hosts if host != self.acting)

    @contextlib.contextmanager
    def _as(self, host: str) -> Iterator[None]:
        before, self.acting = self.acting, host
        try:
            yield
        finally:
            self.acting = before

    def other(self, _a: int, _b: int) -> None:
        """The other daemon is the first one to act from now on."""
        self.acting = self._other

    # --- turns ---------------------------------------------------------------------------------------

    def live(self, turns: int, b: int = 0) -> bool:
        """Both daemons take turns, first the one that acts."""
        self.pass_time(_STEP_S)
        idle = True
        for _ in range(2):
            idle = super().live(turns, b) and idle
            self.acting = self._other
        return idle

    def turn(self) -> bool:
        acted = super().turn()
        if self.clerk._lead.lost:
            self._leave()
            return True
        return acted

    def _leave(self) -> None:
        """The acting daemon ends, as one does that has no place any more, and is started again."""
        clerk = self.clerk
        clerk.workers.stop()
        clerk._lead.drop()
        clerk.vault.close()
        self.daemons[self.acting] = self._employ(self.acting)

    def die(self) -> None:
        """The acting daemon is gone with its leases; the other one has a turn before it is there again."""
        self._end()
        if not self.in_nested:
            self.clock.go(_STEP_S)
            with self._as(self._other):
                self.turn()
                self.laws.after_turn(whole=False)
        self.daemons[self.acting] = self._employ(self.acting)

    def start_again(self) -> None:
        for host in self.hosts:
            with self._as(host):
                self._end()
        for host in self.hosts:
            self.daemons[host] = self._employ(host)

    def _end(self) -> None:
        """The acting daemon is gone, and its leases with it."""
        self.deaths += 1
        with self.catalogue.writing() as tx:
            self.catalogue.drop_leases(tx, self.clerk.holder)
        self.clerk.vault.close()

    # --- hanging -------------------------------------------------------------------------------------

    in_nested = False

    def hang(self, a: int, b: int) -> None:
        """The acting daemon hangs at some step of what it does next, and wakes up when the other has done its work."""
        self.hang_in, self._hang = a + 8 * (b % 4), (a, b)
        self.live(2)
        self.hang_in = -1

    def point(self, name: str) -> None:
        if self.hang_in == 0:
            self.hang_in = -1
            self._sleep(*self._hang)
        self.hang_in -= self.hang_in > 0
        super().point(name)

    def _sleep(self, a: int, b: int) -> None:
        self.laws.after_turn(whole=False)
        was, self.in_turn, self.in_nested = self.in_turn, False, True
        self.clock.go(_HANGS[(a + b) % len(_HANGS)])
        with self._as(self._other):
            self.keep_leases(self.clerk)
            if event := _MEANWHILE[b]:
                getattr(self, event)(a, b)
            self.sweep()
            for _ in range(24):
                self.clock.go(_STEP_S / 8)
                if not self.turn():
                    break
                self.laws.after_turn(whole=False)
            self.post()
        self._wake_jobs()
        self.in_turn, self.in_nested, self.interrupted = was, False, True

    def _wake_jobs(self) -> None:
        """Jobs of the daemon that hangs which were taken from it meanwhile go on, and find that out."""
        with self.catalogue.reading() as tx:
            tokens = {claim.job.id: claim.job.token for claim in list_claims(tx)}
        for process in self.processes:
            if process.clerk is self.clerk and tokens.get(process.told["job"]) != process.told["token"]:
                process.running()

    def resign(self, _a: int, _b: int) -> None:
        """The one that leads is stopped as by its service, and started again when the other has taken the lead."""
        leader = next((host for host in self.hosts if self.daemons[host].clerk._lead.leads), self.acting)
        with self._as(leader):
            self.clerk.workers.stop()
            self.clerk._lead.drop()
            self.clerk.vault.close()
            self.clock.go(_STEP_S)
            with self._as(self._other):
                self.turn()
                self.laws.after_turn(whole=False)
            self.daemons[leader] = self._employ(leader)
