"""The cartridges of a site's libraries, and what the catalogue knows to be on them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from tomovault.catalog.backups import Backup, BackupCopy
from tomovault.core.backup import CATALOGUE
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
        for backup in vault.catalogue.list_backups(tx):
            for copy in backup.copies.values():
                if copy.placed is not None and copy.tier in libraries:
                    barcode, _, file = copy.placed.location.partition("#")
                    bundles[copy.tier, barcode].append(_backup_row(backup, copy, int(file)))
    rows = []
    for name, library in libraries.items():
        for cartridge in library.cartridges():
            held = sorted(bundles[name, cartridge["barcode"]], key=lambda b: int(b["file"]))
            rows.append({**cartridge, "tier": name, "bundles": held, "bytes": sum(int(b["bytes"]) for b in held)})
    return rows


def _backup_row(backup: Backup, copy: BackupCopy, file: int) -> dict[str, Any]:
    """A backup of the catalogue among the packages of a cartridge: of no scan."""
    read = ReplicaState.VERIFIED if copy.verified_at is not None else ReplicaState.PRESENT
    return {
        "file": file,
        "scan": "",
        "scan_name": f"catalogue, {backup.told.made_at:%Y-%m-%d %H:%M} UTC",
        "product": CATALOGUE,
        "digest": backup.told.sha256,
        "bytes": backup.told.bytes,
        "state": (ReplicaState.SUSPECT if copy.problem else read).value,
    }
