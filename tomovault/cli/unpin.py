"""Take pins off a scan."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from tomovault.cli import common_options, counted, label, open_vault, say, say_json, who


@click.command()
@click.argument("scan")
@common_options
def command(scan: str, as_json: bool) -> None:
    """Take every pin off SCAN; from now on the rules and the laws decide alone."""
    from tomovault.vault.asking import find_scan

    vault = open_vault()
    with vault.catalogue.writing() as tx:
        known = find_scan(vault, tx, scan)
        count = vault.catalogue.remove_pins(tx, known.id, who(), datetime.now(UTC))
    if as_json:
        say_json({"id": known.id, "name": known.name, "removed": count})
    else:
        say(
            f"{label(known.name)}: {counted(count, 'pin')} taken off."
            if count
            else f"{label(known.name)} was not pinned."
        )
