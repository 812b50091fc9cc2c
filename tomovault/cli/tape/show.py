"""Show a cartridge."""

from __future__ import annotations

import click

from tomovault.cli import common_options, open_vault, printable, say, say_json


@click.command()
@click.argument("barcode")
@common_options
def command(barcode: str, as_json: bool) -> None:
    """Show what lies on the cartridge BARCODE, tape file by tape file."""
    from tomovault.cli._table import table
    from tomovault.core.errors import UserError
    from tomovault.vault.cartridges import list_cartridges
    from tomovault.vault.sizes import show_bytes

    found = [c for c in list_cartridges(open_vault()) if c["barcode"] == barcode]
    if not found:
        raise UserError(f"no cartridge {barcode!r} is known", hint="`tomovault tape list` shows them all")
    cartridge = found[0]
    if as_json:
        say_json(cartridge)
        return
    say(f"{barcode}: {cartridge['state']}, pool {cartridge['pool']} of {cartridge['tier']}")
    say(f"the medium, with its own restorer on it: {cartridge['path']}\n")
    rows = [
        [str(b["file"]), printable(b["scan_name"]), b["product"], show_bytes(b["bytes"]), b["digest"][:12]]
        for b in cartridge["bundles"]
    ]
    say(table(["file", "scan", "product", "size", "digest"], rows, right=[0, 3]))
