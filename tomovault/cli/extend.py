"""Keep a scan that is to go for some days more."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from tomovault.cli import common_options, label, open_vault, say, say_json, who


@click.command()
@click.argument("scan")
@click.option(
    "--days", type=click.IntRange(min=1), help="For so many days; by default as many as the site allows at a time."
)
@common_options
def command(scan: str, days: int | None, as_json: bool) -> None:
    """Keep SCAN where it is for some days more, after a warning that it is to go.

    It is a pin: nothing of the scan is removed while it lasts, and afterwards its owner is warned anew. Asked again on
    the same day, nothing changes. The site says for how long and how often (`notify: extend:` in tomovault.yaml).
    """
    from tomovault.vault.asking import find_scan
    from tomovault.vault.owner_warnings import extend

    vault = open_vault()
    with vault.catalogue.writing() as tx:
        known = find_scan(vault, tx, scan)
        kept = extend(vault, tx, known, days, who(), datetime.now(UTC))
    if as_json:
        until = kept.until.isoformat()
        quarantined = kept.in_quarantine
        say_json(
            {"id": known.id, "name": known.name, "until": until, "already": kept.already, "quarantined": quarantined}
        )
        return
    still = "stays already" if kept.already else "stays"
    say(f"{label(known.name)} {still} until {kept.until:%Y-%m-%d %H:%M} UTC.")
    if kept.in_quarantine:
        say(f"  It is in quarantine now: tomovault prune undo {known.id} puts it back where it was.")
