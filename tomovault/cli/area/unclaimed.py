"""List files that are in no scan."""

from __future__ import annotations

import click

from tomovault.cli import common_options, label, open_vault, say, say_json


@click.command()
@click.argument("area", metavar="NAME", required=False)
@common_options
def command(area: str | None, as_json: bool) -> None:
    """List files of the area NAME, or of all, that look like scans by their names and are none.

    Each is told with the reason of every format that was asked. They are not packed, archived or ever removed.
    """
    from tomovault.vault.status_pages import unclaimed_page

    vault = open_vault()
    with vault.catalogue.reading() as tx:
        page = unclaimed_page(vault, tx, area)
    if as_json:
        say_json(page)
        return
    if not page["unclaimed"]:
        say("Every file that looks like a scan is in one.")
        return
    for row in page["unclaimed"]:
        say(f"{row['area']}: {label(row['path'])}")
        by_reason: dict[str, list[str]] = {}
        for name, reason in row["reasons"].items():
            by_reason.setdefault(reason, []).append(name)
        for reason, names in by_reason.items():
            say(f"  {', '.join(names)}: {label(reason)}")
