"""See what the rules would do."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from tomovault.cli import common_options, label, open_vault, say, say_json


@click.command()
@click.option("--rule", help="Only this rule.")
@common_options
def command(rule: str | None, as_json: bool) -> None:
    """Say what each rule would have done now and how many bytes would go from each area. Nothing is touched."""
    from tomovault.cli._table import table
    from tomovault.vault.removal_pages import preview_page
    from tomovault.vault.sizes import show_bytes

    vault = open_vault()
    with vault.catalogue.reading() as tx:
        page = preview_page(vault, tx, datetime.now(UTC), rule=rule)
    if as_json:
        say_json(page)
        return
    rows = [
        [
            r["rule"],
            r["action"],
            str(len(r["scans"])),
            ", ".join(f"{area} {show_bytes(count)}" for area, count in r["bytes_freed"].items()),
        ]
        for r in page["rules"]
    ]
    say(table(["rule", "action", "scans", "frees"], rows, right=[2]))
    for area, why in page["above_high"].items():
        say(f"  {area} would stay above its high mark: {label(why)}")
    for row in page["rules"]:
        for one in row.get("waiting_for_warnings", [])[:20]:
            say(f"  {row['rule']}: {one['scan']}: {one['told']}")
