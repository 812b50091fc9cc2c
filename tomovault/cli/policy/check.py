"""Check policies."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from tomovault.cli import common_options, say, say_json, site_folder


@click.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@common_options
def command(files: tuple[Path, ...], as_json: bool) -> int:
    """Check every policy and preset of the site and the site file itself, or FILEs by themselves, without any site.

    Every error is listed with file, line and column; exit code 2 if there is one. A sentence that no scan can satisfy
    is an error, too. Warnings say what the rules will never do on this site, or at this date, and notes which of them
    remove something however empty an area is; the exit code is 0.
    """
    from tomovault.vault.checking_policies import check_policies

    chosen = list(files)
    folder = None if chosen else site_folder()
    page = check_policies(folder, chosen, datetime.now(UTC))
    if as_json:
        say_json(page)
    else:
        for row in page["files"]:
            say(f"{row['file']}: " + ("right" if row["ok"] else "wrong"))
            notes = ("note: " + told for told in row["notes"])
            for entry in (*row["errors"], *("warning: " + told for told in row["warnings"]), *notes):
                say("\n".join("  " + line for line in entry.splitlines()))
    return 0 if page["ok"] else 2
