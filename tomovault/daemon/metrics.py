"""Metrics for Prometheus, served by threads of their own: a scrape waits for no loop, and no loop for a scrape.

What comes from the catalogue is asked at most every half a minute, in one short reading transaction; what the loop
knows of itself it leaves in its `Pulse`. Labels are names of the site's own file, actions and reasons of the program:
nothing that is called as somebody called a folder.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import structlog
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import GaugeMetricFamily, Metric

from tomovault import __version__
from tomovault.catalog.metering import Queue, count_due, count_suspect, list_queues
from tomovault.catalog.outbox import OutboxRow, list_outbox
from tomovault.catalog.owner_warnings import count_warnings
from tomovault.catalog.usage import UsageRow
from tomovault.core.errors import TomovaultError, UserError
from tomovault.daemon.pulse import Pulse
from tomovault.policy.area_facts import AreaFacts
from tomovault.vault.backup_state import newest_archived
from tomovault.vault.metrics_section import split_listen
from tomovault.vault.vault import Vault

log = structlog.get_logger(__name__)

#: The catalogue is asked no more often than this.
PERIOD_S = 30.0

_HELP = {
    "build_info": "The version that runs.",
    "leader": "1 while this daemon leads the site.",
    "loop_age_seconds": "Since the last turn of the loop; grows where it hangs.",
    "figures_age_seconds": "Since the figures of the catalogue were read.",
    "area_bytes": "Bytes of everything live in an area, quarantine included.",
    "area_limit_bytes": "The quota of an area, or the size of its file system.",
    "area_files": "Files in an area.",
    "area_scans": "Scans in an area.",
    "area_used_fraction": "What the marks of an area are compared with.",
    "area_mark": "The watermarks of an area, as fractions.",
    "area_quarantine_bytes": "Bytes of an area that are on their way out and can be taken back.",
    "area_removal_enabled": "1 where prune is on.",
    "area_settling_scans": "Scans that are being written or settling.",
    "area_sweep_age_seconds": "Since an area was last swept to the end by this daemon.",
    "tier_bytes": "Bytes of live copies on a tier.",
    "tier_files": "Files of live copies on a tier.",
    "tier_scans": "Scans with a live copy on a tier.",
    "jobs": "Jobs to do, being done and failed.",
    "job_oldest_age_seconds": "How long the job of an action waits that has waited longest.",
    "running_jobs": "Jobs that run on this machine now.",
    "due_scans": "Scans that are to be looked at now, counted up to 10000.",
    "suspect_copies": "Copies that nothing relies on.",
    "brake": "1 for each reason for which nothing is removed; area is empty where it is about all.",
    "alarms": "Alarms that stand, by area.",
    "catalogue_backup_age_seconds": "Since the newest backup of the catalogue was made.",
    "catalogue_backup_archived_age_seconds": "Since that was made which is the newest on a tier and was re-read there.",
    "fire_drills": "Archived scans that were restored to prove that they can be, by how that ended.",
    "fire_drill_age_seconds": "Since the last drill that was carried out.",
    "outbox_messages": "Messages that wait to be sent, or were given up.",
    "outbox_oldest_age_seconds": "How long the oldest message waits.",
    "owner_warnings": "Warnings before removals: on their way, or sent.",
}

#: The values of the labels and the number of one sample.
Sample = tuple[tuple[str, ...], float]

#: By the name of each metric, its labels and its samples.
Samples = dict[str, tuple[tuple[str, ...], list[Sample]]]


@dataclass(frozen=True)
class Figures:
    """What the catalogue said at one moment."""

    at: datetime
    areas: tuple[AreaFacts, ...] = ()
    by_area: tuple[UsageRow, ...] = ()
    by_tier: tuple[UsageRow, ...] = ()
    queues: tuple[Queue, ...] = ()
    outbox: tuple[OutboxRow, ...] = ()
    warnings: tuple[int, int] = (0, 0)
    due: int = 0
    suspect: int = 0
    backed_up: datetime | None = None
    backups: tuple[tuple[str, datetime], ...] = ()
    drills: tuple[tuple[str, int], ...] = ()
    drilled: datetime | None = None


def read_figures(vault: Vault, now: datetime) -> Figures:
    """The figures of now, in one reading transaction. Raises Transient."""
    with vault.catalogue.reading() as tx:
        backups = newest_archived(vault, tx)
        return Figures(
            at=now,
            areas=tuple(vault.area_facts(tx, name, now) for name in vault.site.areas),
            by_area=tuple(vault.catalogue.usage(tx, "area")),
            by_tier=tuple(row for row in vault.catalogue.usage(tx, "tier") if row.value in vault.site.tiers),
            queues=tuple(list_queues(tx)),
            outbox=tuple(list_outbox(tx)),
            warnings=count_warnings(tx),
            due=count_due(tx, now),
            suspect=count_suspect(tx),
            backed_up=backups.pop("", None),
            backups=tuple(sorted(backups.items())),
            drills=tuple(sorted(vault.catalogue.count_drills(tx).items())),
            drilled=vault.catalogue.last_drill_at(tx),
        )


@dataclass
class Meter:
    """Collects for one registry. Whoever asks while somebody else reads the catalogue gets what was read before."""

    vault: Vault
    pulse: Callable[[], Pulse]
    steady: Callable[[], float] = time.monotonic
    _figures: Figures | None = None
    _read_at: float = float("-inf")
    _tried_at: float = float("-inf")
    _reading: threading.Lock = field(default_factory=threading.Lock)

    def collect(self) -> Iterator[Metric]:
        """Every metric as it is now."""
        self._refresh()
        yield from _families(_samples_of_pulse(self.pulse(), self.steady()))
        if self._figures is not None:
            yield from _families(_samples_of_figures(self._figures))
            yield from _families({"figures_age_seconds": ((), [((), self.steady() - self._read_at)])})

    def _refresh(self) -> None:
        if self.steady() - self._tried_at < PERIOD_S or not self._reading.acquire(blocking=False):
            return
        try:
            self._figures = read_figures(self.vault, datetime.now(UTC))
            self._read_at = self.steady()
        except (TomovaultError, OSError) as problem:
            log.warning("the figures for metrics cannot be read now", reason=str(problem))
        finally:
            self._tried_at = self.steady()
            self._reading.release()


@contextmanager
def serve_metrics(vault: Vault, pulse: Callable[[], Pulse], listen: str) -> Iterator[int]:
    """Inside, metrics are served at that address; gives the port. Raises UserError where nobody can listen there."""
    address, port = split_listen(listen)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Described(Meter(vault, pulse)))
    try:
        server, thread = start_http_server(port, address, registry)
    except OSError as problem:
        told = f"metrics cannot be served at {listen}: {problem.strerror or problem}"
        raise UserError(told, hint="another address or port: --metrics, or `metrics: {listen: ...}`") from problem
    log.info("metrics are served", address=address, port=server.server_port)
    try:
        yield int(server.server_port)
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=2.0)


class _Described:
    """A meter that says nothing when it is registered: nobody has asked yet."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        return self._meter.collect()


