"""A program of the site: the message is on its standard input as JSON, and exit code 0 says that it was taken."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from typing import IO, Any, ClassVar

from tomovault.core.errors import Transient, UserError
from tomovault.core.notice import Channel, Message, harmless
from tomovault.notify.values import problem_of_timeout, timeout_of
from tomovault.notify.wording import as_json

#: All that a command is told of our environment, which may hold secrets.
_ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}

#: Of what a program complained about, so much is read.
_MOST_SAID = 300


class CommandChannel:
    """Starts one program for each message, without a shell; it and what it started are ended after the timeout."""

    OPTIONS: ClassVar[frozenset[str]] = frozenset({"argv", "timeout"})
    ADDRESSED: ClassVar[bool] = False

    def __init__(self, name: str, options: Mapping[str, Any]) -> None:
        self._name = name
        self._argv = [str(word) for word in options["argv"]]
        self._timeout_s = timeout_of(options)

    @classmethod
    def problems(cls, options: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """See `Channel`."""
        argv = options.get("argv")
        good = isinstance(argv, (list, tuple)) and argv and all(isinstance(w, str) and "\0" not in w for w in argv)
        if not good:
            yield "argv", "a list of words, such as [/usr/local/bin/page, --queue, data]"
        elif isinstance(argv, (list, tuple)) and not argv[0].startswith("/"):
            yield "argv", f"{argv[0]!r} is not a path from the root: no shell looks for it"
        yield from problem_of_timeout(options)

    def send(self, message: Message) -> None:
        """See `Channel`."""
        body = json.dumps(as_json(message), ensure_ascii=True, allow_nan=False).encode("ascii")
        # A file: a program that leaves something running behind it would keep a pipe open.
        with tempfile.TemporaryFile() as said:
            try:
                process = subprocess.Popen(
                    self._argv,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=said,
                    env=_ENVIRONMENT,
                    cwd="/",
                    start_new_session=True,
                )
            except OSError as problem:
                raise UserError(f"{self._argv[0]} cannot be started: {problem.strerror}") from problem
            try:
                process.communicate(body, timeout=self._timeout_s)
            except subprocess.TimeoutExpired as problem:
                raise Transient(f"{self._argv[0]} did not end within {self._timeout_s:g} s") from problem
            finally:
                _end(process)
            if process.returncode != 0:
                raise Transient(f"{self._argv[0]} ended with {process.returncode}{_last_line(said)}")

    def health(self) -> str:
        """See `Channel`."""
        if not os.access(self._argv[0], os.X_OK):
            raise UserError(f"{self._argv[0]} is not a program that can be started")
        return " ".join(map(harmless, self._argv))


def _end(process: subprocess.Popen[bytes]) -> None:
    """The program and whatever it started in its session are over, if it has not ended by itself."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()


def _last_line(said: IO[bytes]) -> str:
    said.seek(0, os.SEEK_END)
    said.seek(max(0, said.tell() - _MOST_SAID))
    last = said.read().decode("utf-8", "replace").strip().rpartition("\n")[2]
    return f": {harmless(last)}" if last else ""


PLUGIN: type[Channel] = CommandChannel
