"""The program that looks into foreign files: one request on stdin, answers on stdout, each a line of JSON.

Run by `tomovault.formats.limits` as `python -m tomovault.formats.child MEMORY_BYTES CPU_S`. It limits
itself before it reads a single byte that a user wrote; the CPU time is that of one line.
"""

from __future__ import annotations

import json
import os
import re
import resource
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from tomovault.core import wire
from tomovault.core.errors import NoScan, TomovaultError, Transient
from tomovault.core.scan import Candidate, ScanReport
from tomovault.formats import family
from tomovault.formats.hdf5_one_file import OneFileFormat, look_inside


def limit_self(memory_bytes: int, cpu_s: int) -> None:
    """From here on: so much address space and CPU time, no file written, no core left."""
    limit_memory(memory_bytes)
    renew_cpu(cpu_s)


def limit_memory(memory_bytes: int) -> None:
    """From here on: so much address space, no file written, no core left."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))


def renew_cpu(cpu_s: int) -> None:
    """From here on so much CPU time, whatever was used before."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(usage.ru_utime + usage.ru_stime) + cpu_s + 1, hard))


def answer(request: Mapping[str, Any]) -> dict[str, Any]:
    """Do what is asked: {'op': 'inspect', 'candidate', 'settled'} or {'op': 'layout', 'report'}."""
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


def answer_lines(text: str) -> Iterator[str]:
    """The one answer to a request; or, to {'op': 'inspect_all', 'looks': [of 'inspect', without op]}, one to each look.

    What formats of one HDF5 file have to do alike is done once a file before the first of them is asked: between the
    lines {'together': [numbers of their looks]} and {}.
    """
    try:
        request = json.loads(text)
        looks = request["looks"] if request["op"] == "inspect_all" else None
    except (ValueError, TypeError, KeyError):
        looks = None
    if looks is None:
        yield answer_text(text)
        return
    candidates = [wire.from_plain(Candidate, look["candidate"]) for look in looks]
    alike: dict[tuple[str, str], list[int]] = {}
    for number, candidate in enumerate(candidates):
        if isinstance(family.load(candidate.format), OneFileFormat):
            alike.setdefault((candidate.folder, candidate.key), []).append(number)
    for number, (candidate, look) in enumerate(zip(candidates, looks, strict=True)):
        together = alike.get((candidate.folder, candidate.key), [])
        if together[:1] == [number]:
            yield json.dumps({"together": together})
            look_inside(candidate)
            yield "{}"
        yield json.dumps(_answered({**look, "op": "inspect"}))


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
    memory_bytes, cpu_s = int(sys.argv[1]), int(sys.argv[2])
    limit_self(memory_bytes, cpu_s)
    # Nothing that a library prints may get between the braces of an answer.
    out = os.dup(1)
    os.dup2(2, 1)
    with os.fdopen(out, "w", encoding="ascii") as stream:
        for line in answer_lines(sys.stdin.read()):
            stream.write(f"{line}\n")
            stream.flush()
            renew_cpu(cpu_s)
    return 0


if __name__ == "__main__":
    sys.exit(main())
