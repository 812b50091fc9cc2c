"""Overrule a certificate."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from tomovault.cli import common_options, label, open_vault, say, say_json, who


@click.command()
@click.argument("scan")
@click.option("--complete", is_flag=True, help="It is all there.")
@click.option("--aborted", is_flag=True, help="It was stopped; keep what is there.")
@click.option("--reason", required=True, help="Why; recorded with your name.")
@common_options
def command(scan: str, complete: bool, aborted: bool, reason: str, as_json: bool) -> None:
    """Say that SCAN is complete or aborted although its certificate does not.

    The judgement holds as long as the scan does not change, and is recorded in the audit log with your name.
    """
    from tomovault.core.scan import Verdict
    from tomovault.vault.asking import find_scan

    if complete == aborted:
        raise click.UsageError("say --complete or --aborted, one of them")
    verdict = Verdict.COMPLETE if complete else Verdict.ABORTED
    vault = open_vault()
    now = datetime.now(UTC)
    with vault.catalogue.writing() as tx:
        known = find_scan(vault, tx, scan)
        vault.catalogue.declare(tx, known.id, verdict, who(), reason, now)
    if as_json:
        say_json({"id": known.id, "name": known.name, "declared": verdict.value})
    else:
        say(f"{label(known.name)} is {verdict.value}, says {who()}.")
