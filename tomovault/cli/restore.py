"""Give data back."""

from __future__ import annotations

import os
from datetime import datetime
from typing import Any

import click

from tomovault.cli import common_options, counted, label, open_vault, say, say_json, who


def _range(_context: click.Context, _parameter: click.Parameter, value: str | None) -> tuple[int, int] | None:
    if value is None:
        return None
    first, sign, last = value.partition(":")
    if not sign or not first.isdecimal() or not last.isdecimal() or int(first) >= int(last):
        raise click.BadParameter(f"{value!r} is not A:B with A below B, such as 0:100")
    return int(first), int(last)


def _tell_expected(at: datetime) -> None:
    """On standard error, so that what is said at the end stays the only output."""
    click.echo(f"A cartridge has to be read for it: expected at {at:%Y-%m-%d %H:%M:%S} UTC.", err=True)


@click.command()
@click.argument("scan")
@click.option("--to", "target", required=True, type=click.Path(file_okay=False), help="The folder to write into.")
@click.option("--files", "globs", multiple=True, metavar="GLOB", help="Only files whose path below the scan matches.")
@click.option("--frames", callback=_range, metavar="A:B", help="Only projections A to B-1, counted from 0.")
@click.option("--flats", is_flag=True, help="Only the flat frames.")
@click.option("--darks", is_flag=True, help="Only the dark frames.")
@click.option(
    "--product",
    type=click.Choice(["original", "reduced", "volume"]),
    default="original",
    show_default=True,
    help="What to give back.",
)
@click.option("--from", "tier", metavar="TIER", help="Read from this area or tier, not from the nearest good copy.")
@click.option("--overwrite", is_flag=True, help="Replace files of the same name that differ.")
@click.option("--wait", is_flag=True, help="Stay until it is done, and exit with the outcome.")
@common_options
def command(
    scan: str,
    target: str,
    globs: tuple[str, ...],
    frames: tuple[int, int] | None,
    flats: bool,
    darks: bool,
    product: str,
    tier: str | None,
    overwrite: bool,
    wait: bool,
    as_json: bool,
) -> None:
    """Write SCAN below DIR as the instrument wrote it, every byte compared with its digest.

    \b
    The whole scan:       tomovault restore SCAN --to DIR --wait
    Some projections:     tomovault restore SCAN --to DIR --frames 0:100 --wait
    Only the flats:       tomovault restore SCAN --to DIR --flats --wait
    The volume:           tomovault restore SCAN --to DIR --product volume --wait
    From the archive:     tomovault restore SCAN --to DIR --from tape --wait

    What comes back from the archive stays on disk for some days, so that it is there when it is asked for again.
    Without --wait the request is queued for the daemon. A different file is never overwritten unasked.
    """
    from tomovault.cli._progress import open_progress
    from tomovault.vault.asking import ask, find_scan, is_anybody_at_work, raise_if_failed
    from tomovault.vault.foreign_volume import foreign_volume
    from tomovault.vault.page_text import time_text

    if sum(map(bool, (globs, frames, flats, darks))) > 1:
        raise click.UsageError("--files, --frames, --flats and --darks exclude each other")
    vault = open_vault()
    with vault.catalogue.reading() as tx:
        known = find_scan(vault, tx, scan)
        volume = foreign_volume(tx, known) if product == "volume" else None
    if volume is not None:
        # It is kept as a scan of its own, with every file as it was.
        known, product = volume, "original"
    wish: dict[str, Any] = {
        "to": os.path.abspath(target),
        "files": list(globs),
        "frames": list(frames) if frames else None,
        "kind": "flats" if flats else "darks" if darks else None,
        "product": product,
        "from": tier,
        "overwrite": overwrite,
    }
    with open_progress(quiet=as_json or not wait) as progress:
        tell = None if as_json else _tell_expected
        answer = ask(vault, "restore", known.id, wish, by=who(), wait=wait, progress=progress, tell=tell)
    if not wait:
        if as_json:
            page = {"job": answer.job, "scan": known.id, "status": "todo", "to": wish["to"]}
            say_json({**page, "expected_at": time_text(answer.expected_at)})
        else:
            when = answer.expected_at
            expected = "" if when is None else f", expected at {when:%Y-%m-%d %H:%M} UTC"
            say(f"Queued as {answer.job}{expected}; `tomovault status` shows how far it is.")
            if not is_anybody_at_work(vault):
                say("No daemon runs now, so it waits for one: `tomovault run`. With --wait it is done here at once.")
        return
    raise_if_failed(answer)
    (given,) = answer.given
    page = {
        "job": answer.job,
        "scan": known.id,
        "name": known.name,
        "status": "succeeded",
        "tier": given.tier,
        "cartridge": given.cartridge,
        "to": given.target,
        "files": given.files,
        "bytes": given.bytes,
        "read_bytes": given.read_bytes,
        "derived": given.derived,
        "expected_at": time_text(answer.expected_at),
    }
    if as_json:
        say_json(page)
        return
    from tomovault.vault.sizes import show_bytes

    where = f"{given.tier}, cartridge {given.cartridge}" if given.cartridge else given.tier
    what = "one derived file" if given.derived else counted(given.files, "file")
    say(f"{label(known.name)}: {what}, {show_bytes(given.bytes)}, in {given.target} (read from {where}).")
    if given.derived:
        say("It is made from the stored frames; the original files are restored without --frames, --flats or --darks.")
