"""What the last comparisons of what is known with what is there found, as it is kept in the run folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tomovault.vault.sizes import show_bytes
from tomovault.vault.vault import Vault, word_of


def read_state(vault: Vault) -> dict[str, Any]:
    """What the last nights found, by place, and how far this one is; empty where none was."""
    try:
        state = json.loads(state_file(vault).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


def alarms_of(state: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """(place, text) of what a person should know, by a name for each."""
    found = {}
    for name, one in state.items():
        place = name.partition(" ")[2]
        if one.get("braked"):
            told = f"{one['missing']} of {one['seen']} copies of ours are not found there: too many to believe (law 3)"
            found[f"reconcile {name}"] = (place, f"{told}; nothing was concluded, look whether it is mounted whole")
        if one.get("late_folders"):
            owners = ", ".join(dict.fromkeys(row["owner"] for row in one["late"]))
            size, count = show_bytes(one["late_bytes"]), one["late_folders"]
            told = f"{size} in {count} folders are in no scan, and the day to say what they are is over"
            found[f"reconcile {name}"] = (place, f"{told} ({owners[:200]}): tomovault census {place} --last")
    return found


def line_of(state: Mapping[str, Any]) -> str:
    """The last nights in a line; '' where there was none."""
    done = {name: one for name, one in state.items() if one.get("at")}
    if not done:
        return ""
    last = max(one["at"] for one in done.values())
    size = sum(one.get("bytes", 0) for one in done.values())
    late = sum(one.get("late_folders", 0) for one in done.values())
    missing = sum(one.get("missing", 0) for one in done.values())
    under_way = [name.partition(" ")[2] for name, one in state.items() if one.get("under_way")]
    return (
        f"{last[:10]} {last[11:16]} UTC: {show_bytes(size)} in no scan"
        + (f", {late} folders past their day" if late else "")
        + (f", {missing} copies not found" if missing else ", every copy is where it was put")
        + (f"; under way in {', '.join(dict.fromkeys(under_way))}" if under_way else "")
    )


def state_file(vault: Vault) -> Path:
    """Where it is kept: on a shared catalogue one for each machine, since each sees other areas."""
    return vault.run_folder / (f"reconcile-{word_of(vault.host)}.json" if vault.shared else "reconcile.json")
