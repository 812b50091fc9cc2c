"""Check that everything works."""

from __future__ import annotations

import click

from tomovault.cli import common_options, say, say_json, site_folder


@click.command()
@common_options
def command(as_json: bool) -> int:
    """Try out the installation, the site, each area's rights, each tier and the engine.

    Exit code 75 if something that is needed does not work.
    """
    from tomovault.vault.checking import run_doctor

    checks = run_doctor(site_folder())
    good = all(c.ok for c in checks if c.needed)
    if as_json:
        say_json({"checks": [{"name": c.name, "ok": c.ok, "detail": c.detail, "hint": c.hint} for c in checks]})
    else:
        width = max(len(c.name) for c in checks)
        for check in checks:
            mark = "ok " if check.ok else "BAD" if check.needed else "-  "
            say(f"{mark} {check.name.ljust(width)}  {check.detail}")
            if not check.ok and check.hint:
                say(f"    {' ' * width}  {check.hint}")
    return 0 if good else 75
