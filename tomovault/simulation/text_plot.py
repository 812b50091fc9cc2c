"""Fill over time on a terminal: block characters with the policy, dots with none, a line for the high mark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tomovault.policy.quantity import show_percent, show_size

_BLOCKS = " ▁▂▃▄▅▆▇█"
_IDLE, _MARK = "·", "┄"


def draw_text(series: Sequence[Mapping[str, Any]], *, columns: int = 64, rows: int = 4) -> str:
    """A small chart for each area, over a line that says what is seen."""
    parts = [
        f"{_BLOCKS[5]} the highest fill on disk, with the policy   {_IDLE} with no policy   {_MARK} high mark",
    ]
    parts.extend(_chart(one, columns, rows) for one in series)
    return "\n\n".join(parts)


def _chart(one: Mapping[str, Any], columns: int, rows: int) -> str:
    filled, idle = _spread(one["disk"], columns), _spread(one["without"], columns)
    head = f"{one['area']}, {show_size(one['quota'])}, high mark {show_percent(one['high'])}"
    mark = _row_of(one["high"], rows)
    lines = [head]
    for row in range(rows - 1, -1, -1):
        cells = "".join(_cell(row, rows, mark, fill, plain) for fill, plain in zip(filled, idle, strict=True))
        label = "100%" if row == rows - 1 else "  0%" if row == 0 else "    "
        lines.append(f"{label} │{cells}│")
    last = f"day {len(one['disk'])}"
    lines.append("     └day 0" + last.rjust(len(filled) - 5, "─") + "┘")
    return "\n".join(lines)


def _cell(row: int, rows: int, mark: int, fill: float, plain: float) -> str:
    """One character: a block as high as the fill reaches into this row, else the dot, else the mark."""
    eighths = round((min(fill, 1.0) * rows - row) * 8)
    if eighths > 0:
        return _BLOCKS[min(8, eighths)]
    if _row_of(plain, rows) == row:
        return _IDLE
    return _MARK if row == mark else " "


def _row_of(fill: float, rows: int) -> int:
    return min(rows - 1, max(0, int(min(fill, 1.0) * rows - 1e-9)))


def _spread(fills: Sequence[float], columns: int) -> list[float]:
    """So many columns, each the highest of its days; a day is several columns where there are fewer days."""
    days = len(fills)
    begins = [at * days // columns for at in range(columns)] if days else []
    ends = [max(begin + 1, (at + 1) * days // columns) for at, begin in enumerate(begins)]
    return [max(fills[begin:end]) for begin, end in zip(begins, ends, strict=True)]
