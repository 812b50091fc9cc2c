"""Send data to another place."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from tomovault.cli import common_options, label, open_vault, say, say_json, who

if TYPE_CHECKING:
    from tomovault.core.errors import TomovaultError


@click.command()
@click.argument("scans", nargs=-1, required=True, metavar="SCAN")
@click.option(
    "--to",
    "target",
    required=True,
    metavar="COLLECTION:/PATH",
    help="The UUID of a Globus collection, or its name under `globus: names:` in tomovault.yaml, and a folder in it.",
)
@click.option(
    "--product",
    type=click.Choice(["original", "reduced", "volume", "preview"]),
    default="original",
    show_default=True,
    help="What to send: the verified package of it.",
)
@click.option("--overwrite", is_flag=True, help="Replace files of the same names that are there with another size.")
@click.option("--wait", is_flag=True, help="Stay until the receipt is in, and exit with the outcome.")
@common_options
def command(scans: tuple[str, ...], target: str, product: str, overwrite: bool, wait: bool, as_json: bool) -> None:
    """Send SCAN to a folder of a Globus collection, and keep the receipt.

    \b
    The package:      tomovault transfer SCAN --to COLLECTION:/PATH --wait
    The volume:       tomovault transfer SCAN --to COLLECTION:/PATH --product volume
    Several scans:    tomovault transfer SCAN1 SCAN2 --to COLLECTION:/PATH
    How far it is:    tomovault scan show SCAN; tomovault explain SCAN

    What goes is the verified package, with a list of its files and their sha256 beside it, into a folder named like
    the scan. Globus compares both ends of each file with that sha256. A transfer counts once Globus says that all
    went well and every file is found at the destination with its size; then `exported` is done.

    Without --wait the request is queued for the daemon. With it, Ctrl-C leaves the transfer going, and the same
    command joins it again. A transfer is never sent twice, whatever is stopped or killed meanwhile.

    \b
    The site needs a section in tomovault.yaml (docs/operator.md says how to get what stands in it):
        globus:
          collection: 6c54cade-bde5-45c1-bdea-f4bd71dba2cc    # the collection that has the site's vaults
          paths: {/data/id19: /id19}                          # folders here, and their paths there
    A token is in the file globus-token, or a client in globus-client, both readable by the daemon's account alone.
    """
    from tomovault.core.errors import TomovaultError
    from tomovault.vault.asking import find_scan
    from tomovault.vault.transferring import ask_transfer

    vault = open_vault()
    with vault.catalogue.reading() as tx:
        known = [find_scan(vault, tx, scan) for scan in scans]
    asked = []
    problem: TomovaultError | None = None
    for scan in {scan.id: scan for scan in known}.values():
        try:
            one = ask_transfer(vault, scan.id, to=target, product=product, overwrite=overwrite, by=who())
        except TomovaultError as failure:
            problem = problem or failure
        else:
            asked.append((scan, one))
    if wait:
        problem = _wait(vault, asked, quiet=as_json) or problem
    pages = [_page(vault, scan, one) for scan, one in asked]
    if as_json and problem is None:
        say_json({"transfers": pages})
    elif not as_json:
        for (scan, one), page in zip(asked, pages, strict=True):
            _say(scan, one, page, waited=wait)
    if problem is not None:
        raise problem


def _wait(vault: Any, asked: list[Any], *, quiet: bool) -> TomovaultError | None:
    """Every transfer is over; the first failure. On Ctrl-C they go on, and it is said how."""
    from tomovault.cli._progress import open_progress
    from tomovault.core.errors import TomovaultError
    from tomovault.vault.asking import raise_if_failed, wait_for

    problem: TomovaultError | None = None
    for scan, one in asked:
        try:
            with open_progress(quiet=quiet) as progress:
                answer = wait_for(vault, one.job, _in_words(vault, one, progress), keep=True)
            raise_if_failed(answer)
        except TomovaultError as failure:
            problem = problem or failure
        except KeyboardInterrupt:
            click.echo(
                f"transfer {one.transfer} goes on, and a daemon that runs sees it through: "
                f"`tomovault scan show {scan.id}` says how far it is, and the same command joins it again",
                err=True,
            )
            raise click.exceptions.Exit(130) from None
    return problem


def _in_words(vault: Any, one: Any, progress: Callable[[str, int, int], None]) -> Callable[[str, int, int], None]:
    """Progress that says how far the transfer is while there is nothing to count."""
    from tomovault.vault.transferring import words_of

    if not sys.stderr.isatty():
        return progress
    return lambda what, done, total: progress(what if total else words_of(vault, one), done, total)


def _page(vault: Any, scan: Any, one: Any) -> dict[str, Any]:
    from tomovault.vault.scan_pages import transfer_line

    with vault.catalogue.reading() as tx:
        line = transfer_line(vault.catalogue.read_transfer(tx, one.transfer))
    return {"scan": scan.id, "name": label(scan.name), "job": one.job, "joined": one.joined, **line}


def _say(scan: Any, one: Any, page: dict[str, Any], *, waited: bool) -> None:
    from tomovault.vault.sizes import show_bytes

    name = label(scan.name)
    receipt = page["receipt"]
    if receipt is not None:
        say(
            f"{name}: {receipt['files']} files, {show_bytes(receipt['bytes'])}, are in {receipt['folder']} of "
            f"{receipt['collection']} (task {receipt['task_id']})."
        )
    elif one.joined and not waited:
        say(f"{name}: on its way already, as transfer {one.transfer}; it is {page['state']}.")
    elif not waited:
        say(f"{name}: queued as transfer {one.transfer}; `tomovault explain {scan.id}` says how far it is.")
