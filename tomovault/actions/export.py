"""export: a product is at a place outside of the site, sent there by a transfer service. Removes nothing of ours.

Each attempt looks at how far the transfer is and takes it one step further. The id of the submission is brought back
and recorded before anything is submitted under it; so whatever is killed, there is one task.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from tomovault.core.errors import Refused, SourceChanged, Transient
from tomovault.core.ports import Action, Bench
from tomovault.core.record import Outcome, Result, TransferRecord
from tomovault.core.transfer import (
    Item,
    Receipt,
    Sending,
    Task,
    TaskStatus,
    TransferFailed,
    TransferPlanned,
    TransferReceived,
    TransferService,
    TransferSubmitted,
)
from tomovault.core.wire import from_plain

#: An attempt looks at its task for so long, then it makes room for other work and comes back later.
_WATCH_S = 30.0
_FIRST_LOOK_S, _LOOKS_APART_S = 0.2, 5.0

#: A task meets these again and again until its deadline: what they say does not change by itself.
_HOPELESS = frozenset({"FILE_NOT_FOUND", "PERMISSION_DENIED", "QUOTA_EXCEEDED"})

#: So long after its deadline a task of which nothing is heard is given up.
_SILENCE = timedelta(days=1)


@dataclass(frozen=True)
class SourceFile:
    """A file of the package: where it is here, and in the source collection."""

    location: str
    source: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Order:
    """What to send where, and how far it is: with a `submission_id` it may be submitted, with a `task_id` it was."""

    transfer: str
    scan: str
    scan_name: str
    product: str
    digest: str
    files: tuple[SourceFile, ...]
    source_collection: str
    collection: str
    folder: str
    label: str
    deadline_s: float
    overwrite: bool = False
    submission_id: str | None = None
    task_id: str | None = None
    deadline: datetime | None = None


class Export:
    """See the module."""

    name: ClassVar[str] = "export"

    def perform(self, order: Mapping[str, Any], bench: Bench) -> Result:
        """One step further: an id to submit under, or, under one that is recorded, a task seen through to its receipt.

        A task that takes long is waited for, and looked at again later. Raises Refused where the destination has
        other files of these names, or may not be used; Transient before anything is under way.
        """
        wanted = from_plain(Order, dict(order))
        service = bench.transfers()
        bench.checkpoint("export.begin")
        manifest = _manifest(wanted)
        items = _items(wanted, manifest)
        if wanted.submission_id is None:
            return _plan(wanted, items, service, bench)
        _write(manifest, manifest_text(wanted))
        task_id = wanted.task_id or _submit(wanted, wanted.submission_id, items, service, bench)
        submitted = TransferSubmitted(wanted.transfer, wanted.submission_id, task_id, bench.now())
        result = _see_through(wanted, submitted, items, service, bench)
        if result.outcome is not Outcome.WAITING:
            Path(manifest.location).unlink(missing_ok=True)
            bench.checkpoint("export.done")
        return result


# --- what goes ---------------------------------------------------------------------------------------


def _manifest(wanted: Order) -> SourceFile:
    """The list of what is sent, as a file beside the package that is sent with it."""
    first = wanted.files[0]
    name = f".{wanted.transfer}.transfer.json"
    raw = manifest_text(wanted).encode("utf-8")
    return SourceFile(
        location=str(Path(first.location).with_name(name)),
        source=str(PurePosixPath(first.source).with_name(name)),
        size=len(raw),
        sha256=hashlib.sha256(raw).hexdigest(),
    )


def _write(manifest: SourceFile, text: str) -> None:
    """The list stands there, whole; one that a task may be reading is left alone."""
    location = Path(manifest.location)
    if location.exists() and location.read_text("utf-8") == text:
        return
    temporary = location.with_name(f"{location.name}.part")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(location)


def manifest_text(wanted: Order) -> str:
    """What is sent, for whoever finds it: names, sizes and sha256 of the files, and of which product they are."""
    told = {
        "tomovault_transfer": 1,
        "scan": wanted.scan_name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace"),
        "scan_id": wanted.scan,
        "product": wanted.product,
        "digest": wanted.digest,
        "files": [{"name": os.path.basename(f.location), "size": f.size, "sha256": f.sha256} for f in wanted.files],
    }
    return json.dumps(told, indent=1) + "\n"


def manifest_name(wanted: Order) -> str:
    """The name of the manifest at the destination."""
    return os.path.basename(wanted.files[0].location) + ".transfer.json"


def _items(wanted: Order, manifest: SourceFile) -> tuple[Item, ...]:
    folder = PurePosixPath(wanted.folder)
    sent = [Item(f.source, str(folder / os.path.basename(f.location)), f.size, f.sha256) for f in wanted.files]
    last = Item(manifest.source, str(folder / manifest_name(wanted)), manifest.size, manifest.sha256)
    return (*sent, last)


# --- before it is under way --------------------------------------------------------------------------


def _plan(wanted: Order, items: Sequence[Item], service: TransferService, bench: Bench) -> Result:
    for file in wanted.files:
        size = os.stat(file.location).st_size
        if size != file.size:
            raise SourceChanged(f"{file.location} has {size} bytes, and was verified with {file.size}")
    if not wanted.overwrite:
        _refuse_others(wanted, items, service)
    submission = service.new_submission()
    bench.checkpoint("export.planned")
    deadline = bench.now() + timedelta(seconds=wanted.deadline_s)
    record = TransferPlanned(wanted.transfer, submission, deadline)
    return Result(Outcome.WAITING, (record,), at_once=True)


def _refuse_others(wanted: Order, items: Sequence[Item], service: TransferService) -> None:
    """Raises Refused where a file would be overwritten that is not of the size of ours."""
    there = service.listing(wanted.collection, wanted.folder) or {}
    for item in items:
        name = os.path.basename(item.destination)
        if name in there and there[name] != item.size:
            raise Refused(
                f"{item.destination} is there already, with {there[name]} bytes instead of {item.size}",
                by="no overwriting",
                hint="choose another folder, or say --overwrite",
            )


def _submit(wanted: Order, submission: str, items: Sequence[Item], service: TransferService, bench: Bench) -> str:
    """The id of the one task of this submission, a new one or that of an earlier attempt."""
    bench.checkpoint("export.submit")
    task_id = service.submit(
        Sending(
            submission_id=submission,
            source_collection=wanted.source_collection,
            collection=wanted.collection,
            items=tuple(items),
            label=wanted.label,
            deadline=wanted.deadline or bench.now() + timedelta(seconds=wanted.deadline_s),
        )
    )
    bench.checkpoint("export.submitted")
    return task_id


# --- while it is under way ---------------------------------------------------------------------------


def _see_through(
    wanted: Order, submitted: TransferSubmitted, items: Sequence[Item], service: TransferService, bench: Bench
) -> Result:
    """How the task ended, or that it is waited for. A task under way outlives every trouble on the way to it."""
    try:
        return _watch(wanted, submitted, items, service, bench)
    except (Transient, Refused) as problem:
        if wanted.deadline is not None and bench.now() > wanted.deadline + _SILENCE:
            failed = f"nothing was heard of the task since its deadline: {problem.message}"
            return _failed(submitted, failed, bench, Outcome.TRANSIENT)
        told = f"task {submitted.task_id} goes on unseen: {problem.message}"
        return Result(Outcome.WAITING, (submitted,), error=told, hint=problem.hint)


def _watch(
    wanted: Order, submitted: TransferSubmitted, items: Sequence[Item], service: TransferService, bench: Bench
) -> Result:
    total = sum(item.size for item in items)
    begun, pause = time.monotonic(), _FIRST_LOOK_S
    faults = 0
    while True:
        task = service.task(submitted.task_id)
        bench.checkpoint("export.seen")
        if task is None:
            told = "the service does not know the task any more, and what is at the destination is not proved"
            return _failed(submitted, told, bench, Outcome.TRANSIENT)
        bench.progress(min(task.bytes_transferred, total), total)
        if task.status is TaskStatus.SUCCEEDED:
            return _judge(wanted, submitted, task, items, service, bench)
        if task.status is TaskStatus.FAILED:
            told = f"task {task.id} failed: {task.reason or 'without a reason'}"
            return _failed(submitted, told, bench, Outcome.TRANSIENT)
        if task.faults > faults or task.code in _HOPELESS:
            faults = task.faults
            if hopeless := _hopeless(task, service):
                service.cancel(task.id)
                return _failed(submitted, f"task {task.id} was cancelled: {hopeless}", bench, Outcome.REFUSED)
        if task.paused or task.status is TaskStatus.INACTIVE or time.monotonic() - begun > _WATCH_S:
            return Result(Outcome.WAITING, (submitted,), error=_why_waiting(task))
        time.sleep(pause)
        pause = min(pause * 1.5, _LOOKS_APART_S)


def _why_waiting(task: Task) -> str:
    if task.paused:
        return f"task {task.id} is paused: {task.reason or 'by the collection'}"
    if task.status is TaskStatus.INACTIVE:
        return f"task {task.id} waits for somebody to log in at the service: {task.reason}".rstrip(": ")
    return f"task {task.id} met {task.faults} faults so far: {task.reason}" if task.reason else ""


def _hopeless(task: Task, service: TransferService) -> str:
    """What the task meets that does not change by itself; '' if there is nothing of that kind."""
    known = next((f.text for f in service.faults(task.id) if f.code in _HOPELESS), "")
    return known or (task.reason or task.code if task.code in _HOPELESS else "")


def _failed(submitted: TransferSubmitted, reason: str, bench: Bench, outcome: Outcome) -> Result:
    record = TransferFailed(submitted.transfer, submitted.submission_id, submitted.task_id, reason, bench.now())
    records: tuple[TransferRecord, ...] = (submitted, record)
    return Result(outcome, records, error=reason)


# --- once it says that it is over --------------------------------------------------------------------


def _judge(
    wanted: Order,
    submitted: TransferSubmitted,
    task: Task,
    items: Sequence[Item],
    service: TransferService,
    bench: Bench,
) -> Result:
    """The receipt, where the task's own account and the destination agree with the manifest."""
    delivered = service.delivered(task.id)
    there = service.listing(wanted.collection, wanted.folder)
    if problem := account_problem(task, items, delivered) or listing_problem(items, there):
        told = f"task {task.id} says that it succeeded, but {problem}"
        return _failed(submitted, told, bench, Outcome.DAMAGED)
    bench.checkpoint("export.judged")
    receipt = Receipt(
        task_id=task.id,
        source_collection=wanted.source_collection,
        collection=wanted.collection,
        folder=wanted.folder,
        digest=wanted.digest,
        names=tuple(os.path.basename(item.destination) for item in items),
        bytes=sum(item.size for item in items),
        faults=task.faults,
        requested_at=task.requested_at,
        completed_at=task.completed_at,
        judged_at=bench.now(),
    )
    received = TransferReceived(submitted.transfer, submitted.submission_id, receipt)
    return Result(Outcome.SUCCEEDED, (submitted, received))


def account_problem(task: Task, items: Sequence[Item], delivered: Sequence[str]) -> str:
    """What is wrong with a task's own account of it; '' if nothing is."""
    if task.files_skipped:
        return f"it skipped {task.files_skipped} files"
    if (task.files, task.files_transferred) != (len(items), len(items)):
        return f"it transferred {task.files_transferred} of {task.files} files, and {len(items)} were sent"
    total = sum(item.size for item in items)
    if task.bytes_transferred < total:
        return f"it moved {task.bytes_transferred} bytes of {total}"
    lacking = {item.destination for item in items} - set(delivered)
    return f"it does not list {sorted(lacking)[0]} as delivered" if lacking else ""


def listing_problem(items: Sequence[Item], there: Mapping[str, int] | None) -> str:
    """What is wrong with the destination; '' if every file is there with its size."""
    if there is None:
        return "there is no such folder at the destination"
    for item in items:
        name = os.path.basename(item.destination)
        if name not in there:
            return f"{item.destination} is not there"
        if there[name] != item.size:
            return f"{item.destination} has {there[name]} bytes instead of {item.size}"
    return ""


PLUGIN: type[Action] = Export
