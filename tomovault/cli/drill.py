"""Restore archived scans to prove that they can be restored."""

from __future__ import annotations

from typing import Any

import click

from tomovault.cli import common_options, counted, label, open_vault, say, say_json

_LAST = 20


@click.command()
@click.option("--now", is_flag=True, help="Drill one scan now, and say what was found.")
@click.option("--scan", "text", metavar="SCAN", help="With --now: this scan, and none that is drawn.")
@click.option("--seed", type=int, help="With --now: draw what this number draws, to repeat a drill.")
@click.option("--all", "everything", is_flag=True, help="List every drill, not the last 20.")
@click.option("--parent", type=int, hidden=True, help="End with this process, and drill only if one is due.")
@common_options
def command(now: bool, text: str | None, seed: int | None, everything: bool, parent: int | None, as_json: bool) -> int:
    """List the fire drills, and how many passed.

    In a drill an archived scan is drawn at random and restored from its tier to a scratch folder, which is removed
    afterwards. Every file is read again there and held against the digests of the manifest, and against the original
    where that is still on disk; one slice of its volume is made again and held against the stored one. A copy that is
    bad is suspect from then on, as with `tomovault verify`. A daemon drills as often as `fire_drill` of tomovault.yaml
    says, and gives way to every restore.

    With --now the exit code is 4 if the drill failed, 75 if it was put off.
    """
    from tomovault.core.errors import UserError

    if parent is not None:
        _drill_if_due(parent)
        return 0
    if (text is not None or seed is not None) and not now:
        raise UserError("--scan and --seed are of a drill that is held --now")
    if not now:
        _list(None if everything else _LAST, as_json)
        return 0
    return _drill(text, seed, as_json)


def _drill_if_due(parent: int) -> None:
    import random
    from datetime import UTC, datetime

    from tomovault.daemon.census import give_way
    from tomovault.vault.drilling import clear_dead, drill, drill_is_due
    from tomovault.vault.job import end_with

    end_with(parent)
    give_way()
    vault = open_vault()
    with vault.catalogue.reading() as tx:
        due = drill_is_due(vault, tx, datetime.now(UTC))
    if due:
        drill(vault, random.Random())
    else:
        clear_dead(vault)


def _drill(text: str | None, seed: int | None, as_json: bool) -> int:
    import random

    from tomovault.vault.drill_state import row_of
    from tomovault.vault.drilling import drill, find_scan_to_drill

    vault = open_vault()
    scan = None if text is None else find_scan_to_drill(vault, text)
    done = drill(vault, random.Random(seed), scan=scan)
    if done is None:
        if as_json:
            say_json({"drill": None})
        else:
            say("Nothing is archived and verified yet: there is no scan to drill.")
        return 0
    row = row_of(done)
    if as_json:
        say_json(row)
    else:
        _tell(row)
    return {"passed": 0, "put_off": 75, "waiting": 75}.get(row["outcome"], 4)


def _tell(row: dict[str, Any]) -> None:
    from tomovault.vault.drill_state import WORDS
    from tomovault.vault.sizes import show_bytes

    say(f"{label(row['name'])} from {row['tier']} {label(row['location'])}: {WORDS[row['outcome']]}.")
    if row["problem"]:
        say(f"  {label(row['problem'])}")
    if "files" in row:
        say(f"  {counted(row['files'], 'file')}, {show_bytes(row['bytes'])}, restored as archived.")
        if row["originals"]:
            say(f"  {counted(row['originals'], 'file')} still on disk, compared: the same.")
    if row.get("slice") == "same":
        say(f"  Slice {row['row']} of its volume was made again, and is the stored one.")
    elif row.get("slice") == "none":
        say(f"  No slice was made again: {label(row['no_slice'])}.")


def _list(limit: int | None, as_json: bool) -> None:
    from tomovault.cli._table import table
    from tomovault.vault.drill_state import WORDS, drills_page

    vault = open_vault()
    with vault.catalogue.reading() as tx:
        page = drills_page(vault, tx, limit)
    if as_json:
        say_json(page)
        return
    say(_rate(page))
    if page["drills"]:
        cells = [
            [
                row["at"][:16].replace("T", " "),
                label(row["name"]),
                f"{row['tier']} {label(row['location'])}",
                WORDS[row["outcome"]],
                row.get("slice", ""),
                label(row["problem"]),
            ]
            for row in page["drills"]
        ]
        say(table(["begun (UTC)", "scan", "from", "", "slice", ""], cells))


def _rate(page: dict[str, Any]) -> str:
    often = f"{page['scans_a_week']:g} a week" if page["scans_a_week"] else "none by itself (fire_drill: scans_a_week)"
    if not page["carried_out"]:
        return f"No scan was drilled yet; {often}. `tomovault drill --now` drills one."
    share = f"{100 * page['pass_rate']:.4g} %"
    return f"{page['passed']} of {counted(page['carried_out'], 'drill')} passed ({share}); {often}."
