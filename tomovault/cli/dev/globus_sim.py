"""Run a local Transfer service."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from tomovault.cli import common_options, say, say_json


@click.command()
@click.option(
    "--collection",
    "collections",
    multiple=True,
    metavar="NAME=DIR",
    help="A folder that stands for a collection; may be repeated. The first is the site's own.",
)
@click.option("--port", type=int, default=8900, show_default=True, help="On this machine; 0 for a free one.")
@click.option("--fault", "faults", multiple=True, metavar="NAME", help="Something that goes wrong; see --list.")
@click.option("--list", "list_them", is_flag=True, help="List every fault and what it does.")
@common_options
def command(collections: tuple[str, ...], port: int, faults: tuple[str, ...], list_them: bool, as_json: bool) -> None:
    """Serve the Transfer API of Globus on this machine, and really copy files between folders.

    \b
    tomovault dev globus-sim --collection site=/data/id19 --collection home=/tmp/home

    It prints the lines to put into tomovault.yaml to try `tomovault transfer` without Globus. Any word does for a
    token. It runs until Ctrl-C, and remembers nothing afterwards.
    """
    from tomovault.cli._table import table
    from tomovault.testing.globus_tasks import FAULTS

    if list_them:
        if as_json:
            say_json({"faults": [{"name": name, "what": what} for name, what in FAULTS.items()]})
        else:
            say(table(["fault", "what"], [[name, what] for name, what in FAULTS.items()]))
        return
    import contextlib
    import threading

    from tomovault.testing.globus_sim import GlobusSim, collection_id

    places = _places(collections)
    for fault in faults:
        if fault not in FAULTS:
            raise click.UsageError(f"there is no fault {fault!r}; --list shows them")
    try:
        sim = GlobusSim(places, port=port, faults=set(faults))
    except OSError as problem:
        raise click.UsageError(f"port {port} cannot be used: {problem.strerror}") from problem
    (own, folder), *others = places.items()
    if as_json:
        say_json({"service": sim.url, "collections": {name: collection_id(name) for name in places}})
    else:
        say("globus:")
        say(f"  collection: {collection_id(own)}")
        say(f"  paths: {{{folder}: /}}")
        say("  names: {" + ", ".join(f"{name}: {collection_id(name)}" for name, _ in others) + "}")
        say(f"  service: {sim.url}")
        say("# and any word as a token: (umask 077; echo simulated > globus-token)")
        say("# serving until Ctrl-C")
    sys.stdout.flush()
    with sim, contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()


def _places(collections: tuple[str, ...]) -> dict[str, Path]:
    places = {}
    for text in collections:
        name, sign, folder = text.partition("=")
        if not sign or not name or not Path(folder).is_dir():
            raise click.UsageError(f"{text!r} is not NAME=DIR with a folder that is there")
        places[name] = Path(folder).resolve()
    if not places:
        raise click.UsageError("name at least one --collection NAME=DIR")
    return places
