"""The facts about a product that an engine made and that stands on a disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from tomovault.core.errors import IntegrityError
from tomovault.core.ports import Engine
from tomovault.core.record import Made, Processing, Stored
from tomovault.core.replica import Form, ProductKind, StoredFile


def facts_of_made(
    kind: ProductKind,
    digest: str,
    files: Sequence[StoredFile],
    *,
    name: str,
    re_read: Callable[[str], str],
    engine: Engine | None,
    parameters: Mapping[str, Any],
    started_at: datetime,
    tier: str,
    domain: str,
    now: Callable[[], datetime],
) -> tuple[Made, Stored]:
    """The product with its engine, if one was run, and every parameter as it was used, and its copy, which was re-read
    just now.

    `re_read` tells the digest of what a file holds. Raises IntegrityError where that is not `digest`.
    """
    written_at = now()
    if re_read(files[0].location) != digest:
        raise IntegrityError(f"the {kind} of {name} does not re-read to its digest")
    verified_at = now()
    processing = None
    if engine is not None:
        processing = Processing(
            engine=engine.name,
            engine_version=engine.version(),
            parameters={"purpose": kind.value, **parameters},
            started_at=started_at,
            finished_at=verified_at,
            outputs=(digest,),
        )
    size = sum(file.size for file in files)
    stored = Stored(
        kind=kind,
        digest=digest,
        form=Form.PACKAGE,
        tier=tier,
        domain=domain,
        location=files[0].location,
        files=tuple(files),
        bytes=size,
        sha256=files[0].sha256,
        written_at=written_at,
        verified_at=verified_at,
    )
    return Made(kind, digest, size, len(files), processing=processing), stored
