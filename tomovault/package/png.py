"""8-bit greyscale pictures (PNG, ISO/IEC 15948) of arrays, without an imaging library."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Grey: TypeAlias = npt.NDArray[np.uint8]

#: Grey around and between pictures, dark enough to set off both air and matter.
_BACKGROUND = 48
_GAP = 8


def encode_png(image: Grey) -> bytes:
    """The bytes of a PNG file showing (rows, columns) of 8-bit grey, first row at the top."""
    rows, columns = image.shape
    lines = np.zeros((rows, columns + 1), dtype=np.uint8)
    lines[:, 1:] = image
    header = struct.pack(">IIBBBBB", columns, rows, 8, 0, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(lines.tobytes(), 6)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts
    )


def stretch(image: npt.NDArray[Any], low: float = 0.5, high: float = 99.5, *, masked: bool = True) -> Grey:
    """The image in 256 greys, black and white at these percentiles of its finite values; where `masked`, of those that
    are not 0.
    """
    values = np.asarray(image, dtype=np.float32)
    shown = values[np.isfinite(values) & ((values != 0) | (not masked))]
    if shown.size == 0:
        return np.zeros(values.shape, dtype=np.uint8)
    dark, bright = (float(v) for v in np.percentile(shown, (low, high)))
    if bright <= dark:  # one value, and perhaps what is left out
        dark, bright = (min(dark, 0.0), max(bright, 0.0)) if (values == 0).any() and dark else (dark, dark + 1.0)
    part = np.nan_to_num((values - dark) / (bright - dark), nan=0.0, posinf=1.0, neginf=0.0)
    grey: Grey = (np.clip(part, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)
    return grey


def enlarge(image: Grey, least: int) -> Grey:
    """Each pixel repeated so often that the longer side is about `least` pixels or more.

    Frames of a few rows are drawn out to be seen at all.
    """
    times = max(1, least // max(image.shape))
    higher = max(times, least // 8 // image.shape[0])
    return np.repeat(np.repeat(image, higher, axis=0), times, axis=1)


def side_by_side(images: Sequence[Grey]) -> Grey:
    """The pictures from left to right, centred vertically on a dark ground."""
    height = max(image.shape[0] for image in images) + 2 * _GAP
    width = sum(image.shape[1] for image in images) + _GAP * (len(images) + 1)
    canvas = np.full((height, width), _BACKGROUND, dtype=np.uint8)
    left = _GAP
    for image in images:
        top = (height - image.shape[0]) // 2
        canvas[top : top + image.shape[0], left : left + image.shape[1]] = image
        left += image.shape[1] + _GAP
    return canvas
