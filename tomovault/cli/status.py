"""How the site is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import click

from tomovault.cli import common_options, counted, label, open_vault, say, say_json

#: So many restores are told one by one.
_RESTORES = 20


@click.command()
@common_options
def command(as_json: bool) -> None:
    """Show the daemon, the queue, what runs, what failed and why, and how full each area is."""
    from tomovault.vault.fellows import read_fellows
    from tomovault.vault.status_pages import status_page
    from tomovault.vault.telling import last_told

    vault = open_vault()
    with vault.catalogue.reading() as tx:
        told = last_told(vault, read_fellows(vault, tx).holders)
        page = status_page(vault, tx, told, datetime.now(UTC))
    if as_json:
        say_json(page)
        return
    for line in _lines(page):
        say(line)


def _lines(page: dict[str, Any]) -> list[str]:
    from tomovault.cli._table import bar, table
    from tomovault.vault.sizes import show_bytes

    daemon = page["daemon"]
    lines = [f"daemon: led by {daemon['leader'] or 'nobody yet'}" if daemon["running"] else "daemon: none is running"]
    lines += [f"        followed by {follower}" for follower in daemon["followers"]]
    jobs = page["jobs"]
    lines.append("jobs:   " + (", ".join(f"{count} {status}" for status, count in jobs.items() if count) or "none"))
    lines += [f"  {r['action']} {r['scan']}" for r in page["running"]]
    for kind, places in (("area", page["areas"]), ("tier", page["tiers"])):
        rows = [
            [
                a[kind],
                bar(a["used_fraction"], high=a["high"]),
                f"{show_bytes(a['used_bytes'])} of {show_bytes(a['quota_bytes'])}",
                show_bytes(a["quarantine_bytes"]) if a["quarantine_bytes"] else "",
                "" if a["low"] is None else f"prune {a['prune']}",
            ]
            for a in places
        ]
        lines += ["", table([kind, "used", "", "quarantine", ""], rows)] if rows or kind == "area" else []
    lines += [f"  {tier['tier']}: {alarm}" for tier in page["tiers"] for alarm in tier["alarms"]]
    for area in page["areas"]:
        notes = [area["unwatched"], area["absent"], area["trouble"], *area["alarms"]]
        lines += [f"  {area['area']}: {note}" for note in notes if note]
        if area["settling"]:
            lines.append(f"  {area['area']}: {area['settling']} scans are being written or settling")
        lines += [f"  {area['area']}: {p['path']}: {p['problem']}" for p in area["problems"][:10]]
        if area["unclaimed"]:
            told = f"`tomovault area unclaimed {area['area']}` says why"
            lines.append(f"  {area['area']}: {area['unclaimed']} files are in no scan; {told}")
    lines += [f"compared with what is there: {page['reconciled']}"] if page["reconciled"] else []
    lines += _backup(page["backup"]) + _drills(page["drills"])
    lines += [f"  over its limit: {label(text)}" for text in page["limits"]]
    lines += [f"  {p['problem']} - {p['hint']}" for p in page["absent_places"]]
    if page["suspect"]:
        lines += ["", "suspect copies, which nothing relies on (`tomovault verify SCAN` reads them again):"]
        lines += [
            f"  {label(one['name'])}: {one['product']} as {one['form']} on {one['tier']}: {one['reason'][:200]}"
            for one in page["suspect"][:20]
        ]
    if page["waiting"]:
        lines += ["", "waiting:"]
        lines += [
            f"  {job['id']}: {job['action']} of {label(job['name'])}: {job['error']}" for job in page["waiting"][:20]
        ]
        lines.append("  Each is tried again by itself; `tomovault retry JOB` does it at once.")
    lines += _recalls(page["recalls"], running=daemon["running"])
    lines += _unsent(page["outbox"])
    if page["failed"]:
        lines += ["", "failed:"]
        for job in page["failed"][:20]:
            hint = f" - {job['hint']}" if job["hint"] else ""
            what = f"of {label(job['name'])}" if job["scan"] else f"in {job['place']}"
            tried = f"after {counted(job['attempts'], 'attempt')}"
            lines.append(f"  {job['id']}: {job['action']} {what} {tried}: {job['error']}{hint}")
        lines.append("  `tomovault retry JOB` does one again.")
    return lines


def _backup(backup: dict[str, Any]) -> list[str]:
    """How old the newest backup of the catalogue is, on disk and in the archive, and what kept it from there."""
    lines = []
    if backup["made_at"] is not None:
        archived = [f"{tier} {_minute(at)}" for tier, at in backup["archived"].items()]
        told = f"; in the archive: {', '.join(archived)}" if archived else "; none is in the archive"
        lines.append(f"the catalogue was backed up at {_minute(backup['made_at'])} UTC{told}")
    return lines + [f"  {label(problem)}" for problem in backup["problems"]]


def _drills(drills: dict[str, Any]) -> list[str]:
    """How many fire drills passed."""
    if not drills["carried_out"]:
        return []
    told = f"{drills['passed']} of {counted(drills['carried_out'], 'fire drill')} passed"
    return [f"{told}, the last at {_minute(drills['last_at'])} UTC", *(f"  {label(one)}" for one in drills["problems"])]


def _recalls(recalls: dict[str, Any], *, running: bool) -> list[str]:
    """When each restore that needs a cartridge is expected to be over, and how right what was told turned out."""
    rows = recalls["restores"]
    if not rows:
        return []
    lines = ["", "restores from cartridges:" if running else "restores from cartridges, which wait for a daemon:"]
    for row in rows[:_RESTORES]:
        lines.append(f"  {row['job']}: {label(row['name'])}: {_when(row, running=running)}")
    if len(rows) > _RESTORES:
        lines.append(f"  and {len(rows) - _RESTORES} more (--json lists them)")
    if recalls["took_times_told"] is not None:
        number = recalls["of_last"]
        which = "The last one" if number == 1 else f"Of the last {number} the middle one"
        lines.append(f"  {which} took {recalls['took_times_told']:.2g} times as long as was told.")
    return lines


def _when(row: dict[str, Any], *, running: bool) -> str:
    """When a restore is expected to be over, as far as anything can be said of it."""
    from tomovault.policy.quantity import show_duration

    if row["expected"] is not None and running:
        return f"expected at {_minute(row['expected'])} UTC"
    if row["expected"] is not None:
        return f"over about {show_duration(timedelta(seconds=row['expected_in_s']))} after one starts"
    return f"was expected at {_minute(row['told'])} UTC; when now is not known"


def _minute(text: str) -> str:
    return text[:16].replace("T", " ")


def _unsent(outbox: dict[str, Any]) -> list[str]:
    """Messages that could not be sent so far, and those that will not be."""
    words = {"waiting": "to be sent", "given_up": "given up: never sent"}
    return [
        f"  {counted(row['count'], 'message')} by {row['channel']} {words[state]}: {row['error']}"
        for state, rows in outbox.items()
        for row in rows
        if row["error"]
    ]
