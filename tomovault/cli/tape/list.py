"""List cartridges."""

from __future__ import annotations

import click

from tomovault.cli import common_options, open_vault, say, say_json


@click.command()
@common_options
def command(as_json: bool) -> None:
    """List the cartridges of every library of the site: pool, state, and how many bundles are on each."""
    from tomovault.cli._table import table
    from tomovault.vault.cartridges import list_cartridges
    from tomovault.vault.sizes import show_bytes

    rows = list_cartridges(open_vault())
    if as_json:
        say_json({"cartridges": rows})
        return
    if not rows:
        say("No cartridge was written yet.")
        return
    cells = [
        [c["barcode"], c["tier"], c["pool"], c["state"], str(len(c["bundles"])), show_bytes(c["bytes"]), c["reason"]]
        for c in rows
    ]
    say(table(["cartridge", "tier", "pool", "state", "bundles", "packages", ""], cells, right=[4, 5]))
