"""Asking for work: queued for the leading daemon, or done here and now by a command that waits."""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import structlog

from tomovault.catalog.work import last_outcome, waits_for_host
from tomovault.core.errors import IntegrityError, Refused, TomovaultError, Transient, UserError
from tomovault.core.known import JobStatus, KnownScan
from tomovault.core.record import GivenBack, Outcome
from tomovault.vault.fellows import LEADER, read_fellows
from tomovault.vault.foreman import Foreman, Running
from tomovault.vault.orders import build_order
from tomovault.vault.requests import Moot, Request
from tomovault.vault.vault import Vault, word_of

log = structlog.get_logger(__name__)

_POLL_S = 0.2


@dataclass(frozen=True)
class Answer:
    """A job that was asked for: its id; when it was expected to be over, if a cartridge has to be read for it and there
    is somebody to do it; and once it is over, how it ended and what it brought.
    """

    job: str
    status: JobStatus = JobStatus.TODO
    given: tuple[GivenBack, ...] = ()
    error: str = ""
    hint: str = ""
    outcome: str = ""
    expected_at: datetime | None = None


def holder_name(vault: Vault) -> str:
    """A name for this process as a holder of claims, unlike any other's."""
    return f"{word_of(vault.host)}-{os.getpid()}-{uuid.uuid4().hex[:8]}"


def find_scan(vault: Vault, tx: Any, text: str) -> KnownScan:
    """The scan of a name, an id or a path. Raises UserError, listing the candidates, if it is none or several.

    What is neither is a path from the working folder: that of a scan's folder or of its master file. One inside of a
    scan's folder names none, since the scan there may be another that is not known yet.
    """
    found = vault.catalogue.find_scans(tx, text) or vault.catalogue.find_scans(tx, os.path.abspath(text))
    if not found:
        raise UserError(f"no scan is known as {text!r}", hint="`tomovault scan list` shows what is known")
    if len(found) > 1:
        several = "\n".join(f"    {scan_id}  {name}  {root}" for scan_id, name, root, _area in found)
        raise UserError(f"{text!r} names {len(found)} scans; give an id", hint="one of:\n" + several)
    known: KnownScan = vault.catalogue.known(tx, found[0][0])
    return known


def ask(
    vault: Vault,
    action: str,
    scan_id: str,
    wish: Mapping[str, Any],
    *,
    by: str,
    wait: bool,
    progress: Callable[[str, int, int], None] | None = None,
    tell: Callable[[datetime], None] | None = None,
    area: str | None = None,
) -> Answer:
    """The job is queued, in the area of the scan or another; with `wait` it is over. Raises at once what can be known
    to be wrong with the request.

    `tell` is called with the time at which it is expected to be over, before it is waited for, where that is known.
    """
    now = datetime.now(UTC)
    catalogue = vault.catalogue
    with catalogue.reading() as tx:
        scan = catalogue.known(tx, scan_id)
        area = area or scan.area
        vault.area(area)
        try:
            build_order(action, Request(vault, tx, scan, wish, now, by))
        except Moot as moot:
            raise Refused(f"{scan.name}: {moot.message}", by="nothing to do") from moot
    with catalogue.writing() as tx:
        key = f"{action}:{scan_id}:{uuid.uuid4().hex}"
        job = vault.queue_in(tx, area, action, scan_id, dict(wish), dedup_key=key, rule=by, now=now)
    if job is None:
        raise Transient("the same request is queued already")
    somebody = wait or is_anybody_at_work(vault)
    expected_at = _expected(vault, job, now) if action == "restore" and somebody else None
    if not wait:
        return Answer(job, expected_at=expected_at)
    if tell is not None and expected_at is not None:
        tell(expected_at)
    return replace(wait_for(vault, job, progress or (lambda _w, _d, _t: None)), expected_at=expected_at)


def _expected(vault: Vault, job: str, now: datetime) -> datetime | None:
    """Whatever keeps it from being worked out, the job is queued and will be done."""
    from tomovault.vault.expecting import tell_expected

    try:
        return tell_expected(vault, job, now)
    except (TomovaultError, OSError) as problem:
        log.info("when it will be over cannot be told", job=job, reason=str(problem))
        return None


def wait_for(vault: Vault, job: str, progress: Callable[[str, int, int], None], *, keep: bool = False) -> Answer:
    """The job is over. Done by the leading daemon if there is one, else by this process.

    Interrupted, what this process does is cancelled or, to `keep` it, left in the queue.
    """
    holder = holder_name(vault)
    with vault.catalogue.hold_life(holder) or contextlib.nullcontext():
        while True:
            if not _is_led(vault, holder) and take_lead(vault, holder):
                try:
                    return _do_it_here(vault, job, holder, progress, keep=keep)
                except _LeadLost:
                    continue  # whoever leads now does it
                finally:
                    with vault.catalogue.writing() as tx:
                        vault.catalogue.drop_lease(tx, LEADER, holder)
            answer = _ended(vault, job)
            if answer is not None:
                return answer
            with _cancelled_unless(vault, job, keep):
                _refuse_elsewhere(vault, job)
            progress("waiting for the daemon", 0, 0)
            time.sleep(_POLL_S)


