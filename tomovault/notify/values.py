"""Values that channels of several kinds have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

#: Names of this machine: to it alone what is secret may travel in the clear.
THIS_MACHINE = ("127.0.0.1", "::1", "localhost")

_TIMEOUT_S = 30.0


def problem_of_timeout(options: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What is wrong with `timeout`."""
    seconds = options.get("timeout", _TIMEOUT_S)
    if not isinstance(seconds, (int, float)) or not 0 < seconds <= 600:
        yield "timeout", "a channel is waited for between 1s and 10m"


def timeout_of(options: Mapping[str, Any]) -> float:
    """Seconds until a channel that does not answer is given up for now."""
    return float(options.get("timeout", _TIMEOUT_S))
