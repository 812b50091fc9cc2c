"""Take a removal back."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from tomovault.cli import common_options, open_vault, say, say_json, who


@click.command()
@click.argument("scan")
@common_options
def command(scan: str, as_json: bool) -> None:
    """Put everything of SCAN that is in quarantine back where it was, and pin it so that it stays."""
    from tomovault.cli._progress import open_progress
    from tomovault.core.errors import UserError
    from tomovault.core.known import RemovalPhase
    from tomovault.vault.asking import ask, find_scan, raise_if_failed
    from tomovault.vault.removals import pin_after_undo

    vault = open_vault()
    now = datetime.now(UTC)
    with vault.catalogue.reading() as tx:
        known = find_scan(vault, tx, scan)
    permits = [p for p in known.permits if p.phase is RemovalPhase.QUARANTINED]
    if not permits:
        raise UserError(
            f"nothing of {known.name} is in quarantine",
            hint=f"what is gone from disk comes back with: tomovault restore {known.id} --to DIR --wait",
        )
    with vault.catalogue.writing() as tx:
        pin_after_undo(vault, tx, known, who(), now)
    with open_progress(quiet=as_json) as progress:
        for permit in permits:
            raise_if_failed(
                ask(vault, "undo_prune", known.id, {"permit": permit.id}, by=who(), wait=True, progress=progress)
            )
    with vault.catalogue.reading() as tx:
        after = vault.catalogue.known(tx, known.id)
    undone = [p for p in after.permits if p.id in {q.id for q in permits}]
    if as_json:
        say_json(
            {"id": known.id, "name": known.name, "permits": [{"id": p.id, "phase": p.phase.value} for p in undone]}
        )
        return
    for permit in undone:
        say(f"{known.name}: {permit.files} files are back." if permit.phase is RemovalPhase.UNDONE else "some stay")
