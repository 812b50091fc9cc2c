"""A simulated beamline: scans written one after the other into an area, at a pace, until told to stop."""

from __future__ import annotations

import dataclasses
import math
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from tomovault.core.errors import UserError
from tomovault.testing.acquisition import Acquisition
from tomovault.testing.bliss_scan import BlissScan
from tomovault.testing.clock import Clock, SystemClock
from tomovault.testing.detector import named_detector
from tomovault.testing.edf_scan import EdfScan
from tomovault.testing.one_file_scan import OneFileScan
from tomovault.testing.timeline import Steps, Stopped, Timeline
from tomovault.testing.truth import ScanTruth, TruthEvent, TruthLog, Written
from tomovault.testing.variants import Variant, named_variant

_WRITERS: dict[str, type[EdfScan] | type[BlissScan] | type[OneFileScan]] = {
    "edf": EdfScan,
    "bliss": BlissScan,
    "nxtomo": OneFileScan,
    "dataexchange": OneFileScan,
}


@dataclass(frozen=True)
class ScanOrder:
    """One scan to write. `folder` is where in the area, '' for its root; `variant` a name or a Variant."""

    name: str
    variant: str | Variant = "edf-plain"
    folder: str = ""
    shape: tuple[int, int] = (64, 64)
    projections: int = 32
    flats: int = 3
    darks: int = 4
    detector: str = ""
    frame_s: float = 0.1
    scan_range_deg: float = 180.0
    sample: str = "capillary"
    beamline: str = "ID19"
    fast: bool = False
    wait_s: float = 5.0


def run_beamline(
    area: str,
    *,
    scans: Sequence[ScanOrder],
    seed: int = 0,
    speed: float = 1.0,
    log_path: str | None = None,
    stop: threading.Event | None = None,
    on_event: Callable[[TruthEvent], None] | None = None,
    clock: Clock | None = None,
    sleep: Callable[[float], None] | None = None,
    started_at: datetime | None = None,
) -> Written:
    """Write the scans into `area` in order and return what is true of those that ended.

    Acquisition time runs `speed` times as fast as the clock, with `ScanOrder.wait_s` before each scan. Scans are
    dated `started_at`, by default the clock's now; with it given, the same arguments give the same bytes. When
    `stop` is set, files are closed where they stand and the scans that ended are returned.

    Raises UserError for an order that cannot be carried out, before anything is written.
    """
    used_clock: Clock = clock if clock is not None else SystemClock()
    if not os.path.isdir(area):
        raise UserError(f"{area} is not a folder", hint="make the area's folder first")
    work = [_checked(order, seed + 100 * place) for place, order in enumerate(scans)]
    timeline = Timeline(speed=speed, clock=used_clock, sleep=sleep, stop=stop)
    begun = started_at if started_at is not None else used_clock.now()
    ended: list[ScanTruth] = []
    with TruthLog(log_path, clock=used_clock, on_event=on_event) as log:

        def every_scan() -> Steps:
            for order, variant, acquisition in work:
                yield order.wait_s
                dated = dataclasses.replace(acquisition, started_at=begun)
                parent = os.path.join(area, order.folder) if order.folder else area
                scan = _WRITERS[variant.writer](parent, dated, variant, timeline, log)
                yield from scan.steps()
                ended.extend(scan.truths)

        timeline.start(every_scan())
        try:
            timeline.run()
        except Stopped:
            log.add("note", area, at_s=timeline.now_s, stopped=True)
        return Written(tuple(ended), log.errno11)


def _checked(order: ScanOrder, seed: int) -> tuple[ScanOrder, Variant, Acquisition]:
    if isinstance(order.variant, Variant):
        variant = order.variant
    else:
        writer = next((name for name in _WRITERS if order.variant.startswith(f"{name}-")), "edf")
        variant = named_variant(order.variant, writer=writer)
    if not order.name or "/" in order.name or order.name in (".", ".."):
        raise UserError(f"a scan cannot be named {order.name!r}", hint="a name is one folder's name")
    if os.path.isabs(order.folder) or ".." in order.folder.split("/"):
        raise UserError(f"the folder {order.folder!r} is not inside the area")
    if not (order.frame_s > 0 and math.isfinite(order.frame_s) and order.wait_s >= 0):
        raise UserError(f"scan {order.name!r}: frame_s must be above 0 and wait_s not below it")
    detector = order.detector or ("frelon" if variant.writer == "edf" else "scmos")
    named_detector(detector)
    acquisition = Acquisition(
        name=order.name,
        seed=seed,
        shape=order.shape,
        projections=order.projections,
        flats=order.flats,
        darks=order.darks,
        detector=detector,
        frame_s=order.frame_s,
        scan_range_deg=order.scan_range_deg,
        sample=order.sample,
        beamline=order.beamline,
        fast=order.fast,
    )
    return order, variant, acquisition
