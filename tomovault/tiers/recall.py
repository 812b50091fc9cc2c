"""Bringing a package back from a tier that has to make it readable first."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from tomovault.core.errors import IntegrityError, NoSpace, NotYet, UserError
from tomovault.core.ports import Checkpoint, Placed, Progress, Throttle, Tier
from tomovault.core.replica import StoredFile
from tomovault.tiers.claim import require_claim


def recall(
    tier: Tier,
    placed: Placed,
    folder: Path,
    *,
    name: str,
    floor_bytes: int,
    may_continue: Callable[[], bool],
    throttle: Throttle,
    progress: Progress,
    checkpoint: Checkpoint,
) -> list[StoredFile]:
    """The files of a package are in `folder`, made anew, each with the digest that it was stored with.

    Raises NotYet while the tier is still bringing them, which goes on meanwhile; NoSpace where less than
    `floor_bytes` would stay free; IntegrityError where the tier cannot bring them or they are damaged; Transient where
    the claim on the job was lost. The folder is the caller's to remove, then too.
    """
    require_claim(may_continue, "recalled")
    ticket = _ready(tier, placed.location)
    try:
        checkpoint("recall.staged")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        need = sum(file.size for file in placed.files)
        free = shutil.disk_usage(folder).free
        if free - need < floor_bytes:
            raise NoSpace(
                f"recalling {name} needs {need} bytes in {folder.parent}, "
                f"{free} are free and {floor_bytes} are kept free"
            )
        require_claim(may_continue, "recalled")
        return list(tier.fetch(placed, str(folder), throttle=throttle, progress=progress))
    finally:
        tier.release(ticket)


def _ready(tier: Tier, location: str) -> str:
    ticket = tier.stage([location])
    try:
        state = tier.poll(ticket)[location]
    except UserError as problem:
        # Another job that wants the same package has the same ticket, and was done with it just now.
        raise NotYet(f"{tier.name}: {problem.message}") from problem
    if state == "pending":
        raise NotYet(f"{tier.name} is still bringing {location} back")
    if state != "ready":
        tier.release(ticket)
        raise IntegrityError(f"{tier.name} cannot bring {location} back: {state}")
    return ticket
