"""Check the catalogue."""

from __future__ import annotations

import click

from tomovault.cli import common_options, open_vault, say, say_json


@click.command()
@common_options
def command(as_json: bool) -> int:
    """Check schema, integrity, the usage roll-up against a recount, and the chain of the audit log.

    On PostgreSQL the integrity of files is what the server itself has found: failed checksums, indexes that are not
    valid, references never checked. Exit code 4 if anything is wrong.
    """
    vault = open_vault()
    problems = vault.catalogue.check(vault.exported_head())
    if as_json:
        say_json({"ok": not problems, "problems": problems})
    else:
        say("\n".join(problems) if problems else "The catalogue is sound.")
    return 4 if problems else 0
