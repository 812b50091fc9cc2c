"""What a person at the terminal sees of a running daemon: one line an event, and what is running now."""

from __future__ import annotations

import sys
import time
from datetime import datetime
from types import TracebackType
from typing import Any

from tomovault.core.record import GivenBack, Inspected, Quarantined, Removed, Result, Stored
from tomovault.core.scan import ScanReport, Verdict
from tomovault.vault.foreman import Running
from tomovault.vault.sizes import show_bytes
from tomovault.vault.vault import Vault

_WORDS = {
    "pack": "packed",
    "archive": "archived",
    "replicate": "replicated",
    "preview": "previewed",
    "reconstruct": "reconstructed",
    "verify": "verified",
    "restore": "restored",
    "prune": "to quarantine",
    "empty_quarantine": "removed",
    "destroy": "destroyed",
    "undo_prune": "put back",
}


class Screen:
    """Writes to standard error, so that a command's output stays clean."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._live: Any = None
        self._drawn_at = 0.0

    def __enter__(self) -> Screen:
        if not self._quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(stderr=True), refresh_per_second=5, transient=True)
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()

    def tell(self, what: str, facts: dict[str, Any]) -> None:
        """An event of the daemon's loop."""
        if self._quiet:
            return
        if what == "job":
            for line in _lines(facts["running"], facts["result"]):
                self._print(line)
        elif what == "area":
            self._print(f"{facts['area']}: {facts['text']}")
        elif what == "tick" and self._live is not None and time.monotonic() - self._drawn_at > 0.2:
            self._drawn_at = time.monotonic()
            self._live.update(_now_running(facts))

    def _print(self, line: str) -> None:
        text = f"{datetime.now().astimezone():%H:%M:%S}  {line}"
        text = _harmless(text)
        if self._live is not None:
            self._live.console.print(text, markup=False, highlight=False)
        else:
            print(text, file=sys.stderr, flush=True)  # noqa: T201 - this is the daemon's screen


def _harmless(text: str) -> str:
    """One line without anything that could upset a terminal."""
    safe = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in safe)


def open_screen(_vault: Vault, *, quiet: bool) -> Screen:
    """A screen for one run of the daemon."""
    return Screen(quiet=quiet)


def _is_whole(report: ScanReport) -> bool:
    """What is noted beside a complete scan is no reason for what it is."""
    return report.certificate.verdict is Verdict.COMPLETE


def _lines(running: Running, result: Result) -> list[str]:
    action = running.claimed.action
    if result.outcome.value != "succeeded":
        hint = f" - {result.hint}" if result.hint else ""
        return [f"{action:<12} {running.scan_name}: {result.outcome.value}: {result.error}{hint}"]
    lines: list[str] = []
    for record in result.records:
        if isinstance(record, Inspected):
            lines.extend(
                f"{'seen':<14} {r.name}: {r.certificate.verdict}"
                + (f" ({r.certificate.problems[0]})" if r.certificate.problems and not _is_whole(r) else "")
                for r in record.reports
            )
            if record.problem:
                lines.append(f"{'unreadable':<14} {record.candidate.folder}: {record.problem}")
        elif isinstance(record, Stored) and record.form.value == "package":
            lines.append(
                f"{_WORDS.get(action, action):<14} {running.scan_name}  {show_bytes(record.bytes)} on {record.tier}"
                f" {record.location if '#' in record.location else ''}".rstrip()
            )
        elif isinstance(record, Quarantined):
            left = f", {len(record.left)} left where they are" if record.left else ""
            lines.append(f"{'to quarantine':<14} {running.scan_name}  {show_bytes(record.bytes)}{left}")
        elif isinstance(record, Removed):
            left = f", {len(record.left)} files that are not ours left" if record.left else ""
            lines.append(f"{'removed':<14} {running.scan_name}  {show_bytes(record.bytes)}{left}")
        elif isinstance(record, GivenBack):
            where = f"{record.tier} {record.cartridge or ''}".strip()
            lines.append(f"{'restored':<14} {running.scan_name}  {show_bytes(record.bytes)} from {where}")
    return lines


def _now_running(facts: dict[str, Any]) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    for running in facts["running"]:
        done, total = running.progress()
        share = f"{done / total:4.0%}" if total else "    "
        table.add_row(running.claimed.action, share, Text(_harmless(running.scan_name)))
    writing = sum(facts["unsettled"].values())
    if writing:
        table.add_row("watching", "", f"{writing} scans are being written or settling")
    return table
