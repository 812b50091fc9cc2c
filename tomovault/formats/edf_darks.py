"""How many dark frames a file of an EDF series holds: one, the sum of several, or their mean."""

from __future__ import annotations

from tomovault.formats.edf_series import FrameFile, Series


def darks_in(series: Series, name: str) -> int | None:
    """The number of darks that a file stands for, None where a lone `dark0000` is the first of them or their sum.

    What the header says (`no_summed`) comes first. `darkend0000` is a sum by its name, and a reduced dark is the mean
    of all. Some beamlines write the sum as `dark0000`: it is taken for one where its samples are wider than those of
    the projections, as the sum of many images needs.
    """
    frame, names = series.frames.get(name), series.names
    announced = series.announced.dark_n or 1
    if name in names.reduced_darks:
        return announced
    if frame is not None and frame.no_summed:
        return frame.no_summed
    if name in names.dark_sums:
        return announced
    lone = tuple(names.dark_frames.items()) == ((0, name),) and not names.dark_sums
    if announced == 1 or not lone:
        return 1
    return announced if frame is not None and _is_wider(series, frame) else None


def _is_wider(series: Series, dark: FrameFile) -> bool:
    frames = [series.frames[n] for n in series.names.projections.values() if n in series.frames]
    widths = [_sample_bytes(frame) for frame in frames if frame.dtype is not None]
    return bool(widths) and _sample_bytes(dark) > max(widths)


def _sample_bytes(frame: FrameFile) -> int:
    return 0 if frame.dtype is None else int(frame.dtype[2:])
