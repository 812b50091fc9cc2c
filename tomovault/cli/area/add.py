"""Watch one more folder."""

from __future__ import annotations

import click

from tomovault.cli import common_options, say, say_json, site_folder
from tomovault.cli.init import parse_areas


@click.command()
@click.argument("area", metavar="NAME=PATH")
@common_options
def command(area: str, as_json: bool) -> None:
    """Add an area to the site and mark its folder, so that it is recognised when it is mounted."""
    from tomovault.vault.setting_up import set_up_area

    ((name, path),) = parse_areas((area,)).items()
    made = set_up_area(site_folder(), name, path)
    if as_json:
        say_json(made)
        return
    say(f"{made['name']} is watched: {made['path']}" + ("" if made["marked"] else " (read-only: archive-only)"))
    say("A running daemon takes it up when it is started again.")
