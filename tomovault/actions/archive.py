"""archive: add replicas on an archive tier, one in each failure domain that lacks one. Removes nothing."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from tomovault.core.errors import IntegrityError, Recalling
from tomovault.core.ports import Action, Bench, ColdTier, Parcel, Placed
from tomovault.core.record import Checked, Outcome, Record, Result, Unfinished
from tomovault.core.wire import from_plain
from tomovault.tiers.delivery import deliver
from tomovault.tiers.recall import recall


@dataclass(frozen=True)
class Recall:
    """Which good copy of the one parcel on an archive tier is read, and the folder on disk it passes through."""

    tier: str
    placed: Placed
    folder: str
    floor_bytes: int
    replica: str


@dataclass(frozen=True)
class Order:
    """What to write, and into which failure domains of which tier, from the package on disk that the replica `source`
    is; with `recall` none is on disk any more.
    """

    tier: str
    domains: tuple[str, ...]
    parcels: tuple[Parcel, ...]
    source_place: str
    recall: Recall | None = None
    source: str = ""


class Archive:
    """See the module."""

    name: ClassVar[str] = "archive"

    def perform(self, order: Mapping[str, Any], bench: Bench) -> Result:
        """Each domain holds a copy that was re-read after a remount, one `Stored` record a copy.

        Raises NoRoomYet where the tier is full, NoSpace where what is recalled for it would cross the floor, NotYet
        while that is on its way, and Unfinished with the copies that were made where a later one failed, and with the
        word that the package worked from is bad where it is.
        """
        wanted = from_plain(Order, dict(order))
        tier = bench.tier(wanted.tier)
        records: list[Record] = []
        if wanted.recall is not None and isinstance(tier, ColdTier) and (cold := tier.cold_of(wanted.parcels)):
            raise Recalling.waiting_for(cold)  # else the source would be brought at each try, and waited in vain
        with _parcels_on_disk(wanted, bench) as parcels:
            for done, domain in enumerate(wanted.domains):
                bench.progress(done, len(wanted.domains))
                try:
                    records += deliver(
                        tier,
                        parcels,
                        domain,
                        job=f"{bench.job}-{domain}",
                        now=bench.now,
                        may_continue=bench.token_is_current,
                        throttle=bench.throttle(wanted.source_place),
                        checkpoint=bench.checkpoint,
                    )
                except Exception as problem:
                    records += _source_if_bad(wanted, problem, bench)
                    if not records:
                        raise
                    raise Unfinished(records) from problem
        return Result(Outcome.SUCCEEDED, tuple(records))


def _source_if_bad(wanted: Order, problem: Exception, bench: Bench) -> Sequence[Record]:
    if wanted.recall is not None or not isinstance(problem, IntegrityError):
        return ()
    from tomovault.package.recheck import recheck_package

    return recheck_package(wanted.source, wanted.parcels[0].files, bench, wanted.source_place)


@contextlib.contextmanager
def _parcels_on_disk(wanted: Order, bench: Bench) -> Iterator[Sequence[Parcel]]:
    """The parcels with files that can be read here; what was recalled for it is gone afterwards."""
    where = wanted.recall
    if where is None:
        yield wanted.parcels
        return
    (parcel,) = wanted.parcels
    arriving = Path(where.folder, f".recall.{bench.job}")
    try:
        try:
            fetched = recall(
                bench.tier(where.tier),
                where.placed,
                arriving,
                name=parcel.scan_name,
                floor_bytes=where.floor_bytes,
                may_continue=bench.token_is_current,
                throttle=bench.throttle(wanted.source_place),
                progress=bench.progress,
                checkpoint=bench.checkpoint,
            )
        except IntegrityError as damage:
            bad = Checked(where.replica, ok=False, at=bench.now(), reason=f"when recalled: {damage.message}")
            raise Unfinished([bad]) from damage
        bench.checkpoint("archive.recalled")
        yield [replace(parcel, files=tuple(fetched))]
    finally:
        shutil.rmtree(arriving, ignore_errors=True)


PLUGIN: type[Action] = Archive
