"""Frames that only the HDF5 library can read, read in a child process that cannot take its caller with it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tomovault.core.errors import Transient, UserError
from tomovault.core.layout import CodedFrame
from tomovault.formats.limits import Limits, child_environment, kill_group, obituary

_PROGRAM = "tomovault.formats.frames_child"
_PIECE = 1 << 20
_LONGEST_HEAD = 1 << 16
#: A frame of 8k x 8k may be decoded together with others of its chunk.
_LIMITS = Limits(memory_bytes=4 << 30)


class CodedFrames:
    """One process that reads frames of foreign files, started with the first; the limits of time are those of one
    answer. Safe to use from threads.
    """

    def __init__(self, limits: Limits = _LIMITS) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None

    def close(self) -> None:
        """The process is gone."""
        with self._lock:
            self._end()

    def read(self, path: str, frame: CodedFrame, rows: tuple[int, int]) -> npt.NDArray[np.generic]:
        """Rows [first, last) of a frame of the file `path`, in its stored dtype.

        Raises UserError naming the file if it cannot be read, is not as the frame says, or the child died; Transient
        if a writer holds it in a way that cannot be read now.
        """
        kind = np.dtype(frame.dtype)
        part = np.empty((max(0, rows[1] - rows[0]), frame.shape[1]), kind)
        request = {
            "file": path,
            "dataset": frame.dataset,
            "index": frame.index,
            "rows": list(rows),
            "dtype": frame.dtype,
            "shape": list(frame.shape),
        }
        if part.size:
            with self._lock:
                self._ask(request, part.view(np.uint8).reshape(-1).data, path)
        return part

    def _ask(self, request: Mapping[str, Any], room: memoryview, path: str) -> None:
        try:
            head = self._exchange(json.dumps(request).encode("ascii") + b"\n", room)
        except (OSError, EOFError, TimeoutError, ValueError) as problem:
            raise UserError(
                f"{path}: reading its frames {self._died(problem)}", hint="the file may be damaged; it is kept as found"
            ) from problem
        failure = head.get("error")
        if isinstance(failure, dict):
            message = str(failure.get("message", "it failed"))
            kind = Transient if failure.get("busy") else UserError
            raise kind(message if path in message else f"{path}: {message}", hint=str(failure.get("hint", "")))

    def _exchange(self, line: bytes, room: memoryview) -> Mapping[str, Any]:
        """The head of the answer, its bytes in `room`. Raises EOFError, TimeoutError, OSError or ValueError."""
        child = self._child = self._child or self._start()
        if child.stdin is None or child.stdout is None:
            raise OSError("it has no pipes")
        deadline = time.monotonic() + self._limits.wall_s
        child.stdin.write(line)
        child.stdin.flush()
        out = child.stdout.fileno()
        got = b""
        while b"\n" not in got:
            got += _read_some(out, 512, deadline)
            if len(got) > _LONGEST_HEAD:
                raise ValueError("it gave no readable answer")
        text, _, rest = got.partition(b"\n")
        head = json.loads(text)
        if not isinstance(head, dict) or ("error" not in head and head.get("bytes") != len(room)):
            raise ValueError("it gave no readable answer")
        if "error" in head:
            return head
        if len(rest) > len(room):
            raise ValueError("it gave more than it was asked for")
        room[: len(rest)] = rest
        done = len(rest)
        while done < len(room):
            piece = _read_some(out, min(_PIECE, len(room) - done), deadline)
            room[done : done + len(piece)] = piece
            done += len(piece)
        return head

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-P", "-B", "-m", _PROGRAM, str(self._limits.memory_bytes), str(self._limits.cpu_s)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env=child_environment(),
            start_new_session=True,
        )

    def _died(self, problem: Exception) -> str:
        """What happened to the child, in words; it is gone, and the next frame has a new one."""
        if isinstance(problem, TimeoutError):
            how = f"took longer than {self._limits.wall_s:g} s and was ended"
        elif isinstance(problem, ValueError):
            how = "gave no readable answer"
        else:
            how = ""
        code = self._end()
        return how or obituary(code, "")

    def _end(self) -> int:
        """The exit code of the child, which is gone."""
        child, self._child = self._child, None
        if child is None:
            return 0
        with contextlib.suppress(subprocess.TimeoutExpired):
            if child.stdin is not None:
                with contextlib.suppress(OSError):
                    child.stdin.close()
            child.wait(1.0)
        kill_group(child)
        if child.stdout is not None:
            child.stdout.close()
        return child.returncode or 0


def _read_some(out: int, most: int, deadline: float) -> bytes:
    ready, _, _ = select.select([out], [], [], max(0.0, deadline - time.monotonic()))
    if not ready:
        raise TimeoutError
    piece = os.read(out, most)
    if not piece:
        raise EOFError
    return piece
