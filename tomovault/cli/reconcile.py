"""Compare what is known with what is there."""

from __future__ import annotations

import signal
import threading
import time

import click

from tomovault.cli import common_options, open_vault, say, say_json


@click.command()
@click.option("--for", "limit", default="4h", show_default=True, metavar="TIME", help="Stop after so long.")
@click.option("--parent", type=int, hidden=True, help="End with this process.")
@click.option("--own", is_flag=True, hidden=True, help="Only the areas that name this machine.")
@common_options
def command(limit: str, parent: int | None, own: bool, as_json: bool) -> None:
    """Compare what is known with what is there, both ways, as the daemon does every night.

    All files of each area are compared with those that scans explain (see `tomovault census`), and every package,
    preview and volume of ours is looked for. A copy that is not found is queued for a re-read; where too many are not
    found, that is only told. It reads at the lowest priority, and goes on where it, or the daemon, was before.

    The areas of other machines (`host`) are compared there, by the daemon of each.
    """
    from tomovault.core.errors import UserError
    from tomovault.daemon.census import give_way
    from tomovault.policy.quantity import parse_duration
    from tomovault.vault.job import end_with
    from tomovault.vault.logs import start_log
    from tomovault.vault.reconcile_state import alarms_of, line_of, read_state
    from tomovault.vault.reconciler import Reconciler

    if parent is not None:
        end_with(parent)
    try:
        until = time.monotonic() + parse_duration(limit).total_seconds()
    except ValueError as problem:
        raise UserError(f"--for: {problem}") from None
    vault = open_vault()
    start_log(vault.run_folder / "reconcile.log")
    give_way()
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    over = Reconciler(vault, is_over=lambda: stop.is_set() or time.monotonic() > until, own=own).run()
    state = read_state(vault)
    if as_json:
        say_json({"over": over, "places": state})
        return
    say(line_of(state) or "nothing could be compared: `tomovault doctor` says why")
    for place, text in alarms_of(state).values():
        say(f"  {place}: {text}")
    if not over:
        say("It is not over; the same command, or the next night, goes on.")
