"""Which cartridge is visited next, in which drive, and in which order it serves what waits for it.

A visit that has begun goes on until nothing waits for its cartridge, what comes meanwhile included; but no longer than
the fairness limit where others wait. Of those, who has waited past all patience goes first; else restores before what
only keeps the archive, and the cartridge that serves most of them for the drive's time: one that is in a drive already,
or one with a long queue. So a request with several copies is served from the one that is mounted or asked for most.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from tomovault.recall.request import DriveNow, Kind, Limits, Request
from tomovault.recall.timing import Timing
from tomovault.recall.tour import plan_tour


class Why(StrEnum):
    """For what a cartridge was chosen; earlier ones go first."""

    GOES_ON = "the visit goes on"
    WAITED = "one of its requests waited past all patience"
    RESTORES = "most restores for the drive's time"
    KEEPING = "nobody waits for a restore"


@dataclass(frozen=True)
class Choice:
    """A cartridge for a free drive, and what it is to serve in the visit; `first` is served before the others."""

    drive: DriveNow
    cartridge: str
    members: tuple[Request, ...]
    why: Why
    first: Request | None = None

    @property
    def mounts(self) -> bool:
        """Whether the cartridge has to be brought."""
        return self.drive.cartridge != self.cartridge


@dataclass(frozen=True)
class Visit:
    """A cartridge in a drive serves requests in this order. The first is served; then it is chosen again, since more
    may have come.
    """

    drive: int
    cartridge: str
    order: tuple[str, ...]
    mounts: bool
    why: Why


def choose_visit(
    requests: Sequence[Request],
    drives: Sequence[DriveNow],
    cartridges: Mapping[str, Timing],
    limits: Limits,
    now: float,
) -> Visit | None:
    """The next visit of a drive that is free now; None where there is none, or nothing to begin. The same arguments
    give the same visit.

    `cartridges` are those that can be mounted, with the costs of moving on them.
    """
    choice = choose(requests, drives, cartridges, limits, now)
    if choice is None:
        return None
    order = reading_order(choice, cartridges[choice.cartridge])
    return Visit(choice.drive.number, choice.cartridge, order, choice.mounts, choice.why)


def choose(
    requests: Sequence[Request],
    drives: Sequence[DriveNow],
    cartridges: Mapping[str, Timing],
    limits: Limits,
    now: float,
) -> Choice | None:
    """As `choose_visit`, without the order."""
    free = [drive for drive in drives if drive.busy_until <= now]
    if not free:
        return None
    queues = _queues(requests, drives, cartridges, limits, now)
    if not queues:
        return None
    return (
        _going_on(queues, free, limits, now)
        or _waited(queues, free, limits, now)
        or _best(queues, free, cartridges, limits, now)
    )


def reading_order(choice: Choice, timing: Timing) -> tuple[str, ...]:
    """Ids of what a visit serves: restores before the rest, each by the cheapest tour from where the head is then."""
    head = 0.0 if choice.mounts else choice.drive.position
    order: list[str] = []
    left = list(choice.members)
    if choice.first is not None:
        order.append(choice.first.id)
        head = choice.first.on(choice.cartridge).span.end
        left = [request for request in left if request.id != choice.first.id]
    for kinds in ((Kind.RESTORE,), (Kind.ARCHIVE, Kind.VERIFY)):
        part = [request for request in left if request.kind in kinds]
        spans = [request.on(choice.cartridge).span for request in part]
        tour = plan_tour(timing, head, spans)
        order += [part[index].id for index in tour.order]
        head = spans[tour.order[-1]].end if spans else head
    return tuple(order)


def is_open(drive: DriveNow, limits: Limits, now: float) -> bool:
    """Whether the visit to the cartridge in a drive may take on more while others wait."""
    return drive.since is not None and now - drive.since < limits.fair_s


Queues = Mapping[str, list[Request]]


def _queues(
    requests: Sequence[Request],
    drives: Sequence[DriveNow],
    cartridges: Mapping[str, Timing],
    limits: Limits,
    now: float,
) -> Queues:
    """What waits, by each cartridge that can serve it and is in no busy drive, in order of arrival. What a visit that
    goes on in a busy drive will read waits for that.
    """
    busy = {drive.cartridge: is_open(drive, limits, now) for drive in drives if drive.busy_until > now}
    queues: dict[str, list[Request]] = {}
    for request in sorted(requests, key=lambda request: (request.arrival, request.id)):
        if request.arrival > now:
            break
        names = {copy.cartridge for copy in request.copies if copy.cartridge in cartridges}
        reads = request.kind is not Kind.ARCHIVE
        if reads and any(busy.get(name, False) for name in names) and not _is_overdue(request, limits, now):
            continue
        for name in sorted(names):
            if name not in busy:
                queues.setdefault(name, []).append(request)
    return queues


def _is_overdue(request: Request, limits: Limits, now: float) -> bool:
    return now - request.arrival >= limits.patience_s


def _going_on(queues: Queues, free: Sequence[DriveNow], limits: Limits, now: float) -> Choice | None:
    for drive in free:
        name = drive.cartridge
        if name is not None and name in queues and is_open(drive, limits, now):
            return Choice(drive, name, tuple(queues[name]), Why.GOES_ON)
    return None


def _waited(queues: Queues, free: Sequence[DriveNow], limits: Limits, now: float) -> Choice | None:
    """The visit that serves first who has waited longest, if that is past all patience."""
    oldest = min((queue[0] for queue in queues.values()), key=lambda request: (request.arrival, request.id))
    if not _is_overdue(oldest, limits, now):
        return None
    mounted = {drive.cartridge for drive in free}
    names = [name for name, queue in queues.items() if queue[0] is oldest]
    name = min(names, key=lambda name: (name not in mounted, -len(queues[name]), name))
    drive = _drive_for(name, queues, free)
    return Choice(drive, name, tuple(queues[name]), Why.WAITED, oldest)


def _best(
    queues: Queues, free: Sequence[DriveNow], cartridges: Mapping[str, Timing], limits: Limits, now: float
) -> Choice | None:
    """Of the cartridges that are worth a mount, the one that serves most for the drive's time. One whose visit has just
    used up its time comes after the others, and what waits for it is not a reason to bring another copy.
    """
    used_up = {drive.cartridge for drive in free if drive.since is not None and not is_open(drive, limits, now)}
    served = {request.id for name in used_up for request in queues.get(name or "", ())}
    mounted = {drive.cartridge for drive in free}
    for why, kinds in ((Why.RESTORES, (Kind.RESTORE,)), (Why.KEEPING, (Kind.ARCHIVE, Kind.VERIFY))):
        ranks: list[tuple[bool, float, str]] = []
        for name, queue in queues.items():
            waiting = [r for r in queue if r.kind in kinds and (name in used_up or r.id not in served)]
            if waiting and (why is Why.RESTORES or name in mounted or _is_worth_it(waiting, limits, now)):
                seconds = _visit_s(waiting, cartridges[name], mounted=name in mounted)
                ranks.append((name in used_up, seconds / len(waiting), name))
        if ranks:
            name = min(ranks)[-1]
            return Choice(_drive_for(name, queues, free), name, tuple(queues[name]), why)
    return None


def _is_worth_it(waiting: Sequence[Request], limits: Limits, now: float) -> bool:
    return (
        len(waiting) >= limits.mount_count
        or now - waiting[0].arrival >= limits.mount_age_s
        or sum(request.bytes for request in waiting) >= limits.mount_bytes
    )


def _visit_s(waiting: Sequence[Request], timing: Timing, *, mounted: bool) -> float:
    """About how long a visit will take, without planning it."""
    bringing = 0.0 if mounted else timing.rewind_s + timing.unload_s + timing.load_s
    locating = len(waiting) * timing.rewind_s / 2
    return bringing + locating + sum(request.bytes for request in waiting) / timing.stream_rate


def _drive_for(name: str, queues: Queues, free: Sequence[DriveNow]) -> DriveNow:
    """The one that the cartridge is in, else an empty one, else the one whose cartridge is least asked for."""
    return min(
        free,
        key=lambda drive: (
            drive.cartridge != name,
            drive.cartridge is not None,
            len(queues.get(drive.cartridge or "", ())),
            drive.position,
            drive.number,
        ),
    )
