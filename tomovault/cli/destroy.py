"""Destroy copies, by name and with a reason."""

from __future__ import annotations

import dataclasses
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from tomovault.cli import common_options, label, open_vault, say, say_json, site_folder, who

if TYPE_CHECKING:
    from tomovault.vault.destroying import Destruction


@click.command()
@click.argument("scan")
@click.option(
    "--product",
    required=True,
    type=click.Choice(["original", "reduced", "volume", "preview"]),
    help="Which of its products.",
)
@click.option("--tier", required=True, metavar="TIER", help="Where: an area (files, package), or a tier.")
@click.option("--reason", required=True, metavar="TEXT", help="Why; kept for ever in the audit log.")
@click.option("--confirm", metavar="NAME", help="The scan's name once more, for use without a terminal.")
@common_options
def command(scan: str, product: str, tier: str, reason: str, confirm: str | None, as_json: bool) -> None:
    """Destroy one product of SCAN on one tier, even where it is the last copy. For the operator of the site.

    What goes and what stays is shown first, and the scan's name is asked for. Until the hold of the quarantine is over
    (`quarantine.hold`), `tomovault prune undo SCAN` takes it back; a pin stops it. What was destroyed is not made again
    by a rule; in place of copies that were known to be bad a good one is.
    """
    from tomovault.core.errors import UserError
    from tomovault.core.replica import ProductKind
    from tomovault.vault.asking import find_scan
    from tomovault.vault.destroying import order_destruction, plan_destruction, require_operator

    if not reason.strip():
        raise UserError("an order to destroy needs a reason", hint="--reason 'why it is not needed any more'")
    vault = open_vault()
    require_operator(site_folder())
    asked_at = datetime.now(UTC)
    with vault.catalogue.reading() as tx:
        known = find_scan(vault, tx, scan)
    planned = plan_destruction(vault, known, ProductKind(product), tier, asked_at)
    _confirm(planned, confirm, quiet=as_json)
    now = datetime.now(UTC)  # the hold begins when the name was typed
    planned = dataclasses.replace(planned, hold_until=planned.hold_until + (now - asked_at))
    permits = order_destruction(vault, planned, by=who(), reason=reason, now=now)
    if as_json:
        say_json(_page(planned, permits))
        return
    say(
        f"Ordered. {label(known.name)}: {product} on {tier} is gone for good after"
        f" {planned.hold_until:%Y-%m-%d %H:%M} UTC."
    )
    say(f"Until then: tomovault prune undo {known.id}")


def _confirm(planned: Destruction, given: str | None, *, quiet: bool) -> None:
    """The scan's name was given. Raises UserError where it was not, and nothing is done."""
    from tomovault.core.errors import UserError

    if given is None:
        if quiet or not sys.stdin.isatty():
            raise UserError(
                "the scan's name is asked for once more, and there is no terminal to ask on",
                hint="--confirm NAME, with the name as `tomovault scan show` writes it",
            )
        _show(planned)
        given = click.prompt("Type the scan's name to go on", default="", show_default=False)
    if given != planned.scan.name:
        raise UserError(f"{given!r} is not the name of this scan; nothing was done")


def _show(planned: Destruction) -> None:
    from tomovault.core.replica import ReplicaState
    from tomovault.vault.sizes import counted, show_bytes

    size = show_bytes(sum(victim.bytes for victim in planned.victims))
    copies = counted(len(planned.victims), "copy", "copies")
    say(f"{planned.product} of {label(planned.scan.name)} on {planned.tier}: {copies}, {size}")
    for victim in planned.victims:
        bad = ", which is known to be bad" if victim.state is ReplicaState.SUSPECT else ""
        say(f"  goes:  {victim.form} {label(victim.location)}{bad}")
    for stays in planned.left:
        say(f"  stays: {stays.form} on {stays.tier} {label(stays.location)}")
    if planned.last:
        say(f"  No good copy stays: after this, the {planned.product} is lost for ever.")


def _page(planned: Destruction, permits: list[Any]) -> dict[str, Any]:
    return {
        "id": planned.scan.id,
        "name": planned.scan.name,
        "product": planned.product.value,
        "tier": planned.tier,
        "hold_until": planned.hold_until.isoformat().replace("+00:00", "Z"),
        "last": planned.last,
        "permits": [{"id": p.id, "replica": p.replica, "bytes": p.bytes, "phase": p.phase.value} for p in permits],
        "stays": [
            {"replica": r.id, "form": r.form.value, "tier": r.tier, "location": r.location} for r in planned.left
        ],
    }
