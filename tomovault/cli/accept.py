"""Accept a volume."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import click

from tomovault.cli import common_options, label, open_vault, say, say_json, who


@click.command()
@click.argument("scan")
@click.option("--reason", default="", help="What you looked at; recorded with your name.")
@common_options
def command(scan: str, reason: str, as_json: bool) -> None:
    """Say that the volume of SCAN is right. Only then may a rule reduce its raw data.

    What is to be looked at, and what its run found, is told first.
    """
    from tomovault.vault.asking import find_scan
    from tomovault.vault.reconstructing import what_to_look_at

    vault = open_vault()
    with vault.catalogue.writing() as tx:
        known = find_scan(vault, tx, scan)
        look = what_to_look_at(known)
        if not as_json:
            for line in _lines(look):
                say(line)
        vault.catalogue.accept(tx, known.id, who(), reason, datetime.now(UTC))
    if as_json:
        say_json({"id": known.id, "name": known.name, "accepted_by": who(), **look})
    else:
        say(f"The volume of {label(known.name)} is accepted by {who()}.")


def _lines(look: Mapping[str, Any]) -> Iterator[str]:
    for kind in ("preview", "volume"):
        if look[kind]:
            yield f"  {kind:<8} {label(look[kind])}"
    found = look["found"]
    if found.get("centre") is not None:
        yield f"  centre   {found['centre']:g}, by {found['centre_method']}"
    if look["preset"]:
        yield f"  preset   {look['preset']['name']}, version {look['preset']['version']}"
    for warning in look["warnings"]:
        yield f"  warning  {warning}"
