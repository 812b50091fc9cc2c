"""List the backups of the catalogue."""

from __future__ import annotations

from typing import Any

import click

from tomovault.cli import common_options, label, open_vault, say, say_json


@click.command()
@common_options
def command(as_json: bool) -> None:
    """List the backups of the catalogue, the newest first, and where in the archive each is.

    `tomovault catalogue fetch` gets one back.
    """
    from tomovault.cli._table import table
    from tomovault.vault.backup_state import list_rows
    from tomovault.vault.sizes import show_bytes

    vault = open_vault()
    with vault.catalogue.reading() as tx:
        rows = list_rows(vault, tx)
    if as_json:
        say_json({"backups": rows})
        return
    if not rows:
        say("The catalogue was not backed up yet: tomovault catalogue backup")
        return
    cells = [
        [row["made_at"][:16].replace("T", " "), show_bytes(row["bytes"]), "yes" if row["on_disk"] else "", _where(row)]
        for row in rows
    ]
    say(table(["made (UTC)", "size", "on disk", "in the archive"], cells, right=[1]))


def _where(row: dict[str, Any]) -> str:
    words = []
    for copy in row["copies"]:
        state = "re-read" if copy["verified_at"] else "not re-read yet"
        words.append(f"{copy['tier']} {label(copy['location'])} ({copy['problem'] or state})".replace("  ", " "))
    return "; ".join(words)
