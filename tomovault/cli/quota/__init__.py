"""How full everything is, and when it will be."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click

from tomovault.cli import common_options, open_vault, say, say_csv, say_json


@click.command()
@click.option(
    "--by",
    type=click.Choice(["area", "tier", "proposal", "owner", "beamline"]),
    default="area",
    show_default=True,
    help="What to add up by.",
)
@click.option("--history", type=click.IntRange(1, 36_500), metavar="DAYS", help="How it was over so many days.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV with a head, sizes in bytes.")
@common_options
def command(by: str, history: int | None, as_csv: bool, as_json: bool) -> None:
    """Report stored bytes, files and scans: everything that is live, quarantine included.

    Beside them stand the limits, the size of the data before it was packed (logical), and the days until a limit is
    reached, of which `tomovault quota forecast` tells more.
    """
    from tomovault.vault.quota_pages import history_page, quota_page

    if as_csv and as_json:
        raise click.UsageError("--csv and --json exclude each other")
    vault = open_vault()
    now = datetime.now(UTC)
    with vault.catalogue.reading() as tx:
        page = quota_page(vault, tx, by, now) if history is None else history_page(vault, tx, by, history, now)
    rows = page["rows" if history is None else "history"]
    if as_json:
        say_json(page)
    elif as_csv:
        from tomovault.cli.quota._columns import HISTORY, USAGE

        say_csv([by, *(HISTORY if history else USAGE)], rows)
    elif history is None:
        say(_usage_table(by, rows))
    else:
        say(_history_table(by, rows, history))


def _usage_table(by: str, rows: list[dict[str, Any]]) -> str:
    from tomovault.cli._table import bar, table
    from tomovault.vault.sizes import show_bytes

    def size(count: int | None) -> str:
        return "" if count is None else show_bytes(count)

    head = [by, "used", "limit", "", "soft", "grace", "logical", "saved", "full in", "files", "scans"]
    lines = [
        [
            str(r[by] or "(not known)"),
            show_bytes(r["bytes"]),
            size(r["limit_bytes"]),
            bar(r["full_fraction"], high=r["high"]),
            size(r["soft_bytes"]),
            _grace(r),
            show_bytes(r["logical_bytes"]),
            "" if r["saved_fraction"] is None else f"{r['saved_fraction']:.0%}",
            _days(r),
            str(r["files"]),
            str(r["scans"]),
        ]
        for r in rows
    ]
    return _without_empty(table, head, lines, right={1, 2, 4, 6, 7, 9, 10})


def _without_empty(table: Any, head: list[str], lines: list[list[str]], right: set[int]) -> str:
    """The table without columns that say nothing."""
    told = [i for i in range(len(head)) if i == 0 or any(line[i] for line in lines)]
    rows = [[line[i] for i in told] for line in lines]
    return str(table([head[i] for i in told], rows, right=[told.index(i) for i in told if i in right]))


def _grace(row: dict[str, Any]) -> str:
    if row["level"] == "soft":
        return f"{row['grace_left_s'] / 86400:.1f} d left"
    return "" if row["level"] == "within" else f"over: {row['level']}"


def _days(row: dict[str, Any]) -> str:
    if row["days_to_full"] is None:
        return "" if row["limit_bytes"] is None else str(row["days_to_full_why"]).split(":")[0]
    if row["days_to_full"] == 0:
        return "now"
    late = row["days_to_full_late"]
    return f"{row['days_to_full']} d ({row['days_to_full_early']}-{'...' if late is None else late})"


def _history_table(by: str, rows: list[dict[str, Any]], days: int) -> str:
    from tomovault.cli._table import spark, table
    from tomovault.vault.sizes import show_bytes

    series: dict[str | None, list[dict[str, Any]]] = {}
    for row in rows:
        series.setdefault(row[by], []).append(row)
    lines = [
        [
            str(value or "(not known)"),
            show_bytes(points[0]["bytes"]),
            spark([point["bytes"] for point in points]),
            show_bytes(points[-1]["bytes"]),
            show_bytes(points[-1]["written_bytes"] - points[0]["written_bytes"]),
        ]
        for value, points in series.items()
    ]
    if not lines:
        return f"no history of the last {days} days: the daemon writes it, once an hour"
    return table([by, "then", "", "now", "written"], lines, right=[1, 3, 4])
