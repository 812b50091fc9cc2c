"""What is to be brought back from tape, asked for in lists: what many jobs want within a while goes into one.

An HSM that is asked for one file after another mounts a cartridge for each; for a list it mounts each once.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from tomovault.core.errors import Transient
from tomovault.core.wire import from_plain, to_plain
from tomovault.tiers.blocks import holding, replace_file, shown, translating
from tomovault.tiers.objects import NotThere
from tomovault.tiers.program import Program

_WANTED, _LOCK, _LISTS = "wanted", "lock", "lists"
_SUFFIX = ".json"
_LOCK_WAIT_S = 60.0
#: What was asked for and is still wanted after so long is asked for again: the program may have been cut off.
AGAIN_AFTER = timedelta(hours=1)
#: What nobody asked about for so long is not wanted any more: the job was given up.
_FORGOTTEN_AFTER = timedelta(days=2)


@dataclass(frozen=True)
class Wanted:
    """A file that is to be brought back: since when, and when that was asked for and last looked after."""

    path: str
    since: datetime
    seen: datetime
    asked: datetime | None = None


class BulkRecall:
    """The files that are wanted from one tier, in a folder on a disk, for all the jobs of this machine."""

    def __init__(
        self, tier: str, folder: str, program: Program, gather: timedelta, *, now: Callable[[], datetime]
    ) -> None:
        self._tier = tier
        self._folder = folder
        self._program = program
        self._gather = gather
        self._now = now

    def want(self, paths: Iterable[str]) -> None:
        """These are wanted from now on, unless they were before."""
        with self._alone():
            now = self._now()
            for path in paths:
                known = self._read(self._file_of(path)) or Wanted(path, now, now)
                self._write(replace(known, seen=now))

    def forget(self, paths: Iterable[str]) -> None:
        """These are not wanted any more."""
        with self._alone():
            for path in paths:
                self._drop(path)

    def ask_if_due(self, order: Callable[[Iterable[str]], list[str]]) -> None:
        """Where something was wanted for as long as is gathered, all that is wanted was asked for, in this order.

        Raises what the program raises; then it is asked for again at the next time.
        """
        with self._alone():
            now = self._now()
            waiting = [w for w in self._all(now) if w.asked is None or now - w.asked > AGAIN_AFTER]
            if not waiting or now - min(w.since for w in waiting) < self._gather:
                return
            for wanted in waiting:
                self._write(replace(wanted, asked=now))
        try:
            self.ask(order(w.path for w in waiting))
        except Exception:
            with self._alone():
                for wanted in filter(None, (self._read(self._file_of(w.path)) for w in waiting)):
                    self._write(replace(wanted, asked=None))
            raise

    def ask(self, paths: Sequence[str]) -> None:
        """The program was given the list of these. Raises what it raises."""
        run_with_list(self._program, os.path.join(self._folder, _LISTS), paths)

    def _all(self, now: datetime) -> list[Wanted]:
        folder = os.path.join(self._folder, _WANTED)
        found = []
        for name in sorted(os.listdir(folder)):
            wanted = self._read(os.path.join(folder, name)) if name.endswith(_SUFFIX) else None
            if wanted is not None and now - wanted.seen > _FORGOTTEN_AFTER:
                self._drop(wanted.path)
            elif wanted is not None:
                found.append(wanted)
        return found

    def _read(self, path: str) -> Wanted | None:
        try:
            with open(path, encoding="ascii") as stream:
                return from_plain(Wanted, json.load(stream))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError, AttributeError):
            return None  # of a power cut; whoever wants it says so again

    def _write(self, wanted: Wanted) -> None:
        replace_file(self._file_of(wanted.path), json.dumps(to_plain(wanted)).encode("ascii"))

    def _drop(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._file_of(path))

    def _file_of(self, path: str) -> str:
        digest = hashlib.sha256(os.fsencode(path)).hexdigest()
        return os.path.join(self._folder, _WANTED, f"{digest[:40]}{_SUFFIX}")

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        if not os.path.isdir(self._folder):
            raise Transient(
                f"tier {self._tier}: there is no folder {shown(self._folder)}",
                hint=f"make it, or correct `spool` of tier {self._tier}",
            )
        with translating(f"tier {self._tier}: its spool"):
            os.makedirs(os.path.join(self._folder, _WANTED), mode=0o700, exist_ok=True)
            with holding(os.path.join(self._folder, _LOCK), f"the recall list of tier {self._tier}", _LOCK_WAIT_S):
                yield


def run_with_list(program: Program, folder: str, paths: Sequence[str]) -> None:
    """A program of the site has done its work with a file that has one path a line. The file stays for an hour, since
    a program may end before what it started has read it. Raises what the program raises, but nothing of one copy.
    """
    with translating("the list of files"):
        os.makedirs(folder, mode=0o700, exist_ok=True)
        _tidy(folder)
        text = "".join(f"{path}\n" for path in paths)
        listed = os.path.join(folder, f"{program.verb}-{os.getpid()}-{os.urandom(4).hex()}")
        replace_file(listed, os.fsencode(text))
    try:
        program.run({"list": listed})
    except NotThere as problem:
        raise Transient(problem.message, hint="of a whole list that says nothing of any copy in it") from problem


def _tidy(folder: str) -> None:
    """Lists of long ago are gone."""
    lists = [os.path.join(folder, name) for name in os.listdir(folder)]
    for path in lists:
        with contextlib.suppress(FileNotFoundError):
            if time.time() - os.stat(path).st_mtime > AGAIN_AFTER.total_seconds():
                os.unlink(path)
