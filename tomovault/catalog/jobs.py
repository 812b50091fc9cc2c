"""The queue: jobs are queued once per set of facts, claimed by compare-and-set, and fenced by a growing token."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, Select, func, insert, or_, select, update

from tomovault.catalog import tables
from tomovault.catalog.audit import add_audit
from tomovault.catalog.inspections import Whose
from tomovault.catalog.records import apply_records
from tomovault.catalog.scans import job_of, touch
from tomovault.catalog.transaction import Tx, new_id
from tomovault.core.errors import Refused, UserError
from tomovault.core.known import Job, JobStatus
from tomovault.core.record import GivenBack, Outcome, Result
from tomovault.core.wire import from_plain, to_plain

#: A job that waits for something, such as a tape, is tried again after this time at the latest.
_LONGEST_PAUSE = timedelta(minutes=10)

_UNFINISHED = (JobStatus.TODO.value, JobStatus.DOING.value)


@dataclass(frozen=True)
class ClaimedJob:
    """A job that its holder may do while `token` is current. `id` is in every temporary name."""

    id: str
    attempt: str
    number: int
    token: int
    action: str
    scan: str | None
    order: Mapping[str, Any]
    rule: str
    place: str
    host: str | None


def queue_job(
    tx: Tx,
    action: str,
    scan_id: str | None,
    order: Mapping[str, Any],
    *,
    dedup_key: str,
    rule: str,
    now: datetime,
    place: str,
    not_before: datetime | None = None,
    host: str | None = None,
) -> str | None:
    """Queue an action; returns the job's id, or None where it would be a repetition.

    It is one while a job of the same `dedup_key` is unfinished; after one that failed or was cancelled; and
    after one that succeeded, until a new fact of the scan is recorded. The caller puts a fingerprint of the
    facts that matter into the key.
    """
    if _is_repetition(tx, scan_id, dedup_key):
        return None
    job_id = new_id("j")
    row = _new_row(job_id, action, scan_id, order, JobStatus.TODO, dedup_key, rule, place, now)
    tx.run(insert(tables.job).values(**row, host=host, not_before=not_before))
    return job_id


def record_done(
    tx: Tx, action: str, scan_id: str, order: Mapping[str, Any], *, rule: str, now: datetime, place: str
) -> None:
    """An action that needs no process is a job that has succeeded, as of the same transaction."""
    key = f"{action}:{scan_id}:{rule}"
    row = _new_row(new_id("j"), action, scan_id, order, JobStatus.SUCCEEDED, key, rule, place, now)
    tx.run(insert(tables.job).values(**row, finished_at=now, facts_seq=_facts_seq(tx, scan_id)))


def _new_row(
    job_id: str,
    action: str,
    scan_id: str | None,
    order: Mapping[str, Any],
    status: JobStatus,
    dedup_key: str,
    rule: str,
    place: str,
    now: datetime,
) -> dict[str, Any]:
    """A job that nobody has tried."""
    return {
        "id": job_id,
        "action": action,
        "scan_id": scan_id,
        "status": status.value,
        "dedup_key": dedup_key,
        "rule": rule,
        "place": place,
        "order": to_plain(order),
        "attempts": 0,
        "error": "",
        "hint": "",
        "queued_at": now,
    }


def _is_repetition(tx: Tx, scan_id: str | None, dedup_key: str) -> bool:
    job = tables.job
    last = tx.first(
        select(job.c.status, job.c.facts_seq)
        .where(job.c.dedup_key == dedup_key)
        .order_by(job.c.status.in_(_UNFINISHED).desc(), job.c.finished_at.desc(), job.c.queued_at.desc())
        .limit(1)
    )
    if last is None:
        return False
    if last.status != JobStatus.SUCCEEDED or scan_id is None:
        return True
    return bool(last.facts_seq == _facts_seq(tx, scan_id))


def _facts_seq(tx: Tx, scan_id: str | None) -> int | None:
    seq: int | None = tx.value(select(tables.scan.c.facts_seq).where(tables.scan.c.id == scan_id))
    return seq


def claim_job(
    tx: Tx,
    holder: str,
    *,
    now: datetime,
    actions: Collection[str] | None = None,
    skip_places: Collection[str] = frozenset(),
    host: str | None = None,
    only: str | None = None,
    unbound: bool = True,
) -> ClaimedJob | None:
    """Take the job that waited longest, or the one job `only`; or None. No two callers get the same one.

    Only jobs whose `not_before` has come, of these actions, of places not skipped, and bound to this host or,
    with `unbound`, to none. The token is larger than any given before.
    """
    job = tables.job
    row = tx.first(_next_in_line(now, actions, skip_places, host, only, unbound).with_for_update(skip_locked=True))
    if row is None:
        return None
    token = _next_token(tx)
    number = row.attempts + 1
    taken = tx.changed(
        update(job)
        .where(job.c.id == row.id, job.c.status == JobStatus.TODO.value)
        .values(status=JobStatus.DOING.value, holder=holder, token=token, attempts=number)
    )
    if taken != 1:
        return None
    attempt_id = new_id("a")
    tx.run(
        insert(tables.attempt).values(
            id=attempt_id,
            job_id=row.id,
            number=number,
            holder=holder,
            token=token,
            started_at=now,
            error="",
            peak_bytes=0,
            cpu_s=0.0,
        )
    )
    return ClaimedJob(
        row.id, attempt_id, number, token, row.action, row.scan_id, row.order, row.rule, row.place, row.host
    )


def next_claimable(
    tx: Tx,
    *,
    now: datetime,
    actions: Collection[str] | None = None,
    skip_places: Collection[str] = frozenset(),
    host: str | None = None,
    only: str | None = None,
    unbound: bool = True,
) -> Job | None:
    """The job that `claim_job` would find now: asked of a snapshot, so that nobody has to wait for a writer."""
    row = tx.first(_next_in_line(now, actions, skip_places, host, only, unbound))
    return None if row is None else job_of(row)


def _next_in_line(
    now: datetime,
    actions: Collection[str] | None,
    skip_places: Collection[str],
    host: str | None,
    only: str | None,
    unbound: bool,
) -> Select[Any]:
    job = tables.job
    here = job.c.host == host
    query = (
        select(job)
        .where(
            job.c.status == JobStatus.TODO.value,
            or_(job.c.not_before.is_(None), job.c.not_before <= now),
            or_(job.c.host.is_(None), here) if unbound else here,
        )
        .order_by(job.c.queued_at, job.c.id)
        .limit(1)
    )
    if actions is not None:
        query = query.where(job.c.action.in_(sorted(actions)))
    if only is not None:
        query = query.where(job.c.id == only)
    if skip_places:
        query = query.where(job.c.place.not_in(sorted(skip_places)))
    return query


def token_is_current(tx: Tx, job_id: str, token: int) -> bool:
    """True while the job is being done under this very claim."""
    job = tables.job
    query = select(job.c.id).where(job.c.id == job_id, job.c.token == token, job.c.status == JobStatus.DOING.value)
    return tx.first(query) is not None


def finish_job(
    tx: Tx,
    job_id: str,
    token: int,
    result: Result,
    now: datetime,
    *,
    retry_after_s: float,
    max_attempts: int,
    whose: Whose | None = None,
) -> JobStatus:
    """Record all facts of a result and how the job ended, or that it is tried again; returns its status.

    A transient outcome is tried again after `retry_after_s` until `max_attempts` were used up; one that waits for
    something else uses up none, and is tried again the more seldom the longer it has waited, or at once if it asks for
    that. The area of an inspection is the order's `area`, else the job's place. Raises Refused, and nothing is applied,
    where the token is not current.
    """
    row = _require_claim(tx, job_id, token)
    area = row.order.get("area") if isinstance(row.order, dict) else None
    apply_records(
        tx, result.records, now, scan_id=row.scan_id, area=area if isinstance(area, str) else row.place, whose=whose
    )
    waiting = result.outcome is Outcome.WAITING
    again = waiting or (result.outcome is Outcome.TRANSIENT and row.attempts < max_attempts)
    values: dict[str, Any] = {"error": result.error, "hint": result.hint, "holder": None}
    if again:
        status = JobStatus.TODO
        pause = _patience(tx, row, now, retry_after_s) if waiting else timedelta(seconds=retry_after_s)
        values["not_before"] = now if waiting and result.at_once else now + pause
        values["attempts"] = row.attempts - waiting
    else:
        status = JobStatus.SUCCEEDED if result.outcome is Outcome.SUCCEEDED else JobStatus.FAILED
        values |= {"finished_at": now, "facts_seq": _facts_seq(tx, row.scan_id)}
    given = [to_plain(record) for record in result.records if isinstance(record, GivenBack)]
    if given:
        values["result"] = {"given_back": given}
    _close(tx, row, status, values)
    _close_attempt(tx, row, now, result.outcome.value, result)
    if row.scan_id is not None:
        touch(tx, row.scan_id, now)
    return status


def _patience(tx: Tx, row: Row[Any], now: datetime, least_s: float) -> timedelta:
    """Until a job that waits is tried again: a tenth of the time since its first attempt, within limits."""
    attempt = tables.attempt
    begun = tx.value(select(func.min(attempt.c.started_at)).where(attempt.c.job_id == row.id))
    waited = now - begun if begun is not None else timedelta(0)
    return max(timedelta(seconds=least_s), min(waited / 10, _LONGEST_PAUSE))


def release_job(tx: Tx, job_id: str, token: int, now: datetime) -> None:
    """Give a claim back, as at a graceful stop: the job is to do, and the attempt does not count."""
    row = _require_claim(tx, job_id, token)
    _close(tx, row, JobStatus.TODO, {"holder": None, "attempts": row.attempts - 1})
    _close_attempt(tx, row, now, "released")


def requeue_orphans(
    tx: Tx, holder_alive: Callable[[str], bool], now: datetime, max_attempts: int | None = None
) -> list[str]:
    """Jobs of holders that are not alive are to do again, or failed after `max_attempts`; returns their ids."""
    job = tables.job
    rows = tx.rows(select(job).where(job.c.status == JobStatus.DOING.value).order_by(job.c.id).with_for_update())
    alive = {holder: holder_alive(holder) for holder in {row.holder or "" for row in rows}}
    lost = [row for row in rows if not alive[row.holder or ""]]
    for row in lost:
        used_up = max_attempts is not None and row.attempts >= max_attempts
        values: dict[str, Any] = {"holder": None}
        if used_up:
            values |= {
                "finished_at": now,
                "error": f"it was begun {row.attempts} times, and the daemon or the machine died while it was done",
                "hint": "see the logs of both for the reason, such as too little memory; "
                f"tomovault retry {row.id} does it again",
                "facts_seq": None,
            }
        _close(tx, row, JobStatus.FAILED if used_up else JobStatus.TODO, values)
        _close_attempt(tx, row, now, "lost")
        if row.scan_id is not None:
            touch(tx, row.scan_id, now)
    return [row.id for row in lost]


def cancel_job(tx: Tx, job_id: str, by: str, now: datetime) -> None:
    """Cancel an unfinished job: nothing that its process brings back is applied. UserError for a finished one."""
    row = _require_job(tx, job_id)
    if row.status not in _UNFINISHED:
        raise UserError(f"job {job_id} is {row.status} already")
    _close(tx, row, JobStatus.CANCELLED, {"finished_at": now, "holder": None})
    _close_attempt(tx, row, now, "cancelled")
    add_audit(tx, by, "job cancelled", {"job": job_id, "action": row.action}, now, scan=row.scan_id)
    if row.scan_id is not None:
        touch(tx, row.scan_id, now)


def retry_job(tx: Tx, job_id: str, by: str, now: datetime) -> None:
    """A person wants a failed or cancelled job done again, its attempts counted from 0, or one that waits for its
    next attempt not to wait any longer. UserError for any other.
    """
    row = _require_job(tx, job_id)
    job = tables.job
    if row.status == JobStatus.TODO and row.not_before is not None and row.not_before > now:
        _close(tx, row, JobStatus.TODO, {"not_before": None})
        add_audit(tx, by, "job hurried", {"job": job_id, "action": row.action}, now, scan=row.scan_id)
        return
    if row.status not in (JobStatus.FAILED, JobStatus.CANCELLED):
        raise UserError(
            f"job {job_id} is {row.status}", hint="only a job that failed, waits or was cancelled is retried"
        )
    twin = select(job.c.id).where(job.c.dedup_key == row.dedup_key, job.c.status.in_(_UNFINISHED))
    if tx.first(twin) is not None:
        raise UserError(f"the work of job {job_id} is queued already")
    _close(tx, row, JobStatus.TODO, {"finished_at": None, "not_before": None, "attempts": 0, "error": "", "hint": ""})
    add_audit(tx, by, "job retried", {"job": job_id, "action": row.action}, now, scan=row.scan_id)


def list_jobs(tx: Tx, status: JobStatus | None = None, limit: int = 100) -> list[Job]:
    """The newest jobs first, of one status or of all."""
    job = tables.job
    query = select(job).order_by(job.c.queued_at.desc(), job.c.id).limit(limit)
    if status is not None:
        query = query.where(job.c.status == status.value)
    return [job_of(row) for row in tx.rows(query)]


def read_job(tx: Tx, job_id: str) -> Job:
    """One job. Raises UserError where there is none."""
    row = tx.first(select(tables.job).where(tables.job.c.id == job_id))
    if row is None:
        raise UserError(f"no job {job_id}")
    return job_of(row)


def read_job_result(tx: Tx, job_id: str) -> tuple[GivenBack, ...]:
    """What a finished job gave back to a person."""
    result = tx.value(select(tables.job.c.result).where(tables.job.c.id == job_id))
    return tuple(from_plain(GivenBack, plain) for plain in (result or {}).get("given_back", []))


def count_jobs(tx: Tx) -> dict[JobStatus, int]:
    """How many jobs there are of each status, zeros included."""
    job = tables.job
    rows = tx.rows(select(job.c.status, func.count().label("n")).group_by(job.c.status))
    counts = {row.status: int(row.n) for row in rows}
    return {status: counts.get(status.value, 0) for status in JobStatus}


def _next_token(tx: Tx) -> int:
    counter = tables.counter
    name = "fencing"
    if not tx.changed(update(counter).where(counter.c.name == name).values(value=counter.c.value + 1)):
        tx.run(insert(counter).values(name=name, value=1))
    return int(tx.value(select(counter.c.value).where(counter.c.name == name)))


def _require_job(tx: Tx, job_id: str) -> Row[Any]:
    row = tx.first(select(tables.job).where(tables.job.c.id == job_id).with_for_update())
    if row is None:
        raise UserError(f"no job {job_id}")
    return row


def _require_claim(tx: Tx, job_id: str, token: int) -> Row[Any]:
    row = _require_job(tx, job_id)
    if row.status != JobStatus.DOING or row.token != token:
        raise Refused(
            f"job {job_id} is {row.status} and not claimed with token {token}",
            by="law 7",
            hint="another holder took it over; what this one brought is not applied",
        )
    return row


def _close(tx: Tx, row: Row[Any], status: JobStatus, values: Mapping[str, Any]) -> None:
    job = tables.job
    changed = tx.changed(
        update(job).where(job.c.id == row.id, job.c.status == row.status).values(status=status.value, **values)
    )
    if changed != 1:
        raise Refused(f"job {row.id} changed meanwhile", by="law 7")


def _close_attempt(tx: Tx, row: Row[Any], now: datetime, outcome: str, result: Result | None = None) -> None:
    attempt = tables.attempt
    if row.token is None:
        return
    tx.run(
        update(attempt)
        .where(attempt.c.job_id == row.id, attempt.c.token == row.token, attempt.c.finished_at.is_(None))
        .values(
            finished_at=now,
            outcome=outcome,
            error=result.error if result else "",
            peak_bytes=result.peak_bytes if result else 0,
            cpu_s=result.cpu_s if result else 0.0,
        )
    )
