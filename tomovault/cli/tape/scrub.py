"""Read cartridges whole."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click

from tomovault.cli import common_options, counted, label, open_vault, say, say_json

_INTERRUPTED = 130


@click.command()
@click.argument("barcodes", nargs=-1, metavar="[BARCODE]...")
@click.option("--due", is_flag=True, help="Only cartridges with a copy whose last re-read is older than is allowed.")
@common_options
def command(barcodes: tuple[str, ...], due: bool, as_json: bool) -> int:
    """Read the cartridges with these BARCODEs whole, or all, the one least recently read first.

    Every byte is read in the order in which it lies and held against its digests; nothing is decoded. What is right
    counts as re-read, and a copy that is not is suspect from then on, as with `tomovault verify`. Exit code 4 if
    anything is bad, 75 if a cartridge or a drive cannot be had now. Interrupted, the cartridge that is being read
    counts as not read; the exit code is 130 then, and 4 all the same if anything was found to be bad before.
    """
    from tomovault.cli._progress import open_progress
    from tomovault.vault.scrubbing import choose_cartridges, scrub_cartridges

    vault = open_vault()
    chosen = choose_cartridges(vault, barcodes, due=due, now=datetime.now(UTC))
    with open_progress(quiet=as_json, in_bytes=True) as progress:
        page = scrub_cartridges(vault, chosen, named=bool(barcodes), progress=progress)
    if as_json:
        say_json(page)
    else:
        _tell(page)
    if page["bad"]:
        return 4
    if page["stopped"]:
        return _INTERRUPTED
    return int(page["unreached"][0]["exit_code"]) if page["unreached"] else 0


def _tell(page: dict[str, Any]) -> None:
    from tomovault.vault.sizes import show_bytes

    read = page["cartridges"]
    if not page["chosen"]:
        say("There is no cartridge to read.")
        return
    size = show_bytes(sum(one["bytes"] for one in read))
    say(
        f"{counted(len(read), 'cartridge')} read, {size}:"
        f" {page['checked']} copies re-read, {page['ok']} right, {len(page['bad'])} bad."
    )
    for bad in page["bad"]:
        say(f"  {bad['location']}: {label(bad['name']) + ': ' if bad['name'] else ''}{bad['reason']}")
    for one in read:
        for row in one["unfinished"]:
            say(f"  {row['location']}: a bundle that was never finished and does not exist: {row['reason']}")
        for row in one["unknown"]:
            say(f"  {row['location']}: {label(row['name'])} ({row['product']}): {row['reason']}")
        for row in one["replaced"]:
            say(f"  {row['location']}: the bad copy of {label(row['name'])} is needed no more.")
    for row in page["unreached"]:
        say(f"  {row['cartridge']} could not be read: {row['reason']}")
    if page["stopped"]:
        say(
            f"stopped: {len(read)} of {counted(page['chosen'], 'cartridge')} read to the end;"
            f" {page['stopped']} was not, and counts as not read"
        )
