"""The program that looks into foreign files: one request on stdin, one answer on stdout, both JSON.

Run by `tomovault.formats.limits` as `python -m tomovault.formats.child MEMORY_BYTES CPU_S`. It limits
itself before it reads a single byte that a user wrote.
"""

from __future__ import annotations

import json
import os
import re
import resource
import sys
from collections.abc import Mapping
from typing import Any

from tomovault.core import wire
from tomovault.core.errors import NoScan, TomovaultError, Transient
from tomovault.core.scan import Candidate, ScanReport
from tomovault.formats import family


def limit_self(memory_bytes: int, cpu_s: int) -> None:
    """From here on: so much address space and CPU time, no file written, no core left."""
    limit_memory(memory_bytes)
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 5))


def limit_memory(memory_bytes: int) -> None:
    """From here on: so much address space, no file written, no core left."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))


def answer(request: Mapping[str, Any]) -> dict[str, Any]:
    """Do what is asked: {'op': 'inspect', 'candidate', 'settled'}, {'op': 'inspect_all', 'looks': [those without op]},
    or {'op': 'layout', 'report'}.
    """
    if request["op"] == "inspect_all":
        return {"answers": [_answered({**look, "op": "inspect"}) for look in request["looks"]]}
    if request["op"] == "inspect":
        candidate = wire.from_plain(Candidate, request["candidate"])
        reports = family.load(candidate.format).inspect(candidate, settled=bool(request["settled"]))
        return {"reports": wire.to_plain(list(reports))}
    report = wire.from_plain(ScanReport, request["report"])
    return {"layout": wire.to_plain(family.load(report.format).layout(report))}


def answer_text(text: str) -> str:
    """The answer to a request in JSON; whatever goes wrong becomes {'error': ...}."""
    try:
        request = json.loads(text)
    except ValueError as error:
        return json.dumps(failed(f"the request is no JSON: {error}", "", busy=False))
    return json.dumps(_answered(request))


def _answered(request: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return answer(request)
    except NoScan as reason:
        if request["op"] == "layout":
            return failed(reason.message, reason.hint, busy=False)
        return {"reports": [], "no_scan": reason.message}
    except TomovaultError as error:
        return failed(error.message, error.hint, busy=isinstance(error, Transient))
    except MemoryError:
        return failed("it needs more memory than an inspection may use", "", busy=False)
    except Exception as error:  # noqa: BLE001 - a foreign file may raise anything; the parent names the file
        return failed(told(error), "", busy=False)


def told(error: Exception) -> str:
    """An error in words: what h5py raises has any type, and the library's words between quotes."""
    words = " ".join(str(error).split()).strip("'\"")
    if re.match(r"Unable to |Can't ", words):
        return f"the HDF5 library cannot read it: {words}"[:500]
    return f"{type(error).__name__}: {words}"[:500]


def failed(message: str, hint: str, *, busy: bool) -> dict[str, Any]:
    """The answer that tells of an error."""
    return {"error": {"message": message, "hint": hint, "busy": busy}}


def main() -> int:
    """Answer one request."""
    limit_self(int(sys.argv[1]), int(sys.argv[2]))
    # Nothing that a library prints may get between the braces of the answer.
    out = os.dup(1)
    os.dup2(2, 1)
    text = answer_text(sys.stdin.read())
    with os.fdopen(out, "w", encoding="ascii") as stream:
        stream.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
