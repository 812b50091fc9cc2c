"""The daemons of one catalogue, by the leases that they hold: who leads, who lives, which areas are watched well.

Each daemon on PostgreSQL holds one lease for its machine. Two more kinds of leases are words to the others:
`watch:AREA` says that its holder sweeps the area and found it well; `rest:HOST`, that its holder has nothing to do of
its own accord.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tomovault.vault.vault import Vault

LEADER = "leader"

_DAEMON, _WATCH, _REST = "daemon:", "watch:", "rest:"


def daemon_lease(host: str) -> str:
    """Held by the one daemon of a machine."""
    return _DAEMON + host


def watch_lease(area: str) -> str:
    """Held by the daemon that watches an area while it finds it well."""
    return _WATCH + area


def rest_lease(host: str) -> str:
    """Held by the daemon of a machine while it has nothing to do of its own accord."""
    return _REST + host


@dataclass(frozen=True)
class Fellows:
    """Who lives, of one moment: `daemons` by machine, `watched` areas with who watches them, and who rests.

    `leader` may be a command that waits, which is no daemon.
    """

    leader: str | None = None
    daemons: Mapping[str, str] = field(default_factory=dict)
    watched: Mapping[str, str] = field(default_factory=dict)
    resting: frozenset[str] = frozenset()
    holders: frozenset[str] = frozenset()

    @property
    def followers(self) -> tuple[str, ...]:
        """Daemons that do not lead, by the names of their machines."""
        return tuple(holder for _, holder in sorted(self.daemons.items()) if holder != self.leader)

    def all_rest_but(self, holder: str) -> bool:
        """Whether the leader and every daemon but this one rest; never while nobody leads."""
        others = {*self.daemons.values(), self.leader} - {holder}
        return self.leader is not None and others <= self.resting


def read_fellows(vault: Vault, tx: Any) -> Fellows:
    """Who holds which lease now."""
    held: dict[str, str] = vault.catalogue.list_leases(tx)

    def of(kind: str) -> dict[str, str]:
        return {name.removeprefix(kind): holder for name, holder in held.items() if name.startswith(kind)}

    return Fellows(held.get(LEADER), of(_DAEMON), of(_WATCH), frozenset(of(_REST).values()), frozenset(held.values()))
