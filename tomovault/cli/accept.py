"""Accept a volume."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from tomovault.cli import common_options, label, open_vault, say, say_json, who


@click.command()
@click.argument("scan")
@click.option("--reason", default="", help="What you looked at; recorded with your name.")
@common_options
def command(scan: str, reason: str, as_json: bool) -> None:
    """Say that the volume of SCAN is right. Only then may a rule reduce its raw data."""
    from tomovault.vault.asking import find_scan

    vault = open_vault()
    with vault.catalogue.writing() as tx:
        known = find_scan(vault, tx, scan)
        vault.catalogue.accept(tx, known.id, who(), reason, datetime.now(UTC))
    if as_json:
        say_json({"id": known.id, "name": known.name, "accepted_by": who()})
    else:
        say(f"The volume of {label(known.name)} is accepted by {who()}.")
