"""From a scan and a few wishes to every number of a reconstruction."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

import numpy as np

from tomovault.core.errors import UserError
from tomovault.core.flatfield import FlatField, FlatPlan, average_frames, line_integrals, plan_flatfield
from tomovault.core.layout import FrameKind
from tomovault.core.ports import FrameSource
from tomovault.engines.fourier.centre import Centre, Look, find_centre
from tomovault.engines.fourier.correction import Correction
from tomovault.engines.fourier.doubts import doubts_about
from tomovault.engines.fourier.filters import filter_response, good_length
from tomovault.engines.fourier.geometry import (
    angle_weights,
    angles_digest,
    is_half_acquisition,
    overlap_half_width,
    read_angles,
    slice_size,
)
from tomovault.engines.fourier.phase import resolve_phase
from tomovault.engines.fourier.polar import choose_block
from tomovault.engines.fourier.wishes import read_wishes

#: Rows looked at to find the centre and whether the object leaves the field.
BAND_ROWS = 64

#: Both edges of the sinogram, averaged over angles, against its high level: above this the object is truncated.
EDGE_LEVEL = 0.08

#: Part of the detector's width over which the edges of a truncated object fall to zero.
TAPER_WIDTH = 0.25


def resolve(source: FrameSource, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Plain JSON values that are enough to run again. Raises UserError for a wish that makes no sense."""
    wishes = read_wishes(parameters)
    rows, columns = source.frame_shape
    projections = _choose_projections(source, wishes["exclude"])
    angles, assumed = read_angles(source, projections, wishes["scan_range_deg"])
    plan = plan_flatfield(source)
    half = wishes["half_acquisition"]
    half = is_half_acquisition(source.facts(), angles) if half is None else bool(half)
    fields, band = _average_fields(source, plan, projections[0], int(wishes["memory_bytes"]), wishes)
    steps = {**wishes, "phase": resolve_phase(wishes, source.facts())}
    look = _make_look(source, plan, projections, band, steps)
    edges = _edge_levels(look, len(projections))
    truncated = max(edges) > EDGE_LEVEL
    centre = _choose_centre(look, angles, columns, wishes["centre"], truncated=truncated, half=half)
    if half:
        truncated = (edges[1] if centre.column < (columns - 1) / 2 else edges[0]) > EDGE_LEVEL
    taper = wishes["taper"]
    taper = (round(TAPER_WIDTH * columns) if truncated else 0) if taper is None else int(taper)
    size = slice_size(columns, centre.column, half)
    padded = good_length(max(2 * columns, 2 * size, columns + 2 * taper))
    filter_response(wishes["filter"], 16)
    period = 360.0 if half else 180.0
    resolved = {
        "engine": "fourier",
        "rows": _choose_rows(wishes["rows"], rows),
        "frame": [rows, columns],
        "size": size,
        "projections": _runs(projections),
        "angles_deg": angles,
        "angles_sha256": angles_digest(angles),
        "angles_assumed": assumed,
        "weights": {
            "scheme": f"half the distance to both neighbours modulo {period:g} degrees",
            "period_deg": period,
            "largest_gap_deg": angle_weights(angles, period)[1],
        },
        "centre": centre.column,
        "centre_method": centre.method,
        "centre_spread": centre.spread,
        "centre_rows": [band.start, band.stop],
        "centre_pairs": [[projections[p.first], projections[p.second], p.miss_deg] for p in centre.pairs],
        "half_acquisition": half,
        "overlap_half_width": overlap_half_width(columns, centre.column) if half else None,
        "flat_correction": bool(plan.flats),
        "white_level": plan.white,
        "flats": fields["flats"],
        "darks": fields["darks"],
        "logarithm": bool(wishes["logarithm"]),
        "clip": [float(value) for value in wishes["clip"]],
        "zingers": wishes["zingers"],
        "rings": wishes["rings"],
        "rings_width": wishes["rings_width"] if wishes["rings"] is not None else None,
        "phase": steps["phase"],
        "filter": wishes["filter"],
        "padding": padded,
        "padding_mode": "edge values falling to zero as a cosine" if taper else "zero",
        "truncated": truncated,
        "edge_levels": list(edges),
        "taper": taper,
        "eps": float(wishes["eps"]),
        "upsampling": float(wishes["upsampling"]),
        "angle_block": choose_block(angles, padded, int(wishes["memory_bytes"])),
        "memory_bytes": int(wishes["memory_bytes"]),
        "pairing": "rows 2k and 2k+1",
        "threads": 1,
        "mask_radius": size / 2.0,
        "mask_value": 0.0,
        "scale": "1/pixel",
        "source_digest": source.facts().get("digest"),
        "numpy": np.__version__,
        "finufft": installed_version("finufft"),
        "cpu": cpu_model(),
    }
    return {**resolved, "warnings": doubts_about(resolved)}


