"""What the moves of a tape drive cost, in seconds.

Locate costs are the heuristic that CERN published for CTA (taped/rao/CTACostHeuristic.cpp, coefficients for
LTO-7M media); load and unload times are those of IBM's TS2290 drives (user manual, LTO-8 half height).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """Seconds of a drive's moves, bytes per second of its streaming, and the layout of wraps on the medium.

    `rewind_s` is the mean over the tape. Longitudinal positions are in the drive's units.
    """

    load_s: float = 15.0
    unload_s: float = 24.0
    rewind_s: float = 59.0
    stream_rate: float = 360e6
    locate_base_s: float = 4.29
    wrap_change_s: float = 6.69
    band_change_s: float = 3.2
    landing_zone_change_s: float = -6.04
    direction_change_s: float = 5.22
    step_back_s: float = 11.32
    per_position_s: float = 0.0006192
    least_locate_s: float = 1.0
    wraps: float = 112
    bands: float = 4
    first_position: float = 2696
    last_position: float = 171097

    def place(self, share: float) -> tuple[int, float]:
        """Wrap and longitudinal position of a share (0 to 1) of the capacity; odd wraps run backwards."""
        wrap, within = divmod(min(max(share, 0.0), 0.999999999) * self.wraps, 1.0)
        length = self.last_position - self.first_position
        return int(wrap), self.first_position + length * (1 - within if int(wrap) % 2 else within)

    def locate_s(self, here: float, there: float) -> float:
        """Seconds from one share of the capacity to another."""
        if here == there:
            return 0.0
        (wrap, at), (to_wrap, to) = self.place(here), self.place(there)
        middle = (self.first_position + self.last_position) / 2
        per_band = self.wraps / self.bands
        cost = self.locate_base_s + abs(to - at) * self.per_position_s
        cost += self.wrap_change_s * (wrap != to_wrap)
        cost += self.band_change_s * (wrap // per_band != to_wrap // per_band)
        cost += self.landing_zone_change_s * ((at < middle) != (to < middle))
        cost += self.direction_change_s * (wrap % 2 != to_wrap % 2)
        cost += self.step_back_s * (wrap == to_wrap and there < here)
        return max(cost, self.least_locate_s)

    def rewind_from_s(self, here: float) -> float:
        """Seconds back to the load point; its mean over the tape is `rewind_s`."""
        length = self.last_position - self.first_position
        return 2 * self.rewind_s * (self.place(here)[1] - self.first_position) / length if here > 0 else 0.0
