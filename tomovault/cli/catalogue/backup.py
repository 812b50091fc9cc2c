"""Copy the catalogue."""

from __future__ import annotations

from pathlib import Path

import click

from tomovault.cli import common_options, open_vault, say, say_json


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@common_options
def command(file: Path, as_json: bool) -> None:
    """Write a consistent copy of an SQLite catalogue to FILE while everything goes on.

    One on PostgreSQL is copied by its own tools, such as pg_dump -Fc.
    """
    written = open_vault().catalogue.backup(str(file))
    if as_json:
        say_json({"file": written})
    else:
        say(f"The catalogue is copied to {written}.")
