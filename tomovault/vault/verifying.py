"""Re-reading copies on a person's request, and telling which are bad."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from tomovault.catalog.work import Late, reasons_of
from tomovault.core.errors import TomovaultError
from tomovault.core.known import KnownScan, replaced
from tomovault.core.replica import Replica, ReplicaState
from tomovault.vault.asking import ask, find_scan, raise_if_failed
from tomovault.vault.page_text import name_of
from tomovault.vault.tier_facts import places_to_prune
from tomovault.vault.vault import Vault

_AT_A_TIME = 1000
#: States of copies that there is something to read of.
READABLE = (ReplicaState.PRESENT, ReplicaState.VERIFIED, ReplicaState.SUSPECT)


def choose_replicas(
    vault: Vault, names: Sequence[str], *, everything: bool, due: bool, now: datetime
) -> Mapping[str, tuple[str, ...]]:
    """Replica ids to re-read, by scan id; an empty tuple is all of that scan's."""
    with vault.catalogue.reading() as tx:
        if everything:
            return {s.id: () for s in vault.catalogue.walk_scans(tx, vault.site.areas) if _is_readable(s)}
        if due:
            chosen: dict[str, tuple[str, ...]] = {}
            for late in list_overdue(vault, tx, now):
                chosen[late.scan] = (*chosen.get(late.scan, ()), late.replica)
            return chosen
        return {find_scan(vault, tx, name).id: () for name in names}


def list_overdue(vault: Vault, tx: Any, now: datetime) -> Iterator[Late]:
    """Copies whose last re-read is older than their area's policy allows."""
    places = places_to_prune(vault, tx, now)
    for area in vault.site.areas:
        after: Late | None = None
        while True:
            found, after = vault.overdue(tx, area, now, limit=_AT_A_TIME, after=after, places=places)
            yield from found
            if after is None:
                break


def _is_readable(scan: KnownScan) -> bool:
    return any(r.state in READABLE for r in scan.replicas)


def verify_replicas(
    vault: Vault,
    chosen: Mapping[str, tuple[str, ...]],
    *,
    by: str,
    progress: Callable[[str, int, int], None],
    named: bool = True,
) -> dict[str, Any]:
    """Each copy that could be reached was re-read now; the page of `tomovault verify`.

    Where no scan was `named`, archive copies that are known to be bad and that nothing needs any more, since as many
    good ones stand as are wanted, are listed and not read again. Interrupted, `stopped` names the scan whose copies
    count as not read, and `left` how many of the `chosen` scans were not come to, that one included.
    """
    reading = _Rereading(vault, by, progress, named)
    left, stopped = len(chosen), ""
    for scan_id, replicas in chosen.items():
        try:
            reading.read(scan_id, replicas)
        except KeyboardInterrupt:
            stopped = reading.at
            break
        left -= 1
    return {**reading.page(), "chosen": len(chosen), "left": left, "stopped": stopped}


class _Rereading:
    """Scans re-read so far, and what was found; `at` is the name of the one that was come to last."""

    def __init__(self, vault: Vault, by: str, progress: Callable[[str, int, int], None], named: bool) -> None:
        self.at = ""
        self._vault, self._by, self._progress, self._named = vault, by, progress, named
        self._checked = 0
        self._bad: list[dict[str, Any]] = []
        self._replaced: list[dict[str, Any]] = []
        self._unreached: list[dict[str, Any]] = []

    def page(self) -> dict[str, Any]:
        return {
            "checked": self._checked,
            "ok": self._checked - len(self._bad),
            "bad": self._bad,
            "replaced": self._replaced,
            "unreached": self._unreached,
        }

    def read(self, scan_id: str, replicas: tuple[str, ...]) -> None:
        """The copies were re-read, or it is told why that cannot be done now."""
        vault = self._vault
        with vault.catalogue.reading() as tx:
            before = vault.catalogue.known(tx, scan_id)
            spare = frozenset() if self._named else list_replaced(vault, tx, before)
        self.at = name_of(before.name)
        self._replaced += [_row(before, r, "a good copy stands for it") for r in before.replicas if r.id in spare]
        wanted = [r for r in before.replicas if _is_asked(r, replicas) and r.id not in spare]
        if not wanted:
            return
        missed = not self._ask(before, wanted)
        with vault.catalogue.reading() as tx:
            after = vault.catalogue.known(tx, scan_id)
            reasons = reasons_of(tx, scan_id)
        now_known = {r.id: r for r in after.replicas}
        for replica in wanted:
            then = now_known.get(replica.id, replica)
            if missed and (then.state, then.verified_at) == (replica.state, replica.verified_at):
                continue
            self._checked += 1
            if then.state is ReplicaState.SUSPECT:
                reason = reasons.get(replica.id, "it does not re-read to its digest")
                self._bad.append(_row(before, replica, reason))

    def _ask(self, scan: KnownScan, wanted: Sequence[Replica]) -> bool:
        """Whether all could be reached."""
        wish = {"replicas": [r.id for r in wanted]}
        try:
            raise_if_failed(ask(self._vault, "verify", scan.id, wish, by=self._by, wait=True, progress=self._progress))
        except TomovaultError as problem:
            told = {"scan": scan.id, "name": name_of(scan.name), "reason": name_of(problem.message)}
            self._unreached.append({**told, "exit_code": problem.exit_code})
            return False
        return True


def _is_asked(replica: Replica, replicas: tuple[str, ...]) -> bool:
    return replica.state in READABLE and (not replicas or replica.id in replicas)


def _row(scan: KnownScan, replica: Replica, reason: str) -> dict[str, Any]:
    return {
        "replica": replica.id,
        "scan": scan.id,
        "name": name_of(scan.name),
        "tier": replica.tier,
        "location": name_of(replica.location),
        "reason": name_of(reason),
    }


def list_replaced(vault: Vault, tx: Any, scan: KnownScan) -> frozenset[str]:
    """Archive copies of a scan that are known to be bad and that nothing needs any more."""
    if scan.area not in vault.site.areas:
        return frozenset()
    now = datetime.now(UTC)
    return replaced(scan, vault.view(scan, vault.area_facts(tx, scan.area, now), now).facts)
