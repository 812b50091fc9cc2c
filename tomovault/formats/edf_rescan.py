"""Signs that a series was being written over an older one with the same names.

Times of files are compared with each other only, never with a clock of ours.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Mapping, Sequence

from tomovault.formats.index_ranges import in_ranges, in_words

#: A single file may be late by so much, since some cameras flush index 0 last.
_JITTER_NS = 5_000_000_000
#: Gaps within so many median intervals are jitter.
_INTERVALS = 10
#: Share of pairs half a run apart that must be in order; copies in random order come near one half.
_IN_ORDER = 0.8
#: With fewer files chance alone orders them.
_FEWEST = 4
#: So many of the widest gaps are looked at.
_TRIED = 8


def find_split(times_ns: Mapping[int, int]) -> int | None:
    """The first index of an older run, if all files before it are newer than all from it on, each run in order.

    That is what a second scan leaves that writes over the first from index 0: while it runs, and
    afterwards where it had fewer projections.
    """
    indices = sorted(times_ns)
    if len(indices) < _FEWEST:
        return None
    split = _split([times_ns[i] for i in indices])
    return None if split is None else indices[split]


def find_rescan(times_ns: Mapping[int, int], *, end_marked_ns: int | None = None) -> str | None:
    """Say so if a series looks as `find_split` describes.

    `end_marked_ns` is the time of a mark that is written when a scan has ended. Not older than the first
    index where only that one is newer than the rest, it tells a camera that flushed it last from a scan that
    was just begun again, whose mark is still the earlier one's.
    """
    split = find_split(times_ns)
    if split is None:
        return None
    first = min(times_ns)
    alone = all(i >= split for i in times_ns if i != first)
    if alone and end_marked_ns is not None and end_marked_ns >= times_ns[first]:
        return None
    newer = in_words(in_ranges(i for i in times_ns if i < split), 5)
    older = in_words(in_ranges(i for i in times_ns if i >= split), 5)
    return f"projections {newer} are newer than {older}: the scan was written over an earlier one of the same name"


def _split(times: Sequence[int]) -> int | None:
    """The number of leading files newer than all others by more than jitter, None if there is no such place."""
    newest_after = [0] * len(times)
    newest = 0
    for at in range(len(times) - 1, -1, -1):
        newest_after[at] = newest
        newest = max(newest, times[at])
    oldest = times[0]
    gaps: list[tuple[int, int]] = []
    for at in range(len(times) - 1):
        oldest = min(oldest, times[at])
        if oldest > newest_after[at]:
            gaps.append((oldest - newest_after[at], at + 1))
    for gap, split in sorted(gaps, reverse=True)[:_TRIED]:
        if gap > _jitter(times, split) and _in_order(times[:split]) and _in_order(times[split:]):
            return split
    return None


def _jitter(times: Sequence[int], split: int) -> float:
    if split > 1 and len(times) - split > 1:
        return 0.0
    ordered = sorted(times[split:] if split == 1 else times[:split])
    steps = [b - a for a, b in itertools.pairwise(ordered)]
    return max(_JITTER_NS, _INTERVALS * statistics.median(steps)) if steps else _JITTER_NS


def _in_order(times: Sequence[int]) -> bool:
    half = max(1, len(times) // 2)
    pairs = list(zip(times, times[half:], strict=False))
    return not pairs or sum(b >= a for a, b in pairs) >= _IN_ORDER * len(pairs)