def _families(samples: Samples) -> Iterator[Metric]:
    for name, (labels, rows) in samples.items():
        family = GaugeMetricFamily(f"tomovault_{name}", _HELP[name], labels=labels)
        for values, number in rows:
            family.add_metric(values, number)
        yield family


def _samples_of_pulse(pulse: Pulse, at: float) -> Samples:
    return {
        "build_info": (("version",), [((__version__,), 1.0)]),
        "leader": ((), [((), float(pulse.leads))]),
        "loop_age_seconds": ((), [((), max(0.0, at - pulse.at))]),
        "brake": (("area", "reason"), [((one.area, one.reason), 1.0) for one in _sorted(pulse.brakes)]),
        "alarms": (("area",), [((area,), float(count)) for area, count in sorted(pulse.alarms.items())]),
        "area_settling_scans": (("area",), [((area,), float(n)) for area, n in sorted(pulse.unsettled.items())]),
        "area_sweep_age_seconds": (
            ("area",),
            [((area,), max(0.0, at - swept)) for area, swept in sorted(pulse.swept_at.items())],
        ),
        "running_jobs": (("action",), [((action,), float(n)) for action, n in sorted(pulse.running.items())]),
    }


def _samples_of_figures(figures: Figures) -> Samples:
    areas = {one.name for one in figures.areas}
    by_area = [row for row in figures.by_area if row.value in areas]
    waiting = [q for q in figures.queues if q.status == "todo" and q.oldest_at is not None]

    def of_areas(value: Callable[[AreaFacts], float]) -> tuple[tuple[str, ...], list[Sample]]:
        return ("area",), [((one.name,), float(value(one))) for one in figures.areas]

    def of_usage(label: str, rows: Any, value: Callable[[UsageRow], int]) -> tuple[tuple[str, ...], list[Sample]]:
        return (label,), [((row.value or "",), float(value(row))) for row in rows]

    def age(moment: datetime | None) -> float:
        return 0.0 if moment is None else max(0.0, (figures.at - moment).total_seconds())

    marks: list[Sample] = [
        ((a.name, mark), float(value)) for a in figures.areas for mark, value in (("high", a.high), ("low", a.low))
    ]
    return {
        "area_bytes": of_areas(lambda a: a.used_bytes),
        "area_limit_bytes": of_areas(lambda a: a.quota_bytes),
        "area_used_fraction": of_areas(lambda a: a.used_fraction),
        "area_mark": (("area", "mark"), marks),
        "area_quarantine_bytes": of_areas(lambda a: a.quarantine_bytes),
        "area_removal_enabled": of_areas(lambda a: a.prune_on),
        "area_files": of_usage("area", by_area, lambda row: row.files),
        "area_scans": of_usage("area", by_area, lambda row: row.scans),
        "tier_bytes": of_usage("tier", figures.by_tier, lambda row: row.bytes),
        "tier_files": of_usage("tier", figures.by_tier, lambda row: row.files),
        "tier_scans": of_usage("tier", figures.by_tier, lambda row: row.scans),
        "jobs": (("action", "status"), [((q.action, q.status), float(q.count)) for q in figures.queues]),
        "job_oldest_age_seconds": (("action",), [((q.action,), age(q.oldest_at)) for q in waiting]),
        "due_scans": ((), [((), float(figures.due))]),
        "suspect_copies": ((), [((), float(figures.suspect))]),
        "catalogue_backup_age_seconds": ((), [((), age(figures.backed_up))] if figures.backed_up is not None else []),
        "catalogue_backup_archived_age_seconds": (("tier",), [((tier,), age(at)) for tier, at in figures.backups]),
        "fire_drills": (("outcome",), [((outcome,), float(number)) for outcome, number in figures.drills]),
        "fire_drill_age_seconds": ((), [((), age(figures.drilled))] if figures.drilled is not None else []),
        "outbox_messages": (
            ("channel", "state"),
            [((row.channel, row.state), float(row.count)) for row in figures.outbox],
        ),
        "outbox_oldest_age_seconds": (
            ("channel",),
            [((row.channel,), age(row.oldest_at)) for row in figures.outbox if row.state == "waiting"],
        ),
        "owner_warnings": (
            ("state",),
            [(("waiting",), float(figures.warnings[0])), (("sent",), float(figures.warnings[1]))],
        ),
    }


def _sorted(brakes: Any) -> list[Any]:
    return sorted(brakes, key=lambda one: (one.area, one.reason))
