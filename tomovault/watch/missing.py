"""Candidates that were there and are not: told once, counted until they are back or a judgement is made."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tomovault.core.scan import Candidate


@dataclass(slots=True)
class _Lost:
    relative: str
    sweeps: int = 0
    told: bool = False


class Missing:
    """Remembers what is missing, where it was, and how many sweeps found it missing.

    What is `leaving` is being taken away by us: it may be there or not, and is neither told nor counted.
    """

    def __init__(self) -> None:
        self._lost: dict[Candidate, _Lost] = {}
        self.leaving: set[Candidate] = set()

    def add(self, candidate: Candidate, relative: str) -> None:
        """It was at `relative` below the root, and is not."""
        self._lost.setdefault(candidate, _Lost(relative))

    def drop(self, candidate: Candidate) -> None:
        """It is there again, or known to be gone."""
        if self._lost:  # a candidate takes longer to hash than this to ask
            self._lost.pop(candidate, None)

    def confirm(self, is_gone: Callable[[Candidate, str], bool]) -> None:
        """Count one more sweep for each whose place was read. Not called for a sweep that is not believed."""
        for candidate, lost in self._lost.items():
            if candidate not in self.leaving:
                lost.sweeps += is_gone(candidate, lost.relative)

    def untold(self) -> tuple[Candidate, ...]:
        """Those that were not reported yet: they count as known, so that a stop by the brake persists."""
        untold = (candidate for candidate, lost in self._lost.items() if not lost.told)
        return tuple(candidate for candidate in untold if candidate not in self.leaving)

    def mark_told(self, candidates: Iterable[Candidate]) -> None:
        """They were reported."""
        for candidate in candidates:
            self._lost[candidate].told = True

    def all(self) -> tuple[tuple[Candidate, int], ...]:
        """Everything missing, with the number of sweeps that confirmed it."""
        confirmed = ((candidate, lost.sweeps) for candidate, lost in self._lost.items() if lost.sweeps)
        return tuple((candidate, sweeps) for candidate, sweeps in confirmed if candidate not in self.leaving)
