"""Bring the catalogue to the newest schema."""

from __future__ import annotations

import click

from tomovault.cli import common_options, say, say_json, site_folder


@click.command()
@common_options
def command(as_json: bool) -> None:
    """Bring the catalogue to the schema of this tomovault, all of it or nothing.

    A copy of an SQLite catalogue is kept beside it before anything changes. Before one on PostgreSQL is upgraded, stop
    the daemons of all machines and make a copy with pg_dump -Fc.
    """
    from tomovault.vault.site import load_site
    from tomovault.vault.vault import open_catalogue

    catalogue = open_catalogue(load_site(site_folder()))
    try:
        backup = catalogue.upgrade()
    finally:
        catalogue.close()
    if as_json:
        say_json({"backup": backup})
    else:
        say(
            f"The catalogue is at the newest schema; as it was: {backup}"
            if backup
            else "The catalogue is at the newest schema."
        )
