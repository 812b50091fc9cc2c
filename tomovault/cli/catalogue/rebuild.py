"""Make the catalogue again from a tier."""

from __future__ import annotations

from typing import Any

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

    What is damaged is shown as it is found, and a copy that was known at such a place is suspect from then on. Exit
    code 4 if anything is damaged, also if it was interrupted then, else 75 if anything could not be read now, 3 where
    the catalogue has scans that TIER does not hold.
    """
    from tomovault.cli._progress import open_screen
    from tomovault.vault.rebuilding import rebuild

    vault = open_vault()
    with open_screen(quiet=as_json) as screen:
        rebuilt = rebuild(
            vault,
            tier,
            lambda done, total: screen.progress(f"reading {tier}", done, total),
            lambda noted: screen.say(_line(noted)),
        )
    if as_json:
        say_json(rebuilt.page())
    else:
        _tell(rebuilt)
    return int(rebuilt.exit_code)


def _line(noted: Any) -> str:
    from tomovault.core.ports import Harm

    what = {Harm.UNREACHED: "could not be read: ", Harm.NOTICE: "note: "}.get(noted.harm, "")
    name = f"{label(noted.name)}: " if noted.name else ""
    return f"  {label(noted.location)}: {what}{name}{noted.reason}"


def _tell(rebuilt: Any) -> None:
    added = [
        counted(rebuilt.scans, "scan"),
        counted(rebuilt.products, "product"),
        f"{rebuilt.replicas} {_copies(rebuilt.replicas)}",
    ]
    say(f"From {rebuilt.tier}: {', '.join(added)} added. None of it counts as verified: tomovault verify --all")
    if rebuilt.backups:
        say(f"{counted(rebuilt.backups, 'backup')} of the catalogue found there: tomovault catalogue fetch FILE")
    if rebuilt.damaged:
        say(f"{counted(len(rebuilt.damaged), 'place')} damaged.")
    if rebuilt.suspect:
        say(f"{rebuilt.suspect} {_copies(rebuilt.suspect)} that the catalogue knew there: suspect now.")
    if rebuilt.stopped:
        say(f"stopped: {rebuilt.stopped}; the same command goes on")


def _copies(count: int) -> str:
    return "copy" if count == 1 else "copies"
