"""Take a removal back."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from tomovault.cli import common_options, label, open_vault, say, say_json, who


@click.command()
@click.argument("scan")
@common_options
def command(scan: str, as_json: bool) -> int:
    """Put everything of SCAN that is in quarantine back where it was, and pin it so that it stays.

    Exit code 4 if something could not be put back: what stands in its place is never overwritten.
    """
    from tomovault.cli._progress import open_progress
    from tomovault.core.errors import UserError
    from tomovault.core.known import RemovalPhase
    from tomovault.vault.asking import ask, find_scan, raise_if_failed
    from tomovault.vault.removals import pin_after_undo

    vault = open_vault()
    now = datetime.now(UTC)
    with vault.catalogue.reading() as tx:
        known = find_scan(vault, tx, scan)
    open_phases = (RemovalPhase.GRANTED, RemovalPhase.QUARANTINED, RemovalPhase.LEAVING)
    permits = [p for p in known.permits if p.phase in open_phases]
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
        told = [{"id": p.id, "phase": p.phase.value, "left": list(p.left)} for p in undone]
        say_json({"id": known.id, "name": known.name, "permits": told})
    else:
        for permit in undone:
            say(
                f"{label(known.name)}: " + ("what could be put back is back:" if permit.left else "all files are back.")
            )
            for left in permit.left:
                say(f"  {label(left)}")
    return 4 if any(p.left for p in undone) else 0
