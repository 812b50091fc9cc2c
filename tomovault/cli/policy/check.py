"""Check policies."""

from __future__ import annotations

from pathlib import Path

import click

from tomovault.cli import common_options, say, say_json, site_folder


@click.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@common_options
def command(files: tuple[Path, ...], as_json: bool) -> int:
    """Check policy FILEs, or every policy of the site and the site file itself.

    Every error is listed with file, line and column; exit code 2 if there is one.
    """
    from tomovault.vault.checking import check_policies

    chosen = list(files)
    folder = None if chosen else site_folder()
    page = check_policies(folder, chosen)
    if as_json:
        say_json(page)
    else:
        for row in page["files"]:
            say(f"{row['file']}: " + ("right" if row["ok"] else "wrong"))
            for error in row["errors"]:
                say("\n".join("  " + line for line in error.splitlines()))
    return 0 if page["ok"] else 2
