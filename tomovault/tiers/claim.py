"""The last question before anything is removed, put back, or a cartridge is moved: is this job still ours (law 7)?"""

from __future__ import annotations

from collections.abc import Callable

from tomovault.core.errors import Transient


def require_claim(may_continue: Callable[[], bool], done: str) -> None:
    """To be asked immediately before each such call. Raises Transient where the claim on the job was lost."""
    if not may_continue():
        raise Transient(f"the claim on this job was lost; nothing more was {done}")
