"""Make a site."""

from __future__ import annotations

from pathlib import Path

import click

from tomovault.cli import common_options, say, say_json


def parse_areas(values: tuple[str, ...]) -> dict[str, str]:
    """NAME=PATH pairs. Raises click.UsageError for anything else."""
    areas = {}
    for value in values:
        name, sign, path = value.partition("=")
        if not (name and sign and path):
            raise click.UsageError(f"{value!r} is not NAME=PATH, such as inhouse=/data/id19/inhouse")
        areas[name] = str(Path(path).absolute())
    return areas


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--area", "areas", multiple=True, metavar="NAME=PATH", help="A folder to watch; may be repeated.")
@click.option("--simulated", is_flag=True, help="A site to try things on: the emulated library counts as an archive.")
@common_options
def command(folder: Path, areas: tuple[str, ...], simulated: bool, as_json: bool) -> None:
    """Make a site in FOLDER, ready to run, watching the given folders.

    Nothing a user wrote is ever removed until a person sets `prune: on` for an area in tomovault.yaml.
    """
    from tomovault.vault.setting_up import set_up_site

    made = set_up_site(folder, parse_areas(areas), simulated=simulated)
    if as_json:
        say_json(made)
        return
    say(f"A site is in {made['site']}.")
    for area in made["areas"]:
        say(f"  watches {area['name']}: {area['path']}" + ("" if area["marked"] else " (read-only: archive-only)"))
    say(f"\nNext:  tomovault --site {folder} doctor\n       tomovault --site {folder} run")
