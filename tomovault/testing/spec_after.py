"""What happens to an EDF scan folder after the scan: reduction of flats and darks, reconstruction."""

from __future__ import annotations

import os

import numpy as np

from tomovault.testing.acquisition import flat_indices
from tomovault.testing.edf_bytes import octave_image
from tomovault.testing.spec_text import par_bytes, vol_info_bytes
from tomovault.testing.spec_writer import SpecWriter
from tomovault.testing.timeline import Steps


def reduce_references(writer: SpecWriter) -> Steps:
    """Each flat series becomes one refHST file and its single frames are removed; dark.edf is the mean dark.

    Where the last series carries a rounded index, a link gives it the true one, as the reduction tool does.
    """
    yield 30.0
    a, disk, folder = writer.acquisition, writer.disk, writer.folder
    indices = flat_indices(a.projections, writer.ref_on) if a.flats else []
    for index in indices:
        stack = np.stack([writer.frames.flat(index, number) for number in range(a.flats)])
        median = np.median(stack, axis=0).astype(np.uint16)
        disk.put_now(os.path.join(folder, f"refHST{index:04d}.edf"), octave_image(median))
        for number in range(a.flats):
            disk.remove(os.path.join(folder, writer.flat_name(index, number)))
            yield 0.1
    if indices and indices[-1] != a.projections:
        link = os.path.join(folder, f"refHST{a.projections:04d}.edf")
        disk.link(link, f"refHST{indices[-1]:04d}.edf")
    if a.darks:
        mean = (writer.frames.dark_sum() / np.float32(a.darks)).astype(np.float32)
        disk.put_now(os.path.join(folder, "dark.edf"), octave_image(mean))
    yield 1.0


def reconstruct(writer: SpecWriter) -> Steps:
    """A parameter file, two slices, a volume that grows, and its side file at the very end."""
    yield 60.0
    a, disk, folder = writer.acquisition, writer.disk, writer.folder
    rows, columns = a.shape
    disk.put_now(os.path.join(folder, f"{a.name}.par"), par_bytes(a, folder=folder, ref_on=writer.ref_on))
    rng = np.random.default_rng([a.seed, 0x901])
    for row in (0, rows // 2):
        yield 5.0
        part = rng.standard_normal((columns, columns), np.float32)
        disk.put_now(os.path.join(folder, f"{a.name}slice_{row:04d}.edf"), octave_image(part))
    path = os.path.join(folder, f"{a.name}.vol")
    depth, low, high = min(rows, 16), 0.0, 0.0
    with open(path, "wb") as file:
        disk.note("create", path)
        for _ in range(depth):
            part = rng.standard_normal((columns, columns), np.float32)
            low, high = min(low, float(part.min())), max(high, float(part.max()))
            file.write(part.astype("<f4").tobytes())
            file.flush()
            disk.note("write", path)
            yield 10.0
    disk.note("close", path)
    disk.put_now(os.path.join(folder, f"{a.name}.vol.info"), vol_info_bytes((depth, columns, columns), low, high))
