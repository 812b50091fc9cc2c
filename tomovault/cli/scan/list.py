"""List scans."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice

import click

from tomovault.cli import common_options, open_vault, printable, say, say_json_list

#: A person at a terminal is shown so many scans, unless more are asked for.
_SHOWN = 200

_MARKS = {"done": "+", "due": ">", "waiting": ".", "held": "!", "off": "-"}


@click.command()
@click.option("--area", help="Only scans of this area.")
@click.option("--where", "sentence", metavar="EXPR", help="Only scans that a rule's sentence holds for.")
@click.option("--limit", type=click.IntRange(min=1), help=f"Only so many; {_SHOWN} on a terminal, all with --json.")
@click.option("--all", "everything", is_flag=True, help="Also what was superseded and of which no copy is left.")
@common_options
def command(area: str | None, sentence: str | None, limit: int | None, everything: bool, as_json: bool) -> None:
    """List the scans of the site, newest first.

    A scan that was overwritten before it was packed, or that is another one found again, is not listed without --all.

    EXPR is what stands behind `when` in a policy, such as 'complete and size > 1GB'.
    """
    from tomovault.cli._table import table
    from tomovault.core.errors import UserError
    from tomovault.vault.scan_pages import scan_line, views_of
    from tomovault.vault.sizes import show_bytes

    vault = open_vault()
    now = datetime.now(UTC)
    if area is not None and area not in vault.site.areas:
        raise UserError(f"there is no area {area!r}", hint="the site has: " + ", ".join(vault.site.areas))
    with vault.catalogue.reading() as tx:
        chosen = views_of(vault, tx, now, area=area, sentence=sentence or "")
        lines = (scan_line(view) for view in chosen if everything or not view.scan.left_nothing)
        if as_json:
            say_json_list("scans", islice(lines, limit))
            return
        most = limit or _SHOWN
        scans = list(islice(lines, most + 1))
    more, scans = len(scans) > most, scans[:most]
    if not scans:
        say("No scan is known yet." if not (area or sentence) else "No scan matches.")
        return
    rows = [
        [
            s["id"],
            printable(s["name"]),
            s["area"],
            s["format"],
            show_bytes(s["bytes"]),
            s["verdict"],
            "".join(_MARKS[status] for status in s["stages"].values()),
        ]
        for s in scans
    ]
    say(table(["id", "name", "area", "format", "size", "verdict", "stages"], rows, right=[4]))
    if more:
        say(f"\nThere are more than these {most}: --limit shows more, --where and --area choose.")
    say("\nstages: " + " ".join(scans[0]["stages"]))
    say("        + done   > due   . waiting   ! held   - nobody wants it")
