"""A claimed job on its way to an order: what it asks for, the facts to build on, and how it can turn out moot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tomovault.core.known import KnownScan
from tomovault.core.record import Moot as Moot
from tomovault.core.replica import Form, ProductKind, Replica, ReplicaState, StoredFile
from tomovault.vault.vault import Vault


@dataclass(frozen=True)
class Request:
    """A claimed job with what is needed to make its order. `begins`: the location that it reads first, or the domain
    that it writes first; '' where nobody chose.
    """

    vault: Vault
    tx: Any
    scan: KnownScan
    wish: Mapping[str, Any]
    now: datetime
    rule: str
    begins: str = ""


def disk_package(vault: Vault, scan: KnownScan, kind: ProductKind = ProductKind.ORIGINAL) -> Replica | None:
    """A verified package of a product on an area's disk, its own area first."""
    found = [
        r
        for r in scan.replicas_of(kind, Form.PACKAGE)
        if r.state is ReplicaState.VERIFIED and r.tier in vault.site.areas
    ]
    found.sort(key=lambda r: r.tier != scan.area)
    return found[0] if found else None


def stored_files(request: Request, replica: Replica) -> tuple[StoredFile, ...]:
    """The files of a replica as the catalogue has them."""
    return tuple(request.vault.catalogue.replica_parts(request.tx, replica.id))
