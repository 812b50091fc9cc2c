"""What a daemon tells other commands of itself beside the catalogue: one small file, replaced whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tomovault.vault.job_folder import write_json
from tomovault.vault.vault import Vault

_NAME = "daemon.json"


def tell(vault: Vault, facts: Mapping[str, Any]) -> None:
    """The file says this now."""
    vault.run_folder.mkdir(parents=True, exist_ok=True)
    write_json(vault.run_folder / _NAME, dict(facts), durable=False)


def last_told(vault: Vault) -> dict[str, Any]:
    """What the last daemon told; empty if there was none."""
    try:
        told: dict[str, Any] = json.loads((vault.run_folder / _NAME).read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return told
