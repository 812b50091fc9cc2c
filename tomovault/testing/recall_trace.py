"""A week of a tape library, always the same: what a beamline archives and what people ask for, and the plain ways to
serve that.

A person asks for several scans of one experiment, which lie near each other: at once, or one after the other within an
hour or so. Archives are written to two cartridges, one of each pool, which fill. Each original is on one cartridge of
either pool, at the same place.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tomovault.recall.request import Copy, DriveNow, Kind, Limits, Request
from tomovault.recall.serving import Served
from tomovault.recall.timing import Timing
from tomovault.recall.tour import Span
from tomovault.recall.visit import Choice, Why

WEEK_S = 7 * 86400.0
DRIVES = 2
#: A cartridge of one pool and one of the other hold the same; the first are full, and the rest are filled.
PAIRS, FULL = 20, 16
CAPACITY = 18e12
BUNDLE = 64 * 10**9
WINDOW_S = 900.0

_SCANS = (8, 16, 16, 32, 64)
_MOST_SCANS = 12
_HOUR_OR_SO_S = 4000.0
#: Of the drives' time, so much goes to the archive.
_ARCHIVE_SHARE = 0.3
#: About the mean way of the head to a request among others.
_LOCATE_S = 25.0


@dataclass(frozen=True)
class Trace:
    """Requests in order of arrival, the drives, and the cartridges that can be mounted."""

    requests: tuple[Request, ...]
    drives: tuple[DriveNow, ...]
    cartridges: Mapping[str, Timing]


def mixed_week(load: float, *, seed: int = 1, length_s: float = WEEK_S) -> Trace:
    """At load 1 both drives would be busy all the time if each cartridge that is asked for were brought once in each
    window of `WINDOW_S`: less work is hardly possible.
    """
    draw = random.Random(f"{seed} {load}")
    budget = load * DRIVES * length_s
    pairs = [(f"A{n:05d}L9", f"B{n:05d}L9") for n in range(1, PAIRS + 1)]
    work = _Work()
    bundles = int(budget * _ARCHIVE_SHARE / (2 * (BUNDLE / Timing().stream_rate + _LOCATE_S)))
    requests = _archives(draw, pairs[FULL:], bundles, length_s)
    for request in requests:
        work.add(request)
    while work.seconds < budget:
        requests += _asked(draw, draw.choice(pairs[:FULL]), len(requests), length_s)
        for request in requests[work.counted :]:
            work.add(request)
    names = [name for pair in pairs for name in pair]
    return Trace(
        tuple(sorted(requests, key=lambda request: (request.arrival, request.id))),
        tuple(DriveNow(number) for number in range(DRIVES)),
        dict.fromkeys(names, Timing()),
    )


class _Work:
    """Seconds that drives need at least for what is asked for."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.counted = 0
        self._brought: set[tuple[int, str]] = set()

    def add(self, request: Request) -> None:
        timing = Timing()
        self.counted += 1
        self.seconds += request.bytes / timing.stream_rate + _LOCATE_S
        window = (int(request.arrival // WINDOW_S), request.copies[0].cartridge)
        if window not in self._brought:
            self._brought.add(window)
            self.seconds += timing.load_s + timing.rewind_s + timing.unload_s


def _archives(draw: random.Random, pairs: Sequence[tuple[str, str]], count: int, length_s: float) -> list[Request]:
    """Bundles as the beam makes them, each for a cartridge of either pool; a full one is followed by the next."""
    share = BUNDLE / CAPACITY
    made: list[Request] = []
    for number, arrival in enumerate(sorted(draw.uniform(0, length_s) for _ in range(count))):
        filled, place = divmod(number, int(1 / share))
        span = Span(place * share, (place + 1) * share)
        for name in pairs[filled]:
            made.append(Request(f"a{number:05d}{name[0]}", Kind.ARCHIVE, arrival, BUNDLE, (Copy(name, span),)))
    return made


def _asked(draw: random.Random, pair: tuple[str, str], number: int, length_s: float) -> list[Request]:
    """What one person asks for."""
    begun, near, at_once = draw.uniform(0, length_s), draw.uniform(0, 0.95), draw.random() < 0.5
    made: list[Request] = []
    for _ in range(_scans_asked(draw)):
        size = draw.choice(_SCANS) * 10**9
        start = near + draw.uniform(0, 0.05 - size / CAPACITY)
        arrival = begun + (draw.uniform(0, 10) if at_once else draw.uniform(0, _HOUR_OR_SO_S))
        copies = tuple(Copy(name, Span(start, start + size / CAPACITY)) for name in pair)
        name = f"r{number + len(made):05d}"
        made.append(Request(name, Kind.RESTORE, min(arrival, length_s), size, copies))
    return made


def _scans_asked(draw: random.Random) -> int:
    count = 1
    while count < _MOST_SCANS and draw.random() < 0.6:
        count += 1
    return count


# --- the plain ways ------------------------------------------------------------------------------


def arrival_order(
    requests: Sequence[Request],
    drives: Sequence[DriveNow],
    _cartridges: Mapping[str, Timing],
    _limits: Limits,
    now: float,
) -> Choice | None:
    """Whoever came first, from the first copy that is in no busy drive; one that is in a free drive is not fetched.
    The requests are in order of arrival.
    """
    free = [drive for drive in drives if drive.busy_until <= now]
    busy = {drive.cartridge for drive in drives if drive.busy_until > now}
    for request in requests if free else ():
        names = [copy.cartridge for copy in request.copies if copy.cartridge not in busy]
        if names:
            inside = {drive.cartridge: drive for drive in free}
            name = next((name for name in names if name in inside), names[0])
            drive = inside.get(name) or min(free, key=lambda drive: (drive.cartridge is not None, drive.number))
            return Choice(drive, name, (request,), Why.WAITED, request)
    return None


def by_cartridge(
    requests: Sequence[Request],
    drives: Sequence[DriveNow],
    _cartridges: Mapping[str, Timing],
    _limits: Limits,
    now: float,
) -> Choice | None:
    """As in order of arrival, but a cartridge that is in a drive serves all that waits for it, in block order."""
    free = [drive for drive in drives if drive.busy_until <= now]
    for drive in free:
        waiting = [r for r in requests if any(copy.cartridge == drive.cartridge for copy in r.copies)]
        if drive.cartridge is not None and waiting:
            name = drive.cartridge
            first = min(waiting, key=lambda request: (request.on(name).span.start, request.id))
            return Choice(drive, name, (first,), Why.GOES_ON, first)
    return arrival_order(requests, drives, _cartridges, _limits, now)


# --- what came of it -----------------------------------------------------------------------------


def mean_wait_s(trace: Trace, served: Mapping[str, Served], kind: Kind = Kind.RESTORE) -> float:
    """Mean seconds from the arrival of a request to its end."""
    waits = [served[r.id].end - r.arrival for r in trace.requests if r.kind is kind]
    return sum(waits) / len(waits)


def longest_wait_s(trace: Trace, served: Mapping[str, Served], kind: Kind) -> float:
    """The longest time that a request waited before a drive was its."""
    return max(served[r.id].start - r.arrival for r in trace.requests if r.kind is kind)


def needed_mounts(trace: Trace, window_s: float) -> int:
    """Distinct cartridges needed in each window, added up: one of each pair for what is asked for in it."""
    return len({(int(r.arrival // window_s), r.copies[0].cartridge) for r in trace.requests})


def mounts(served: Mapping[str, Served]) -> int:
    """How often a cartridge was brought to a drive."""
    return sum(one.mounts for one in served.values())
