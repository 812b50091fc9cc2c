"""A local service that speaks the Transfer API of Globus, as far as tomovault and a person trying it need.

Paths, documents and codes are those of the Transfer API (https://docs.globus.org/api/transfer/). Any token is
accepted, but one must be there. It listens on this machine alone and forgets everything when it ends.
"""

from __future__ import annotations

import json
import re
import threading
import uuid
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tomovault.testing.globus_tasks import FAULTS, SimTask, Tasks

#: Collections are known by names here; this makes a UUID of each, always the same.
_NAMESPACE = uuid.UUID("3f0e3c54-91a5-4a6c-8f51-3f6f1f5f7a10")


def collection_id(name: str) -> str:
    """The UUID of a collection of the local service."""
    return str(uuid.uuid5(_NAMESPACE, name))


class GlobusSim:
    """The service on a port of this machine, serving in a thread from `start` to `stop`."""

    def __init__(self, collections: Mapping[str, Path], *, port: int = 0, faults: set[str] | None = None) -> None:
        self.faults: set[str] = set(faults or ())
        if unknown := self.faults - FAULTS.keys():
            raise ValueError(f"there is no fault {sorted(unknown)[0]!r}")
        self.names = {collection_id(name): name for name in collections}
        self.tasks = Tasks({collection_id(name): Path(path) for name, path in collections.items()}, self.faults)
        #: (method, path) of every request that was answered, or dropped.
        self.requests: list[tuple[str, str]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", port), _handler(self))
        self._server.daemon_threads = False
        self._thread = threading.Thread(target=self._server.serve_forever, args=[0.05], name="globus-sim", daemon=True)

    @property
    def url(self) -> str:
        """Where the service is."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def start(self) -> GlobusSim:
        """The service answers."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """It does not any more, and no task runs."""
        self.tasks.stop()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def __enter__(self) -> GlobusSim:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class _Answer(Exception):
    """An answer that is no success; with `status` 0 the connection breaks instead."""

    def __init__(self, status: int, code: str, message: str, **more: Any) -> None:
        super().__init__(message)
        self.status = status
        self.document = {"code": code, "message": message, "request_id": "sim", "resource": "", **more}


def _handler(sim: GlobusSim) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        """One request."""

        def do_GET(self) -> None:
            """Answer."""
            self._answer("GET", {})

        def do_POST(self) -> None:
            """Answer."""
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self._answer("POST", raw)

        def _answer(self, method: str, raw: Any) -> None:
            parts = urlsplit(self.path)
            sim.requests.append((method, parts.path))
            try:
                if method == "POST" and parts.path == "/v2/oauth2/token":
                    status, document = 200, _token(sim)
                else:
                    query = {key: values[0] for key, values in parse_qs(parts.query).items()}
                    _require_welcome(sim, self.headers.get("Authorization"))
                    status, document = _route(sim, method, parts.path, query, json.loads(raw) if raw else {})
            except _Answer as answer:
                if not answer.status:
                    self.close_connection = True
                    return
                status, document = answer.status, answer.document
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            """Say nothing: the headers have tokens in them."""

    return Handler


def _require_welcome(sim: GlobusSim, authorization: str | None) -> None:
    if "busy" in sim.faults:
        raise _Answer(503, "ServiceUnavailable", "the service is busy")
    if not (authorization or "").startswith("Bearer ") or "login" in sim.faults:
        raise _Answer(401, "AuthenticationFailed", "the token is not accepted")


def _token(sim: GlobusSim) -> dict[str, Any]:
    if "login" in sim.faults:
        raise _Answer(401, "unauthorized_client", "the client is not known", error="unauthorized_client")
    return {
        "access_token": uuid.uuid4().hex,
        "scope": "urn:globus:auth:scope:transfer.api.globus.org:all",
        "expires_in": 172800,
        "token_type": "Bearer",
        "resource_server": "transfer.api.globus.org",
        "other_tokens": [],
    }


# --- routes ------------------------------------------------------------------------------------------


def _route(
    sim: GlobusSim, method: str, path: str, query: Mapping[str, str], body: Mapping[str, Any]
) -> tuple[int, dict[str, Any]]:
    wanted = f"{method} {path.removeprefix('/v0.10')}"
    for pattern, answer in _ROUTES:
        if found := re.fullmatch(pattern, wanted):
            return answer(sim, *found.groups(), query=query, body=body)
    raise _Answer(404, "ClientError.NotFound", f"no resource {path}")


def _submission(_sim: GlobusSim, **_more: Any) -> tuple[int, dict[str, Any]]:
    return 200, {"DATA_TYPE": "submission_id", "value": str(uuid.uuid4())}


def _submit(sim: GlobusSim, *, body: Mapping[str, Any], **_more: Any) -> tuple[int, dict[str, Any]]:
    for side in ("source_endpoint", "destination_endpoint"):
        _require_collection(sim, str(body.get(side)))
    if "consent" in sim.faults:
        scopes = [f"urn:globus:auth:scope:transfer.api.globus.org:all[*{body['destination_endpoint']}/data_access]"]
        raise _Answer(403, "ConsentRequired", "a consent is missing", required_scopes=scopes)
    if not body.get("DATA"):
        raise _Answer(400, "ClientError.BadRequest.NoTransferItems", "a transfer needs at least one item")
    if not body.get("submission_id"):
        raise _Answer(400, "ClientError.BadRequest", "a transfer needs a submission_id")
    task, new = sim.tasks.submit(body)
    if new and "drop" in sim.faults:
        raise _Answer(0, "", "")
    return 202 if new else 200, {
        "DATA_TYPE": "transfer_result",
        "code": "Accepted" if new else "Duplicate",
        "message": "The transfer has been accepted" if new else "The transfer was accepted before",
        "task_id": task.id,
        "submission_id": body["submission_id"],
        "request_id": "sim",
        "resource": "/transfer",
    }


def _task_of(sim: GlobusSim, task_id: str) -> SimTask:
    task = sim.tasks.by_id.get(task_id)
    if task is None or "forget" in sim.faults:
        raise _Answer(404, "ClientError.NotFound", f"no task {task_id}")
    return task


def _task(sim: GlobusSim, task_id: str, **_more: Any) -> tuple[int, dict[str, Any]]:
    return 200, _task_of(sim, task_id).document()


def _tasks(sim: GlobusSim, **_more: Any) -> tuple[int, dict[str, Any]]:
    found = [task.document() for task in sim.tasks.by_id.values()]
    return 200, {"DATA_TYPE": "task_list", "offset": 0, "limit": 1000, "total": len(found), "DATA": found}


def _cancel(sim: GlobusSim, task_id: str, **_more: Any) -> tuple[int, dict[str, Any]]:
    task = _task_of(sim, task_id)
    code = "Canceled" if task.status == "ACTIVE" else "TaskComplete"
    task.cancelled.set()
    return 200, {"DATA_TYPE": "result", "code": code, "message": code, "request_id": "sim", "resource": ""}


def _events(sim: GlobusSim, task_id: str, *, query: Mapping[str, str], **_more: Any) -> tuple[int, dict[str, Any]]:
    only = query.get("filter") == "is_error:1"
    found = [e for e in _task_of(sim, task_id).events if e["is_error"] or not only]
    return 200, {"DATA_TYPE": "event_list", "offset": 0, "limit": 1000, "total": len(found), "DATA": found}


def _delivered(sim: GlobusSim, task_id: str, **_more: Any) -> tuple[int, dict[str, Any]]:
    task = _task_of(sim, task_id)
    if task.status == "ACTIVE":
        raise _Answer(400, "ClientError.BadRequest", "the task is not over")
    return 200, {"DATA_TYPE": "successful_transfers", "marker": 0, "next_marker": None, "DATA": task.done}


def _skipped(sim: GlobusSim, task_id: str, **_more: Any) -> tuple[int, dict[str, Any]]:
    _task_of(sim, task_id)
    return 200, {"DATA_TYPE": "skipped_errors", "marker": 0, "next_marker": None, "DATA": []}


def _pauses(sim: GlobusSim, task_id: str, **_more: Any) -> tuple[int, dict[str, Any]]:
    task = _task_of(sim, task_id)
    return 200, {"DATA_TYPE": "pause_info_limited", "pause_rules": [], "is_paused": task.paused}


def _endpoint(sim: GlobusSim, collection: str, **_more: Any) -> tuple[int, dict[str, Any]]:
    _require_collection(sim, collection)
    return 200, {
        "DATA_TYPE": "endpoint",
        "id": collection,
        "display_name": sim.names[collection],
        "entity_type": "GCSv5_mapped_collection",
    }


def _list(sim: GlobusSim, collection: str, *, query: Mapping[str, str], **_more: Any) -> tuple[int, dict[str, Any]]:
    folder = _place(sim, collection, query.get("path", "/"))
    if not folder.is_dir():
        raise _Answer(404, "ClientError.NotFound", f"{query.get('path')} is not there")
    entries = [_entry(path) for path in sorted(folder.iterdir())]
    offset, limit = int(query.get("offset", 0)), int(query.get("limit", 100_000))
    return 200, {
        "DATA_TYPE": "file_list",
        "endpoint": collection,
        "path": query.get("path"),
        "offset": offset,
        "limit": limit,
        "total": len(entries),
        "DATA": entries[offset : offset + limit],
    }


def _stat(sim: GlobusSim, collection: str, *, query: Mapping[str, str], **_more: Any) -> tuple[int, dict[str, Any]]:
    path = _place(sim, collection, query.get("path", "/"))
    if not path.exists():
        raise _Answer(404, "NotFound", f"{query.get('path')} is not there")
    return 200, _entry(path)


def _make(sim: GlobusSim, collection: str, *, body: Mapping[str, Any], **_more: Any) -> tuple[int, dict[str, Any]]:
    path = _place(sim, collection, str(body.get("path", "")))
    if path.exists():
        raise _Answer(502, "ExternalError.MkdirFailed.Exists", f"{body.get('path')} is there already")
    path.mkdir()
    return 202, {"DATA_TYPE": "mkdir_result", "code": "DirectoryCreated", "message": "made", "request_id": "sim"}


def _entry(path: Path) -> dict[str, Any]:
    kind = "dir" if path.is_dir() else "file"
    return {"DATA_TYPE": "file", "name": path.name, "type": kind, "size": path.stat().st_size}


def _require_collection(sim: GlobusSim, collection: str) -> None:
    if collection not in sim.tasks.collections:
        raise _Answer(404, "EndpointNotFound", f"no collection {collection}")


def _place(sim: GlobusSim, collection: str, path: str) -> Path:
    _require_collection(sim, collection)
    if "denied" in sim.faults:
        raise _Answer(403, "EndpointPermissionDenied", f"{path}: permission denied")
    try:
        return sim.tasks.place(collection, path)
    except PermissionError:
        raise _Answer(403, "EndpointPermissionDenied", f"{path} is outside of the collection") from None


_ROUTES: tuple[tuple[str, Callable[..., tuple[int, dict[str, Any]]]], ...] = (
    ("GET /submission_id", _submission),
    ("POST /transfer", _submit),
    ("GET /task_list", _tasks),
    ("GET /task/([^/]+)", _task),
    ("POST /task/([^/]+)/cancel", _cancel),
    ("GET /task/([^/]+)/event_list", _events),
    ("GET /task/([^/]+)/successful_transfers", _delivered),
    ("GET /task/([^/]+)/skipped_errors", _skipped),
    ("GET /task/([^/]+)/pause_info", _pauses),
    ("GET /endpoint/([^/]+)", _endpoint),
    ("GET /operation/endpoint/([^/]+)/ls", _list),
    ("GET /operation/endpoint/([^/]+)/stat", _stat),
    ("POST /operation/endpoint/([^/]+)/mkdir", _make),
)
