"""Fill over time as an SVG: a panel for each area, with the policy and without it. Plain text, no library."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from tomovault.policy.quantity import show_percent, show_size

_WIDTH, _HEIGHT = 450, 208
_LEFT, _TOP, _RIGHT, _BOTTOM = 44, 64, 14, 30
_GAP, _MARGIN, _HEAD, _FOOT = 18, 24, 92, 20
_COLUMNS = 2

#: Colours that people with any colour vision tell apart (Okabe and Ito), and greys.
_BLUE, _SKY, _ROSE, _ORANGE = "#0072B2", "#A6D4EE", "#D88BB5", "#D55E00"
_INK, _GREY, _LINE = "#222222", "#666666", "#DDDDDD"


def draw_svg(series: Sequence[Mapping[str, Any]], title: str, subtitle: str) -> str:
    """The whole picture. `series` is as `outcome.series_of` gives it."""
    rows = -(-len(series) // _COLUMNS)
    columns = min(_COLUMNS, max(1, len(series)))
    width = 2 * _MARGIN + max(2, columns) * _WIDTH + (max(2, columns) - 1) * _GAP
    height = _HEAD + rows * (_HEIGHT + _GAP) + _FOOT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'font-family="DejaVu Sans, Helvetica, Arial, sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="#FFFFFF"/>',
        _text(_MARGIN, 30, title, size=19, weight="bold"),
        _text(_MARGIN, 50, subtitle, colour=_GREY, size=13),
        *_legend(_MARGIN, 74),
    ]
    for place, one in enumerate(series):
        x = _MARGIN + place % _COLUMNS * (_WIDTH + _GAP)
        y = _HEAD + place // _COLUMNS * (_HEIGHT + _GAP)
        parts.extend(_panel(one, x, y))
    parts.append("</svg>")
    return "\n".join(parts) + "\n"


def _legend(x: int, y: int) -> Iterator[str]:
    yield _rect(x, y - 9, 26, 10, _SKY)
    yield _stroke([(x, y - 9), (x + 26, y - 9)], _BLUE, 2)
    yield _text(x + 32, y, "with the policy: what stays")
    yield _rect(x + 240, y - 9, 26, 10, _ROSE)
    yield _text(x + 272, y, "in quarantine, until its hold is over")
    yield _stroke([(x + 560, y - 4), (x + 586, y - 4)], _ORANGE, 2.5)
    yield _text(x + 592, y, "with no policy")
    yield _stroke([(x + 700, y - 4), (x + 726, y - 4)], _INK, 1, dashes="5 3")
    yield _text(x + 732, y, "high mark")


def _panel(one: Mapping[str, Any], x: int, y: int) -> Iterator[str]:
    days = max(2, len(one["disk"]))
    left, top = x + _LEFT, y + _TOP
    wide, tall = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def at(day: float, fill: float) -> tuple[float, float]:
        return left + day / (days - 1) * wide, top + (1 - min(max(fill, 0.0), 1.0)) * tall

    def curve(fills: Sequence[float]) -> list[tuple[float, float]]:
        return [at(day, fill) for day, fill in enumerate(fills)]

    yield _text(x + 4, y + 16, f"{one['area']}  ", size=14, weight="bold")
    yield _text(x + _WIDTH - _RIGHT, y + 16, show_size(one["quota"]), colour=_GREY, anchor="end")
    held, idle = _told(one)
    yield _text(x + 4, y + 34, held, size=11, colour=_BLUE)
    yield _text(x + 4, y + 50, idle, size=11, colour=_ORANGE)
    for fill in (0.0, 0.5, 1.0):
        yield _stroke([at(0, fill), at(days - 1, fill)], _LINE, 1)
        yield _text(left - 6, at(0, fill)[1] + 4, show_percent(fill), size=10, colour=_GREY, anchor="end")
    for day in range(0, days, _step(days)):
        yield _stroke([at(day, 0), (at(day, 0)[0], at(day, 0)[1] + 4)], _GREY, 1)
        label = "day 0" if day == 0 else str(day)
        yield _text(at(day, 0)[0], at(day, 0)[1] + 16, label, size=10, colour=_GREY, anchor="middle")
    for fills, colour in ((one["disk"], _ROSE), (one["kept"], _SKY)):
        area = [*curve(fills), at(len(fills) - 1, 0), at(0, 0)]
        yield f'<polygon points="{_points(area)}" fill="{colour}"/>'
    yield _stroke(curve(one["kept"]), _BLUE, 1.3)
    yield _stroke([at(0, one["high"]), at(days - 1, one["high"])], _INK, 1, dashes="5 3")
    yield _stroke(curve(one["without"]), _ORANGE, 2.5)


def _told(one: Mapping[str, Any]) -> tuple[str, str]:
    """What a person should see in the panel, with the policy and without it, in a line each."""
    day, full, mark = one["below_high_from_day"], one["full_on_day_without"], show_percent(one["high"])
    if day is None:
        held = f"With the policy: not held below its high mark of {mark}"
    else:
        held = f"With the policy: below its high mark of {mark} " + ("always" if day == 0 else f"from day {day} on")
    if one["unmet_bytes"]:
        held += f", no room for {show_size(one['unmet_bytes'])}"
    if full is None:
        return held, "With no policy: never full"
    return held, f"With no policy: full on day {full}, no room for {show_size(one['unmet_bytes_without'])}"


def _step(days: int) -> int:
    return next((step for step in (1, 2, 5, 10, 30, 60, 90, 180) if days / step <= 7), 365)


def _text(
    x: float, y: float, text: str, *, size: int = 12, colour: str = _INK, anchor: str = "start", weight: str = "normal"
) -> str:
    style = f'font-size="{size}" fill="{colour}" text-anchor="{anchor}" font-weight="{weight}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(text.strip())}</text>'


def _rect(x: float, y: float, width: float, height: float, colour: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width}" height="{height}" fill="{colour}"/>'


def _stroke(points: Sequence[tuple[float, float]], colour: str, width: float, *, dashes: str = "") -> str:
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    drawn = f'fill="none" stroke="{colour}" stroke-width="{width}" stroke-linejoin="round"{dashed}'
    return f'<polyline points="{_points(points)}" {drawn}/>'


def _points(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
