"""Re-read copies now."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from tomovault.cli import common_options, counted, label, open_vault, say, say_json, who

#: What a shell gives for Ctrl-C.
_INTERRUPTED = 130


@click.command()
@click.argument("scans", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Every copy of every scan.")
@click.option("--due", is_flag=True, help="Only copies whose last re-read is older than the policy allows.")
@common_options
def command(scans: tuple[str, ...], everything: bool, due: bool, as_json: bool) -> int:
    """Re-read the bytes of every copy of the SCANs and compare them with their digests.

    Exit code 4 if any copy is bad. A bad copy is suspect from then on: it counts for nothing, and is made anew. Once
    as many good copies are archived as are wanted, --all and --due name the old one and do not read it again.

    Interrupted, it tells what was re-read until then, which counts; exit code 130 if nothing of that was bad.
    """
    from tomovault.cli._progress import open_progress
    from tomovault.vault.verifying import choose_replicas, verify_replicas

    if not (scans or everything or due):
        raise click.UsageError("name scans, or say --all or --due")
    vault = open_vault()
    chosen = choose_replicas(vault, scans, everything=everything, due=due, now=datetime.now(UTC))
    with open_progress(quiet=as_json) as progress:
        page = verify_replicas(vault, chosen, by=who(), progress=progress, named=bool(scans))
    if as_json:
        say_json(page)
    else:
        say(f"{page['checked']} copies re-read, {page['ok']} right, {len(page['bad'])} bad.")
        for bad in page["bad"]:
            say(f"  {label(bad['name'])} on {bad['tier']}: {bad['reason']}")
        for old in page["replaced"]:
            say(f"  {label(old['name'])}: the bad copy {old['location']} on {old['tier']} is needed no more.")
        for one in page["unreached"]:
            say(f"  {label(one['name'])} could not be re-read: {one['reason']}")
        if page["stopped"]:
            say(
                f"stopped: {page['chosen'] - page['left']} of {counted(page['chosen'], 'scan')} re-read;"
                f" {label(page['stopped'])} was not"
            )
    if page["bad"]:
        return 4
    if page["stopped"]:
        return _INTERRUPTED
    return int(page["unreached"][0]["exit_code"]) if page["unreached"] else 0
