"""Tasks of the local Transfer service: files really copied between folders that stand for collections.

What can go wrong at Globus can be made to go wrong here, by name; see `FAULTS`.
"""

from __future__ import annotations

import hashlib
import os
import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

#: Every fault that can be injected, and what it does.
FAULTS: Mapping[str, str] = {
    "slow": "files are copied at 64 kB a second",
    "missing": "the first file of a task cannot be found; the task goes on and retries, as at Globus",
    "permission": "the destination may not be written; the task goes on and retries",
    "paused": "tasks are paused by the administrator of the collection",
    "expire": "a task is over its deadline at once",
    "corrupt": "the first copy of each file has a wrong byte, and is made again",
    "rot": "the last file of a task has a wrong byte after everything was verified",
    "lose": "the last file of a task is not there any more after everything was verified",
    "skip": "a task ends well with one file skipped",
    "drop": "the connection breaks between a submission and its answer, each time for a new task",
    "busy": "every request is answered with 503",
    "denied": "every listing is denied",
    "consent": "every submission needs a consent that was not given",
    "login": "no token is accepted",
    "forget": "tasks are not known any more",
}

_SLOW_BPS = 64_000
_BLOCK = 16_000
_RETRY_S = 0.2


@dataclass
class SimTask:
    """One task, as its document tells it."""

    id: str
    submission: Mapping[str, Any]
    requested: datetime
    status: str = "ACTIVE"
    nice: str = "Queued"
    fatal: Mapping[str, str] | None = None
    completed: datetime | None = None
    done: list[Mapping[str, str]] = field(default_factory=list)
    skipped: int = 0
    bytes: int = 0
    faults: int = 0
    paused: bool = False
    events: list[Mapping[str, Any]] = field(default_factory=list)
    cancelled: threading.Event = field(default_factory=threading.Event)

    def document(self) -> dict[str, Any]:
        """The task document of the Transfer API."""
        return {
            "DATA_TYPE": "task",
            "task_id": self.id,
            "type": "TRANSFER",
            "status": self.status,
            "label": self.submission.get("label"),
            "source_endpoint_id": self.submission["source_endpoint"],
            "destination_endpoint_id": self.submission["destination_endpoint"],
            "verify_checksum": bool(self.submission.get("verify_checksum")),
            "files": len(self.submission["DATA"]),
            "files_transferred": len(self.done),
            "files_skipped": self.skipped,
            "bytes_transferred": self.bytes,
            "faults": self.faults,
            "is_paused": self.paused,
            "nice_status": self.nice,
            "nice_status_short_description": self.nice,
            "fatal_error": self.fatal,
            "request_time": self.requested.isoformat(),
            "completion_time": self.completed.isoformat() if self.completed else None,
            "deadline": self.submission.get("deadline"),
        }

    def note(self, code: str, text: str, *, error: bool) -> None:
        """An event is in the task's list, the newest first."""
        self.faults += error
        now = datetime.now(UTC).isoformat()
        self.events.insert(
            0,
            {
                "DATA_TYPE": "event",
                "code": code,
                "description": text,
                "details": text,
                "is_error": error,
                "time": now,
            },
        )

    def end(self, status: str, *, code: str = "", text: str = "") -> None:
        """The task is over."""
        if code:
            self.fatal = {"DATA_TYPE": "fatal_error", "code": code, "description": text}
        self.nice = "OK" if status == "SUCCEEDED" else code
        self.completed = datetime.now(UTC)
        self.note(code or status, text or status, error=bool(code))
        self.paused = False
        self.status = status


