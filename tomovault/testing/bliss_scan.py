"""BLISS scans of every variant, in the folders that a proposal has."""

from __future__ import annotations

import dataclasses
import math
import os
import threading
from collections.abc import Callable
from datetime import datetime

import h5py

from tomovault.core.scan import Verdict
from tomovault.testing.acquisition import Acquisition
from tomovault.testing.bliss_writer import BlissWriter
from tomovault.testing.clock import EPOCH, Clock
from tomovault.testing.locked_hdf5 import open_locked
from tomovault.testing.timeline import Steps, Timeline
from tomovault.testing.truth import ScanTruth, TruthLog, Written, log_verdict
from tomovault.testing.variants import Variant, named_variant
from tomovault.testing.writing import write_to_the_end


class BlissScan:
    """One variant at work: `<parent>/RAW_DATA/<name>/<name>_0001/<name>_0001.h5` and its camera files."""

    def __init__(self, parent: str, acquisition: Acquisition, variant: Variant, timeline: Timeline, log: TruthLog):
        self.variant = variant
        self.truths: list[ScanTruth] = []
        self._acquisition = acquisition
        self._timeline = timeline
        self._log = log
        self._dataset = f"{acquisition.name}_0001"
        self._collection = os.path.join(parent, "RAW_DATA", acquisition.name)
        self.folder = os.path.join(self._collection, self._dataset)
        self.path = os.path.join(self.folder, f"{self._dataset}.h5")

    def steps(self) -> Steps:
        """Every sequence of the variant, one after the other in one master."""
        first = 1
        for number in range(self.variant.bliss.scans):
            if number:
                yield 300.0
            acquisition = dataclasses.replace(self._acquisition, seed=self._acquisition.seed + number)
            writer = BlissWriter(acquisition, self.variant.bliss, self._timeline, self._log, self.path, first=first)
            self._log.add(
                "begin", self.folder, at_s=self._timeline.now_s, variant=self.variant.name, entry=f"{first}.1"
            )
            yield from writer.steps()
            truth = self._truth_of(f"{first}.1")
            self.truths.append(truth)
            log_verdict(self._log, truth, self._timeline.now_s)
            first += len(writer.subscans) + 1
        if self.variant.bliss.collection:
            self._link_collection()

    def _truth_of(self, entry: str) -> ScanTruth:
        a = self._acquisition
        return ScanTruth(
            writer="bliss",
            variant=self.variant.name,
            name=self._dataset,
            folder=self.folder,
            verdict=self.variant.truth,
            decidable=self.variant.truth is not Verdict.UNDECIDED,
            projections=a.projections,
            flats=a.flats,
            darks=a.darks,
            key=os.path.basename(self.path),
            entry=entry,
        )

    def _link_collection(self) -> None:
        """A collection and a proposal file: links to the scan, to each other, and to a dataset that was moved."""
        a = self._acquisition
        raw = os.path.dirname(self._collection)
        collection = os.path.join(self._collection, f"{a.name}.h5")
        proposal = os.path.join(raw, f"proposal_{a.beamline.lower()}.h5")
        inside = os.path.join(self._dataset, f"{self._dataset}.h5")
        links = {
            collection: {
                f"{self._dataset}_1.1": (inside, "/1.1"),
                f"{a.name}_0000_1.1": (os.path.join("moved", "moved.h5"), "/1.1"),
                "proposal": (os.path.join("..", os.path.basename(proposal)), "/"),
            },
            proposal: {
                f"{self._dataset}_1.1": (os.path.join(a.name, inside), "/1.1"),
                a.name: (os.path.join(a.name, f"{a.name}.h5"), "/"),
            },
        }
        for path, targets in links.items():
            with open_locked(path, "a", self._log, at_s=self._timeline.now_s) as file:
                file.attrs["NX_class"] = "NXroot"
                for name, (target, inner) in targets.items():
                    if name not in file:
                        file[name] = h5py.ExternalLink(target, inner)
            self._log.add("close", path, at_s=self._timeline.now_s, size=os.path.getsize(path))


def write_bliss_scan(
    folder_parent: str,
    name: str,
    *,
    variant: Variant | str | None = None,
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
    """Write the dataset `<name>_0001` of a collection `name` below `folder_parent`; arguments as `write_edf_scan`.

    The master is opened with HDF5 locking on; how often that met errno 11 is in the result and in the log. Raises
    Transient if a lock could not be had at all, UserError and timeline.Stopped as `write_edf_scan`.
    """
    chosen = named_variant(variant, writer="bliss")
    acquisition = Acquisition(
        name=name,
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
        lambda timeline, used: BlissScan(folder_parent, acquisition, chosen, timeline, used),
        speed=speed,
        clock=clock,
        sleep=sleep,
        stop=stop,
        log=log,
        digests=digests,
    )
