"""Inspection in a child process that cannot take its caller with it, whatever a file contains."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tomovault.core import wire
from tomovault.core.errors import NoScan, TomovaultError, Transient, UserError
from tomovault.core.layout import Layout
from tomovault.core.scan import Candidate, ScanReport

#: Found by name, so that nothing here imports what the child imports.
_PROGRAM = "tomovault.formats.child"
_PIECE = 1 << 16
_STDERR_KEPT = 4096
#: A killed child that is not gone by then hangs in the file system; it is left to the kernel.
_REAP_S = 5.0
#: No locks, no plug-ins from elsewhere, one thread, nothing written beside the sources.
_OVERRIDES: Mapping[str, str] = {
    "HDF5_USE_FILE_LOCKING": "FALSE",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "HDF5_PLUGIN_PATH": "/nonexistent",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONUTF8": "1",
    "PYTHONSAFEPATH": "1",
}
#: Would send the library to files of another folder; and what is secret, which is no business of who reads a foreign
#: file.
_REMOVED = (
    "HDF5_VDS_PREFIX",
    "HDF5_EXT_PREFIX",
    "HDF5_EXTFILE_PREFIX",
    "HDF5_DRIVER",
    "PYTHONSTARTUP",
    "TOMOVAULT_GLOBUS_TOKEN",
)


@dataclass(frozen=True)
class Limits:
    """What one inspection may use: address space, CPU time, wall time, and bytes of its answer."""

    memory_bytes: int = 2 << 30
    cpu_s: int = 120
    wall_s: float = 120.0
    output_bytes: int = 256 << 20


class InspectionEnded(UserError):
    """The child met a limit or died: the fault of the file, or of the machine at that moment."""


class _ChildFailed(Exception):
    """What happened to the child, in words, and what it had said by then; `timed` if it met a limit of time."""

    def __init__(self, words: str, *, timed: bool = False) -> None:
        super().__init__(words)
        self.timed = timed
        self.out = b""


@dataclass(frozen=True)
class _Ended:
    """What every format does first with a file took too long; the file was in that state."""

    state: tuple[int, ...] | None
    error: InspectionEnded


#: A candidate, and whether it is settled.
_Look = tuple[Candidate, bool]


class LimitedFormats:
    """The `FormatFamily`: every call is a process of its own, with limits, killed as a group when they are met."""

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._foreseen: dict[_Look, Mapping[str, Any]] = {}
        self._ended: dict[_Look, _Ended] = {}

    def foresee(self, looks: Sequence[_Look]) -> None:
        """Look into files that several formats ask about in one process for all of them; limits of time are those of
        one answer.

        The next `inspect` of each (candidate, settled) takes its answer from here. Where what those formats do alike
        took too long, that is the answer to each of them, as long as the file stays as it was. Where the process fails
        otherwise, or a file is busy or cannot be read, nothing is kept and each is looked into by itself.
        """
        asked = Counter(_file(look) for look in looks)
        shared = [look for look in looks if asked[_file(look)] > 1]
        self._foreseen.clear()
        self._ended.clear()
        while shared:
            done = self._foresee_some(shared)
            fallen = {_file(look) for look in shared[done : done + 1]}
            shared = [look for look in shared[done:] if _file(look) not in fallen]

    def _foresee_some(self, looks: Sequence[_Look]) -> int:
        """Keep answers to looks, from the first on; returns how many there were before the process failed."""
        states = {file: _state(file) for file in map(_file, looks)}
        plain = [{"candidate": wire.to_plain(candidate), "settled": settled} for candidate, settled in looks]
        failure = None
        try:
            out = self._run(json.dumps({"op": "inspect_all", "looks": plain}).encode("ascii"))
        except _ChildFailed as failed:
            failure, out = failed, failed.out
        together: list[int] = []
        done = 0
        for line in out.split(b"\n")[:-1]:
            said = _parsed(line)
            if said is None or done == len(looks):
                return done
            if "together" in said or not said:
                together = said.get("together") or []
                continue
            if "reports" in said:
                self._foreseen[looks[done]] = said
            done += 1
        if failure is not None and failure.timed and done < len(looks):
            file = _file(looks[done])
            for look in (looks[number] for number in range(done, len(looks)) if number in together):
                if _file(look) == file:
                    self._ended[look] = _Ended(states[file], _ended(os.path.join(*file), failure))
        return done

    def inspect(self, candidate: Candidate, *, settled: bool) -> Sequence[ScanReport]:
        """As `Format.inspect`. Raises UserError naming the place if the child died (InspectionEnded) or answered
        nonsense, Transient if a writer holds the file in a way that cannot be read now, NoScan with the reason if
        it is no scan of that format.
        """
        place = os.path.join(candidate.folder, candidate.key) if candidate.key else candidate.folder
        ended = self._ended.pop((candidate, settled), None)
        if ended is not None and ended.state is not None and ended.state == _state((candidate.folder, candidate.key)):
            raise ended.error
        reply = self._foreseen.pop((candidate, settled), None)
        if reply is None:
            reply = self._ask({"op": "inspect", "candidate": wire.to_plain(candidate), "settled": settled}, place)
        if reply.get("no_scan"):
            raise NoScan(str(reply["no_scan"]))
        try:
            return [wire.from_plain(ScanReport, report) for report in reply["reports"]]
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{place}: the inspection gave no readable answer ({error})") from error

    def layout(self, report: ScanReport) -> Layout:
        """As `Format.layout`; an empty layout where the child failed, so that files are kept whole."""
        try:
            reply = self._ask({"op": "layout", "report": wire.to_plain(report)}, report.root)
            return wire.from_plain(Layout, reply["layout"])
        except (TomovaultError, KeyError, TypeError, ValueError):
            return Layout()

    def _ask(self, request: Mapping[str, Any], place: str) -> Mapping[str, Any]:
        try:
            reply = json.loads(self._run(json.dumps(request).encode("ascii")))
        except _ChildFailed as error:
            raise _ended(place, error) from error
        except ValueError as error:
            raise UserError(f"{place}: the inspection gave no readable answer") from error
        if not isinstance(reply, dict):
            raise UserError(f"{place}: the inspection gave no readable answer")
        failure = reply.get("error")
        if isinstance(failure, dict):
            message = str(failure.get("message", "it failed"))
            text = message if place in message else f"{place}: {message}"
            kind = Transient if failure.get("busy") else UserError
            raise kind(text, hint=str(failure.get("hint", "")))
        return reply

    def _run(self, request: bytes) -> bytes:
        """The child's stdout. Raises _ChildFailed."""
        child = subprocess.Popen(
            [sys.executable, "-P", "-B", "-m", _PROGRAM, str(self._limits.memory_bytes), str(self._limits.cpu_s)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd="/",
            env=child_environment(),
            start_new_session=True,
        )
        out, said = bytearray(), bytearray()
        # Not `with child`, which waits without end for one that hangs in the file system.
        try:
            _exchange(child, request, out, said, self._limits)
            code = child.wait(_REAP_S)
            if code:
                raise _ChildFailed(obituary(code, said.decode("utf-8", "replace")), timed=code == -signal.SIGXCPU)
        except subprocess.TimeoutExpired:
            raise _ChildFailed("did not end") from None
        except _ChildFailed as failed:
            failed.out = bytes(out)
            raise
        finally:
            kill_group(child)
            _close_pipes(child)
        return bytes(out)


def _file(look: _Look) -> tuple[str, str]:
    return look[0].folder, look[0].key


def _state(file: tuple[str, str]) -> tuple[int, ...] | None:
    """What tells a file from one that was changed since, None where it is not there."""
    try:
        found = os.lstat(os.path.join(*file))
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        said = json.loads(line)
    except ValueError:
        return None
    return said if isinstance(said, dict) else None


def _ended(place: str, failure: _ChildFailed) -> InspectionEnded:
    return InspectionEnded(f"{place}: the inspection {failure}", hint="the file may be damaged; it is kept as found")


def child_environment() -> dict[str, str]:
    """What a process that opens foreign files is started with."""
    kept = {k: v for k, v in os.environ.items() if k not in _REMOVED}
    return {**kept, **_OVERRIDES}


def _exchange(child: subprocess.Popen[bytes], request: bytes, out: bytearray, said: bytearray, limits: Limits) -> None:
    """Write the request and read both outputs to their ends, within size, and within time from line to line."""
    stdin, stdout, stderr = child.stdin, child.stdout, child.stderr
    if stdin is None or stdout is None or stderr is None:
        raise _ChildFailed("has no pipes")
    deadline = time.monotonic() + limits.wall_s
    to_write = memoryview(request)
    with selectors.DefaultSelector() as ready:
        for stream, events in (
            (stdin, selectors.EVENT_WRITE),
            (stdout, selectors.EVENT_READ),
            (stderr, selectors.EVENT_READ),
        ):
            os.set_blocking(stream.fileno(), False)
            ready.register(stream, events)
        while ready.get_map():
            left = deadline - time.monotonic()
            if left <= 0:
                raise _ChildFailed(f"took longer than {limits.wall_s:g} s and was ended", timed=True)
            for key, _ in ready.select(left):
                if key.fileobj is stdin:
                    to_write = _write_some(stdin.fileno(), to_write)
                    if not to_write:
                        ready.unregister(stdin)
                        stdin.close()
                    continue
                piece = os.read(key.fd, _PIECE)
                if not piece:
                    ready.unregister(key.fileobj)
                elif key.fileobj is stdout:
                    out += piece
                    if b"\n" in piece:
                        deadline = time.monotonic() + limits.wall_s
                else:
                    said += piece
                    del said[:-_STDERR_KEPT]
                if len(out) > limits.output_bytes:
                    raise _ChildFailed(f"answered with more than {limits.output_bytes} bytes and was ended")


def _write_some(descriptor: int, data: memoryview) -> memoryview:
    try:
        return data[os.write(descriptor, data[:_PIECE]) :]
    except BrokenPipeError:
        return data[:0]


def kill_group(child: subprocess.Popen[bytes]) -> None:
    """End the child and all it may have started; returns within a few seconds even if it cannot be ended."""
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return
    try:
        child.wait(_REAP_S)
    except subprocess.TimeoutExpired:
        return


def _close_pipes(child: subprocess.Popen[bytes]) -> None:
    for stream in (child.stdin, child.stdout, child.stderr):
        if stream is not None:
            with contextlib.suppress(BrokenPipeError):
                stream.close()


def obituary(code: int, said: str) -> str:
    """How a child ended, by its exit code and its last words."""
    if code == -signal.SIGXCPU:
        return "used more CPU time than it may and was ended"
    if code == -signal.SIGKILL:
        return "was killed: far over its CPU time, or this machine ran out of memory"
    if code < 0:
        return f"crashed with {signal.Signals(-code).name}"
    last = said.strip().splitlines()[-1:] or [f"exit code {code}"]
    return f"failed: {last[0][:300]}"
