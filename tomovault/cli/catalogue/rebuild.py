"""Make the catalogue again from a tier."""

from __future__ import annotations

import click

from tomovault.cli import common_options, counted, label, open_vault, say, say_json


@click.command()
@click.option("--from", "tier", required=True, metavar="TIER", help="The tier whose media are read, whole.")
@common_options
def command(tier: str, as_json: bool) -> int:
    """Record scans, products and copies in an empty catalogue from the media of TIER alone.

    Every package is read, and what is damaged is named; the rest is taken in all the same. No copy counts as verified
    before `tomovault verify` has read it again, so nothing may be removed. Nothing is written to the media.

    What the catalogue has already stays as it is: the same command goes on where one was stopped, and a second tier
    adds its copies. The numbers are of what was added. No daemon may run meanwhile.

    Exit code 4 if anything is damaged, 3 where the catalogue has scans that TIER does not hold.
    """
    from tomovault.cli._progress import open_progress
    from tomovault.vault.rebuilding import rebuild

    vault = open_vault()
    with open_progress(quiet=as_json) as progress:
        rebuilt = rebuild(vault, tier, lambda done, total: progress(f"reading {tier}", done, total))
    if as_json:
        say_json(rebuilt.page())
    else:
        added = [
            counted(rebuilt.scans, "scan"),
            counted(rebuilt.products, "product"),
            f"{rebuilt.replicas} {'copy' if rebuilt.replicas == 1 else 'copies'}",
        ]
        say(f"From {tier}: {', '.join(added)} added. Nothing counts as verified: tomovault verify --all")
        for one in rebuilt.damaged:
            say(f"  {label(one['location'])}: {one['reason']}")
    return 4 if rebuilt.damaged else 0
