"""What the commands tell of a whole site, as the plain values that `--json` prints."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from tomovault.catalog.suspects import Suspect, list_suspects
from tomovault.catalog.work import places_of
from tomovault.core.errors import UserError
from tomovault.core.known import JobStatus, replaced
from tomovault.core.wire import to_plain
from tomovault.vault.backup_state import backups_page
from tomovault.vault.drill_state import drills_page
from tomovault.vault.expecting import recalls_page
from tomovault.vault.fellows import read_fellows
from tomovault.vault.notices import outbox_page
from tomovault.vault.page_text import name_of, time_text
from tomovault.vault.places import absent_places
from tomovault.vault.policy_files import tells_wrong
from tomovault.vault.reconcile_state import line_of, read_state
from tomovault.vault.scan_pages import _is_put_off, job_line
from tomovault.vault.tier_facts import marked_tiers, may_be_pruned, tier_facts
from tomovault.vault.vault import Vault

#: So many suspect copies are told at a time.
_SUSPECTS = 50


def status_page(vault: Vault, tx: Any, told: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """The daemon, its lease, queues, what runs, what failed and why, and how full each area is."""
    catalogue = vault.catalogue
    fellows = read_fellows(vault, tx)
    leader = fellows.leader
    living = leader is not None or bool(fellows.daemons)
    problems = catalogue.list_problems(tx)
    unclaimed = Counter(row.area for row in catalogue.list_unclaimed(tx))
    failed = catalogue.list_jobs(tx, JobStatus.FAILED, 50)
    names = {s: catalogue.known(tx, s).name for s in {j.scan for j in failed if j.scan is not None}}
    places = places_of(tx, [j.id for j in failed])
    areas = []
    wrong = vault.policy_troubles(tx)
    for name, area in vault.site.areas.items():
        facts = vault.area_facts(tx, name, now)
        areas.append(
            {
                "area": name,
                "path": str(area.path),
                "used_bytes": facts.used_bytes,
                "quota_bytes": facts.quota_bytes,
                "used_fraction": facts.used_fraction,
                "quarantine_bytes": facts.quarantine_bytes,
                "high": facts.high,
                "low": facts.low,
                "prune": "on" if facts.prune_on else "off",
                "unwatched": vault.unwatched(name, fellows.daemons),
                "absent": told.get("absent", {}).get(name, ""),
                "trouble": name_of(told.get("trouble", {}).get(name, "")),
                "settling": told.get("unsettled", {}).get(name, 0) if living else 0,
                "alarms": [
                    *([wrong[name].text] if name in wrong else []),  # as the file is now, whatever was told of it
                    *(text for text in _alarms_of(told, name) if not tells_wrong(text, area.policy)),
                ],
                "problems": [
                    {"path": name_of(path), "problem": name_of(problem)}
                    # Several formats may say the same of one file.
                    for path, problem in dict.fromkeys(
                        (e.candidate.folder, e.problem) for e in problems if e.area == name
                    )
                ],
                "unclaimed": unclaimed[name],
            }
        )
    return {
        "at": time_text(now),
        "daemon": {
            "running": living,
            "leader": leader,
            "followers": list(fellows.followers),
            "told_at": told.get("at"),
        },
        "jobs": {status.value: count for status, count in catalogue.count_jobs(tx).items()},
        "running": told.get("running", []) if living else [],
        "failed": [
            {**job_line(j), "name": name_of(names.get(j.scan or "", "")), "place": places.get(j.id, "")} for j in failed
        ],
        "areas": areas,
        "tiers": [_tier_line(vault, tx, name, told) for name in marked_tiers(vault.site)],
        "reconciled": line_of(read_state(vault)),
        "limits": [standing.text for standing in vault.exceeded(tx, now).by_subject.values()],
        "absent_places": [{"problem": name_of(p.message), "hint": name_of(p.hint)} for p in absent_places(vault, tx)],
        "suspect": [
            {**to_plain(one), "name": name_of(one.name), "location": name_of(one.location)}
            for one in itertools.islice(_suspects(vault, tx, now), _SUSPECTS)
        ],
        "waiting": [
            {**job_line(j), "name": name_of(catalogue.known(tx, j.scan).name) if j.scan is not None else ""}
            for j in catalogue.list_jobs(tx, JobStatus.TODO, 200)
            if _is_put_off(j)
        ],
        "backup": backups_page(vault, tx),
        "drills": drills_page(vault, tx, 0),
        "recalls": recalls_page(vault, tx, now),
        "outbox": outbox_page(vault, tx),
    }


def _tier_line(vault: Vault, tx: Any, name: str, told: Mapping[str, Any]) -> dict[str, Any]:
    facts = tier_facts(vault, tx, name)
    return {
        "tier": name,
        "class": facts.tier_class.value,
        "used_bytes": facts.used_bytes,
        "quota_bytes": facts.quota_bytes,
        "used_fraction": facts.used_fraction,
        "quarantine_bytes": facts.quarantine_bytes,
        "high": facts.high,
        "low": facts.low if may_be_pruned(facts) else None,
        "prune": "on" if facts.prune_on else "off",
        "alarms": [*filter(None, [told.get("absent", {}).get(name, "")]), *_alarms_of(told, name)],
    }


def _alarms_of(told: Mapping[str, Any], area: str) -> list[str]:
    """What the daemons told of an area that a person should know."""
    return [alarm["text"] for alarm in told.get("alarms", []) if alarm["area"] == area]


def _suspects(vault: Vault, tx: Any, now: datetime) -> Iterator[Suspect]:
    """Those that somebody should look at, and not those that nothing needs any more."""
    areas = {name: vault.area_facts(tx, name, now) for name in vault.site.areas}
    start = 0
    while batch := list_suspects(tx, _SUSPECTS, start):
        start += len(batch)
        scans = vault.catalogue.known_many(tx, [one.scan for one in batch if one.area in areas])
        views = (vault.view(scan, areas[scan.area], now) for scan in scans)
        spare = frozenset[str]().union(*(replaced(view.scan, view.facts) for view in views))
        yield from (one for one in batch if one.replica not in spare)


def unclaimed_page(vault: Vault, tx: Any, area: str | None = None) -> dict[str, Any]:
    """What formats were asked about in an area, or in all, and none took, with the reason of each."""
    if area is not None and area not in vault.site.areas:
        raise UserError(f"there is no area {area!r}", hint="the areas are: " + ", ".join(vault.site.areas))
    rows = [row for row in vault.catalogue.list_unclaimed(tx, area) if row.area in vault.site.areas]
    return {
        "unclaimed": [
            {
                "area": row.area,
                "path": name_of(row.path),
                "reasons": {name: name_of(text) for name, text in sorted(row.reasons.items())},
            }
            for row in rows
        ]
    }
