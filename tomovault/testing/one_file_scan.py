"""Scans in one HDF5 file, of every variant."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable
from datetime import datetime

from tomovault.core.scan import Verdict
from tomovault.testing.acquisition import Acquisition
from tomovault.testing.clock import EPOCH, Clock
from tomovault.testing.dataexchange_writer import DataExchangeWriter
from tomovault.testing.nxtomo_writer import NXtomoWriter
from tomovault.testing.timeline import Steps, Timeline
from tomovault.testing.truth import ScanTruth, TruthLog, Written, log_verdict
from tomovault.testing.variants import Variant, named_variant
from tomovault.testing.writing import write_to_the_end

_ENDINGS = {"nxtomo": ".nx", "dataexchange": ".h5"}


class OneFileScan:
    """One variant at work: `<parent>/<name>/<name>.nx` or `.h5`."""

    def __init__(self, parent: str, acquisition: Acquisition, variant: Variant, timeline: Timeline, log: TruthLog):
        self.variant = variant
        self.truths: list[ScanTruth] = []
        self._acquisition, self._timeline, self._log = acquisition, timeline, log
        self.folder = os.path.join(parent, acquisition.name)
        self.path = os.path.join(self.folder, acquisition.name + _ENDINGS[variant.writer])

    def steps(self) -> Steps:
        """The scan of the variant."""
        a = self._acquisition
        os.makedirs(self.folder, exist_ok=True)
        self._log.add("begin", self.folder, at_s=self._timeline.now_s, variant=self.variant.name, scan=a.name)
        kind = NXtomoWriter if self.variant.writer == "nxtomo" else DataExchangeWriter
        yield from kind(a, self.variant.one_file, self._timeline, self._log, self.path).steps()
        series = {"before": 1, "between": 3 if self.variant.writer == "nxtomo" else 2, "missing": 2}
        truth = ScanTruth(
            writer=self.variant.writer,
            variant=self.variant.name,
            name=a.name,
            folder=self.folder,
            verdict=self.variant.truth,
            decidable=self.variant.truth is not Verdict.UNDECIDED,
            projections=a.projections,
            flats=a.flats * series[self.variant.one_file.flats],
            darks=a.darks,
            key=os.path.basename(self.path),
            entry=os.path.basename(self.path),
        )
        log_verdict(self._log, truth, self._timeline.now_s)
        self.truths.append(truth)


def write_one_file_scan(
    folder_parent: str,
    name: str,
    *,
    variant: Variant | str,
    seed: int = 0,
    shape: tuple[int, int] = (64, 64),
    projections: int = 32,
    flats: int = 3,
    darks: int = 4,
    detector: str = "scmos",
    fast: bool = False,
    started_at: datetime = EPOCH,
    speed: float = math.inf,
    clock: Clock | None = None,
    sleep: Callable[[float], None] | None = None,
    stop: threading.Event | None = None,
    log: TruthLog | str | None = None,
    digests: bool = False,
) -> Written:
    """Write the file of a scan into a folder `name` below `folder_parent`; arguments as `write_edf_scan`, but that the
    variant must be named. Raises UserError and timeline.Stopped as that.
    """
    writer = variant.writer if isinstance(variant, Variant) else variant.partition("-")[0]
    chosen = named_variant(variant, writer=writer)
    acquisition = Acquisition(
        name=name.rstrip("_"),
        seed=seed,
        shape=shape,
        projections=projections,
        flats=flats,
        darks=darks,
        detector=detector,
        started_at=started_at,
        fast=fast,
    )
    return write_to_the_end(
        lambda timeline, used: OneFileScan(folder_parent, acquisition, chosen, timeline, used),
        speed=speed,
        clock=clock,
        sleep=sleep,
        stop=stop,
        log=log,
        digests=digests,
    )
