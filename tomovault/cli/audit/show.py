"""Show what was done."""

from __future__ import annotations

import json

import click

from tomovault.cli import common_options, open_vault, say, say_json


@click.command()
@click.option("--scan", help="Only what concerns this scan.")
@click.option("--limit", type=int, default=50, show_default=True, help="So many of the newest entries.")
@common_options
def command(scan: str | None, limit: int, as_json: bool) -> None:
    """Show the newest entries of the audit log: who did what, when, on what grounds."""
    from tomovault.core.wire import to_plain
    from tomovault.vault.asking import find_scan

    vault = open_vault()
    with vault.catalogue.reading() as tx:
        known = find_scan(vault, tx, scan).id if scan else None
        entries = [to_plain(e) for e in vault.catalogue.list_audit(tx, scan=known, limit=limit)]
    if as_json:
        say_json({"entries": entries})
        return
    for entry in entries:
        body = entry["body"] if isinstance(entry["body"], str) else json.dumps(entry["body"])
        say(f"{entry['seq']:>6}  {entry['at'][:19]}  {entry['actor']:<10} {entry['op']}  {body[:160]}")