def is_anybody_at_work(vault: Vault) -> bool:
    """Whether a daemon lives, or somebody leads, to take up what is queued."""
    return _is_led(vault, "")


def _is_led(vault: Vault, holder: str) -> bool:
    """Whether somebody leads, or a daemon lives and will: asked without a writer's lock, since this is asked often."""
    with vault.catalogue.reading() as tx:
        fellows = read_fellows(vault, tx)
    return fellows.leader not in (None, holder) or bool(fellows.daemons)


def take_lead(vault: Vault, holder: str) -> bool:
    """Whether this holder leads the site now; then nothing is left of leaders that died."""
    with vault.catalogue.writing() as tx:
        leads = bool(vault.catalogue.take_lease(tx, LEADER, holder, vault.site.lease_s))
    if leads:
        vault.catalogue.bury_the_dead()
    return leads


class _LeadLost(Exception):
    """Another took the lead: this process does nothing more by itself."""


class _Lead:
    """The lead of this process, for as long as it is kept up."""

    def __init__(self, vault: Vault, holder: str) -> None:
        self._vault = vault
        self._holder = holder
        self._renewed_at = time.monotonic()

    def keep(self) -> None:
        """The lead is ours; the catalogue is asked every third of the lease. Raises _LeadLost."""
        if time.monotonic() - self._renewed_at < self._vault.site.lease_s / 3:
            return
        self._renewed_at = time.monotonic()
        with self._vault.catalogue.writing() as tx:
            kept = self._vault.catalogue.renew_lease(tx, LEADER, self._holder, self._vault.site.lease_s)
        if not kept:
            raise _LeadLost


def _do_it_here(
    vault: Vault, job: str, holder: str, progress: Callable[[str, int, int], None], *, keep: bool
) -> Answer:
    """The job is over; interrupted, it is cancelled or to do again, and nothing of it is left half done.

    Raises _LeadLost where another took the lead meanwhile: the job is the other's.
    """
    foreman, lead = Foreman(vault, holder), _Lead(vault, holder)
    with _cancelled_unless(vault, job, keep):
        foreman.take_up_orphans()
        while (answer := _ended(vault, job)) is None:
            _refuse_elsewhere(vault, job)
            lead.keep()
            claimed = foreman.claim(datetime.now(UTC), actions=None, only=job)
            if claimed is None:
                progress("waiting for the next try", 0, 0)
                time.sleep(_POLL_S)
            elif (running := foreman.start(claimed)) is not None:
                _see_through(lead, foreman, running, progress)
    return answer


@contextlib.contextmanager
def _cancelled_unless(vault: Vault, job: str, keep: bool) -> Iterator[None]:
    """What ends this early cancels the job, unless it is to `keep` its place in the queue."""
    try:
        yield
    except _LeadLost:
        raise
    except BaseException:
        if not keep and _ended(vault, job) is None:
            _cancel(vault, job)
        raise


def _refuse_elsewhere(vault: Vault, job: str) -> None:
    """Raises Transient for a job of another machine's area where no daemon lives: nobody else can do it."""
    with vault.catalogue.reading() as tx:
        if not waits_for_host(tx, job, {vault.host, *read_fellows(vault, tx).daemons}):
            return
    raise Transient("the area belongs to another machine, where no daemon runs", hint="start `tomovault run` there")


def _see_through(lead: _Lead, foreman: Foreman, running: Running, progress: Callable[[str, int, int], None]) -> None:
    try:
        _watch(lead, running, progress)
    except BaseException:
        foreman.abandon(running)
        raise
    foreman.reap(running)


def _watch(lead: _Lead, running: Running, progress: Callable[[str, int, int], None]) -> None:
    while running.process.running():
        progress(running.claimed.action, *running.progress())
        time.sleep(0.05)
        lead.keep()


def _cancel(vault: Vault, job: str) -> None:
    with vault.catalogue.writing() as tx:
        vault.catalogue.cancel_job(tx, job, "the command that waited", datetime.now(UTC))


def _ended(vault: Vault, job: str) -> Answer | None:
    with vault.catalogue.reading() as tx:
        row = vault.catalogue.read_job(tx, job)
        given = vault.catalogue.read_job_result(tx, job)
        outcome = last_outcome(tx, job)
    if row.status in (JobStatus.TODO, JobStatus.DOING):
        return None
    return Answer(job, row.status, given, row.error, row.hint, outcome)


def raise_if_failed(answer: Answer) -> None:
    """The outcome of a job that was waited for, as the error of the family that ended it."""
    if answer.status is JobStatus.SUCCEEDED:
        return
    if answer.status is JobStatus.CANCELLED:
        raise Refused(f"job {answer.job} was cancelled", by="a person")
    message, hint = answer.error or "it ended without a word", answer.hint
    if answer.outcome == Outcome.REFUSED:
        raise Refused(message, by="", hint=hint)
    if answer.outcome == Outcome.DAMAGED:
        raise IntegrityError(message, hint=hint)
    if answer.outcome == Outcome.TRANSIENT:
        raise Transient(message, hint=hint)
    if answer.outcome == Outcome.DEFECT:
        raise TomovaultError(message, hint=hint or f"run/jobs has the log of {answer.job}")
    raise UserError(message, hint=hint)
