"""Get a backup of the catalogue back."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from tomovault.cli import common_options, say, say_json, site_folder


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--from", "tier", metavar="TIER", help="Only from this tier.")
@click.option("--before", metavar="DATE", help="The newest that was made before this day, such as 2026-03-01.")
@common_options
def command(file: Path, tier: str | None, before: str | None, as_json: bool) -> None:
    """Get the newest backup of the catalogue out of the archive, as the new FILE, and say how it is used.

    The catalogue need not be there: then the media are looked through, which takes a mount for each cartridge. Every
    byte is held against its digest. The catalogue in use is not touched.
    """
    from tomovault.vault.fetching_backup import fetch_backup
    from tomovault.vault.site import load_site

    site = load_site(site_folder(), policies=False)
    page = fetch_backup(site, str(file), tier, _moment(before), lambda text: click.echo(text, err=True))
    if as_json:
        say_json(page)
        return
    say(f"The catalogue of {page['made_at'][:16].replace('T', ' ')} UTC, from {page['tier']}, is in {page['file']}.")
    say("To use it, stop every daemon of this site, then:")
    if page["database"] == "sqlite":
        say(f"  put it in the place of the catalogue:  {site.catalogue.removeprefix('sqlite:///').partition('?')[0]}")
        say("  with what is there now, its -wal and its -shm moved away")
    else:
        say(f"  createdb NEW && pg_restore --no-owner --dbname NEW {page['file']}")
        say("  name that database in tomovault.yaml (catalogue:)")
    say("  tomovault catalogue upgrade; tomovault catalogue rebuild --from TIER; tomovault catalogue check")


def _moment(text: str | None) -> datetime | None:
    from tomovault.core.errors import UserError

    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UserError(f"--before: {text!r} is no day", hint="such as 2026-03-01 or 2026-03-01T12:00") from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
