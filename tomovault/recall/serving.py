"""The rule run ahead on a clock of its own: when each request is expected to be served, and by what."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from tomovault.recall.request import DriveNow, Limits, Request
from tomovault.recall.timing import Timing
from tomovault.recall.visit import Choice, Why, choose, reading_order


@dataclass(frozen=True)
class Served:
    """From when to when a request has a drive, the way of its cartridge there and of the head included."""

    request: str
    start: float
    end: float
    drive: int
    cartridge: str
    mounts: bool


#: How the next request of a free drive is chosen; the requests come in order of arrival.
Rule = Callable[[Sequence[Request], Sequence[DriveNow], Mapping[str, Timing], Limits, float], Choice | None]


def serve(
    requests: Sequence[Request],
    drives: Sequence[DriveNow],
    cartridges: Mapping[str, Timing],
    limits: Limits,
    now: float,
    *,
    rule: Rule = choose,
) -> dict[str, Served]:
    """Each request as it will be served if no other comes, in the order in which they begin. One that no cartridge in
    `cartridges` can serve is left out.
    """
    return {served.request: served for served in _run(requests, drives, cartridges, limits, now, rule)}


def _run(
    requests: Sequence[Request],
    drives: Sequence[DriveNow],
    cartridges: Mapping[str, Timing],
    limits: Limits,
    now: float,
    rule: Rule,
) -> Iterator[Served]:
    to_come = sorted(requests, key=lambda request: (request.arrival, request.id), reverse=True)
    waiting: dict[str, Request] = {}
    table = {drive.number: drive for drive in drives}
    plans: dict[int, list[str]] = {}
    while to_come or waiting:
        while to_come and to_come[-1].arrival <= now:
            request = to_come.pop()
            waiting[request.id] = request
        while (choice := rule(list(waiting.values()), list(table.values()), cartridges, limits, now)) is not None:
            served, drive = _step(waiting, choice, cartridges, plans, now)
            del waiting[served.request]
            table[drive.number] = drive
            yield served
        for number, drive in table.items():
            if drive.busy_until <= now and drive.since is not None:
                table[number] = replace(drive, since=None)
        later = _next_moment(to_come, waiting, table.values(), limits, now)
        if later is None:
            return
        now = later


def _step(
    waiting: Mapping[str, Request],
    choice: Choice,
    cartridges: Mapping[str, Timing],
    plans: dict[int, list[str]],
    now: float,
) -> tuple[Served, DriveNow]:
    """The next request of the chosen visit was served; and the drive as it is then."""
    timing, drive = cartridges[choice.cartridge], choice.drive
    plan = plans.get(drive.number, [])
    # What was planned holds until something comes.
    if choice.mounts or choice.first is not None or {*plan} != {member.id for member in choice.members}:
        plan = list(reading_order(choice, timing))
    request = waiting[plan.pop(0)]
    plans[drive.number] = plan
    span = request.on(choice.cartridge).span
    seconds = _bringing_s(drive, cartridges, timing) if choice.mounts else 0.0
    seconds += timing.locate_s(0.0 if choice.mounts else drive.position, span.start)
    end = now + seconds + request.bytes / timing.stream_rate
    since = drive.since if choice.why is Why.GOES_ON else now
    after = DriveNow(drive.number, choice.cartridge, span.end, end, since)
    return Served(request.id, now, end, drive.number, choice.cartridge, choice.mounts), after


def _bringing_s(drive: DriveNow, cartridges: Mapping[str, Timing], timing: Timing) -> float:
    """Seconds until another cartridge is loaded, what is in the drive taken out before."""
    if drive.cartridge is None:
        return timing.load_s
    inside = cartridges.get(drive.cartridge, timing)
    return inside.rewind_from_s(drive.position) + inside.unload_s + timing.load_s


def _next_moment(
    to_come: Sequence[Request],
    waiting: dict[str, Request],
    drives: Collection[DriveNow],
    limits: Limits,
    now: float,
) -> float | None:
    """When something may change: a request comes, a drive or a visit is over, or one has waited long enough."""
    moments = [request.arrival for request in to_come[-1:]]
    moments += [drive.busy_until for drive in drives]
    moments += [drive.since + limits.fair_s for drive in drives if drive.since is not None]
    moments += [_of_age(waiting, age_s, now) for age_s in (limits.mount_age_s, limits.patience_s)]
    return min((moment for moment in moments if moment > now), default=None)


def _of_age(waiting: dict[str, Request], age_s: float, now: float) -> float:
    """When the next request has waited so long; now where all have. They stand in order of arrival."""
    soonest = now
    for request in reversed(waiting.values()):
        if request.arrival + age_s <= now:
            break
        soonest = request.arrival + age_s
    return soonest
