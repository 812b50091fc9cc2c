"""How full everything is."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from tomovault.cli import common_options, open_vault, say, say_json


@click.command()
@click.option(
    "--by",
    type=click.Choice(["area", "tier", "proposal", "owner", "beamline"]),
    default="area",
    show_default=True,
    help="What to add up by.",
)
@common_options
def command(by: str, as_json: bool) -> None:
    """Report stored bytes, files and scans: everything that is live, quarantine included."""
    from tomovault.cli._table import bar, table
    from tomovault.vault.pages import quota_page
    from tomovault.vault.sizes import show_bytes

    vault = open_vault()
    with vault.catalogue.reading() as tx:
        page = quota_page(vault, tx, by, datetime.now(UTC))
    if as_json:
        say_json(page)
        return
    rows = [
        [
            str(r[by] or "(not known)"),
            show_bytes(r["bytes"]),
            show_bytes(r["limit_bytes"]) if r["limit_bytes"] else "",
            bar(r["full_fraction"], high=r["high"]),
            str(r["files"]),
            str(r["scans"]),
        ]
        for r in page["rows"]
    ]
    say(table([by, "used", "quota", "", "files", "scans"], rows, right=[1, 2, 4, 5]))
