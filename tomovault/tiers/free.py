"""Reading that nobody has to wait for."""

from __future__ import annotations


class NoThrottle:
    """For a tier's own disk, which no acquisition writes to."""

    def spend(self, count: int) -> None:
        """Return at once."""


FREE = NoThrottle()
