"""Globus, by its own SDK: submissions, tasks and listings, each failure in the family that it belongs to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import globus_sdk
from globus_sdk.transport import RetryConfig

from tomovault import __version__
from tomovault.core.errors import Refused, Transient, UserError
from tomovault.core.transfer import Sending, Task, TaskFault, TaskStatus
from tomovault.transfer.credentials import Credentials

#: The SDK tries a request again by itself, so often and at most so many seconds apart; then the job is tried again.
_RETRIES, _MOST_S = 3, 4

_LOGIN = "renew the token, or let the client in; docs/operator.md says how"

#: What Globus calls a task in which nothing is amiss.
_NICE = ("", "OK", "Queued")


class GlobusTransfers:
    """Implements `tomovault.core.transfer.TransferService`. `service` is another Transfer service than Globus."""

    def __init__(self, credentials: Credentials, *, service: str | None = None) -> None:
        self._client = globus_sdk.TransferClient(
            authorizer=_authorizer(credentials),
            base_url=service,
            app_name=f"tomovault {__version__}",
            retry_config=RetryConfig(max_retries=_RETRIES, max_sleep=_MOST_S),
        )

    def close(self) -> None:
        """See `TransferService`."""
        self._client.close()

    def new_submission(self) -> str:
        """See `TransferService`."""
        with _told("no submission can be begun"):
            return str(self._client.get_submission_id()["value"])

    def submit(self, sending: Sending) -> str:
        """See `TransferService`. Both sides of each file are compared with its sha256."""
        data = globus_sdk.TransferData(
            sending.source_collection,
            sending.collection,
            label=sending.label,
            submission_id=sending.submission_id,
            verify_checksum=True,
            skip_source_errors=False,
            fail_on_quota_errors=True,
            encrypt_data=True,
            deadline=sending.deadline,
            notify_on_succeeded=False,
            notify_on_failed=False,
            notify_on_inactive=False,
        )
        for item in sending.items:
            data.add_item(item.source, item.destination, external_checksum=item.sha256, checksum_algorithm="SHA256")
        with _told("the transfer is not accepted"):
            return str(self._client.submit_transfer(data)["task_id"])

    def task(self, task_id: str) -> Task | None:
        """See `TransferService`."""
        try:
            with _told("the task cannot be asked about"):
                return _task(self._client.get_task(task_id).data)
        except _Unknown:
            return None

    def faults(self, task_id: str) -> Sequence[TaskFault]:
        """See `TransferService`."""
        with _told("the events of the task cannot be read"):
            events = self._client.task_event_list(task_id, query_params={"filter": "is_error:1"})
            return [TaskFault(str(e["code"]), str(e.get("description") or e["code"])) for e in events]

    def delivered(self, task_id: str) -> Sequence[str]:
        """See `TransferService`."""
        with _told("what the task has delivered cannot be read"):
            return [
                str(entry["destination_path"])
                for entry in self._client.paginated.task_successful_transfers(task_id).items()
            ]

    def listing(self, collection: str, folder: str) -> Mapping[str, int] | None:
        """See `TransferService`."""
        try:
            with _told(f"{folder} of the collection {collection} cannot be listed"):
                entries = self._client.operation_ls(collection, path=folder, show_hidden=True)
                return {str(e["name"]): int(e["size"]) for e in entries if e["type"] == "file"}
        except _Unknown:
            return None

    def cancel(self, task_id: str) -> None:
        """See `TransferService`."""
        try:
            with _told("the task cannot be cancelled"):
                self._client.cancel_task(task_id)
        except _Unknown:
            return


class _Unknown(UserError):
    """What was asked about is not there."""


def _authorizer(credentials: Credentials) -> Any:
    if credentials.token is not None:
        return globus_sdk.AccessTokenAuthorizer(credentials.token)
    client = globus_sdk.ConfidentialAppAuthClient(credentials.client_id, credentials.client_secret)
    with _told("the client gets no token"):
        return globus_sdk.ClientCredentialsAuthorizer(client, globus_sdk.TransferClient.scopes.all)


def _task(plain: Any) -> Task:
    fatal = plain.get("fatal_error") or {}
    nice = str(plain.get("nice_status") or "")
    code = "" if nice in _NICE else nice
    told = code and str(plain.get("nice_status_short_description") or code)
    reason = str(fatal.get("description") or fatal.get("code") or told)
    return Task(
        id=str(plain["task_id"]),
        status=TaskStatus(plain["status"]),
        files=int(plain["files"]),
        files_transferred=int(plain.get("files_transferred") or 0),
        files_skipped=int(plain.get("files_skipped") or 0),
        bytes_transferred=int(plain.get("bytes_transferred") or 0),
        faults=int(plain.get("faults") or 0),
        paused=bool(plain.get("is_paused")),
        code=code,
        reason=reason,
        requested_at=_time(plain.get("request_time")),
        completed_at=_time(plain.get("completion_time")),
    )


def _time(text: Any) -> datetime | None:
    if not isinstance(text, str):
        return None
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Every failure of the SDK in the block is one of ours, with the service's own words and no secret."""
    try:
        yield
    except globus_sdk.NetworkError as problem:
        raise Transient(
            f"{what}: the transfer service cannot be reached", hint="is the network up, and the service?"
        ) from problem
    except globus_sdk.GlobusAPIError as problem:
        raise _meaning(what, problem) from problem
    except globus_sdk.GlobusError as problem:
        raise UserError(f"{what}: {type(problem).__name__}") from problem


def _meaning(what: str, problem: globus_sdk.GlobusAPIError) -> Exception:
    status, code = problem.http_status, problem.code or ""
    text = f"{what}: {problem.message or code or status} ({code or status})"
    consent = problem.info.consent_required
    if consent:
        scopes = " ".join(consent.required_scopes or ())
        return Refused(text, by="Globus", hint=f"consent is needed for: {scopes}")
    if status == 401 or isinstance(problem, globus_sdk.AuthAPIError):
        return Refused(text, by="Globus", hint=_LOGIN)
    if "PermissionDenied" in code or status == 403:
        return Refused(text, by="Globus", hint="ask the owner of the collection for the right")
    if status == 404 and not code.startswith("EndpointNotFound"):
        return _Unknown(text)
    if status in (408, 409, 429) or status >= 500:
        return Transient(text, hint="the service or a collection is busy or down")
    return UserError(text)
