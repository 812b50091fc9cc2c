"""What daemons tell other commands of themselves beside the catalogue: one small file each, replaced whole."""

from __future__ import annotations

import json
from collections import ChainMap
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from tomovault.vault.job_folder import write_json
from tomovault.vault.vault import Vault

_BY_AREA = ("absent", "trouble", "unsettled")
_LISTS = ("alarms", "running")


def tell(vault: Vault, facts: Mapping[str, Any]) -> None:
    """The file says this now."""
    vault.run_folder.mkdir(parents=True, exist_ok=True)
    write_json(vault.run_folder / f"{vault.daemon_name}.json", dict(facts), durable=False)


def last_told(vault: Vault, holders: Collection[str] = ()) -> dict[str, Any]:
    """What the daemon of these holders told that told last, or where several of them did, all of it together; without
    any, what the last daemon told; empty if there was none.
    """
    told = [one for path in vault.run_folder.glob("daemon*.json") if (one := _read(path))]
    told.sort(key=lambda one: str(one.get("at", "")))
    living = [one for one in told if one.get("holder") in holders] or told[-1:]
    if len(living) < 2:
        return living[0] if living else {}
    return {
        **living[-1],
        **{key: dict(ChainMap(*(one.get(key, {}) for one in reversed(living)))) for key in _BY_AREA},
        **{key: [row for one in living for row in one.get(key, ())] for key in _LISTS},
    }


def _read(path: Path) -> dict[str, Any]:
    try:
        told: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return told
