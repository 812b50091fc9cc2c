"""Series of images in an HDF5 scan, judged image by image: which are announced, and which are really there."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import h5py

from tomovault.core.layout import FrameKind
from tomovault.core.scan import Certificate, Condition, FrameCounts, Verdict
from tomovault.formats.hdf5_frames import Frame, frame_of
from tomovault.formats.hdf5_sources import CheckedStack, Run
from tomovault.formats.hdf5_values import DAMAGE, MOST_VALUES, plain, unit_of
from tomovault.formats.index_ranges import in_ranges, in_words, number_of
from tomovault.formats.scan_folder import is_all_zero

_WORDS = {FrameKind.PROJECTION: "projections", FrameKind.FLAT: "flats", FrameKind.DARK: "darks"}
_NAMED = 20
_DEGREES_A_RADIAN = 57.29577951308232


@dataclass
class Findings:
    """What speaks for and against completeness, by how much it weighs."""

    open: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    evidence: list[str] = field(default_factory=list)

    def certify(self, expected: FrameCounts, found: FrameCounts, *, settled: bool) -> Certificate:
        """Unsettled or open is acquiring; else missing before doubts, and complete without either."""
        self.evidence.append("no change seen for the quiet time" if settled else "still changing")
        verdict = Verdict.UNDECIDED if self.doubts else Verdict.COMPLETE
        if self.missing:
            verdict = Verdict.INCOMPLETE
        if self.open or not settled:
            verdict = Verdict.ACQUIRING
        problems = (*self.open, *self.missing, *self.doubts, *self.warnings)
        return Certificate(verdict, expected, found, problems, tuple(self.evidence))


@dataclass(frozen=True)
class Series:
    """The images of one dataset. `kinds` has one for each announced image, None where nothing says which it is;
    `angles` are in degrees.
    """

    checked: CheckedStack
    kinds: Sequence[FrameKind | None]
    angles: Sequence[float | None] = ()

    def there(self) -> dict[int, tuple[Run, int]]:
        """Images that are really there: by index the run that has it, and its place in that run's dataset."""
        return {
            run.at + step: (run, run.first + step)
            for run in sorted(self.checked.runs, key=lambda r: r.at)
            for step in range(run.good)
        }

    def indices(self, kind: FrameKind) -> list[int]:
        """Announced images of one kind."""
        return [index for index, found in enumerate(self.kinds) if found is kind]

    def angle(self, index: int) -> float | None:
        """The angle of an image, None where there is none."""
        return self.angles[index] if index < len(self.angles) else None


def judge_series(series: Iterable[Series], found: Findings, *, settled: bool) -> tuple[FrameCounts, FrameCounts]:
    """(announced, found) counts; every announced image that is in no file is named by its index."""
    announced, counted = dict.fromkeys(_WORDS, 0), dict.fromkeys(_WORDS, 0)
    files: set[str] = set()
    for one in series:
        (found.open if one.checked.busy else found.missing).extend(one.checked.problems[:_NAMED])
        there = one.there()
        files |= {run.file for run in one.checked.runs}
        for kind, word in _WORDS.items():
            wanted = one.indices(kind)
            lacking = [index for index in wanted if index not in there]
            announced[kind] += len(wanted)
            counted[kind] += len(wanted) - len(lacking)
            if lacking:
                words = in_words(in_ranges(lacking))
                found.missing.append(f"{len(lacking)} of {len(wanted)} {word} are not there: images {words}")
        if settled:
            found.doubts += _zeros(one, there)
    if not found.missing and not found.open and files:
        found.evidence.append(
            f"every announced image lies wholly in {number_of(len(files), 'file')}, each opened and measured"
        )
    return _counts(announced), _counts(counted)


def _counts(counted: dict[FrameKind, int]) -> FrameCounts:
    return FrameCounts(counted[FrameKind.PROJECTION], counted[FrameKind.FLAT], counted[FrameKind.DARK])


