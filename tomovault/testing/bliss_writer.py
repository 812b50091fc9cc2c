"""The BLISS acquisition: a master that stays open and locked for a whole sequence, camera files beside it."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np

from tomovault.testing import bliss_tree
from tomovault.testing.acquisition import Acquisition, Frames
from tomovault.testing.bliss_switches import BlissSwitches
from tomovault.testing.bliss_tree import ROTATION, Subscan
from tomovault.testing.lima import (
    CAMERA,
    DATA,
    CameraFile,
    FrameAt,
    LimaWriter,
    camera_files,
    virtual_layout,
    write_lima2_master,
)
from tomovault.testing.locked_hdf5 import open_locked, put_tree
from tomovault.testing.timeline import Steps, Timeline
from tomovault.testing.truth import TruthLog

#: BLISS flushes a master this often while data stream into it, and waits for Lima this long after a scan.
_FLUSH_S = 0.5
_LIMA_LATE_S = 4.0
_OVERLAP_S = 0.07


class Killed(Exception):
    """The writer is gone; the master was left as the file system had it."""


@dataclass
class _Running:
    """A subscan between its first and its last write."""

    subscan: Subscan
    entry: h5py.Group
    folder: str
    files: list[CameraFile]
    saving: int = 0


class BlissWriter:
    """Writes one sequence, entries `first`.1 and following, into the master `path`."""

    def __init__(
        self,
        acquisition: Acquisition,
        switches: BlissSwitches,
        timeline: Timeline,
        log: TruthLog,
        path: str,
        *,
        first: int = 1,
    ) -> None:
        self.acquisition = acquisition
        self.switches = switches
        self.path = path
        self.folder = os.path.dirname(path)
        self.first = first
        self.subscans = bliss_tree.subscans_of(acquisition, switches)
        self._timeline = timeline
        self._log = log
        self._frames = Frames(acquisition)
        self._saving = 0
        self._ended = False
        self._master: h5py.File | None = None

    def steps(self) -> Steps:
        """The whole sequence; at the end no camera file is open any more."""
        os.makedirs(self.folder, exist_ok=True)
        try:
            self._open()
            self._begin_sequence()
            yield 0.2
            yield from self._run_subscans()
            self._end_sequence()
        except Killed:
            self._log.add("note", self.path, at_s=self._timeline.now_s, killed=True)
        finally:
            self._ended = True
            if self._master is not None:
                self._master.close()
                self._note("close", self.path)
        while self._saving:
            yield 0.1
        self._damage()

    def _open(self) -> None:
        new = not os.path.exists(self.path)
        libver = None if self.switches.file == "plain" else "latest"
        self._master = open_locked(self.path, "a", self._log, at_s=self._timeline.now_s, libver=libver)
        if new:
            self._master.attrs.update(
                {
                    "NX_class": "NXroot",
                    "creator": "blissdata",
                    "create_version": "1.1.3",
                    "publisher": "bliss",
                    "publisher_version": "2.1.dev1",
                    "file_name": self.path,
                    "file_time": self._date(),
                    "default": f"{self.first}.1",
                }
            )

    @property
    def master(self) -> h5py.File:
        """The open master."""
        if self._master is None:
            raise RuntimeError("the master is not open")
        return self._master

    def _begin_sequence(self) -> None:
        entry = self._begin_entry(self.first, bliss_tree.sequence_title(self.acquisition))
        tree = bliss_tree.sequence_tree(self.acquisition, self.switches, self.folder, self.subscans)
        put_tree(entry.create_group("technique"), tree)
        machine: dict[str, Any] = {"current": (self.acquisition.current_ma(0), "mA"), "name": "ESRF", "mode": "USM"}
        entry["instrument"].create_dataset("name", data=f"ESRF-{self.acquisition.beamline.lower()}")
        put_tree(entry["instrument"].create_group("machine"), machine, "NXsource")
        self.master.flush()
        self._note("write", self.path)

    def _begin_entry(self, number: int, title: str) -> h5py.Group:
        entry = self.master.create_group(f"{number}.1")
        put_tree(entry, {"title": title, "start_time": self._date()}, "NXentry")
        put_tree(entry.create_group("instrument"), {}, "NXinstrument")
        put_tree(entry.create_group("sample"), {"name": self.acquisition.sample}, "NXsample")
        put_tree(entry.create_group("writer"), {"date": self._date(), "status": "RUNNING"}, "NXnote")
        return entry

    def _run_subscans(self) -> Steps:
        waiting: _Running | None = None
        for place, subscan in enumerate(self.subscans):
            running = self._begin_subscan(self.first + 1 + place, subscan)
            if waiting is not None:
                yield _OVERLAP_S
                self._end_subscan(waiting)
            yield from self._acquire(running)
            waiting = running if self.switches.overlap else None
            if waiting is None:
                self._end_subscan(running)
                yield 0.3
        if waiting is not None:
            self._end_subscan(waiting)

    def _begin_subscan(self, number: int, subscan: Subscan) -> _Running:
        a, folder = self.acquisition, os.path.join(self.folder, f"scan{number:04d}")
        entry = self._begin_entry(number, subscan.title)
        put_tree(entry.create_group("technique"), bliss_tree.subscan_tree(a, subscan))
        camera = entry["instrument"].create_group(CAMERA)
        per_file = self.switches.frames_per_file
        put_tree(camera, bliss_tree.camera_tree(a, subscan, folder, per_file), "NXdetector")
        measurement = put_tree(entry.create_group("measurement"), {})
        for group, name, unit in _streams(subscan):
            made = put_tree(entry["instrument"].create_group(group), {}, "NXpositioner")
            stream = made.create_dataset(name, (0,), np.float64, maxshape=(None,), chunks=(256,))
            stream.attrs["units"] = unit
            measurement[group] = h5py.SoftLink(stream.name)
        self.master.flush()
        self._note("write", self.path)
        os.makedirs(folder, exist_ok=True)
        return _Running(subscan, entry, folder, camera_files(folder, subscan.taken, per_file))

    def _acquire(self, running: _Running) -> Steps:
        """Frames go to the camera's files while numbers go to the master."""
        subscan, last = running.subscan, running.subscan.kind == "proj"
        self._start_camera(running)
        if self.switches.file == "swmr" and last:
            self.master.swmr_mode = True
        done = 0
        per_flush = max(1, round(_FLUSH_S / self.acquisition.frame_s))
        while done < subscan.taken:
            count = min(per_flush, subscan.taken - done)
            yield count * self.acquisition.frame_s
            self._stream(running, done, count)
            done += count
            if self.switches.end == "killed" and last and done * 2 >= subscan.taken:
                self._die()
            self.master.flush()
            self._note("write", self.path)
        if self.switches.file == "swmr" and last:
            self._reopen(running)
        while running.saving and not (last and self.switches.camera in ("late", "filled_late")):
            yield 0.05

    def _stream(self, running: _Running, first: int, count: int) -> None:
        a = self.acquisition
        indices = range(first, first + count)
        values = {
            "epoch": [a.at(self._timeline.now_s).timestamp() + i * a.frame_s for i in range(count)],
            "elapsed_time": [i * a.frame_s for i in indices],
            "current": [a.current_ma(i) for i in indices],
            ROTATION: [self._angle(running.subscan, i) for i in indices],
        }
        for group, name, _ in _streams(running.subscan):
            stream = running.entry["instrument"][group][name]
            stream.resize(first + count, axis=0)
            stream[first:] = values[group]

    def _angle(self, subscan: Subscan, number: int) -> float:
        offset = self.acquisition.projections if subscan.kind == "static" else 0
        return self.acquisition.angle_deg(number + offset)

    def _start_camera(self, running: _Running) -> None:
        lima = LimaWriter(self.acquisition, self._timeline, self._log, compression=self.switches.compression)
        projections = running.subscan.kind == "proj"
        after_s = 0.0
        for file in running.files:
            steps = self._save(lima, file, running, late=projections and file is running.files[-1])
            if projections and self._is_left_out(file, running):
                continue
            self._saving += 1
            running.saving += 1
            self._timeline.start(steps, after_s=after_s)
            after_s += file.count * self.acquisition.frame_s

    def _save(self, lima: LimaWriter, file: CameraFile, running: _Running, *, late: bool) -> Steps:
        frame_at = self._frame_maker(running.subscan)
        try:
            if late and (self.switches.vds == "too_many" or self.switches.camera == "short"):
                file = CameraFile(file.path, file.first, file.count // 2)
            if running.subscan.kind == "proj" and self.switches.camera == "filled_late":
                yield from lima.save_empty_first(file, frame_at, wait_s=2.0)
                return
            hold = self._until_late() if late and self.switches.camera == "late" else None
            yield from lima.save(file, frame_at, frame_s=self.acquisition.frame_s, before_last=hold)
        finally:
            self._saving -= 1
            running.saving -= 1

    def _until_late(self) -> Steps:
        while not self._ended:
            yield 0.1
        yield _LIMA_LATE_S

    def _frame_maker(self, subscan: Subscan) -> FrameAt:
        if subscan.kind == "dark":
            return self._frames.dark
        if subscan.kind == "flat":
            return lambda number: self._frames.flat(0, number)
        offset = self.acquisition.projections if subscan.kind == "static" else 0
        return lambda number: self._frames.projection(number + offset)

    def _is_left_out(self, file: CameraFile, running: _Running) -> bool:
        return self.switches.camera == "missing" and file is running.files[len(running.files) // 2]

    def _end_subscan(self, running: _Running) -> None:
        self._show_images(running)
        reason = "SUCCESS"
        if self.switches.end in ("USER_ABORT", "FAILURE") and running.subscan.taken < running.subscan.frames:
            reason = self.switches.end
        self._end_entry(running.entry, reason, failed=reason == "FAILURE")

    def _show_images(self, running: _Running) -> None:
        """Only now does the master know of the images: as a virtual dataset or a link to a Lima2 master."""
        camera, vds = running.entry["instrument"][CAMERA], self.switches.vds
        files, shape = running.files, self.acquisition.shape
        if self.switches.camera == "short" and running.subscan.kind == "proj":
            *before, last = files
            half = last.count // 2
            files = [*before, CameraFile(last.path, last.first, half)] if half else before
        if vds in ("external", "dangling"):
            relative = os.path.join(os.path.basename(running.folder), f"{CAMERA}_master.h5")
            if vds == "external":
                write_lima2_master(running.folder, files, shape, self._log, self._timeline.now_s)
            camera["image"] = h5py.ExternalLink(relative, DATA)
        else:
            named = [(f.path if vds == "absolute" else os.path.relpath(f.path, self.folder), f) for f in files]
            images = camera.create_virtual_dataset("image", virtual_layout(named, shape))
            images.attrs["interpretation"] = "image"
        camera["data"] = h5py.SoftLink("image")
        running.entry["measurement"][CAMERA] = h5py.SoftLink(f"{camera.name}/image")

    def _end_sequence(self) -> None:
        end = self.switches.end
        entry = self.master[f"{self.first}.1"]
        if end == "none":
            return
        reason = end if end in ("USER_ABORT", "FAILURE") else "SUCCESS"
        self._end_entry(entry, reason, failed=end in ("FAILURE", "writer_failed"))

    def _end_entry(self, entry: h5py.Group, reason: str, *, failed: bool) -> None:
        entry["writer/status"][()] = "FAILED" if failed else "SUCCEEDED"
        entry.create_dataset("end_reason", data=reason)
        entry.create_dataset("end_time", data=self._date())
        self.master.flush()
        self._note("write", self.path)

    def _reopen(self, running: _Running) -> None:
        """An SWMR writer cannot make new groups: the file is closed and opened for writing once more."""
        name = running.entry.name
        self.master.close()
        self._master = None
        self._open()
        running.entry = self.master[name]

    def _die(self) -> None:
        """Leave the master as a SIGKILL would: what was not flushed is lost and nothing was closed."""
        left = self.path + ".left"
        shutil.copyfile(self.path, left)
        os.replace(left, self.path)
        self.master.close()
        self._master = None
        raise Killed

    def _damage(self) -> None:
        if self.switches.camera != "truncated":
            return
        place = next(i for i, subscan in enumerate(self.subscans) if subscan.kind == "proj")
        folder = os.path.join(self.folder, f"scan{self.first + 1 + place:04d}")
        files = camera_files(folder, self.subscans[place].taken, self.switches.frames_per_file)
        path = files[len(files) // 2].path
        os.truncate(path, os.path.getsize(path) * 6 // 10)
        self._note("cut", path)

    def _date(self) -> str:
        return self.acquisition.at(self._timeline.now_s).isoformat()

    def _note(self, action: str, path: str) -> None:
        self._log.add(action, path, at_s=self._timeline.now_s, size=os.path.getsize(path))


def _streams(subscan: Subscan) -> list[tuple[str, str, str]]:
    """(group, dataset, unit) of the one-dimensional data of a subscan."""
    found = [("epoch", "data", "s"), ("elapsed_time", "data", "s"), ("current", "data", "mA")]
    if subscan.kind in ("proj", "static"):
        found.append((ROTATION, "value", "deg"))
    return found
