"""When what is full."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click

from tomovault.cli import common_options, label, open_vault, say, say_json


@click.command()
@click.option("--add", metavar="SIZE", help="Ask whether so much more would fit, such as 1TB.")
@click.option("--on", metavar="DATE", help="The day on which it comes, such as 2027-03-31.")
@click.option("--to", metavar="NAME", help="Only this area or proposal; it must be named for a proposal with --add.")
@click.option("--by", type=click.Choice(["area", "proposal"]), default="area", show_default=True, help="Of what.")
@common_options
def command(add: str | None, on: str | None, to: str | None, by: str, as_json: bool) -> None:
    """Say in how many days each area, or each proposal with a limit, is full if nothing is removed.

    Drawn from what was written on each day of the history: in one of ten futures it is full before the first of the
    two days in brackets, and in nine of ten before the second. With --add it says whether so much fits on a day, and,
    of one area (--to), what the rules would have to let go first.
    """
    from tomovault.core.errors import UserError
    from tomovault.policy.quantity import parse_size
    from tomovault.vault.forecasting import Addition, forecast_page, parse_on

    if (add is None) != (on is None):
        raise click.UsageError("--add and --on belong together")
    if add is not None and by == "proposal" and to is None:
        raise click.UsageError("name the proposal that it is for: --to PROPOSAL")
    now, addition = datetime.now(UTC), None
    if add is not None and on is not None:
        try:
            size = parse_size(add)
        except ValueError as problem:
            raise UserError(str(problem)) from None
        addition = Addition(size, parse_on(on, now))
    vault = open_vault()
    with vault.catalogue.reading() as tx:
        page = forecast_page(vault, tx, by, now, addition, only=to)
    if as_json:
        say_json(page)
        return
    for line in _lines(by, page):
        say(line)


def _lines(by: str, page: dict[str, Any]) -> list[str]:
    from tomovault.cli._table import table
    from tomovault.vault.sizes import show_bytes

    rows = [
        [
            str(r[by]),
            show_bytes(r["bytes"]),
            show_bytes(r["limit_bytes"]) if r["limit_bytes"] else "",
            f"{show_bytes(r['written_per_day'])}/d" if r["history_days"] else "",
            show_bytes(r["planned_bytes"]) if r["planned_bytes"] else "",
            _when(r),
        ]
        for r in page["rows"]
    ]
    lines = [table([by, "used", "limit", "written", "planned", "full"], rows, right=[1, 2, 3, 4])]
    if not rows:
        return [f"no {by} has a limit: see `quotas` in tomovault.yaml" if by == "proposal" else "there is no area"]
    lines += ["", "What rules remove is not counted on.", *_removals(by, page["rows"])]
    if "fits" not in page:
        return lines
    if len(rows) == 1:
        return [*lines, "", *_addition(by, page, page["rows"][0])]
    return [*lines, "", *_additions(by, page)]


def _removals(by: str, rows: list[dict[str, Any]]) -> list[str]:
    """By what something goes, in a line for all places of which the same is true."""
    places: dict[str, list[str]] = {}
    for row in rows:
        if row["not_counted"] is not None:
            places.setdefault(_going_by(row["not_counted"]), []).append(row[by])
    return [f"  {', '.join(names)}: {text}" for text, names in places.items()]


def _going_by(rules: dict[str, Any]) -> str:
    above, always = (", ".join(rules[key]) for key in ("above_high", "however_empty"))
    told = [f"above {rules['high']:.0%}: {above}"] * bool(above) + [f"however empty it is: {always}"] * bool(always)
    if rules["prune"] == "off":
        return "nothing goes, since `prune` is off"
    return "; ".join(told) or "nothing goes by a rule"


def _additions(by: str, page: dict[str, Any]) -> list[str]:
    """A line for each place: whether the addition fits, and whether it would once the rules have made room."""
    from tomovault.cli._table import table
    from tomovault.vault.sizes import show_bytes

    rows = [
        [
            str(row[by]),
            "fits" if row["fits"] else "does not fit",
            "not known" if row["chance"] is None else f"{row['chance']:.0%}",
            "" if row["fits"] else show_bytes(row["lacking_bytes"]),
            "" if row["fits"] else _room_to_make(row),
        ]
        for row in page["rows"]
    ]
    return [
        f"{show_bytes(page['add_bytes'])} more on {page['on']}:",
        table([by, "", "chance", "lacking", "rules could free"], rows, right=[2, 3]),
        "What would go first, and why the rest stays: --to NAME",
    ]


def _room_to_make(row: dict[str, Any]) -> str:
    from tomovault.vault.sizes import show_bytes

    off = ", with `prune: on`" if row["prune"] == "off" and row["going"] else ""
    enough = "enough" if row["would_fit_then"] else "not enough"
    return f"{show_bytes(row['going_bytes'])}: {enough}{off}" if row["going"] else "nothing"


def _when(row: dict[str, Any]) -> str:
    if row["days_to_full"] is None:
        early = row["days_to_full_early"]
        return str(row["why"]) + (f" (in one of ten futures within {early})" if early is not None else "")
    late = row["days_to_full_late"]
    if row["days_to_full"] == 0:
        return "now"
    told = f"in {row['days_to_full']} d, on {row['full_on']}"
    return f"{told} ({row['days_to_full_early']}-{'...' if late is None else late} d)"


def _addition(by: str, page: dict[str, Any], row: dict[str, Any]) -> list[str]:
    from tomovault.vault.sizes import show_bytes

    chance = "its growth is not known" if row["chance"] is None else f"in {row['chance']:.0%} of the drawn futures"
    what = f"{show_bytes(page['add_bytes'])} on {page['on']} in {by} {row[by]}"
    if row["fits"]:
        return [f"{what}: fits ({chance})"]
    lines = [f"{what}: does not fit ({chance}); {show_bytes(row['lacking_bytes'])} would be lacking"]
    if row["going"]:
        off = (
            "; `prune` is off for this area, so nothing goes until a person turns it on"
            if row["prune"] == "off"
            else ""
        )
        lines.append(f"  first would have to go, {show_bytes(row['going_bytes'])} in all{off}:")
        lines += [
            f"    {label(one['name'])} ({one['scan']}): {one['form']}, {show_bytes(one['bytes'])}, by {one['rule']}"
            for one in row["going"][:20]
        ]
        if len(row["going"]) > 20:
            lines.append(f"    and {len(row['going']) - 20} more: --json lists them")
    if not row["would_fit_then"]:
        lines.append("  it would not fit then either")
    lines += [f"  stays: {label(reason)}" for reason in row["stays"]]
    return lines
