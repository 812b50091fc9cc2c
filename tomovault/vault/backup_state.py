"""What the last backup of the catalogue came to, as it is kept in the run folder for whoever asks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from tomovault.tiers.blocks import replace_file
from tomovault.vault.page_text import name_of, time_text
from tomovault.vault.vault import Vault

_FILE = "backup.json"


def keep_state(vault: Vault, state: Mapping[str, Any]) -> None:
    """This is what it came to."""
    replace_file(str(vault.run_folder / _FILE), json.dumps(state).encode("ascii"))


def read_state(vault: Vault) -> dict[str, Any]:
    """What it came to; empty where there was none."""
    try:
        state = json.loads((vault.run_folder / _FILE).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


def alarms_of(state: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """(place, text) of what a person should know, by a name for each."""
    found = {}
    if state.get("problem"):
        found["backup"] = ("catalogue", f"the catalogue could not be backed up: {state['problem']}")
    for tier, problem in state.get("tiers", {}).items():
        found[f"backup {tier}"] = (tier, f"the backup of the catalogue could not be archived: {problem}")
    return found


def backups_page(vault: Vault, tx: Any) -> dict[str, Any]:
    """The newest backup, the newest on each tier, and what went wrong last, as `status` tells it."""
    newest = newest_archived(vault, tx)
    return {
        "nightly": vault.site.backup.nightly,
        "made_at": time_text(newest.pop("", None)),
        "archived": {tier: time_text(at) for tier, at in newest.items()},
        "problems": [name_of(text) for _, text in alarms_of(read_state(vault)).values()],
    }


def newest_archived(vault: Vault, tx: Any) -> dict[str, datetime]:
    """When the newest backup was made that is on each tier and was re-read there, and under '' the newest of all."""
    newest: dict[str, datetime] = {}
    for backup in vault.catalogue.list_backups(tx):
        newest.setdefault("", backup.told.made_at)
        for tier, copy in backup.copies.items():
            if copy.verified_at is not None and not copy.problem:
                newest.setdefault(tier, backup.told.made_at)
    return newest


def list_rows(vault: Vault, tx: Any) -> list[dict[str, Any]]:
    """Every backup that is known, the newest first."""
    folder = Path(vault.site.backup.folder)
    return [
        {
            "made_at": time_text(backup.told.made_at),
            "file": str(folder / backup.told.file),
            "on_disk": (folder / backup.told.file).exists(),
            "bytes": backup.told.bytes,
            "sha256": backup.told.sha256,
            "database": backup.told.database,
            "copies": [
                {
                    "tier": copy.tier,
                    "location": name_of(copy.placed.location) if copy.placed is not None else "",
                    "verified_at": time_text(copy.verified_at),
                    "problem": name_of(copy.problem),
                }
                for copy in backup.copies.values()
            ],
        }
        for backup in vault.catalogue.list_backups(tx)
    ]
