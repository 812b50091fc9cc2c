"""The cartridges of a site's libraries, and what the catalogue knows to be on them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from tomovault.core.replica import ReplicaState
from tomovault.vault.page_text import name_of
from tomovault.vault.vault import Vault
from tomovault.vault.workbench import open_tier


@runtime_checkable
class Library(Protocol):
    """A tier that keeps cartridges."""

    def cartridges(self) -> Sequence[Mapping[str, Any]]:
        """Every cartridge as the library knows it."""


def list_cartridges(vault: Vault) -> list[dict[str, Any]]:
    """Every cartridge with the packages on it, by tape file."""
    tiers = {name: open_tier(vault.site, name) for name in vault.site.tiers}
    libraries = {name: tier for name, tier in tiers.items() if isinstance(tier, Library)}
    bundles: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    with vault.catalogue.reading() as tx:
        for scan in vault.catalogue.walk_scans(tx):
            for replica in scan.replicas:
                barcode, sign, file = replica.location.partition("#")
                if not sign or replica.state is ReplicaState.GONE or replica.tier not in libraries:
                    continue
                bundles[replica.tier, barcode].append(
                    {
                        "file": int(file),
                        "scan": scan.id,
                        "scan_name": name_of(scan.name),
                        "product": replica.product.value,
                        "digest": replica.digest,
                        "bytes": replica.bytes,
                        "state": replica.state.value,
                    }
                )
    rows = []
    for name, library in libraries.items():
        for cartridge in library.cartridges():
            held = sorted(bundles[name, cartridge["barcode"]], key=lambda b: int(b["file"]))
            rows.append({**cartridge, "tier": name, "bundles": held, "bytes": sum(int(b["bytes"]) for b in held)})
    return rows
