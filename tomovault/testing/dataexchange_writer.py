"""Data Exchange files as an EPICS file writer and a scan program leave them: images first, angles when all is over."""

from __future__ import annotations

import os
from typing import Any

import h5py
import numpy as np

from tomovault.testing.acquisition import Acquisition, Frames
from tomovault.testing.locked_hdf5 import open_locked
from tomovault.testing.one_file_switches import OneFileSwitches
from tomovault.testing.timeline import Steps, Timeline
from tomovault.testing.truth import TruthLog

#: The file writer closes the file; the scan program opens it again to add the angles.
_ANGLES_AFTER_S = 5.0


class DataExchangeWriter:
    """Writes `path`."""

    def __init__(
        self, acquisition: Acquisition, switches: OneFileSwitches, timeline: Timeline, log: TruthLog, path: str
    ) -> None:
        self.path = path
        self._acquisition, self._switches, self._timeline, self._log = acquisition, switches, timeline, log
        self._frames = Frames(acquisition)
        self._numbers: list[tuple[int, str]] = []
        self._number = 0

    def steps(self) -> Steps:
        """The whole scan."""
        file = self._open("w")
        try:
            yield from self._take(file)
            places = [place.encode("ascii") for _, place in self._numbers]
            file["defaults/NDArrayUniqueId"] = np.array([number for number, _ in self._numbers], np.int32)
            file["defaults/HDF5FrameLocation"] = np.array(places)
        finally:
            file.close()
        self._note("close")
        if self._switches.angles == "none":
            return
        yield _ANGLES_AFTER_S
        with self._open("a") as file:
            count = file["exchange/data"].shape[0]
            theta = file.create_dataset("exchange/theta", data=[self._acquisition.angle_deg(i) for i in range(count)])
            theta.attrs["units"] = "deg"
        self._note("close")

    def _open(self, mode: str) -> h5py.File:
        return open_locked(self.path, mode, self._log, at_s=self._timeline.now_s)

    def _note(self, action: str) -> None:
        self._log.add(action, self.path, at_s=self._timeline.now_s, size=os.path.getsize(self.path))

    def _take(self, file: h5py.File) -> Steps:
        a, switches = self._acquisition, self._switches
        self._describe(file)
        rows, columns = a.shape
        packed = "gzip" if switches.images == "gzip" else None
        made: dict[str, Any] = {"maxshape": (None, rows, columns), "chunks": (1, rows, columns), "compression": packed}
        for name in ("data", "data_white", "data_dark"):
            file.create_dataset(f"exchange/{name}", (0, rows, columns), "<u2", **made)
        for number in range(a.darks):
            yield a.frame_s
            self._append(file, "data_dark", self._frames.dark(number))
        for number in range(a.flats):
            yield a.frame_s
            self._append(file, "data_white", self._frames.flat(0, number))
        end = a.projections * 5 // 8 if switches.end == "short" else a.projections
        for index in range(end):
            yield a.frame_s
            if switches.dropped and index == end // 2:
                self._number += 1
                continue
            self._append(file, "data", self._frames.projection(index))
        for number in range(a.flats if switches.flats == "between" else 0):
            yield 5.0 if number == 0 else a.frame_s
            self._append(file, "data_white", self._frames.flat(a.projections, number))

    def _append(self, file: h5py.File, name: str, image: Any) -> None:
        dataset = file[f"exchange/{name}"]
        dataset.resize(dataset.shape[0] + 1, axis=0)
        dataset[-1] = image
        self._numbers.append((self._number, f"/exchange/{name}"))
        self._number += 1
        file.flush()
        self._note("write")

    def _describe(self, file: h5py.File) -> None:
        a = self._acquisition
        file["implements"] = "exchange:measurement:process"
        file["measurement/sample/name"] = a.sample
        for path, value, unit in (
            ("measurement/instrument/monochromator/energy", a.energy_kev, "keV"),
            ("measurement/instrument/detector/exposure_time", a.exposure_s, "s"),
            ("measurement/instrument/detection_system/objective/resolution", a.pixel_um, "microns"),
            ("measurement/instrument/detector_motor_stack/setup/z", a.distance_mm, "mm"),
        ):
            file[path] = np.array([value])
            file[path].attrs["units"] = unit
        file["process/acquisition/start_date"] = a.at(0.0).isoformat()
        if not self._switches.announced:
            return
        twice = self._switches.flats != "before"
        plan = {
            "rotation/num_angles": a.projections,
            "flat_fields/num_flat_fields": a.flats,
            "flat_fields/flat_field_mode": "Both" if twice else "Start",
            "dark_fields/num_dark_fields": a.darks,
            "dark_fields/dark_field_mode": "Start",
        }
        for path, planned in plan.items():
            file[f"process/acquisition/{path}"] = planned
