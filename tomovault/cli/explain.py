"""Explain where a scan stands."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import click

from tomovault.cli import common_options, label, open_vault, say, say_json


@click.command()
@click.argument("scan")
@common_options
def command(scan: str, as_json: bool) -> None:
    """Say for each stage of SCAN whether it is done, due, waiting, held or off, why, and which rule decides.

    Below it, the symbolic links from elsewhere in the areas that lead to its files.
    """
    from tomovault.catalog.links import links_to_scan
    from tomovault.cli._links import say_links
    from tomovault.cli._table import table
    from tomovault.vault.asking import find_scan
    from tomovault.vault.scan_pages import explain_page

    vault = open_vault()
    with vault.catalogue.reading() as tx:
        known = find_scan(vault, tx, scan)
        view = vault.view(known, vault.area_facts(tx, known.area, datetime.now(UTC)), datetime.now(UTC))
        page = explain_page(view, links_to_scan(tx, known))
    if as_json:
        say_json(page)
        return
    say(f"{label(page['name'])}  ({page['id']})\n")
    rows = [[s["stage"], s["status"], s["rule"], _why(s)] for s in page["stages"]]
    say(table(["stage", "status", "rule", "why"], rows))
    for text in page["made"]:
        say(label(text))
    for text in page["limits"]:
        say(f"over its limit: {label(text)}")
    say_links(page["links"], label(page["name"]))


def _why(stage: Mapping[str, str]) -> str:
    """The reason; what is due is so by its rule, which has a column of its own."""
    return "will be done next" if stage["status"] == "due" and stage["reason"] == stage["rule"] else stage["reason"]
