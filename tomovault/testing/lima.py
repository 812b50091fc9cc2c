"""Camera files as Lima saves them beside a BLISS master: one HDF5 file per so many frames."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

import h5py
import numpy as np
import numpy.typing as npt

from tomovault.testing import bitshuffle
from tomovault.testing.acquisition import Acquisition
from tomovault.testing.locked_hdf5 import open_locked, put_tree
from tomovault.testing.timeline import Steps, Timeline
from tomovault.testing.truth import TruthLog

CAMERA = "pcoedge"
DATA = f"/entry_0000/instrument/{CAMERA}/data"

FrameAt = Callable[[int], npt.NDArray[np.uint16]]


@dataclass(frozen=True)
class CameraFile:
    """One file of a subscan: its frames are `first` to `first + count - 1` of the subscan."""

    path: str
    first: int
    count: int


def camera_files(folder: str, frames: int, per_file: int) -> list[CameraFile]:
    """The files of a subscan of so many frames, the last one perhaps shorter."""
    return [
        CameraFile(os.path.join(folder, f"{CAMERA}_{number:04d}.h5"), first, min(per_file, frames - first))
        for number, first in enumerate(range(0, frames, per_file))
    ]


class LimaWriter:
    """Saves camera files; runs beside the writer of the master."""

    def __init__(self, acquisition: Acquisition, timeline: Timeline, log: TruthLog, *, compression: str = ""):
        self._acquisition = acquisition
        self._timeline = timeline
        self._log = log
        self._compression = compression

    def save(self, file: CameraFile, frame_at: FrameAt, *, frame_s: float, before_last: Steps | None = None) -> Steps:
        """The file is whole and closed when this ends; it is open, and locked, while its frames come.

        `before_last` is waited for before the last frame is written.
        """
        h5 = self._create(file)
        try:
            for number in range(file.count):
                yield frame_s
                if before_last is not None and number == file.count - 1:
                    yield from before_last
                self._append(h5[DATA], frame_at(file.first + number))
            self._end(h5)
        finally:
            h5.close()
        self._note("close", file.path)

    def save_empty_first(self, file: CameraFile, frame_at: FrameAt, *, wait_s: float) -> Steps:
        """The file is closed without a frame, and filled `wait_s` later."""
        self._create(file).close()
        self._note("close", file.path)
        yield wait_s
        with open_locked(file.path, "r+", self._log, at_s=self._timeline.now_s) as h5:
            for number in range(file.count):
                self._append(h5[DATA], frame_at(file.first + number))
            self._end(h5)
        self._note("close", file.path)

    def _create(self, file: CameraFile) -> h5py.File:
        a = self._acquisition
        h5 = open_locked(file.path, "w", self._log, at_s=self._timeline.now_s)
        now = a.at(self._timeline.now_s).isoformat(timespec="seconds")
        h5.attrs.update(
            {
                "NX_class": "NXroot",
                "creator": "LIMA-1.9.24",
                "default": "/entry_0000",
                "file_name": file.path,
                "file_time": now,
            }
        )
        entry = h5.create_group("entry_0000")
        put_tree(entry, {"start_time": now, "title": "Lima 2D detector acquisition"}, "NXentry")
        camera = put_tree(entry.create_group("instrument"), {}, "NXinstrument").create_group(CAMERA)
        put_tree(camera, _camera_tree(a, file.count), "NXdetector")
        self._make_dataset(camera)
        put_tree(entry.create_group("measurement"), {})["data"] = h5py.SoftLink(DATA)
        return h5

    def _make_dataset(self, camera: h5py.Group) -> None:
        shape = self._acquisition.shape
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_obj_track_times(False)
        plist.set_chunk((1, *shape))
        if self._compression == "gzip":
            plist.set_shuffle()
            plist.set_deflate(4)
        elif self._compression == "bitshuffle":
            bitshuffle.add_filter(plist, 2)
        space = h5py.h5s.create_simple((0, *shape), (h5py.h5s.UNLIMITED, *shape))
        made = h5py.h5d.create(camera.id, b"data", h5py.h5t.STD_U16LE, space, plist)
        h5py.Dataset(made).attrs["interpretation"] = "image"

    def _append(self, data: h5py.Dataset, frame: npt.NDArray[np.uint16]) -> None:
        number = data.shape[0]
        data.resize(number + 1, axis=0)
        if self._compression == "bitshuffle":
            data.id.write_direct_chunk((number, 0, 0), bitshuffle.encode(frame))
        else:
            data[number] = frame

    def _end(self, h5: h5py.File) -> None:
        now = self._acquisition.at(self._timeline.now_s).isoformat(timespec="seconds")
        h5["entry_0000"].create_dataset("end_time", data=now)

    def _note(self, action: str, path: str) -> None:
        self._log.add(action, path, at_s=self._timeline.now_s, size=os.path.getsize(path))


def write_lima2_master(folder: str, files: list[CameraFile], shape: tuple[int, int], log: TruthLog, at_s: float) -> str:
    """The file that gathers a subscan's camera files for a Lima2 link; returns its path."""
    path = os.path.join(folder, f"{CAMERA}_master.h5")
    layout = virtual_layout([(os.path.basename(f.path), f) for f in files], shape)
    with open_locked(path, "w", log, at_s=at_s) as h5:
        h5.attrs["NX_class"] = "NXroot"
        entry = put_tree(h5.create_group("entry_0000"), {}, "NXentry")
        camera = put_tree(entry.create_group("instrument"), {CAMERA: {}}, "NXinstrument")[CAMERA]
        camera.create_virtual_dataset("data", layout)
    log.add("close", path, at_s=at_s, size=os.path.getsize(path))
    return path


def virtual_layout(files: list[tuple[str, CameraFile]], shape: tuple[int, int]) -> h5py.VirtualLayout:
    """The frames of all files one after the other; the text is the name that the layout keeps for a file."""
    total = sum(file.count for _, file in files)
    layout = h5py.VirtualLayout((total, *shape), np.dtype("<u2"), maxshape=(None, None, None))
    # Without times of creation the same seed gives the same bytes; older h5py has no such attribute.
    properties = getattr(layout, "dcpl", None)
    if properties is not None:
        properties.set_obj_track_times(False)
    for name, file in files:
        source = h5py.VirtualSource(name, DATA, (file.count, *shape), np.uint16)
        # A selection, not "all": only then does the layout itself say how many frames it wants, as BLISS's does.
        layout[file.first : file.first + file.count] = source[0 : file.count]
    return layout


def _camera_tree(a: Acquisition, frames: int) -> dict[str, object]:
    rows, columns = a.shape
    return {
        "acquisition": {
            "exposure_time": a.exposure_s,
            "latency_time": 0.0,
            "mode": "Single",
            "nb_frames": np.int32(frames),
            "trigger_mode": "IntTrig",
        },
        "detector_information": {
            "image_lima_type": "Bpp16",
            "max_image_size": {"xsize": np.int32(columns), "ysize": np.int32(rows)},
            "model": "simulated",
            "name": CAMERA,
            "type": "Pco",
        },
        "header": {"acq_expo_time": f"{a.exposure_s:g}", "acq_nb_frames": str(frames), "image_rotation": "Rotation_0"},
        "image_operation": {"rotation": "Rotation_0"},
    }
