"""The EDF acquisition: one scan folder filled as SPEC and FReLoN fill it."""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from tomovault.testing.acquisition import Acquisition, Frames, flat_indices
from tomovault.testing.disk import Body, Disk
from tomovault.testing.edf_bytes import SpecImage, frame_bytes, spec_header
from tomovault.testing.edf_switches import EdfSwitches
from tomovault.testing.spec_text import info_bytes, xml_bytes
from tomovault.testing.timeline import Steps

#: Seconds for moving the sample out of the beam or back.
_MOVE_S = 5.0

#: Extra bytes of a real over-long file of 2017.
_OVER_LONG = 11570

Item = tuple[Literal["flats", "projection"], int]


class SpecWriter:
    """Writes one scan. `folder` gets the frames, `meta_folder` the `.info` and `.xml`."""

    def __init__(self, acquisition: Acquisition, switches: EdfSwitches, disk: Disk, folder: str, meta_folder: str):
        self.acquisition = acquisition
        self.switches = switches
        self.disk = disk
        self.folder = folder
        self.meta_folder = meta_folder
        self.frames = Frames(acquisition)
        self.ref_on = flat_interval(acquisition.projections, switches.ref_on)
        self._rng = np.random.default_rng([acquisition.seed, 0xEDF])
        self._begun_s = 0.0
        self._images = 0
        projections = acquisition.projections
        #: The projection that the switch `fault` is about; never the first or the last where there are others.
        self.victim = int(self._rng.integers(1, projections - 1)) if projections > 2 else 0

    def steps(self) -> Steps:
        """The whole scan; at the end nothing more will change by itself."""
        self._begun_s = self.disk.timeline.now_s
        yield from self._begin()
        stopped = yield from self._expose()
        if stopped:
            if self.switches.fault == "abort":
                self.disk.put_now(self._meta(".abo"), b"scan aborted by user\n")
        else:
            yield from self._end()
        yield from self.disk.settle()

    def _begin(self) -> Steps:
        switches = self.switches
        self.disk.make_folder(self.folder)
        self.disk.make_folder(self.meta_folder)
        if switches.pace == "folder_early":
            yield 600.0
        if switches.noise:
            self._add_noise()
        if switches.info in ("start", "rewritten"):
            more = 8 if switches.info == "rewritten" else 0
            self._write_info(self.acquisition.projections + more)
            yield 0.5
        if switches.dark == "first":
            yield from self._dark("dark0000.edf")

    def _expose(self) -> Generator[float, None, bool]:
        """True if the scan was stopped before its end."""
        stop_at = -1
        if self.switches.fault in ("abort", "silent_abort"):
            stop_at = max(1, int(self.acquisition.projections * 0.6))
        taken = 0
        for kind, index in self._items():
            if kind == "flats":
                yield from self._flats(index)
                continue
            if taken == stop_at:
                return True
            yield from self._projection(index)
            taken += 1
            yield from self._pause(taken)
        return False

    def _end(self) -> Steps:
        a, switches = self.acquisition, self.switches
        held: list[int] = []
        for index in range(a.projections, a.projections + switches.alignment):
            yield from self._projection(index)
            yield a.frame_s
        if switches.xml == "early":
            held = list(range(max(0, a.projections - 2), a.projections))
            yield from self._write_xml()
            yield 1.0
        if switches.dark == "end":
            yield from self._dark("darkend0000.edf")
        if switches.order == "index_0_last":
            held = [0]
        for index in held:
            yield 1.0
            yield from self._projection(index)
        if switches.info in ("end", "rewritten"):
            self._write_info(a.projections)
        if switches.xml in ("end", "partial"):
            yield 0.5
            yield from self._write_xml()

    def _items(self) -> Sequence[Item]:
        """Flats and projections in the order in which their files appear; held back projections are left out."""
        a, switches = self.acquisition, self.switches
        series = flat_indices(a.projections, self.ref_on)
        order = list(range(a.projections))
        if switches.order == "bursts":
            blocks = [order[i : i + 8] for i in range(0, len(order), 8)]
            order = [index for block in blocks for index in self._rng.permutation(block).tolist()]
        if switches.order == "index_0_last":
            order = order[1:]
        if switches.xml == "early":
            order = [index for index in order if index < a.projections - 2]
        items: list[Item] = []
        waiting = list(series[:-1])
        for count, index in enumerate(order):
            while waiting and count >= waiting[0]:
                items.append(("flats", waiting.pop(0)))
            items.append(("projection", index))
        items += [("flats", index) for index in (*waiting, series[-1])]
        if switches.refs_written == "no_last":
            items = [item for item in items if item != ("flats", series[-1])]
        return [item for item in items if item[0] == "projection" or self._wants_flats()]

    def _wants_flats(self) -> bool:
        return self.switches.refs_asked and self.switches.refs_written != "none"

    def _flats(self, index: int) -> Steps:
        yield _MOVE_S
        for number in range(self.acquisition.flats):
            frame = self.frames.flat(index, number)
            yield from self._image(self.flat_name(index, number), frame, index, wait_s=0.0)
            yield self.acquisition.frame_s
        yield _MOVE_S

    def flat_name(self, index: int, number: int) -> str:
        """The file name of flat `number` of the series at projection `index`."""
        return {
            "k_angle": f"ref{number:04d}_{index:04d}.edf",
            "angle_k": f"ref{index:04d}_{number:04d}.edf",
            "single_digit": f"ref{number + 1}{index:04d}.edf",
        }[self.switches.refs]

    def projection_name(self, index: int) -> str:
        """The file name of a projection or return image."""
        return f"{self.acquisition.name}{index:0{self.switches.digits}d}.edf"

    def _dark(self, name: str) -> Steps:
        yield _MOVE_S
        if self.acquisition.darks:
            total = self.frames.dark_sum()
            yield from self._image(name, total, 0, wait_s=0.0, summed=self.acquisition.darks)

    def _projection(self, index: int) -> Steps:
        switches, name = self.switches, self.projection_name(index)
        path = os.path.join(self.folder, name)
        hit = index == self.victim
        if hit and switches.fault == "lost":
            return
        if hit and switches.fault == "empty":
            self.disk.put_now(path, b"")
            return
        if hit and switches.fault == "disk_full":
            yield from self._image(name, self.frames.projection(index), index, wait_s=0.0)
            self.disk.cut(path, os.path.getsize(path) // 2)
            self.disk.note("note", path, error="ENOSPC")
            yield 600.0
        body, wait_s = self._body_of(index)
        yield from self._image(name, self.frames.projection(index), index, wait_s=wait_s, body=body)
        if hit and switches.fault in ("header_only", "truncated", "over_long"):
            self._damage(path)

    def _body_of(self, index: int) -> tuple[Body, float]:
        """How the bytes of this projection come; only the last one is ever very late."""
        body, last = self.switches.body, index == self.acquisition.projections - 1
        if body in ("plain", "fsync"):
            return ("fsync" if body == "fsync" else "plain"), 0.0
        if body in ("steps", "tmp_rename"):
            return ("steps" if body == "steps" else "tmp_rename"), self.acquisition.frame_s
        if body == "preallocated":
            return "preallocated", self.switches.late_s if last else self.acquisition.frame_s
        if not last:
            return "plain", 0.0
        late: dict[str, Body] = {"zero_for_ever": "zero", "late_tail": "late_tail", "late_body": "late_body"}
        return late[body], self.switches.late_s

    def _damage(self, path: str) -> None:
        size = os.path.getsize(path)
        pixels = int(np.prod(self.acquisition.shape)) * 2
        if self.switches.fault == "header_only":
            self.disk.cut(path, size - pixels)
        elif self.switches.fault == "truncated":
            self.disk.cut(path, size - min(100, pixels))
        elif self.switches.fault == "over_long":
            with open(path, "ab") as file:
                file.write(self._rng.bytes(_OVER_LONG))
            self.disk.note("write", path)

    def _pause(self, taken: int) -> Steps:
        pace, half = self.switches.pace, self.acquisition.projections // 2
        yield self.acquisition.frame_s
        if pace == "gaps":
            yield float(self._rng.uniform(1.0, 2.0))
        elif pace == "beam_loss" and taken == half:
            yield float(self._rng.uniform(60.0, 300.0))
        elif pace == "refill" and taken == half:
            yield 1200.0

    def _image(
        self,
        name: str,
        frame: npt.NDArray[np.generic],
        index: int,
        *,
        wait_s: float,
        body: Body = "plain",
        summed: int | None = None,
    ) -> Steps:
        a = self.acquisition
        now_s = self.disk.timeline.now_s
        self._images += 1
        image = SpecImage(
            prefix=a.name,
            folder=self.folder,
            scan=f"tomo {a.projections} {a.exposure_s:g}",
            point=0,
            scan_number=1,
            epoch=a.at(now_s - 54000.0).timestamp(),
            date=a.at(now_s),
            exposure_s=a.exposure_s,
            angle_deg=a.angle_deg(index),
            current_ma=a.current_ma(index),
            summed=summed,
        )
        header = spec_header(image, a.shape, frame.dtype.name, seed=a.seed)
        path = os.path.join(self.folder, name)
        yield from self.disk.put(path, [header, frame_bytes(frame)], body=body, wait_s=wait_s)

    def _write_info(self, planned: int) -> None:
        content = info_bytes(
            self.acquisition, self.switches, folder=self.meta_folder, ref_on=self.ref_on, planned=planned
        )
        self.disk.put_now(self._meta(".info"), content)

    def _write_xml(self) -> Steps:
        duration_s = self.disk.timeline.now_s - self._begun_s
        content = xml_bytes(
            self.acquisition, self.switches, folder=self.meta_folder, ref_on=self.ref_on, duration_s=duration_s
        )
        if self.switches.xml == "partial":
            self.disk.put_now(self._meta(".xml"), content[: len(content) // 2])
            yield 5.0
        self.disk.put_now(self._meta(".xml"), content)

    def _meta(self, suffix: str) -> str:
        return os.path.join(self.meta_folder, self.acquisition.name + suffix)

    def _add_noise(self) -> None:
        for name, content in (
            (".directory", b"[Dolphin]\nTimestamp=2026,3,2\n"),
            (f".{self.acquisition.name}.info.swp", b"b0VIM 8.1"),
            ("Thumbs.db", b"\xd0\xcf\x11\xe0"),
            (".#lock", b""),
            ("notes of the night.txt", b"hutch 2, beam at 02:10\n"),
            ("placeholder.edf", b""),
        ):
            self.disk.put_now(os.path.join(self.folder, name), content)
        self.disk.link(os.path.join(self.folder, "loop"), ".")


def flat_interval(projections: int, choice: Literal["half", "uneven", "zero"]) -> int:
    """REF_ON: half of the scan, 0, or near a third without dividing, so that the last index is rounded up."""
    if choice == "zero":
        return 0
    if choice == "half":
        return max(1, projections // 2)
    for interval in range(projections // 3 + 1, projections):
        if projections % interval * 2 >= interval and projections % interval:
            return interval
    return projections
