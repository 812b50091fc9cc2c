"""replicate: add a replica on another disk, of a package on a tier or of the files in another area. Removes nothing."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from tomovault.core.errors import NoRoomYet, NoSpace, SourceChanged, Transient
from tomovault.core.manifest import ManifestFile, names_together
from tomovault.core.mark import Marked, MarkedFile
from tomovault.core.ports import Action, Bench, Parcel
from tomovault.core.record import Outcome, Result, Stored
from tomovault.core.replica import Form, ProductKind
from tomovault.core.wire import from_plain
from tomovault.tiers.arrival import Arrival, Choice, Place
from tomovault.tiers.delivery import deliver
from tomovault.watch.area import AreaIdentity, check_area


@dataclass(frozen=True)
class Order:
    """What to copy, and to which tier; `source` is the replica that the package is."""

    tier: str
    parcels: tuple[Parcel, ...]
    source_place: str
    source: str = ""


@dataclass(frozen=True)
class Area:
    """A watched area, and by what it is recognised."""

    name: str
    path: str
    identity: AreaIdentity


@dataclass(frozen=True)
class FilesOrder:
    """The files below `root` in one area are wanted below `folder` in another, `floor_bytes` of which stay free.

    `key` begins the names of the scan's files in the folder `key_folder` below its root. `stale` are jobs that are over
    and may have left something where files arrive.
    """

    scan: str
    scan_name: str
    digest: str
    manifest: str
    root: str
    source: Area
    target: Area
    domain: str
    folder: str
    key: str
    key_folder: str
    bytes: int
    floor_bytes: int
    stale: tuple[str, ...] = ()


class Replicate:
    """See the module."""

    name: ClassVar[str] = "replicate"

    def perform(self, order: Mapping[str, Any], bench: Bench) -> Result:
        """The tier, or the area, holds a copy that was re-read from its disk.

        Files appear under their names whole and marked as ours. Raises NoRoomYet where the area has no room for them,
        with nothing left there; SourceChanged where the files are not those that were packed; Refused where every
        name is taken; Unfinished, with a word about it, where the package itself is bad.
        """
        if "tier" not in order:
            return _copy_files(from_plain(FilesOrder, dict(order)), bench)
        return _copy_package(from_plain(Order, dict(order)), bench)


def _copy_package(wanted: Order, bench: Bench) -> Result:
    from tomovault.package.recheck import suspecting

    tier = bench.tier(wanted.tier)
    with suspecting(wanted.source, wanted.parcels[0].files, bench, wanted.source_place):
        stored = deliver(
            tier,
            wanted.parcels,
            tier.domains()[0],
            job=bench.job,
            now=bench.now,
            may_continue=bench.token_is_current,
            throttle=bench.throttle(wanted.source_place),
            checkpoint=bench.checkpoint,
        )
    return Result(Outcome.SUCCEEDED, tuple(stored))


def _copy_files(wanted: FilesOrder, bench: Bench) -> Result:
    for area in (wanted.source, wanted.target):
        check_area(area.path, area.identity)
    files = _listed(wanted.manifest)
    top, names = names_together([f.path for f in files])
    arrival = Arrival(
        job=bench.job,
        root=wanted.root,
        files=files,
        names=names,
        reading=bench.throttle(wanted.source.name),
        writing=bench.throttle(wanted.target.name),
        checkpoint=bench.checkpoint,
        progress=bench.progress,
        top=top,
    )
    key_folder = "" if wanted.key_folder == top else wanted.key_folder
    place = Place(wanted.target.path, wanted.folder, wanted.key, key_folder)
    try:
        bench.checkpoint("move.begin")
        choice = arrival.choose(place)
        _check_room(wanted, sum(f.size for f in files if names[f.path] not in choice.kept))
        staged = arrival.stage(place, choice)
        written_at = bench.now()
        check_area(wanted.target.path, wanted.target.identity)
        arrival.put_in_place(place, choice, staged, _mark(wanted, files, names, bench))
    except NoSpace as full:
        arrival.clean_up(wanted.target.path, wanted.stale)
        raise NoRoomYet(f"area {wanted.target.name} has no room: {full.message}", hint=full.hint) from full
    except Exception:
        arrival.clean_up(wanted.target.path, wanted.stale)
        raise
    arrival.clean_up(wanted.target.path, wanted.stale)
    return Result(Outcome.SUCCEEDED, (_stored(wanted, choice, written_at, bench),), error=_told(wanted, choice))


def _listed(manifest: str) -> list[ManifestFile]:
    from tomovault.package.manifest import read_text

    try:
        text = Path(manifest).read_text("utf-8")
    except OSError as problem:
        raise Transient(f"the manifest {manifest} cannot be read: {problem.strerror}") from problem
    files = [file.meta for file in read_text(text).contents.files]
    if not files:
        raise SourceChanged(f"{manifest} lists no file")
    return files


def _check_room(wanted: FilesOrder, count: int) -> None:
    room = os.statvfs(wanted.target.path)
    free = room.f_bavail * room.f_frsize
    if free - count < wanted.floor_bytes:
        raise NoSpace(
            f"{free} bytes are free, {count} more would cross the floor of {wanted.floor_bytes}",
            hint="it goes on by itself when there is room",
        )


def _mark(wanted: FilesOrder, files: list[ManifestFile], names: Mapping[str, str], bench: Bench) -> Marked:
    return Marked(
        area=wanted.target.identity.uuid or "",
        scan=wanted.scan,
        digest=wanted.digest,
        whole=True,
        job=bench.job,
        at=bench.now().isoformat(),
        files=tuple(MarkedFile(names[f.path], f.size, f.mtime_ns, f.sha256, f.link_target) for f in files),
    )


def _stored(wanted: FilesOrder, choice: Choice, written_at: Any, bench: Bench) -> Stored:
    return Stored(
        kind=ProductKind.ORIGINAL,
        digest=wanted.digest,
        form=Form.FILES,
        tier=wanted.target.name,
        domain=wanted.domain,
        location=choice.folder,
        files=(),
        bytes=wanted.bytes,
        sha256=wanted.digest,
        written_at=written_at,
        verified_at=written_at,
    )


def _told(wanted: FilesOrder, choice: Choice) -> str:
    return f"its files are in {choice.folder}, since {choice.why}" if choice.folder != wanted.folder else ""


PLUGIN: type[Action] = Replicate
