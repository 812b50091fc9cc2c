"""When restores that need a cartridge are expected to be over, and what came of what was told before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from tomovault.catalog.estimates import honesty_of, last_estimates, note_estimate, open_estimates, pace_of
from tomovault.catalog.recalls import Errand, list_begun, list_errands
from tomovault.recall.request import DriveNow, Request
from tomovault.recall.serving import serve
from tomovault.recall.timing import Timing
from tomovault.vault.libraries import Library, open_libraries, share_out
from tomovault.vault.page_text import name_of, time_text
from tomovault.vault.places import tiers_there
from tomovault.vault.vault import Vault

#: Of so many jobs that wait it is worked out when their turn comes; the time of those behind is not told.
_MOST = 300


@dataclass(frozen=True)
class Expected:
    """A job's end as it is expected now. `model_s`: from now, if the drives kept to their figures."""

    model_s: float
    ends_at: datetime


def expect(vault: Vault, tx: Any, now: datetime) -> dict[str, Expected]:
    """The end of each job that waits for a cartridge or has one, if nothing else comes; by the figures of the drives,
    and as much slower or faster as the last restores were.
    """
    errands, begun = list_errands(tx, now, limit=_MOST, anywhere=True), list_begun(tx)
    libraries = open_libraries(vault.site) if errands or begun else {}
    at, ends = now.timestamp(), dict[str, float]()
    shares = share_out(errands, libraries, tiers_there(vault))
    for name, library in libraries.items():
        drives, doing = _drives_now(library, begun, now)
        waiting = [placing.request for job, placing in library.requests(shares[name], now).items() if job not in ends]
        names = {copy.cartridge for request in waiting for copy in request.copies}
        names |= {drive.cartridge for drive in drives if drive.cartridge is not None}
        served = serve(waiting, drives, dict.fromkeys(names, library.timing), vault.site.recall, at)
        ends |= {**doing, **{job: one.end for job, one in served.items()}}
    pace = pace_of(last_estimates(tx)) if ends else 1.0
    return {job: Expected(end - at, now + timedelta(seconds=(end - at) * pace)) for job, end in ends.items()}


def tell_expected(vault: Vault, job: str, now: datetime) -> datetime | None:
    """When a restore that was just queued is expected to be over, which is noted; None where it needs no cartridge."""
    with vault.catalogue.reading() as tx:
        expected = expect(vault, tx, now).get(job)
    if expected is None:
        return None
    with vault.catalogue.writing() as tx:
        note_estimate(tx, job, now, expected.model_s, expected.ends_at)
    return expected.ends_at


def recalls_page(vault: Vault, tx: Any, now: datetime) -> dict[str, Any]:
    """Each restore under way that needs a cartridge: when its end was told, if it was; when it is expected now, and in
    how many seconds, if drives are at work from now on. And how many times as long as was told the last ones took.
    """
    told = {one.job: one for one in open_estimates(tx)}
    expected = expect(vault, tx, now) if told or _is_asked_for(tx, now) else {}
    lines = []
    for job in dict.fromkeys((*told, *sorted(expected, key=lambda job: expected[job].ends_at))):
        row = vault.catalogue.read_job(tx, job)
        if row.action != "restore":
            continue
        one, end = told.get(job), expected[job].ends_at if job in expected else None
        name = vault.catalogue.known(tx, row.scan).name if row.scan is not None else ""
        lines.append(
            {
                "job": job,
                "name": name_of(name),
                "status": row.status.value,
                "told_at": time_text(one.told_at if one is not None else None),
                "told": time_text(one.ends_at if one is not None else None),
                "expected": time_text(end),
                "expected_in_s": round((end - now).total_seconds(), 1) if end is not None else None,
            }
        )
    last = last_estimates(tx)
    return {"restores": lines, "took_times_told": honesty_of(last), "of_last": len(last)}


def _is_asked_for(tx: Any, now: datetime) -> bool:
    """Whether a restore waits or is under way, which not every one needs a cartridge for."""
    if list_errands(tx, now, limit=1, actions=["restore"], anywhere=True):
        return True
    return any(errand.action == "restore" for errand in list_begun(tx))


def _drives_now(library: Library, begun: Sequence[Errand], now: datetime) -> tuple[list[DriveNow], Mapping[str, float]]:
    """The drives, busy for as long as the jobs that are being done should still take; and when those end."""
    states = {state.number: state for state in library.drives()}
    ends: dict[str, float] = {}
    drives: dict[int, DriveNow] = {}
    for errand in begun:
        placing = library.requests([errand], now).get(errand.job)
        free = [state for state in states.values() if state.number not in drives]
        if placing is None or not free or errand.begun_at is None:
            continue
        names = [copy.cartridge for copy in placing.request.copies]
        state = min(free, key=lambda state: (state.cartridge not in names, state.cartridge is not None, state.number))
        name = state.cartridge if state.cartridge in names else names[0]
        seconds = _alone_s(placing.request, library.timing, mounted=state.cartridge == name)
        end = max(now.timestamp(), errand.begun_at.timestamp() + seconds)
        ends[errand.job] = end
        at = placing.request.on(name).span.end
        drives[state.number] = DriveNow(state.number, name, at, end, errand.begun_at.timestamp())
    idle = [DriveNow(s.number, s.cartridge, s.position) for s in states.values() if s.number not in drives]
    return [*drives.values(), *idle], ends


def _alone_s(request: Request, timing: Timing, *, mounted: bool) -> float:
    """About how long a drive needs for one request."""
    bringing = 0.0 if mounted else timing.rewind_s + timing.unload_s + timing.load_s
    return bringing + timing.rewind_s / 2 + request.bytes / timing.stream_rate
