"""A scan that a rule moved to another area belongs there once nothing of it is left where it was written."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from tomovault.core.replica import Form, ProductKind, ReplicaState
from tomovault.policy.area_facts import AreaFacts
from tomovault.vault.vault import Vault, View


def follow_files(vault: Vault, tx: Any, view: View, area: AreaFacts, now: datetime) -> bool:
    """Whether the scan belongs to the area that its files were moved to from now on, with the rules of that one."""
    scan = view.scan
    files = [r for r in scan.replicas if r.product is ProductKind.ORIGINAL and r.form is Form.FILES]
    home = [r for r in files if not scan.is_elsewhere(r)]
    if not home or any(r.state is not ReplicaState.GONE for r in home):
        return False
    wanted = [move.to for move in vault.asks(scan, area, now).moves]
    for copy in files:
        if copy.good and copy.tier in wanted and vault.catalogue.follow_moved(tx, scan.id, copy.id, now):
            return True
    return False
