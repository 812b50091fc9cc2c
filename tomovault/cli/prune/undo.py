"""Take a removal back."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from tomovault.cli import common_options, counted, label, open_vault, say, say_json, who

if TYPE_CHECKING:
    from tomovault.core.known import Permit


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
    from tomovault.vault.removals import area_of_removal, pin_after_undo, take_back_order

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
            replica = next(r for r in known.replicas if r.id == permit.replica)
            if permit.ordered_by and replica.tier not in vault.site.areas:
                with vault.catalogue.writing() as tx:
                    take_back_order(vault, tx, known, permit, now)
                continue
            wish, area = {"permit": permit.id}, area_of_removal(vault, known, permit)
            raise_if_failed(ask(vault, "undo_prune", known.id, wish, by=who(), wait=True, progress=progress, area=area))
    with vault.catalogue.reading() as tx:
        after = vault.catalogue.known(tx, known.id)
    before = {p.id: p for p in permits}
    what = {
        p.id: next(
            f"{r.product} ({r.form}) on {r.tier if r.tier in vault.site.areas else f'{r.tier} ({r.domain})'}"
            for r in known.replicas
            if r.id == p.replica
        )
        for p in permits
    }
    undone = [p for p in after.permits if p.id in before]
    if as_json:
        say_json({"id": known.id, "name": known.name, "permits": [_told(known.id, before[p.id], p) for p in undone]})
    else:
        for permit in undone:
            _say_how_far(f"{label(known.name)}, {what[permit.id]}", _told(known.id, before[permit.id], permit))
    return 4 if any(p.left for p in undone) else 0


def _told(scan: str, before: Permit, permit: Permit) -> dict[str, Any]:
    """How far a removal was taken back: `files` and `bytes` were put back. While it is `open`, some are in quarantine
    still.
    """
    is_open = permit.phase.value in ("granted", "quarantined", "leaving")
    hint = ""
    if permit.left and is_open:
        hint = f"move away what stands in their place, then tomovault prune undo {scan}"
    elif permit.left:
        hint = f"what is not in its place any more comes back with: tomovault restore {scan} --to DIR --wait"
    return {
        "id": permit.id,
        "phase": permit.phase.value,
        "open": is_open,
        "files": before.files - (permit.files if is_open else 0),
        "bytes": before.bytes - (permit.bytes if is_open else 0),
        "quarantined_files": permit.files if is_open else 0,
        "quarantined_bytes": permit.bytes if is_open else 0,
        "left": list(permit.left),
        "hint": hint,
    }


def _say_how_far(name: str, told: Mapping[str, Any]) -> None:
    from tomovault.vault.sizes import show_bytes

    if not told["left"]:
        say(f"{name}: all files are back.")
        return
    say(f"{name}: what could be put back is back, but these are not:")
    for left in told["left"]:
        say(f"  {label(left)}")
    if told["open"]:
        count = told["quarantined_files"]
        files = counted(count, "file")
        size = show_bytes(told["quarantined_bytes"])
        say(
            f"{files} ({size}) {'is' if count == 1 else 'are'} in quarantine still, and the permit {told['id']} stays"
            " open; nothing of it is removed before they are back."
        )
    say(told["hint"])
