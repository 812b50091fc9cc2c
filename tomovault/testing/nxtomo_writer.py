"""NXtomo files as programs write them: image by image with everything that belongs to it, or all at once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from tomovault.testing.acquisition import Acquisition, Frames
from tomovault.testing.locked_hdf5 import open_locked, put_tree
from tomovault.testing.one_file_switches import OneFileSwitches
from tomovault.testing.timeline import Steps, Timeline
from tomovault.testing.truth import TruthLog

_PER_FILE = 8
#: Between camera files that are written after the file that links to them.
_LATE_S = 20.0

#: An image to be taken: its image_key, its angle, its pixels.
Image = tuple[int, float, "npt.NDArray[np.uint16]"]


class NXtomoWriter:
    """Writes `path`; `projections` says afterwards how many projections were written."""

    def __init__(
        self, acquisition: Acquisition, switches: OneFileSwitches, timeline: Timeline, log: TruthLog, path: str
    ) -> None:
        self.path = path
        self._acquisition, self._switches, self._timeline, self._log = acquisition, switches, timeline, log
        self._frames = Frames(acquisition)

    def steps(self) -> Steps:
        """The whole scan, in one of the ways."""
        if self._switches.images in ("appended", "gzip"):
            yield from self._append()
        else:
            yield from self._write_at_once()

    def _images(self) -> Iterator[Image]:
        a, switches = self._acquisition, self._switches
        yield from ((2, 0.0, self._frames.dark(n)) for n in range(a.darks))
        yield from ((1, 0.0, self._frames.flat(0, n)) for n in range(a.flats))
        end = a.projections * 5 // 8 if switches.end == "short" else a.projections
        for index in range(end):
            if switches.flats == "between" and index == a.projections // 2:
                yield from ((1, a.angle_deg(index), self._frames.flat(index, n)) for n in range(a.flats))
            yield 0, a.angle_deg(index), self._frames.projection(index)
        if switches.flats == "between" and switches.end != "short":
            yield from ((1, a.scan_range_deg, self._frames.flat(a.projections, n)) for n in range(a.flats))

    def _open(self, mode: str) -> h5py.File:
        return open_locked(self.path, mode, self._log, at_s=self._timeline.now_s)

    def _note(self, action: str, path: str) -> None:
        self._log.add(action, path, at_s=self._timeline.now_s, size=os.path.getsize(path))

    def _begin(self, file: h5py.File) -> h5py.Group:
        a = self._acquisition
        file.attrs.update({"NX_class": "NXroot", "default": "entry0000"})
        entry = file.create_group("entry0000")
        put_tree(entry, {"definition": "NXtomo", "title": a.name, "start_time": a.at(0.0).isoformat()}, "NXentry")
        instrument = entry.create_group("instrument")
        put_tree(instrument, {"name": f"ESRF-{a.beamline.lower()}"}, "NXinstrument")
        put_tree(instrument.create_group("beam"), {"incident_energy": (a.energy_kev, "keV")}, "NXbeam")
        detector: dict[str, Any] = {
            "distance": (a.distance_mm, "mm"),
            "x_pixel_size": (a.pixel_um, "um"),
            "y_pixel_size": (a.pixel_um, "um"),
        }
        if self._switches.announced:
            detector["tomo_n"] = a.projections
        put_tree(instrument.create_group("detector"), detector, "NXdetector")
        put_tree(entry.create_group("sample"), {"name": a.sample}, "NXsample")
        return entry

    def _end(self, entry: h5py.Group) -> None:
        if self._switches.end == "plain":
            entry["end_time"] = self._acquisition.at(self._timeline.now_s).isoformat()

    # --- image by image ---

    def _append(self) -> Steps:
        rows, columns = self._acquisition.shape
        file = self._open("w")
        try:
            entry = self._begin(file)
            detector, sample = entry["instrument/detector"], entry["sample"]
            packed = "gzip" if self._switches.images == "gzip" else None
            made = {"maxshape": (None, rows, columns), "chunks": (1, rows, columns), "compression": packed}
            data = detector.create_dataset("data", (0, rows, columns), "<u2", **made)
            keys = detector.create_dataset("image_key", (0,), "i4", maxshape=(None,))
            times = detector.create_dataset("count_time", (0,), "f8", maxshape=(None,))
            times.attrs["units"] = "s"
            angles = None
            if self._switches.angles == "plain":
                angles = sample.create_dataset("rotation_angle", (0,), "f8", maxshape=(None,))
                angles.attrs["units"] = "degree"
            before = 2
            for key, angle, image in self._images():
                yield 5.0 if key != before and before == 0 else self._acquisition.frame_s
                before = key
                _append_to(data, image)
                _append_to(keys, key)
                _append_to(times, self._acquisition.exposure_s)
                if angles is not None:
                    _append_to(angles, angle)
                file.flush()
                self._note("write", self.path)
            self._end(entry)
        finally:
            file.close()
        self._note("close", self.path)

    # --- all at once ---

    def _write_at_once(self) -> Steps:
        images = list(self._images())
        yield self._acquisition.frame_s * len(images)
        pieces = self._pieces(images) if self._switches.images.startswith("linked") else []
        late = self._switches.images == "linked_late"
        for path, piece in pieces if not late else ():
            self._save(path, piece)
        sources = [(path, len(piece)) for path, piece in pieces]
        yield 1.0
        with self._open("w") as file:
            entry = self._begin(file)
            self._put_images(entry["instrument/detector"], [image for _, _, image in images], sources)
            entry["instrument/detector/image_key"] = np.array([key for key, _, _ in images], np.int32)
            times = np.full(len(images), self._acquisition.exposure_s)
            put_tree(entry["instrument/detector"], {"count_time": (times, "s")})
            if self._switches.angles == "plain":
                put_tree(entry["sample"], {"rotation_angle": (np.array([angle for _, angle, _ in images]), "degree")})
            self._end(entry)
        self._note("close", self.path)
        for path, piece in pieces if late else ():
            yield _LATE_S
            self._save(path, piece)
        if self._switches.images == "linked_missing":
            os.unlink(sources[-1][0])
            self._log.add("remove", sources[-1][0], at_s=self._timeline.now_s)

    def _put_images(self, detector: h5py.Group, images: list[Any], sources: list[tuple[str, int]]) -> None:
        rows, columns = self._acquisition.shape
        if not sources:
            stack = np.stack(images)
            if self._switches.images == "zero_for_ever":
                stack[-1] = 0
            detector.create_dataset("data", data=stack)
            return
        # By the low-level calls, which can be told to store no time: the same scan is the same bytes a second later.
        how = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        how.set_obj_track_times(False)
        space = h5py.h5s.create_simple((len(images), rows, columns))
        at = 0
        for path, count in sources:
            name = os.path.relpath(path, os.path.dirname(self.path))
            piece = h5py.h5s.create_simple((count, rows, columns))
            space.select_hyperslab((at, 0, 0), (count, rows, columns))
            how.set_virtual(space, os.fsencode(name), b"/entry/data/data", piece)
            at += count
        space.select_all()
        h5py.h5d.create(detector.id, b"data", h5py.h5t.STD_U16LE, space, how)

    def _pieces(self, images: list[Image]) -> list[tuple[str, list[Image]]]:
        """Which images go into which camera file."""
        folder = os.path.splitext(self.path)[0] + "_images"
        return [
            (os.path.join(folder, f"camera_{start // _PER_FILE:05d}.h5"), images[start : start + _PER_FILE])
            for start in range(0, len(images), _PER_FILE)
        ]

    def _save(self, path: str, piece: list[Image]) -> None:
        folder = os.path.dirname(path)
        if not os.path.isdir(folder):
            os.makedirs(folder)
            self._log.add("folder", folder, at_s=self._timeline.now_s)
        with open_locked(path, "w", self._log, at_s=self._timeline.now_s) as file:
            file["entry/data/data"] = np.stack([image for _, _, image in piece])
        self._note("close", path)


def _append_to(dataset: h5py.Dataset, value: Any) -> None:
    dataset.resize(dataset.shape[0] + 1, axis=0)
    dataset[-1] = value
