"""In which failure domain a copy is today (law 4)."""

from __future__ import annotations

from typing import Any

from tomovault.core.errors import TomovaultError
from tomovault.core.replica import Form, Replica
from tomovault.vault.places import require_place
from tomovault.vault.vault import Vault
from tomovault.vault.workbench import open_tier
from tomovault.watch.area import check_area

#: How failure domains begin that are named after a disk; `posix:` was written once.
_OF_A_DISK = ("disk:", "posix:")


def domain_now(vault: Vault, tx: Any, replica: Replica) -> str:
    """The failure domain that a copy is in today, '' where that cannot be known: its disk may be absent, have been
    changed, or have been recorded by a name that a restart changes.
    """
    if not replica.domain.startswith(_OF_A_DISK):
        return replica.domain
    area = vault.site.areas.get(replica.tier)
    if replica.tier in vault.silent:
        return ""
    try:
        if area is None:
            return open_tier(vault.site, replica.tier).domains()[0]
        if replica.form is Form.FILES:
            check_area(str(area.path), vault.identity_of(tx, area.name))
            return vault.domain_of(area.name, area.path)
        require_place(vault, tx, area.name)
        return vault.domain_of(area.name, area.vault)
    except (OSError, TomovaultError):
        return ""
