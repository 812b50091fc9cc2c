"""A program of the site that does one thing with its archive: started without a shell, judged by its exit code."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

from tomovault.core.errors import NoSpace, NotYet, Transient, UserError
from tomovault.tiers.blocks import shown
from tomovault.tiers.objects import NotThere

#: Exit codes as sysexits.h has them: there is no such object; not now. Any other failure is tried again, too.
NO_SUCH_OBJECT = 66
NOT_NOW = 75
#: A full archive, by the nearest of sysexits.h: it cannot be created.
CANNOT_CREATE = 73

#: Of what a program prints so much is read: a list of many objects fits, a defect that prints for ever does not hurt.
_MOST_PRINTED = 1 << 28
_MOST_SAID = 300
_ENDING_S = 10.0

_WORD = re.compile(r"\{(\w*)\}")


@dataclass(frozen=True)
class Program:
    """The words of a command, in which `{name}` stands for what it is about."""

    tier: str
    verb: str
    words: tuple[str, ...]
    timeout_s: float

    def run(self, about: Mapping[str, str], *, keeps: Sequence[int] = ()) -> str:
        """What it printed. It has ended, with all that it started, whatever is raised; only where this process is
        killed it goes on, and `keeps` these descriptors, whose locks then keep others from doing the same beside it.

        Raises NotThere, NoSpace, NotYet, Transient where it fails or takes too long, and UserError where it cannot be
        started.
        """
        argv = [_WORD.sub(lambda match: about[match[1]], word) for word in self.words]
        with tempfile.TemporaryFile() as printed, tempfile.TemporaryFile() as said:
            try:
                process = subprocess.Popen(
                    argv,
                    stdin=subprocess.DEVNULL,
                    stdout=printed,
                    stderr=said,
                    cwd="/",
                    start_new_session=True,
                    pass_fds=keeps,
                )
            except (OSError, ValueError) as problem:
                raise UserError(
                    f"tier {self.tier}: {argv[0]} cannot be started: {problem}", hint=f"see `{self.verb}` of the tier"
                ) from problem
            try:
                code = process.wait(self.timeout_s)
            except subprocess.TimeoutExpired as problem:
                raise Transient(f"{self._name(argv)} did not end within {self.timeout_s:g} s") from problem
            finally:
                _end(process)
            if code:
                raise self._failure(argv, code, _last_line(said))
            return _text(printed)

    def _failure(self, argv: Sequence[str], code: int, said: str) -> Exception:
        message = f"{self._name(argv)} ended with {code}" + (f": {said}" if said else "")
        if code == NO_SUCH_OBJECT:
            return NotThere(message, hint="use another copy")
        if code == CANNOT_CREATE:
            return NoSpace(message, hint="give the archive more room")
        if code == NOT_NOW:
            return NotYet(message)
        return Transient(message, hint="it is tried again; see what the program's own log says")

    def _name(self, argv: Sequence[str]) -> str:
        return f"tier {self.tier}: {self.verb} ({shown(os.path.basename(argv[0]))})"


def program_option(
    tier: str, options: Mapping[str, Any], verb: str, known: frozenset[str], needed: frozenset[str], timeout_s: float
) -> Program | None:
    """The program of a verb; None where the site gives none. Raises UserError for words that cannot be right: a program
    without its path, an unknown `{name}`, or one of the `needed` ones missing.
    """
    words = options.get(verb)
    if words is None:
        return None
    if (
        not isinstance(words, (list, tuple))
        or not words
        or not all(isinstance(w, str) and "\0" not in w for w in words)
    ):
        raise UserError(
            f"tier {tier}: {verb} must be a list of words, not {words!r}",
            hint=f"such as [/usr/local/bin/archive-{verb}, {', '.join(f'{{{name}}}' for name in sorted(known))}]",
        )
    if not os.path.isabs(words[0]):
        raise UserError(f"tier {tier}: {verb}: {words[0]!r} is not a path from the root: no shell looks for it")
    named = {name for word in words for name in _WORD.findall(word)}
    if strange := sorted(named - known):
        raise UserError(
            f"tier {tier}: {verb} knows no {{{strange[0]}}}",
            hint="it knows " + ", ".join(f"{{{name}}}" for name in sorted(known)),
        )
    if missing := sorted(needed - named):
        raise UserError(f"tier {tier}: {verb} needs {{{missing[0]}}} among its words")
    return Program(tier, verb, tuple(words), timeout_s)


def _end(process: subprocess.Popen[bytes]) -> None:
    """The program and all that it started are over."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(_ENDING_S)
    except subprocess.TimeoutExpired:
        pass  # it is killed below
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _text(stream: IO[bytes]) -> str:
    stream.seek(0)
    return stream.read(_MOST_PRINTED).decode("utf-8", "surrogateescape")


def _last_line(stream: IO[bytes]) -> str:
    stream.seek(0, os.SEEK_END)
    stream.seek(max(0, stream.tell() - 16 * _MOST_SAID))
    lines = [line for line in stream.read().decode("utf-8", "replace").splitlines() if line.strip()]
    return shown(lines[-1].strip()[:_MOST_SAID]) if lines else ""


def lines_of(printed: str) -> Iterator[str]:
    """The lines that are not empty, without spaces around them."""
    return (line.strip() for line in printed.splitlines() if line.strip())