class Tasks:
    """The tasks of one service. `faults` are the faults that happen now."""

    def __init__(self, collections: Mapping[str, Path], faults: set[str]) -> None:
        self.collections = collections
        self.faults = faults
        self.lock = threading.Lock()
        self.by_id: dict[str, SimTask] = {}
        self.by_submission: dict[str, SimTask] = {}
        self._threads: list[threading.Thread] = []

    def submit(self, submission: Mapping[str, Any]) -> tuple[SimTask, bool]:
        """The task of a submission, and whether it is a new one: the same submission id twice is one task."""
        key = str(submission["submission_id"])
        with self.lock:
            if key in self.by_submission:
                return self.by_submission[key], False
            task = SimTask(str(uuid.uuid4()), submission, datetime.now(UTC))
            self.by_id[task.id] = self.by_submission[key] = task
        thread = threading.Thread(target=self._carry_out, args=[task], name=f"task {task.id}", daemon=True)
        self._threads.append(thread)
        thread.start()
        return task, True

    def stop(self) -> None:
        """No task runs any more."""
        for task in self.by_id.values():
            task.cancelled.set()
        for thread in self._threads:
            thread.join()

    def place(self, collection: str, path: str) -> Path:
        """Where a path of a collection is on this machine. Raises PermissionError for one that leaves it."""
        if ".." in path.split("/") or not path.startswith("/"):
            raise PermissionError(path)
        return self.collections[collection] / path.lstrip("/")

    # --- what a task does ------------------------------------------------------------------------

    def _carry_out(self, task: SimTask) -> None:
        items = list(task.submission["DATA"])
        task.note("STARTED", "started", error=False)
        for number, item in enumerate(items):
            if not self._deliver(task, item, first=number == 0, last=number == len(items) - 1):
                return
        task.end("SUCCEEDED")

    def _deliver(self, task: SimTask, item: Mapping[str, Any], *, first: bool, last: bool) -> bool:
        """One file is at its destination and verified; False if the task has ended instead."""
        if last and "skip" in self.faults:
            task.skipped += 1
            return True
        while not self._is_over(task):
            code, text = self._try(task, item, first=first)
            if not code:
                names = {"source_path": item["source_path"], "destination_path": item["destination_path"]}
                task.done.append({"DATA_TYPE": "successful_transfer", **names})
                if last:
                    self._spoil(task, item)
                return True
            if code == "FATAL":
                task.note("VERIFY_CHECKSUM", text, error=True)
                task.end("FAILED", code="VERIFY_CHECKSUM", text=text)
                return False
            if task.nice != code or code == "VERIFY_CHECKSUM":
                task.note(code, text, error=code != "PAUSED_BY_ADMIN")
            task.nice, task.paused = code, code == "PAUSED_BY_ADMIN"
            task.cancelled.wait(_RETRY_S)
        return False

    def _is_over(self, task: SimTask) -> bool:
        if task.cancelled.is_set():
            if task.status == "ACTIVE":
                task.end("FAILED", code="CANCELED", text="cancelled by the owner of the task")
            return True
        deadline = task.submission.get("deadline")
        late = deadline is not None and datetime.now(UTC) > _moment(deadline)
        if late or "expire" in self.faults:
            task.end("FAILED", code="EXPIRED", text="the task was not done by its deadline")
            return True
        return False

    def _try(self, task: SimTask, item: Mapping[str, Any], *, first: bool) -> tuple[str, str]:
        """('', '') once the file is there, ('FATAL', why) if it can never be, else a code and text to try again."""
        source = self.place(task.submission["source_endpoint"], item["source_path"])
        target = self.place(task.submission["destination_endpoint"], item["destination_path"])
        if "paused" in self.faults:
            return "PAUSED_BY_ADMIN", "the administrator of the collection has paused it"
        if "permission" in self.faults:
            return "PERMISSION_DENIED", f"{item['destination_path']}: permission denied"
        if (first and "missing" in self.faults) or not source.is_file():
            return "FILE_NOT_FOUND", f"{item['source_path']}: no such file"
        task.nice, task.paused = "OK", False
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            spoilt = "corrupt" in self.faults and not task.faults
            if not self._copy(task, source, target, spoil=spoilt):
                return "CANCELED", "cancelled"
        except OSError as problem:
            return "PERMISSION_DENIED", f"{item['destination_path']}: {problem.strerror}"
        return self._verify(task, item, source, target)

    def _copy(self, task: SimTask, source: Path, target: Path, *, spoil: bool) -> bool:
        with source.open("rb") as read, target.open("wb") as written:
            while block := read.read(_BLOCK):
                written.write(bytes([block[0] ^ 1]) + block[1:] if spoil else block)
                task.bytes += len(block)
                if "slow" in self.faults:
                    task.cancelled.wait(len(block) / _SLOW_BPS)
                if task.cancelled.is_set():
                    return False
        return True

    def _verify(self, task: SimTask, item: Mapping[str, Any], source: Path, target: Path) -> tuple[str, str]:
        if not task.submission.get("verify_checksum"):
            return "", ""
        algorithm = str(item.get("checksum_algorithm") or "MD5").lower()
        found = [hashlib.new(algorithm, path.read_bytes()).hexdigest() for path in (source, target)]
        wanted = item.get("external_checksum")
        if wanted is not None and found[0] != wanted:
            return "FATAL", f"{item['source_path']} has not the checksum that was given"
        if found[0] != found[1]:
            return "VERIFY_CHECKSUM", f"{item['destination_path']}: the checksums differ"
        return "", ""

    def _spoil(self, task: SimTask, item: Mapping[str, Any]) -> None:
        target = self.place(task.submission["destination_endpoint"], item["destination_path"])
        if "rot" in self.faults:
            os.truncate(target, target.stat().st_size - 1)
        if "lose" in self.faults:
            target.unlink()


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
