"""List what is in quarantine."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from tomovault.cli import common_options, open_vault, printable, say, say_json


@click.command()
@common_options
def command(as_json: bool) -> None:
    """List removals that can still be taken back, and those that wait for a second look after their hold."""
    from tomovault.cli._links import say_links
    from tomovault.cli._table import table
    from tomovault.vault.removal_pages import quarantine_page
    from tomovault.vault.sizes import show_bytes

    vault = open_vault()
    with vault.catalogue.reading() as tx:
        page = quarantine_page(vault, tx, datetime.now(UTC))
    if as_json:
        say_json(page)
        return
    if not page["quarantine"]:
        say("Nothing is in quarantine.")
        return
    rows = [
        [
            q["scan"],
            printable(q["name"]),
            q["product"],
            q["form"],
            q["tier"] if q["tier"] == q["area"] else f"{q['tier']} ({q['domain']})",
            show_bytes(q["bytes"]),
            q["phase"],
            f"{datetime.fromisoformat(q['hold_until']):%Y-%m-%d %H:%M} UTC" if q["hold_until"] else "",
            q["rule"] + (f": {printable(q['reason'])}" if q["reason"] else ""),
        ]
        for q in page["quarantine"]
    ]
    say(table(["id", "scan", "product", "form", "on", "size", "phase", "held until", "rule"], rows, right=[5]))
    for row in page["quarantine"]:
        say_links(row["links"], row["scan"])
    say("\ntomovault prune undo SCAN puts it back.")
