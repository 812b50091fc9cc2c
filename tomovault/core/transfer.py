"""Giving a product to another place through a transfer service: what was asked, what is under way, what was received.

The service has the last word on what it does, and is never believed alone: a receipt is written only once its task
and the destination itself agree with what was sent.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from tomovault.core.replica import ProductKind


class TransferState(enum.StrEnum):
    """How far a transfer is: asked for, an id committed to submit it under, submitted, over."""

    ASKED = "asked"
    PLANNED = "planned"
    SUBMITTED = "submitted"
    SUCCEEDED = "succeeded"
    FAILED = "failed"

    @property
    def over(self) -> bool:
        """Nothing more happens to it by itself."""
        return self in (TransferState.SUCCEEDED, TransferState.FAILED)


@dataclass(frozen=True)
class Receipt:
    """What was proved of a transfer: the task's own account, and the destination's listing at `judged_at`.

    `digest` is that of the product which was sent; `names` are the files in the folder `folder` of the destination.
    """

    task_id: str
    source_collection: str
    collection: str
    folder: str
    digest: str
    names: tuple[str, ...]
    bytes: int
    faults: int
    requested_at: datetime | None
    completed_at: datetime | None
    judged_at: datetime


@dataclass(frozen=True)
class Transfer:
    """A transfer that a person, or a rule, which is cited, asked for. `collection` and `path` are its destination."""

    id: str
    product: ProductKind
    digest: str
    collection: str
    path: str
    state: TransferState
    asked_by: str
    asked_at: datetime
    submission_id: str | None = None
    task_id: str | None = None
    deadline: datetime | None = None
    submitted_at: datetime | None = None
    finished_at: datetime | None = None
    error: str = ""
    receipt: Receipt | None = None


# --- facts that a job brings back --------------------------------------------------------------------


@dataclass(frozen=True)
class TransferPlanned:
    """An id to submit the transfer under; nothing was submitted yet. Once this is recorded it may be, and however
    often it is, there will be one task of that id.
    """

    transfer: str
    submission_id: str
    deadline: datetime


@dataclass(frozen=True)
class TransferSubmitted:
    """The service has accepted the submission as this task."""

    transfer: str
    submission_id: str
    task_id: str
    at: datetime


@dataclass(frozen=True)
class TransferReceived:
    """Everything is at its destination."""

    transfer: str
    submission_id: str
    receipt: Receipt


@dataclass(frozen=True)
class TransferFailed:
    """The task of a submission came to nothing. The next attempt is a new submission."""

    transfer: str
    submission_id: str
    task_id: str
    reason: str
    at: datetime


# --- what is asked of a service ----------------------------------------------------------------------


@dataclass(frozen=True)
class Item:
    """One file to send, by its absolute paths in the two collections, with the sha256 that both must have."""

    source: str
    destination: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Sending:
    """A submission. The same `submission_id` twice is one task."""

    submission_id: str
    source_collection: str
    collection: str
    items: tuple[Item, ...]
    label: str
    deadline: datetime


class TaskStatus(enum.StrEnum):
    """As the service says it. An inactive task waits for a person to renew what it runs with."""

    ACTIVE = "ACTIVE"
    INACTIVE = "INACTIVE"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"


@dataclass(frozen=True)
class Task:
    """A task as the service tells it. `code` is its word for what the task meets now, and `reason` says why it does not
    go on, or why it failed; both are '' where all is well.
    """

    id: str
    status: TaskStatus
    files: int
    files_transferred: int
    files_skipped: int
    bytes_transferred: int
    faults: int
    paused: bool = False
    code: str = ""
    reason: str = ""
    requested_at: datetime | None = None
    completed_at: datetime | None = None


@dataclass(frozen=True)
class TaskFault:
    """An error that a task met, in the service's own code, such as PERMISSION_DENIED, with its text."""

    code: str
    text: str


class TransferService(Protocol):
    """A service that moves files between collections.

    Every method raises Transient where the service cannot be reached or asks for another try, Refused where it denies
    what is asked, and UserError where the request makes no sense to it. No message holds a secret.
    """

    def new_submission(self) -> str:
        """An id for one submission; nothing happens under it yet."""

    def submit(self, sending: Sending) -> str:
        """The id of the task, which is a new one only if none of this submission is known."""

    def task(self, task_id: str) -> Task | None:
        """The task as it is now; None for one that the service does not know (any more)."""

    def faults(self, task_id: str) -> Sequence[TaskFault]:
        """What the task has met so far, the newest first."""

    def delivered(self, task_id: str) -> Sequence[str]:
        """The destination path of each file that a task which is over has delivered."""

    def listing(self, collection: str, folder: str) -> Mapping[str, int] | None:
        """Size of each file in a folder, by name; None where there is no such folder."""

    def cancel(self, task_id: str) -> None:
        """The task goes on no longer; nothing happens to one that is over."""

    def close(self) -> None:
        """Nothing is kept open."""


__all__ = [
    "Item",
    "Receipt",
    "Sending",
    "Task",
    "TaskFault",
    "TaskStatus",
    "Transfer",
    "TransferFailed",
    "TransferPlanned",
    "TransferReceived",
    "TransferService",
    "TransferState",
    "TransferSubmitted",
]
