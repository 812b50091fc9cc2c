"""Check the audit log."""

from __future__ import annotations

import click

from tomovault.cli import common_options, open_vault, say, say_json


@click.command()
@common_options
def command(as_json: bool) -> int:
    """Check that no entry of the audit log was changed, removed or put in. Exit code 4 if one was."""
    vault = open_vault()
    with vault.catalogue.reading() as tx:
        chain = vault.catalogue.verify_audit(tx, vault.exported_head())
    if as_json:
        say_json({"ok": chain.ok, "entries": chain.rows, "head": chain.head, "problem": chain.problem})
    elif chain.ok:
        say(f"{chain.rows} entries, each as it was written. Head: {chain.head}")
    else:
        say(f"The audit log is not as it was written: {chain.problem}")
    return 0 if chain.ok else 4
