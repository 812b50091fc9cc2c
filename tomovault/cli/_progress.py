"""Progress of one long piece of work, on a terminal only."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tomovault.cli import printable, say


@dataclass(frozen=True)
class Screen:
    """What a person sees of a long piece of work: how far it is, and lines as they come."""

    progress: Callable[[str, int, int], None]
    say: Callable[[str], None]


@contextmanager
def open_progress(*, quiet: bool, in_bytes: bool = False) -> Iterator[Callable[[str, int, int], None]]:
    """A function of (what, done, total) that draws on standard error where that is a terminal; of `in_bytes` with how
    many a second, and the time that is left.
    """
    with open_screen(quiet=quiet, in_bytes=in_bytes) as screen:
        yield screen.progress


@contextmanager
def open_screen(*, quiet: bool, in_bytes: bool = False) -> Iterator[Screen]:
    """As `open_progress`, with lines for standard output that come at once; `quiet` shows neither."""
    if quiet or not sys.stderr.isatty():
        yield Screen(lambda _what, _done, _total: None, _nothing if quiet else say)
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.text import Text

    console = Console(stderr=True)

    # Lines for a file must not end up on the terminal; those for the same terminal stand above what is drawn.
    def say_above(text: str) -> None:
        console.print(Text(printable(text)), soft_wrap=True)

    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        *((TransferSpeedColumn(), TextColumn("left")) if in_bytes else ()),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        redirect_stdout=False,
    ) as bars:
        task = bars.add_task("starting", total=None)

        def progress(what: str, done: int, total: int) -> None:
            bars.update(task, description=what, completed=done, total=total or None)

        yield Screen(progress, say_above if sys.stdout.isatty() else say)


def _nothing(_line: str) -> None:
    """Nobody looks."""
