"""Carrying out queued jobs: claim, order, process, record. The daemon keeps many going, a waiting command one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from tomovault.catalog.recalls import TAPED
from tomovault.catalog.work import Claim, last_attempts, list_claims
from tomovault.core.errors import TomovaultError, Transient
from tomovault.core.known import Job, JobStatus, KnownScan, RemovalPhase
from tomovault.core.life import REMOVALS
from tomovault.core.record import RECORD_TYPES, Outcome, Result
from tomovault.core.wire import from_plain
from tomovault.executors.local import LocalJob, start_job
from tomovault.vault.admission import LIBRARIES_BYTES, memory_of
from tomovault.vault.checkpoints import checkpoint
from tomovault.vault.deeds import tell_of_job
from tomovault.vault.job import result_of_failure
from tomovault.vault.job_folder import ORDER, PROGRESS, RESULT, write_json
from tomovault.vault.notices import post_failure
from tomovault.vault.orders import build_order
from tomovault.vault.recalls import Recalls, Turn
from tomovault.vault.requests import Moot, Request
from tomovault.vault.vault import Vault

if TYPE_CHECKING:
    from tomovault.catalog.jobs import ClaimedJob

log = structlog.get_logger(__name__)

#: Actions whose order is complete when they are queued.
_READY_MADE = frozenset({"inspect"})

#: A job whose daemon dies with it is given up after so many times the attempts of a site: the daemon may have been
#: killed by a person, or by another job, and that a few times in a row.
_DEATHS = 5


@dataclass
class Running:
    """A job whose process was started."""

    claimed: ClaimedJob
    process: LocalJob
    scan_name: str
    started_at: datetime

    def progress(self) -> tuple[int, int]:
        """(done, total) as last told; (0, 0) before anything was, and where it cannot be read: it is for the eye."""
        try:
            told = json.loads((self.process.folder / PROGRESS).read_text("utf-8"))
            return int(told["done"]), int(told["total"])
        except (OSError, ValueError, KeyError, TypeError):
            return (0, 0)


class Foreman:
    """Runs jobs for one holder of claims."""

    def __init__(self, vault: Vault, holder: str) -> None:
        self.vault = vault
        self.holder = holder
        #: Whether jobs that are bound to no machine are for this holder.
        self.leads = True
        #: Jobs that failed for good, at whatever point, since this foreman began.
        self.failed = 0
        self._memory: dict[str, int] = {}
        self._recalls = Recalls(vault)

    def claim(
        self,
        now: datetime,
        *,
        actions: frozenset[str] | None,
        only: str | None = None,
        skip_places: Collection[str] = (),
    ) -> ClaimedJob | None:
        """A job that is ours now, or None.

        None, too, while the next one would take what runs over `jobs.memory`: it is not passed by, or a large one
        would never have its turn. One that needs more than that by itself runs alone. What holds no frames waits for
        no memory.
        """
        catalogue = self.vault.catalogue
        with catalogue.reading() as tx:
            waiting, turn = self._next(tx, now, actions, only, skip_places)
            if waiting is None:
                return None
            needed = memory_of(waiting.action, self._known(tx, waiting.scan))
        holds_frames = needed > LIBRARIES_BYTES
        held = sum(self._memory.values())
        if holds_frames and held and held + needed > self.vault.site.jobs.memory_bytes:
            return None
        with catalogue.writing() as tx:
            claimed = catalogue.claim_job(
                tx, self.holder, now=now, host=self.vault.host, only=waiting.id, unbound=self.leads
            )
        if claimed is not None:
            self._memory[claimed.attempt] = needed if holds_frames else 0
            if turn is not None:
                self._recalls.begin(turn, now)
            checkpoint("daemon.claimed")
        return claimed

    def _next(
        self,
        tx: Any,
        now: datetime,
        actions: frozenset[str] | None,
        only: str | None,
        skip_places: Collection[str],
    ) -> tuple[Job | None, Turn | None]:
        """The job that waited longest, and its turn at a drive if it needs one. In the place of the oldest that needs
        a drive stands the one whose turn it is; while no drive is free, those behind come before them.
        """
        catalogue, host, unbound = self.vault.catalogue, self.vault.host, self.leads
        first = catalogue.next_claimable(
            tx, now=now, actions=actions, skip_places=skip_places, host=host, only=only, unbound=unbound
        )
        if first is None or only is not None or actions is None or first.action not in TAPED or first.scan is None:
            return first, None
        if not self._recalls.libraries:
            return first, None
        found: list[Job] = []
        if not self._recalls.rests(now, actions=actions, skip_places=skip_places, unbound=unbound):
            line = self._recalls.look(tx, now, actions=actions, skip_places=skip_places, unbound=unbound)
            if not line.oldest_needs_drive:
                return first, None
            if line.turn is not None:
                return catalogue.read_job(tx, line.turn.job), line.turn
            found += [catalogue.read_job(tx, job) for job in (line.without_drive,) if job is not None]
        behind = catalogue.next_claimable(
            tx, now=now, actions=actions - TAPED, skip_places=skip_places, host=host, unbound=unbound
        )
        found += [behind] if behind is not None else []
        return min(found, key=lambda job: (job.queued_at, job.id), default=None), None

    def _known(self, tx: Any, scan: str | None) -> KnownScan | None:
        """What is known of a job's scan; None, too, for one that cannot be read: no order can be made."""
        try:
            return self.vault.catalogue.known(tx, scan) if scan else None
        except (Transient, OSError):
            raise
        except Exception:
            log.exception("a scan cannot be read", scan=scan)
            return None

    def start(self, claimed: ClaimedJob) -> Running | None:
        """The job's process runs, or None where it ended before it began (moot, refused, not now)."""
        running = None
        try:
            running = self._start(claimed)
        finally:
            if running is None:
                self._forget(claimed)
        return running

    def _forget(self, claimed: ClaimedJob) -> None:
        """A job takes no memory and no drive any more."""
        self._memory.pop(claimed.attempt, None)
        self._recalls.end(claimed.id, datetime.now(UTC))

    def _start(self, claimed: ClaimedJob) -> Running | None:
        now = datetime.now(UTC)
        try:
            order, scan_name = self._order(claimed, now)
        except Moot as moot:
            self._end(claimed, Result(Outcome.SUCCEEDED, error=moot.message))
            return None
        except Exception as problem:  # one job's defect must not end the daemon
            if not isinstance(problem, (TomovaultError, OSError)):
                log.exception("no order could be made", job=claimed.id, action=claimed.action)
            self._end(claimed, result_of_failure(problem))
            return None
        folder = self._jobs / claimed.attempt
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_json(
                folder / ORDER,
                {
                    "action": claimed.action,
                    "order": order,
                    "site": str(self.vault.site.folder),
                    "job": claimed.id,
                    "attempt": claimed.attempt,
                    "token": claimed.token,
                    "drive": self._recalls.drive(claimed.id),
                },
            )
            checkpoint("daemon.ordered")
            process = start_job(folder)
        except OSError as problem:
            self._end(claimed, result_of_failure(Transient(f"no process can be started: {problem}")))
            return None
        checkpoint("daemon.started")
        log.info("job started", job=claimed.id, action=claimed.action, scan=scan_name, attempt=claimed.number)
        return Running(claimed, process, scan_name, now)

    @property
    def _jobs(self) -> Path:
        return self.vault.run_folder / "jobs"

    def _order(self, claimed: ClaimedJob, now: datetime) -> tuple[dict[str, Any], str]:
        if claimed.action in _READY_MADE:
            return dict(claimed.order), claimed.place
        catalogue = self.vault.catalogue
        with catalogue.writing() if claimed.action in REMOVALS else catalogue.reading() as tx:
            if claimed.scan is None:
                raise Moot("it belongs to no scan")
            scan = catalogue.known(tx, claimed.scan)
            self.vault.area(scan.area)
            begins = self._recalls.begins(claimed.id)
            request = Request(self.vault, tx, scan, claimed.order, now, claimed.rule, begins)
            return build_order(claimed.action, request), scan.name

    def reap(self, running: Running) -> Result:
        """What a finished process brought back is recorded; its folder stays only if the job has failed."""
        result = read_result(running.process.folder)
        if result is None:
            how = running.process.ended_how()
            result = Result(Outcome.TRANSIENT, error=f"the job process {how}", hint=_tail(running.process.folder))
        checkpoint("daemon.reaped")
        status = self._end(running.claimed, result)
        self._forget(running.claimed)
        checkpoint("daemon.recorded")
        if status is not JobStatus.FAILED:
            shutil.rmtree(running.process.folder, ignore_errors=True)
        return result

    def has(self, running: Running) -> bool:
        """Whether the job is still this holder's, under the claim that it was started with (law 7)."""
        with self.vault.catalogue.reading() as tx:
            return self.vault.catalogue.token_is_current(tx, running.claimed.id, running.claimed.token)

    def abandon(self, running: Running) -> None:
        """The process is over, or has been killed and hangs, and the job is as if it had not been tried."""
        if not running.process.stop():
            log.warning("a job's process hangs in the kernel and is left to it", job=running.claimed.id)
        self._forget(running.claimed)
        result = read_result(running.process.folder)
        status = JobStatus.TODO
        if result is not None:
            status = self._end(running.claimed, result)
        else:
            catalogue = self.vault.catalogue
            with catalogue.writing() as tx:
                if catalogue.token_is_current(tx, running.claimed.id, running.claimed.token):
                    catalogue.release_job(tx, running.claimed.id, running.claimed.token, datetime.now(UTC))
        if status is not JobStatus.FAILED:
            shutil.rmtree(running.process.folder, ignore_errors=True)

    def take_up_orphans(self) -> int:
        """Jobs of holders that are not there any more: what they had finished is recorded, the rest queued again, or
        failed where their daemon has died with them too often.

        Only the leader may call this: whoever else holds a claim and no lease is then known to be dead.
        """
        catalogue = self.vault.catalogue
        now = datetime.now(UTC)
        claims = self.list_orphans()
        for claim in claims:
            result = read_result(self._jobs / claim.job.attempt)
            if result is not None:
                self._end(claim.job, result)
        with catalogue.writing() as tx:
            alive = {self.holder, *catalogue.list_leases(tx).values()}
            doing = {claim.job.id: claim.job for claim in list_claims(tx)}
            most = _DEATHS * self.vault.site.retries.attempts
            lost = catalogue.requeue_orphans(tx, lambda holder: holder in alive, now, most)
            given_up = [doing[job] for job in lost if catalogue.read_job(tx, job).status is JobStatus.FAILED]
            for job in given_up:
                if job.action == "prune":
                    self._take_back(tx, job, now)
                post_failure(self.vault, tx, job.id, job.place, now)
        self.failed += len(given_up)
        if claims:
            log.info("jobs of an earlier daemon taken up", jobs=len(claims), again=len(lost) - len(given_up))
        for job in given_up:
            log.error("job given up", job=job.id, action=job.action, attempts=job.number)
        self._sweep_folders()
        return len(claims)

    def list_orphans(self) -> list[Claim]:
        """Claims of holders that hold no lease any more."""
        with self.vault.catalogue.reading() as tx:
            claims = [c for c in list_claims(tx) if c.holder != self.holder]
            alive = frozenset(self.vault.catalogue.list_leases(tx).values()) if claims else frozenset()
        return [c for c in claims if c.holder not in alive]

    def _sweep_folders(self) -> None:
        """Folders of jobs that nobody does now are gone, but for those of failed ones, which hold the log."""
        if not self._jobs.is_dir():
            return
        # Listed first: a folder is made after its claim, so whatever is here and done now is known as such below.
        folders = [folder for folder in self._jobs.iterdir() if folder.is_dir()]
        wanted = (JobStatus.DOING, JobStatus.FAILED)
        with self.vault.catalogue.reading() as tx:
            kept = {attempt for attempt, status in last_attempts(tx) if status in wanted}
        for folder in folders:
            if folder.name not in kept:
                shutil.rmtree(folder, ignore_errors=True)

    def _end(self, claimed: ClaimedJob, result: Result) -> JobStatus:
        """How the job ended is recorded; it has failed where the catalogue refuses what it brought."""
        status = self._record_or_refuse(claimed, result)
        self.failed += status is JobStatus.FAILED
        return status

    def _record_or_refuse(self, claimed: ClaimedJob, result: Result) -> JobStatus:
        try:
            return self._record(claimed, result)
        except (Transient, OSError):
            raise
        except Exception as problem:  # one job's defect must not end the daemon
            if not isinstance(problem, TomovaultError):
                log.exception("a result could not be recorded", job=claimed.id, action=claimed.action)
            failure = result_of_failure(problem)
            return self._record(claimed, replace(failure, error=f"what it brought is refused: {failure.error}"))

    def _record(self, claimed: ClaimedJob, result: Result) -> JobStatus:
        retries = self.vault.site.retries
        catalogue = self.vault.catalogue
        now = datetime.now(UTC)
        with catalogue.writing() as tx:
            if not catalogue.token_is_current(tx, claimed.id, claimed.token):
                log.warning("job was cancelled or taken over", job=claimed.id, action=claimed.action)
                return catalogue.read_job(tx, claimed.id).status
            status = catalogue.finish_job(
                tx,
                claimed.id,
                claimed.token,
                result,
                now=now,
                retry_after_s=max(
                    result.pause_s, min(retries.after_s * 2 ** max(0, claimed.number - 1), retries.most_s)
                ),
                max_attempts=retries.attempts,
                whose=self.vault.whose_in(claimed.place),
            )
            if claimed.action == "prune" and status is not JobStatus.TODO:
                self._take_back(tx, claimed, now)
            if status is JobStatus.FAILED:
                post_failure(self.vault, tx, claimed.id, claimed.place, now)
            tell_of_job(self.vault, tx, claimed, result, now)
        told = {"job": claimed.id, "action": claimed.action, "outcome": result.outcome.value}
        if result.outcome is Outcome.SUCCEEDED:
            log.info("job ended", **told, **({"note": result.error} if result.error else {}))
        else:
            log.warning("job ended", **told, error=result.error, hint=result.hint)
        return status

    def _take_back(self, tx: Any, claimed: ClaimedJob, now: datetime) -> None:
        """A removal that ended before its first phase was over is undone: files may be in quarantine already."""
        catalogue = self.vault.catalogue
        if claimed.scan is None:
            return
        permits = {p.id: p for p in catalogue.known(tx, claimed.scan).permits}
        permit = permits.get(str(claimed.order.get("permit")))
        if permit is not None and permit.phase is RemovalPhase.GRANTED:
            catalogue.queue_job(
                tx,
                "undo_prune",
                claimed.scan,
                {"permit": permit.id},
                dedup_key=f"undo_prune:{permit.id}:{claimed.id}",
                rule=claimed.rule,
                now=now,
                place=claimed.place,
                host=claimed.host,
            )


def read_result(folder: Path) -> Result | None:
    """The result that a job wrote; None if it wrote none."""
    try:
        plain = json.loads((folder / RESULT).read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError:
        return Result(Outcome.TRANSIENT, error="the job's result file cannot be read")
    try:
        return result_from_plain(plain)
    except (KeyError, TypeError, ValueError) as problem:
        return Result(Outcome.DEFECT, error=f"the job's result file makes no sense: {problem}")


def result_from_plain(plain: Mapping[str, Any]) -> Result:
    """The inverse of `tomovault.vault.job.result_to_plain`."""
    records: tuple[Any, ...] = tuple(from_plain(RECORD_TYPES[r["type"]], r["record"]) for r in plain["records"])
    return Result(
        outcome=Outcome(plain["outcome"]),
        records=records,
        error=plain["error"],
        hint=plain["hint"],
        peak_bytes=plain["peak_bytes"],
        cpu_s=plain["cpu_s"],
        at_once=plain.get("at_once", False),
        pause_s=plain.get("pause_s", 0.0),
    )


def _tail(folder: Path) -> str:
    try:
        lines = (folder / "log.txt").read_text("utf-8", "replace").strip().splitlines()
    except OSError:
        return ""
    return lines[-1][:300] if lines else ""
