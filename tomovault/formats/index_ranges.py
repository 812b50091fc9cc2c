"""Sets of indices in words, and which are missing, without ever counting up to an announced number."""

from __future__ import annotations

from collections.abc import Iterable


def in_ranges(indices: Iterable[int]) -> list[tuple[int, int]]:
    """Runs (first, last) of consecutive indices, ascending."""
    runs: list[tuple[int, int]] = []
    for index in sorted(set(indices)):
        if runs and index == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], index)
        else:
            runs.append((index, index))
    return runs


def missing_ranges(found: Iterable[int], count: int) -> list[tuple[int, int]]:
    """Runs of {0..count-1} that are not in `found`."""
    gaps: list[tuple[int, int]] = []
    expected = 0
    for first, last in in_ranges(i for i in found if 0 <= i < count):
        if first > expected:
            gaps.append((expected, first - 1))
        expected = last + 1
    if expected < count:
        gaps.append((expected, count - 1))
    return gaps


def in_words(runs: Iterable[tuple[int, int]], limit: int = 50) -> str:
    """Runs as '3, 7-9'; after `limit` runs the rest is counted."""
    listed = list(runs)
    text = ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in listed[:limit])
    if len(listed) > limit:
        left = sum(last - first + 1 for first, last in listed[limit:])
        text += f" and {left} more"
    return text


def number_of(number: int, noun: str) -> str:
    """'1 file', '2 files'."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
