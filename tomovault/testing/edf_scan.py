"""EDF scans of every variant: single, in series, again over the same names, and moved between servers."""

from __future__ import annotations

import dataclasses
import math
import os
import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import numpy as np

from tomovault.core.scan import Verdict
from tomovault.testing.acquisition import Acquisition
from tomovault.testing.clock import EPOCH, Clock
from tomovault.testing.disk import Disk
from tomovault.testing.edf_switches import EdfSwitches
from tomovault.testing.spec_after import reconstruct, reduce_references
from tomovault.testing.spec_writer import SpecWriter
from tomovault.testing.timeline import Steps, Timeline
from tomovault.testing.truth import ScanTruth, TruthLog, Written, log_verdict
from tomovault.testing.variants import Variant, named_variant
from tomovault.testing.writing import write_to_the_end


class EdfScan:
    """One variant at work in a folder; `truths` is filled as its scans end."""

    def __init__(self, parent: str, acquisition: Acquisition, variant: Variant, timeline: Timeline, log: TruthLog):
        self.parent = parent
        self.variant = variant
        self.truths: list[ScanTruth] = []
        self._acquisition = acquisition
        self._timeline = timeline
        self._log = log
        self._rng = np.random.default_rng([acquisition.seed, 0x5C])

    def steps(self) -> Steps:
        """Everything the variant does, one scan after the other."""
        switches = self.variant.edf
        base = _renamed(self._acquisition.name, switches)
        for place, (name, wait_s, changes) in enumerate(self._series(base)):
            yield wait_s
            seed = self._acquisition.seed + place
            set_name = base.rstrip("_") if switches.series.startswith("holo") else None
            acquisition = dataclasses.replace(self._acquisition, name=name, seed=seed, **changes)
            yield from self._with_repeats(acquisition, set_name)

    def _series(self, base: str) -> Iterator[tuple[str, float, dict[str, Any]]]:
        """(name, wait before it, changed values) of each scan."""
        stem, series = base.rstrip("_"), self.variant.edf.series
        if series == "back_to_back":
            for k in (1, 2, 3):
                yield f"{stem}_{k}_", 1.0, {"frame_s": 1.0 / self._acquisition.projections}
        elif series.startswith("holo"):
            for k in (1, 2, 3, 4) if series == "holo" else (1, 2, 4):
                distance_mm = self._acquisition.distance_mm * (1.0 + 0.3 * k)
                yield f"{stem}_{k}_", float(self._rng.uniform(60.0, 300.0)), {"distance_mm": distance_mm}
        elif series == "prefix":
            yield f"{stem}_", 0.0, {}
            yield f"{stem}_1_", 10.0, {}
        else:
            yield base, 0.0, {}

    def _with_repeats(self, acquisition: Acquisition, set_name: str | None) -> Steps:
        again = self.variant.edf.again
        folder = os.path.join(self.parent, acquisition.name)
        fewer = max(1, acquisition.projections * 5 // 8)
        if again in ("after_kill", "after_abort"):
            by_hand = again == "after_abort"
            stopped = dataclasses.replace(self.variant.edf, fault="abort" if by_hand else "silent_abort")
            verdict = Verdict.ABORTED if by_hand else Verdict.INCOMPLETE
            yield from self._scan(acquisition, stopped, set_name, verdict)
            self.truths.clear()
            yield 60.0
        elif again:
            yield from self._scan(acquisition, self.variant.edf, set_name, Verdict.COMPLETE)
            yield 120.0
            if again == "renamed":
                old = folder.rstrip("_") + "_old"
                os.rename(folder, old)
                self._log.add("rename", old, at_s=self._timeline.now_s, source=folder)
                self.truths = [dataclasses.replace(t, folder=old) for t in self.truths]
            else:
                self.truths.clear()
            acquisition = dataclasses.replace(acquisition, projections=fewer, seed=acquisition.seed + 1000)
        yield from self._scan(acquisition, self.variant.edf, set_name, self.variant.truth)

    def _scan(self, a: Acquisition, switches: EdfSwitches, set_name: str | None, verdict: Verdict) -> Steps:
        meta_folder = os.path.join(self.parent, a.name)
        apart = switches.place in ("split", "moved")
        folder = os.path.join(self.parent, "lbsram", a.name) if apart else meta_folder
        disk = Disk(self._log, self._timeline, mtime=switches.mtime, lagging=switches.place == "lagging", seed=a.seed)
        writer = SpecWriter(a, switches, disk, folder, meta_folder)
        self._log.add("begin", folder, at_s=self._timeline.now_s, variant=self.variant.name, scan=a.name)
        yield from writer.steps()
        truth = ScanTruth(
            writer="edf",
            variant=self.variant.name,
            name=a.name,
            folder=folder,
            verdict=verdict,
            decidable=verdict is not Verdict.UNDECIDED,
            projections=a.projections,
            flats=a.flats if switches.refs_asked else 0,
            darks=a.darks,
            metadata_folder=meta_folder if apart else None,
            set_name=set_name,
        )
        log_verdict(self._log, truth, self._timeline.now_s)
        if switches.place == "moved":
            yield from self._move(disk, folder, meta_folder)
            truth = dataclasses.replace(truth, folder=meta_folder, metadata_folder=None)
            log_verdict(self._log, truth, self._timeline.now_s)
        self.truths.append(truth)
        if switches.after == "reduced":
            yield from reduce_references(writer)
        elif switches.after == "reconstructed":
            yield from reconstruct(writer)

    def _move(self, disk: Disk, source: str, target: str) -> Steps:
        yield 5.0
        names = sorted(os.listdir(source))
        for place in self._rng.permutation(len(names)).tolist():
            yield from disk.copy(os.path.join(source, names[place]), os.path.join(target, names[place]), wait_s=0.05)
        for name in names:
            disk.remove(os.path.join(source, name))
        os.rmdir(source)
        disk.note("remove", source)


def write_edf_scan(
    folder_parent: str,
    name: str,
    *,
    variant: Variant | str | None = None,
    seed: int = 0,
    shape: tuple[int, int] = (64, 64),
    projections: int = 32,
    flats: int = 3,
    darks: int = 4,
    detector: str = "frelon",
    fast: bool = False,
    started_at: datetime = EPOCH,
    speed: float = math.inf,
    clock: Clock | None = None,
    sleep: Callable[[float], None] | None = None,
    stop: threading.Event | None = None,
    log: TruthLog | str | None = None,
    digests: bool = False,
) -> Written:
    """Write the scan folder `name` (or folders, for a series) into `folder_parent` and return what is true of it.

    One second of acquisition takes `1 / speed` seconds; see `Timeline` for `clock` and `sleep`. `log` is a truth
    log or the path of one to append to. The same arguments give the same bytes.

    Raises UserError for an unknown variant or numbers that cannot be, timeline.Stopped if `stop` was set.
    """
    chosen = named_variant(variant, writer="edf")
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
        lambda timeline, used: EdfScan(folder_parent, acquisition, chosen, timeline, used),
        speed=speed,
        clock=clock,
        sleep=sleep,
        stop=stop,
        log=log,
        digests=digests,
    )


def _renamed(name: str, switches: EdfSwitches) -> str:
    stem = name.rstrip("_")
    return {
        "": name,
        "spaces": f'{stem} it\'s a "name"_',
        "newline": f"{stem}\nsecond line_",
        "bytes": os.fsdecode(os.fsencode(stem) + b"\xe9\xff_"),
    }[switches.naming]
