"""The frames of an HDF5 scan in its files: runs of bytes where they are plain, else what the library has to read."""

from __future__ import annotations

from collections.abc import Sequence

from tomovault.core.layout import CodedFrame, FileLayout, FrameKind, FrameSegment
from tomovault.formats.hdf5_sources import Run

Frame = FrameSegment | CodedFrame


def frame_of(run: Run, at: int, *, kind: FrameKind, order: int, angle_deg: float | None) -> Frame | None:
    """Frame `at` of the run's dataset; None where only a part of it is mapped, or its bytes are not in the file."""
    storage = run.storage
    if not run.plain:
        return None
    if storage.offsets is not None:
        return FrameSegment(
            offset=storage.offsets[at],
            length=storage.frame_bytes,
            dtype=storage.dtype,
            shape=storage.shape,
            kind=kind,
            order=order,
            angle_deg=angle_deg,
        )
    if storage.coded_bytes < 1:
        return None
    return CodedFrame(
        dataset=run.dataset,
        index=at,
        stored_bytes=storage.coded_bytes,
        dtype=storage.dtype,
        shape=storage.shape,
        kind=kind,
        order=order,
        angle_deg=angle_deg,
    )


def lay_out_frames(path: str, size: int, frames: Sequence[Frame]) -> FileLayout | None:
    """The layout of one file; None without frames, and where plain ones would overlap or reach beyond its end."""
    plain = sorted((f for f in frames if isinstance(f, FrameSegment)), key=lambda f: f.offset)
    coded = sorted((f for f in frames if isinstance(f, CodedFrame)), key=lambda f: f.order)
    end = 0
    for frame in plain:
        if frame.offset < end:
            return None
        end = frame.offset + frame.length
    return FileLayout(path, size, tuple(plain), tuple(coded)) if frames and end <= size else None
