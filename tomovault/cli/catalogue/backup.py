"""Copy the catalogue."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tomovault.cli import common_options, label, open_vault, say, say_json, who


@click.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--nightly", is_flag=True, help="Go on with the backup of the last night, if it was begun.")
@click.option("--parent", type=int, hidden=True, help="End with this process.")
@common_options
def command(file: Path | None, nightly: bool, parent: int | None, as_json: bool) -> int:
    """Write a consistent copy of the catalogue to FILE while everything goes on.

    Without FILE, what a daemon does every night is done now: a copy in the site's folder of backups, which keeps the
    last ones, and one on each archive tier, re-read there. `catalogue_backup` of tomovault.yaml says when, where and
    how many. Exit code 75 if a tier could not take it, or is still bringing it to be re-read.

    One on PostgreSQL is copied by pg_dump -Fc, which must be installed, and read back by pg_restore.
    """
    if file is None:
        return _back_up(nightly, parent, as_json)
    vault = open_vault()
    written = vault.catalogue.backup(str(file), pg_dump=vault.site.backup.pg_dump)
    if as_json:
        say_json({"file": written})
    else:
        say(f"The catalogue is copied to {written}.")
    return 0


def _back_up(nightly: bool, parent: int | None, as_json: bool) -> int:
    from tomovault.vault.backing_up import back_up
    from tomovault.vault.job import end_with

    if parent is not None:
        from tomovault.daemon.census import give_way

        end_with(parent)
        give_way()
    done = back_up(open_vault(), "daemon" if parent is not None else who(), anew=not nightly)
    page = done.page()
    if as_json:
        say_json(page)
    else:
        _tell(page)
    return 75 if page["problems"] or page["waiting"] else 0


def _tell(page: dict[str, Any]) -> None:
    from tomovault.vault.sizes import show_bytes

    say(f"The catalogue, {show_bytes(page['bytes'])}, is copied to {page['file']}.")
    for tier, location in page["placed"].items():
        say(f"  {tier}: at {label(location)}, and re-read there")
    for tier, why in page["waiting"].items():
        say(f"  {tier}: written, to be re-read when it can be: {label(why)}")
    for tier, why in page["problems"].items():
        say(f"  {tier}: not archived: {label(why)}")
    if not (page["placed"] or page["waiting"] or page["problems"]):
        say("  The site has no archive tier for it.")
