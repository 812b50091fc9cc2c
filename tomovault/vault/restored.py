"""Where a scan was restored to: what a person was given, which is a replica only if it is the whole original."""

from __future__ import annotations

from typing import Any

from tomovault.core.known import JobStatus, KnownScan

_PARTS = ("files", "frames", "kind")


def restored_places(scan: KnownScan) -> list[dict[str, Any]]:
    """Each folder that a restore of the scan wrote into, with what was put there last; the newest first."""
    places: dict[tuple[str, str], dict[str, Any]] = {}
    for job in sorted(scan.jobs, key=lambda j: j.queued_at):
        if job.action != "restore" or job.status is not JobStatus.SUCCEEDED or job.finished_at is None:
            continue
        path, product = str(job.order.get("to", "")), str(job.order.get("product", "original"))
        whole = not any(job.order.get(part) for part in _PARTS)
        places.pop((path, product), None)
        places[path, product] = {
            "path": path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace"),
            "product": product,
            "whole": whole,
            "at": job.finished_at.isoformat().replace("+00:00", "Z"),
            "job": job.id,
        }
    return list(reversed(places.values()))
