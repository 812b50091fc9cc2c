"""Keep a scan from being pruned."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from tomovault.cli import common_options, label, open_vault, say, say_json, who


@click.command()
@click.argument("scan")
@click.option("--until", required=True, metavar="DATE", help="The last day, such as 2027-03-31.")
@click.option("--reason", required=True, help="Why; shown to whoever wonders.")
@common_options
def command(scan: str, until: str, reason: str, as_json: bool) -> None:
    """Hold everything of SCAN on disk until DATE. Nothing of a pinned scan is removed."""
    from tomovault.vault.asking import find_scan
    from tomovault.vault.dates import parse_end

    vault = open_vault()
    now = datetime.now(UTC)
    end = parse_end(until, now)
    with vault.catalogue.writing() as tx:
        known = find_scan(vault, tx, scan)
        pin = vault.catalogue.add_pin(tx, known.id, who(), reason, end, now)
    if as_json:
        say_json({"id": known.id, "name": known.name, "pin": getattr(pin, "id", pin), "until": end.isoformat()})
    else:
        say(f"{label(known.name)} stays until {end:%Y-%m-%d %H:%M} UTC.")