def flat_plan(resolved: Mapping[str, Any]) -> FlatPlan:
    """The groups of flats and darks that a resolved set of parameters names."""
    flats = tuple(tuple(group["indices"]) for group in resolved["flats"])
    darks = tuple(tuple(group["indices"]) for group in resolved["darks"])
    return FlatPlan(flats, darks, resolved["white_level"])


def projections_of(resolved: Mapping[str, Any]) -> list[int]:
    """Acquisition indices of the projections that are used."""
    return [index for start, stop in resolved["projections"] for index in range(start, stop)]


def cpu_model() -> str:
    """The processor's name, since results are bit-identical on one kind of processor only."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _choose_projections(source: FrameSource, exclude: Sequence[int]) -> list[int]:
    left_out = set(exclude)
    found = [index for index in source.indices(FrameKind.PROJECTION) if index not in left_out]
    if len(found) < 2:
        raise UserError(f"{len(found)} projection(s) are too few to reconstruct from")
    return found


def _choose_rows(rows: Sequence[int] | None, count: int) -> list[int]:
    if rows is None:
        return list(range(count))
    wanted = sorted({int(row) for row in rows})
    if not wanted or wanted[0] < 0 or wanted[-1] >= count:
        raise UserError(f"the rows to reconstruct must lie within 0 and {count - 1}")
    return wanted


def _runs(indices: Sequence[int]) -> list[list[int]]:
    """Ascending runs [start, stop) that list the indices in their order."""
    runs: list[list[int]] = []
    for index in indices:
        if runs and runs[-1][1] == index:
            runs[-1][1] = index + 1
        else:
            runs.append([index, index + 1])
    return runs


def _average_fields(
    source: FrameSource, plan: FlatPlan, projection: int, memory_bytes: int, wishes: Mapping[str, Any]
) -> tuple[dict[str, list[dict[str, Any]]], slice]:
    """Indices and digests of the averaged flats and darks, and the band of rows with most to see in a projection.

    Each group is averaged in bands of rows, so that memory keeps to the budget; the digest is that of the whole
    average, float32 in C order.
    """
    rows, columns = source.frame_shape
    groups = {"flats": plan.flats, "darks": plan.darks}
    hashes = {name: [hashlib.sha256() for _ in found] for name, found in groups.items()}
    per_row = columns * (40 + 8 * (len(plan.flats) + len(plan.darks)))
    step = max(1, min(rows, memory_bytes // per_row))
    energy = np.zeros(rows)
    for start in range(0, rows, step):
        part = slice(start, min(start + step, rows))
        for name, found in groups.items():
            for digest, group in zip(hashes[name], found, strict=True):
                digest.update(average_frames(source, group, part).astype("<f4", copy=False).tobytes())
        image = FlatField(source, plan, part).transmission(projection)
        if wishes["logarithm"]:
            line_integrals(image, *wishes["clip"])
        energy[part] = image.var(axis=1)
    records = {
        name: [
            {"indices": list(group), "sha256": digest.hexdigest()}
            for group, digest in zip(found, hashes[name], strict=True)
        ]
        for name, found in groups.items()
    }
    return records, _best_band(energy, min(rows, BAND_ROWS))


def _best_band(energy: np.typing.NDArray[np.float64], width: int) -> slice:
    sums = np.concatenate([[0.0], np.cumsum(np.where(np.isfinite(energy), energy, 0.0))])
    windows = sums[width:] - sums[:-width]
    middle = (len(energy) - width) // 2
    start = int(np.argmax(windows))
    # The middle is kept unless another place clearly shows more.
    if windows[middle] >= 0.8 * windows[start]:
        start = middle
    return slice(start, start + width)


def _make_look(
    source: FrameSource, plan: FlatPlan, projections: Sequence[int], band: slice, steps: Mapping[str, Any]
) -> Look:
    correction = Correction(source, plan, band, steps)
    return lambda position: correction.integrals(projections[position])


def _edge_levels(look: Look, count: int) -> tuple[float, float]:
    """Level of both edges over that of the object, averaged over a sample of angles."""
    picked = np.unique(np.linspace(0, count - 1, min(16, count)).round().astype(int)).tolist()
    profile = np.mean([look(position).mean(axis=0, dtype=np.float64) for position in picked], axis=0)
    edge = max(1, len(profile) // 50)
    high = float(np.percentile(np.abs(profile), 98))
    if high <= 0:
        return 0.0, 0.0
    left, right = abs(profile[:edge].mean()) / high, abs(profile[-edge:].mean()) / high
    return round(float(left), 4), round(float(right), 4)


def _choose_centre(
    look: Look, angles: Sequence[float], columns: int, given: float | None, *, truncated: bool, half: bool
) -> Centre:
    if given is None:
        return find_centre(look, angles, columns, truncated=truncated, half=half)
    if not 0 <= given <= columns - 1:
        raise UserError(f"the centre {given:g} lies outside of the detector (0 to {columns - 1})")
    return Centre(float(given), "given", 0.0)
