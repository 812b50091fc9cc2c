"""What fire drills found: the list of them, the rate at which they pass, and what a person should know."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tomovault.catalog.drills import Drill, DrillOutcome
from tomovault.tiers.blocks import replace_file
from tomovault.vault.page_text import name_of, time_text
from tomovault.vault.vault import Vault

_FILE = "drill.json"
_FAILED = (DrillOutcome.BAD, DrillOutcome.NOT_REPRODUCED)

#: How a drill ended, as a person reads it.
WORDS: Mapping[str, str] = {
    DrillOutcome.UNDER_WAY: "under way",
    DrillOutcome.PASSED: "passed",
    DrillOutcome.BAD: "the copy is bad",
    DrillOutcome.NOT_REPRODUCED: "not reproduced",
    DrillOutcome.PUT_OFF: "put off",
    DrillOutcome.WAITING: "being brought",
}


def keep_state(vault: Vault, last: Drill) -> None:
    """The last drill that was carried out is this one, for whoever looks for alarms."""
    if last.outcome in (DrillOutcome.PASSED, *_FAILED):
        state = row_of(last) if last.outcome in _FAILED else {}
        replace_file(str(vault.run_folder / _FILE), json.dumps(state).encode("ascii"))


def alarms_of(vault: Vault) -> dict[str, tuple[str, str]]:
    """(place, text) of what a person should know, by a name for each, until a drill passes."""
    try:
        state = json.loads((vault.run_folder / _FILE).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(state, dict) or "problem" not in state:
        return {}
    told = f"the fire drill of {state['name']} from {state['location']} failed: {state['problem']}"
    return {"drill": (str(state["tier"]), told)}


def drills_page(vault: Vault, tx: Any, limit: int | None) -> dict[str, Any]:
    """The newest drills, and how many of those that were carried out passed."""
    counts = vault.catalogue.count_drills(tx)
    passed, failed = counts.get(DrillOutcome.PASSED, 0), sum(counts.get(one, 0) for one in _FAILED)
    return {
        "scans_a_week": vault.site.drill.scans_a_week,
        "carried_out": passed + failed,
        "passed": passed,
        "failed": failed,
        "pass_rate": passed / (passed + failed) if passed + failed else None,
        "last_at": time_text(vault.catalogue.last_drill_at(tx)),
        "problems": [name_of(text) for _, text in alarms_of(vault).values()],
        "drills": [row_of(one) for one in vault.catalogue.list_drills(tx, limit)] if limit != 0 else [],
    }


def row_of(one: Drill) -> dict[str, Any]:
    """A drill as plain values; the cartridge is what stands before the tape file's number, if it is on one."""
    cartridge, sign, _ = one.location.partition("#")
    return {
        "drill": one.id,
        "at": time_text(one.begun_at),
        "ended_at": time_text(one.ended_at),
        "scan": one.scan,
        "name": name_of(one.name),
        "replica": one.replica,
        "tier": one.tier,
        "cartridge": name_of(cartridge) if sign else None,
        "location": name_of(one.location),
        "outcome": one.outcome.value,
        "problem": name_of(one.problem),
        **one.facts,
    }