def _zeros(one: Series, there: dict[int, tuple[Run, int]]) -> Iterator[str]:
    """The first and the last projection and flat, where they are all zero: a file made to its size and not filled.

    Counting detectors have darks of nothing but zeros; those are not looked at.
    """
    for kind in (FrameKind.PROJECTION, FrameKind.FLAT):
        ours = [index for index in one.indices(kind) if index in there]
        for index in dict.fromkeys(ours[:1] + ours[-1:]):
            run, at = there[index]
            if run.storage.offsets is None:
                continue
            try:
                descriptor = os.open(run.file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
                try:
                    zero = is_all_zero(descriptor, run.storage.offsets[at], run.storage.frame_bytes)
                finally:
                    os.close(descriptor)
            except OSError as error:
                yield f"image {index} of {one.checked.stack.path} cannot be read: {error.strerror}"
                continue
            if zero:
                yield f"image {index} of {one.checked.stack.path}: every byte is zero"


def kinds_of(keys: Sequence[float | int]) -> tuple[FrameKind | None, ...]:
    """Kinds by `image_key`, which some writers store as floating point."""
    by_value = {kind.value: kind for kind in FrameKind}
    return tuple(by_value.get(int(key)) if key == int(key) else None for key in keys)


def numbers_at(dataset: object, *, most: int = MOST_VALUES) -> list[float] | None:
    """The values of a dataset of one dimension, whole numbers or not; None where it is none."""
    if not isinstance(dataset, h5py.Dataset):
        return None
    try:
        if dataset.ndim != 1 or dataset.is_virtual or dataset.shape[0] > most or dataset.dtype.kind not in "uif":
            return None
        values: list[float] = dataset[()].tolist()
    except DAMAGE:
        return None
    return values


def angles_at(dataset: object) -> list[float | None] | None:
    """Angles in degrees by the `units` attribute, radians or degrees; None for one that is no number."""
    values = numbers_at(dataset)
    if values is None:
        return None
    factor = _DEGREES_A_RADIAN if (unit_of(dataset) or "deg").lower().startswith("rad") else 1.0
    return [value * factor if abs(value) < float("inf") else None for value in values]


def texts_at(dataset: object) -> list[str] | None:
    """The values of a dataset of one dimension of texts; None where it is none."""
    if not isinstance(dataset, h5py.Dataset):
        return None
    try:
        if dataset.ndim != 1 or dataset.is_virtual or dataset.shape[0] > MOST_VALUES:
            return None
        values = plain(dataset[()])
    except DAMAGE:
        return None
    return [v for v in values if isinstance(v, str)] if isinstance(values, list) else None


def judge_angles(series: Series, found: Findings) -> None:
    """Every projection needs an angle, and they cannot all be one."""
    wanted = series.indices(FrameKind.PROJECTION)
    lacking = [index for index in wanted if series.angle(index) is None]
    if lacking:
        found.missing.append(f"{len(lacking)} projections have no angle: images {in_words(in_ranges(lacking))}")
        return
    if len(wanted) > 1 and len({series.angle(index) for index in wanted}) == 1:
        found.doubts.append(f"all {len(wanted)} projections have the same angle")
    elif wanted:
        found.evidence.append(f"each of {len(wanted)} projections has an angle")


def angular_range(series: Series) -> float | None:
    """From the lowest to the highest angle of the projections, in degrees."""
    angles = [a for index in series.indices(FrameKind.PROJECTION) if (a := series.angle(index)) is not None]
    return max(angles) - min(angles) if angles else None


def seen_conditions(name: str, path: str, series: Sequence[Series]) -> dict[str, Condition]:
    """What the images themselves say: their size, and the range of the angles stored at `path`."""
    found: dict[str, Condition] = {}
    for one in series:
        if FrameKind.PROJECTION not in one.kinds:
            continue
        stack = one.checked.stack
        shape = stack.shape if stack.shape != (0, 0) else next((r.storage.shape for r in one.checked.runs), (0, 0))
        if shape != (0, 0):
            source = f"{name}:{stack.path.lstrip('/')}"
            found["frame_width"] = Condition(shape[1], "px", source)
            found["frame_height"] = Condition(shape[0], "px", source)
        spread = angular_range(one)
        if spread is not None and path:
            found["scan_range"] = Condition(spread, "deg", f"{name}:{path} (highest less lowest)")
        break
    return found


def frames_of(series: Sequence[Series]) -> dict[str, list[Frame]]:
    """By real path: the frames in that file, in the order of the series and their indices."""
    found: dict[str, list[Frame]] = {}
    start = 0
    for one in series:
        for index, (run, at) in one.there().items():
            kind = one.kinds[index] if index < len(one.kinds) else None
            kind = FrameKind.INVALID if kind is None else kind
            frame = frame_of(run, at, kind=kind, order=start + index, angle_deg=one.angle(index))
            if frame is not None:
                found.setdefault(run.file, []).append(frame)
        start += max(one.checked.frames, len(one.kinds))
    return found


def counted(series: Series, source: str) -> dict[str, Condition]:
    """How many images of each kind a series has, by what the source says of each."""
    kinds = {"n_projections": FrameKind.PROJECTION, "n_flats": FrameKind.FLAT, "n_darks": FrameKind.DARK}
    return {key: Condition(len(series.indices(kind)), None, source) for key, kind in kinds.items()}
