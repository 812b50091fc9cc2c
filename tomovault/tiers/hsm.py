"""Files that an HSM has on tape only: what stands in their place on its disk, and the site's programs for them.

A stub has the size of its file and no blocks, or those of the few bytes that the HSM leaves. To open one changes
nothing; to read one makes the HSM bring it, one file at a time and in the order of asking. So a site names a program
that brings many at once (`recall`) and one that sends files to tape (`migrate`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from tomovault.core.errors import NotYet, Transient, UserError
from tomovault.tiers.blocks import shown, translating
from tomovault.tiers.bulk_recall import BulkRecall, run_with_list
from tomovault.tiers.claim import require_claim
from tomovault.tiers.ltfs_attributes import in_tape_order
from tomovault.tiers.options import folder_option, number_option, size_option
from tomovault.tiers.program import Program, program_option

#: The keys of the site's file that are about this.
HSM_OPTIONS = frozenset({"recall", "migrate", "spool", "stub", "gather", "timeout"})

_LIST = frozenset({"list"})
_LISTS = "lists"
_DAY_S = 86400.0
_GATHER_S = 60.0
_BLOCK_BYTES = 512
_FIRST_LOOK_S = 0.05
_SLOWEST_LOOK_S = 30.0


def is_offline(state: os.stat_result, left_bytes: int) -> bool:
    """Whether a file is a stub, where the HSM leaves `left_bytes` of a file on its disk at most."""
    left = left_bytes if state.st_size > left_bytes else 0
    return state.st_size > 0 and state.st_blocks * _BLOCK_BYTES <= left


class Hsm:
    """The stubs of one tier. Without the programs nothing is sent or brought; then reading a stub brings it."""

    def __init__(self, tier: str, path: str, options: Mapping[str, Any], *, now: Callable[[], datetime]) -> None:
        self._tier = tier
        #: Asked before each program (law 7).
        self.may_continue: Callable[[], bool] = lambda: True
        self._left_bytes = size_option(tier, options, "stub", 0)
        self._timeout_s = number_option(tier, options, "timeout", _DAY_S)
        gather = timedelta(seconds=number_option(tier, options, "gather", _GATHER_S))
        recall, self._migrate = (
            program_option(tier, options, verb, _LIST, _LIST, self._timeout_s) for verb in ("recall", "migrate")
        )
        self._programs: tuple[Program, ...] = tuple(filter(None, (recall, self._migrate)))
        self._spool = folder_option(tier, options, "spool") if self._programs else ""
        if self._programs and not path.isprintable():
            raise UserError(f"tier {tier}: a list of files, one a line, cannot name {shown(path)}")
        self._recall = None if recall is None else BulkRecall(tier, self._spool, recall, gather, now=now)

    def offline_of(self, paths: Iterable[str]) -> list[str]:
        """Those of the paths that are stubs; what is not there is none. Raises Transient."""
        found = []
        with translating(f"tier {self._tier}"):
            for path in paths:
                try:
                    state = os.stat(path, follow_symlinks=False)
                except (FileNotFoundError, NotADirectoryError):
                    continue
                if is_offline(state, self._left_bytes):
                    found.append(path)
        return found

    def is_away(self, path: str) -> bool:
        """Whether a file has to be brought by the site's program before it is read."""
        return self._recall is not None and bool(self.offline_of([path]))

    def send_to_tape(self, paths: Sequence[str]) -> None:
        """Where the site has a program for it, these files are on tape only: what is read of them now comes from there.

        Raises what the program raises, and Transient where one is on disk still.
        """
        if self._migrate is None:
            return
        there = [path for path in paths if os.path.lexists(path)]
        if wanted := _without(there, self.offline_of(there)):
            require_claim(self.may_continue, "sent to tape")
            run_with_list(self._migrate, os.path.join(self._spool, _LISTS), wanted)
        if left := _without(there, self.offline_of(there)):
            raise Transient(
                f"tier {self._tier}: {shown(left[0])} is on disk still after `migrate`: to read it proves no tape",
                hint="`migrate` has to end when the files are on tape and only stubs are left; see `stub`, too",
            )

    def bring(self, paths: Iterable[str]) -> None:
        """None of these is a stub any more, where the site has a program for that.

        Raises what that raises, and NotYet where it takes too long.
        """
        if self._recall is None or not (offline := self.offline_of(paths)):
            return
        require_claim(self.may_continue, "recalled")
        self._recall.ask(in_tape_order(offline))
        end, pause = time.monotonic() + self._timeout_s, _FIRST_LOOK_S
        while offline := self.offline_of(offline):
            if time.monotonic() > end:
                raise NotYet(f"tier {self._tier}: {shown(offline[0])} was not back within {self._timeout_s:g} s")
            time.sleep(pause)
            pause = min(2 * pause, _SLOWEST_LOOK_S)

    def want(self, paths: Iterable[str]) -> None:
        """Those of these that are stubs are asked for with what else is wanted, as soon as that is due."""
        if self._recall is not None and (offline := self.offline_of(paths)):
            require_claim(self.may_continue, "recalled")
            self._recall.want(offline)
            self._recall.ask_if_due(in_tape_order)

    def ask_if_due(self) -> None:
        """What was wanted for long enough was asked for. Raises what the program raises."""
        if self._recall is not None:
            require_claim(self.may_continue, "recalled")
            self._recall.ask_if_due(in_tape_order)

    def forget(self, paths: Iterable[str]) -> None:
        """These are wanted no more."""
        if self._recall is not None:
            self._recall.forget(paths)

    def problem(self) -> str:
        """Why the site's programs cannot be used, '' where they can, as far as can be seen without starting them."""
        for program in self._programs:
            if not os.access(program.words[0], os.X_OK):
                return f"`{program.verb}`: {program.words[0]} cannot be started"
        if self._spool and not os.access(self._spool, os.R_OK | os.W_OK | os.X_OK):
            return f"`spool`: {shown(self._spool)} is no folder that can be written"
        return ""


def _without(paths: Sequence[str], others: Iterable[str]) -> list[str]:
    known = set(others)
    return [path for path in paths if path not in known]
