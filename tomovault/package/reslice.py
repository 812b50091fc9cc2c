"""One slice of a volume made once more from what is stored with it, and held against the slice that is stored."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tomovault.core.errors import IntegrityError
from tomovault.core.ports import Engine, FrameSource
from tomovault.package.volume import CONFIGURATION, DATA

#: Of the range of a slice's values: more than another processor or another version of a library makes of the last bits
#: of single precision, and far less than any other centre, filter or correction.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Resliced:
    """A slice that was made again: `largest` is the largest difference, as a share of the range of its values, and
    `same` whether that is none that matters. With a reason in `skipped` nothing was made.
    """

    row: int = -1
    same: bool = True
    largest: float = 0.0
    skipped: str = ""


@dataclass(frozen=True)
class _Stored:
    source: str
    program: str
    resolved: dict[str, Any]
    rows: list[int]


def remake_slice(
    path: str | Path, source: FrameSource, engine: Engine, choose: Callable[[Sequence[int]], int], memory_bytes: int
) -> Resliced:
    """A slice of the volume at `path`, of a row that is chosen, was made again by the engine from the parameters that
    the volume holds. Raises IntegrityError where the volume cannot be read.
    """
    try:
        with h5py.File(path, "r", locking=False) as file:
            stored = _read(file)
            if stored.source != source.facts().get("digest"):
                return Resliced(skipped="the volume is of another original")
            if stored.program != f"tomovault {engine.name}":
                return Resliced(skipped=f"the volume was made by {stored.program}, the site has {engine.name}")
            row = choose(stored.rows)
            wanted = {**stored.resolved, "rows": [row]}
            need = engine.estimate(source, wanted).memory_bytes
            if 0 < memory_bytes < need:
                return Resliced(row, skipped=f"a slice needs {need} bytes of memory, and jobs may use {memory_bytes}")
            ((made_row, made),) = engine.slices(source, wanted, [row], lambda _done, _total: None)
            if made_row != row:
                raise IntegrityError(f"the engine gave row {made_row} for row {row}")
            return _compare(row, made, file[DATA][stored.rows.index(row)], stored.resolved.get("cast"))
    except (OSError, KeyError, RuntimeError, ValueError) as problem:
        raise IntegrityError(f"{path} cannot be read as a volume: {problem}") from problem


def _read(file: Any) -> _Stored:
    process = file["/entry/reconstruction"]
    return _Stored(
        source=_text(process["source_digest"]) if "source_digest" in process else "",
        program=_text(process["program"]),
        resolved=json.loads(_text(file[f"{CONFIGURATION}/json"])),
        rows=[int(row) for row in process["results/rows"][()]],
    )


def _text(dataset: Any) -> str:
    value = dataset[()]
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)


def _compare(row: int, made: Any, stored: Any, cast: Any) -> Resliced:
    values, allowed = np.asarray(stored, dtype=np.float64), 0.0
    if cast:
        values = values * float(cast["scale"]) + float(cast["offset"])
        allowed = float(cast["largest_error"])
    if made.shape != values.shape:
        return Resliced(row, same=False, largest=1.0)
    reach = float(np.ptp(values[np.isfinite(values)])) if np.isfinite(values).any() else 0.0
    off = np.abs(np.asarray(made, dtype=np.float64) - values)
    off[np.isnan(made) & np.isnan(values)] = 0.0
    worst = float(np.max(off)) if off.size else 0.0
    if np.isnan(worst):
        return Resliced(row, same=False, largest=1.0)
    share = max(0.0, worst - allowed) / reach if reach else float(worst > allowed)
    return Resliced(row, share <= TOLERANCE, share)
