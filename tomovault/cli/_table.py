"""Plain tables: columns as wide as what they hold, readable in a terminal, a mail and a file."""

from __future__ import annotations

from collections.abc import Sequence


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> str:
    """The rows below their heads, columns in `right` aligned to the right."""
    cells = [list(head), *[[c.replace("\n", "\\n").replace("\t", "\\t") for c in row] for row in rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    lines = []
    for row in cells:
        parts = [c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
        lines.append("  ".join(parts).rstrip())
    return "\n".join(lines)


def spark(values: Sequence[float], *, width: int = 30) -> str:
    """The values one after the other as a line of blocks, from nothing to the most of them."""
    most = max(values, default=0)
    if most <= 0:
        return "_" * min(width, len(values))
    picked = [values[i * len(values) // width] for i in range(width)] if len(values) > width else values
    return "".join("_▁▂▃▄▅▆▇█"[round(8 * value / most)] for value in [*picked[:-1], values[-1]])


def bar(fraction: float | None, *, width: int = 20, high: float | None = None) -> str:
    """A bar of a used fraction, with the high mark in it."""
    if fraction is None:
        return ""
    filled = round(min(max(fraction, 0.0), 1.0) * width)
    cells = ["#"] * filled + ["."] * (width - filled)
    if high is not None and 0 <= round(high * width) < width:
        cells[round(high * width)] = "|"
    return "[" + "".join(cells) + f"] {fraction:4.0%}"
