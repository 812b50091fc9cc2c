"""Make a volume."""

from __future__ import annotations

from typing import Any

import click

from tomovault.cli import common_options, label, open_vault, say, say_json, who


@click.command()
@click.argument("scan")
@click.option("--preset", metavar="NAME", help="Parameters of the area's policy, or of a file in presets/.")
@click.option("--like", metavar="PROCESSING", help="As an earlier run: an id that `tomovault scan show` lists.")
@click.option("--wait", is_flag=True, help="Stay until it is done, and exit with the outcome.")
@common_options
def command(scan: str, preset: str | None, like: str | None, wait: bool, as_json: bool) -> None:
    """Make the volume of SCAN, in the place of the one that is there. It has to be accepted anew.

    \b
    As the area's rules say:   tomovault reconstruct SCAN --wait
    With other parameters:     tomovault reconstruct SCAN --preset clean --wait
    As it was made before:     tomovault reconstruct SCAN --like x0h2k... --wait

    What the scan itself tells is found anew each time: the centre, the angles, which flats there are. A run of the
    same scan is repeated as it was, bit by bit; of one of another scan only what does not depend on the scan is taken
    over, and it is said what is not. Without --wait the request is queued for the daemon.
    """
    from tomovault.cli._progress import open_progress
    from tomovault.vault.asking import ask, find_scan, is_anybody_at_work, raise_if_failed
    from tomovault.vault.reconstructing import last_run, wish_for

    if preset is not None and like is not None:
        raise click.UsageError("--preset and --like exclude each other")
    vault = open_vault()
    with vault.catalogue.reading() as tx:
        known = find_scan(vault, tx, scan)
        wish = wish_for(tx, known, preset, like)
    with open_progress(quiet=as_json or not wait) as progress:
        answer = ask(vault, "reconstruct", known.id, wish.plain, by=who(), wait=wait, progress=progress)
    page: dict[str, Any] = {"job": answer.job, "scan": known.id, "name": known.name}
    if not wait:
        if as_json:
            say_json({**page, "status": "todo", "anew": dict(wish.anew)})
            return
        say(f"Queued as {answer.job}; `tomovault status` shows how far it is.")
        for name, why in wish.anew.items():
            say(f"  not taken over: {name} ({why})")
        if not is_anybody_at_work(vault):
            say("No daemon runs now, so it waits for one: `tomovault run`. With --wait it is done here at once.")
        return
    raise_if_failed(answer)
    with vault.catalogue.reading() as tx:
        run = last_run(vault.catalogue.known(tx, known.id))
    if as_json:
        say_json({**page, "status": "succeeded", **run})
        return
    from tomovault.vault.sizes import show_bytes

    say(f"{label(known.name)}: its volume is {label(run['location'])}, {show_bytes(run['bytes'])}.")
    found = run["found"]
    if found.get("centre") is not None:
        say(f"  centre {found['centre']:g} ({found['centre_method']}), processing {run['processing']}")
    for name, why in run["anew"].items():
        say(f"  not taken over: {name} ({why})")
    for warning in run["warnings"]:
        say(f"  warning: {warning}")
    if run["accepted_by"] is None:
        say(f"Look at it, and if it is right: tomovault accept {known.id}")
