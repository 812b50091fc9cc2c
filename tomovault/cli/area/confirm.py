"""Confirm that scans are gone."""

from __future__ import annotations

import click

from tomovault.cli import common_options, open_vault, printable, say, say_json, who


@click.command()
@click.argument("area")
@click.option("--yes", is_flag=True, help="Do it; without it only what is missing is listed.")
@common_options
def command(area: str, yes: bool, as_json: bool) -> None:
    """Say that scans which are missing from AREA were removed on purpose.

    When many scans are missing at once the area stops, since an unmounted disk looks the same. If it was you who
    removed them, confirm it here; the area goes on. Copies of the scans elsewhere are not touched.
    """
    from tomovault.vault.confirming import confirm_absence

    missing = confirm_absence(open_vault(), area, by=who(), do_it=yes)
    if as_json:
        say_json({"area": area, "missing": [printable(m) for m in missing], "confirmed": yes})
        return
    if not missing:
        say(f"Nothing is missing from {area}.")
        return
    for folder in missing:
        say(f"  {folder}")
    say(
        f"{len(missing)} are confirmed gone."
        if yes
        else f"{len(missing)} are missing. --yes confirms that they are gone."
    )
