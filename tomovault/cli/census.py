"""Take the census of an area."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from tomovault.cli import common_options, counted, label, open_vault, say, say_json

if TYPE_CHECKING:
    from tomovault.catalog.census import Progress

#: So many folders of unexplained data are shown; --json has all.
_SHOWN = 15


@click.command()
@click.argument("area", metavar="AREA")
@click.option("--last", is_flag=True, help="Show what the last one found, be it of a command or of a night.")
@common_options
def command(area: str, last: bool, as_json: bool) -> None:
    """Look through all of AREA once: the first import of a full server, or an inventory of one that is watched.

    Every place where a scan may be is looked into and certified; nothing is packed, moved or removed. Then all files
    are compared with those that scans explain, and the others are added up by folder and owner, with the day by which
    somebody should have said what they are.

    It reads at the lowest priority, and may be stopped and run again: it goes on where it was. Where a daemon runs, the
    daemon does the looking, and this shows how far it is.
    """
    from tomovault.cli._progress import open_progress
    from tomovault.core.errors import UserError
    from tomovault.daemon.census import take_census
    from tomovault.vault.census import census_page, find_remainder, forget_walk, keep_census, last_census
    from tomovault.vault.logs import start_log

    vault = open_vault()
    vault.area(area)
    if last:
        page = last_census(vault, area)
        if not page:
            raise UserError(f"no census of {area} was taken yet", hint=f"tomovault census {area}")
        if as_json:
            say_json(page)
        else:
            say(f"As of {page['at'][:16].replace('T', ' ')} UTC:")
            _show(page)
        return
    stop = threading.Event()
    with _stopped_gently(stop), open_progress(quiet=as_json) as progress:
        start_log(vault.run_folder / "census.log")
        take_census(vault, area, _in_words(progress), stop)
        _go_on_or_end(stop)

        def walked(done: int, total: int) -> None:
            _go_on_or_end(stop)
            progress("comparing files with scans", done, total)

        found, over = find_remainder(vault, area, walked)
    with vault.catalogue.reading() as tx:
        page = census_page(vault, tx, area, found, over, datetime.now(UTC))
    keep_census(vault, page)
    forget_walk(vault, area)
    if as_json:
        say_json(page)
    else:
        _show(page)


def _in_words(progress: Callable[[str, int, int], None]) -> Callable[[Progress, bool], None]:
    """The progress of the looks, for a bar: while folders are still listed nobody knows how many places there are."""

    def told(how_far: Progress, swept: bool) -> None:
        if swept:
            progress("looking into scans", how_far.looked_into, how_far.found)
        else:
            progress(f"listing folders; {how_far.found} places where scans may be", 0, 0)

    return told


def _go_on_or_end(stop: threading.Event) -> None:
    if stop.is_set():
        click.echo("stopped; the same command goes on where it was", err=True)
        raise click.exceptions.Exit(130)


@contextmanager
def _stopped_gently(stop: threading.Event) -> Iterator[None]:
    """Meanwhile Ctrl-C and SIGTERM only ask to stop, so that running looks are ended and queued again."""
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _show_places(page: dict[str, Any]) -> None:
    """Copies that are not found, and scans that are not where they were."""
    words = {
        "not_found": "not found, or not as it was: nothing relies on it",
        "moved": "moved here",
        "elsewhere": "one more copy, restored or copied by somebody",
    }
    for key, told in words.items():
        rows = page.get(key, [])
        for row in rows[:_SHOWN]:
            say(f"\n{label(row['name'])}: {told}: {label(row['location'])}")
        if len(rows) > _SHOWN:
            say(f"and {len(rows) - _SHOWN} more; --json has all.")


def _show(page: dict[str, Any]) -> None:
    from tomovault.cli._table import table
    from tomovault.vault.sizes import show_bytes

    say(
        f"{page['area']}: {counted(page['files'], 'file')} in {counted(page['folders'], 'folder')}, "
        f"{show_bytes(page['bytes'])}."
    )
    say()
    if page["scans"]:
        rows = [
            [s["format"], s["verdict"], str(s["scans"]), str(s["files"]), show_bytes(s["bytes"])] for s in page["scans"]
        ]
        say(table(["format", "verdict", "scans", "files", "size"], rows, right=[2, 3, 4]))
    else:
        say("No scan was found.")
    if page["failed_jobs"]:
        say(f"\n{counted(page['failed_jobs'], 'look')} failed: `tomovault status` says which and why.")
    for row in page["unreadable"]:
        say(f"\ncannot be read: {label(row['path'])}: {row['reason']}")
    _show_places(page)
    unexplained = page["unexplained"]
    if not unexplained:
        say("\nEvery file" + (" that could be seen" if page["unreadable"] else "") + " belongs to a scan.")
        return
    size = show_bytes(sum(row["bytes"] for row in unexplained))
    say(
        f"\nIn no scan: {counted(sum(row['files'] for row in unexplained), 'file')}, {size}; "
        "nothing happens to them by itself."
    )
    rows = [
        [
            label(row["folder"]) + (" (beside scans)" if row["beside_scans"] else ""),
            row["owner"],
            str(row["files"]),
            show_bytes(row["bytes"]),
            row["newest"][:10],
            row["deadline"][:10],
        ]
        for row in unexplained[:_SHOWN]
    ]
    say(table(["folder", "owner", "files", "size", "newest", "explain by"], rows, right=[2, 3]))
    if len(unexplained) > _SHOWN:
        say(f"and {len(unexplained) - _SHOWN} more folders; --json has all.")
    say(f"\n`tomovault area unclaimed {page['area']}` gives reasons for those that look like scans.")
