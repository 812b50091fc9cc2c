"""What the last comparisons of what is known with what is there found, as it is kept in the run folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tomovault.vault.sizes import counted, show_bytes
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
        if one.get("problem"):
            found[f"not compared {name}"] = (place, f"not compared with what is there: {one['problem']}")
        if one.get("braked"):
            told = f"{one['missing']} of {one['seen']} copies of ours are not found there: too many to believe (law 3)"
            found[f"reconcile {name}"] = (place, f"{told}; nothing was concluded, look whether it is mounted whole")
        if one.get("late_folders"):
            owners = ", ".join(dict.fromkeys(row["owner"] for row in one["late"]))
            size, count = show_bytes(one["late_bytes"]), counted(one["late_folders"], "folder")
            told = f"{size} in {count} are in no scan, and the day to say what they are is over"
            found[f"reconcile {name}"] = (place, f"{told} ({owners[:200]}): tomovault census {place} --last")
    return found


def line_of(state: Mapping[str, Any]) -> str:
    """The last nights in a line; '' where there was none. All copies are called found only where all were looked at."""
    done = [one for one in state.values() if one.get("at")]
    problems = [f"{name.partition(' ')[2]} ({one['problem']})" for name, one in state.items() if one.get("problem")]
    under_way = [name.partition(" ")[2] for name, one in state.items() if one.get("under_way")]
    told = [_found_line(done, is_all=len(done) == len(state) and not problems and not under_way)] if done else []
    told += [f"not compared: {', '.join(dict.fromkeys(problems))}"] if problems else []
    told += [f"under way in {', '.join(dict.fromkeys(under_way))}"] if under_way and told else []
    return "; ".join(told)


def _found_line(done: Sequence[Mapping[str, Any]], *, is_all: bool) -> str:
    last = max(one["at"] for one in done)
    size = sum(one.get("bytes", 0) for one in done)
    late = sum(one.get("late_folders", 0) for one in done)
    missing = sum(one.get("missing", 0) for one in done)
    return (
        f"{last[:10]} {last[11:16]} UTC: {show_bytes(size)} in no scan"
        + (f", {counted(late, 'folder')} whose day to be explained is over" if late else "")
        + (f", {counted(missing, 'copy', 'copies')} not found" if missing else "")
        + (", every copy is where it was put" if is_all and not missing else "")
    )


def state_file(vault: Vault) -> Path:
    """Where it is kept: on a shared catalogue one for each machine, since each sees other areas."""
    return vault.run_folder / (f"reconcile-{word_of(vault.host)}.json" if vault.shared else "reconcile.json")
