"""prune, phase one: under a permit, move one replica's files into quarantine; nothing is removed yet."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from tomovault.actions._ground import require_ground
from tomovault.core.errors import Transient
from tomovault.core.ports import Action, Bench
from tomovault.core.record import Outcome, Quarantined, Result
from tomovault.core.replica import Form, StoredFile
from tomovault.core.scan import FileRole
from tomovault.core.wire import from_plain
from tomovault.package.manifest import read_text
from tomovault.tiers import place as marked
from tomovault.tiers.note import leave_note
from tomovault.tiers.quarantine import Place, Victim, move_in
from tomovault.watch.area import AreaIdentity, disk_space


@dataclass(frozen=True)
class Order:
    """Which replica goes, and where to. The place is below the area's root (files) or its vault (package).

    What is on no area but on a `tier` is recognised by that one's marker.

    With `as_it_is` a package goes whatever its bytes are. `within` is the folder on the manifest that the place's root
    is, where that is not all of it: no other file goes.
    """

    permit: str
    form: Form
    area: str
    area_path: str
    identity: AreaIdentity | None
    place: Place
    manifest: str
    files: tuple[StoredFile, ...]
    keep: tuple[str, ...]
    readme: str
    within: str = ""
    tier: marked.Place | None = None
    as_it_is: bool = False


class Prune:
    """See the module."""

    name: ClassVar[str] = "prune"

    def perform(self, order: Mapping[str, Any], bench: Bench) -> Result:
        """What is as it was packed lies in quarantine; a text file in the scan's folder says where the data is."""
        wanted = from_plain(Order, dict(order))
        require_ground(wanted)
        if disk_space(wanted.place.below) is None:
            raise Transient(f"{wanted.place.below}: its file system does not say how full it is in a way that can be")
        victims = _files_of(wanted) if wanted.form is Form.FILES else _package_of(wanted)
        bench.checkpoint("prune.begin")
        outcome = move_in(
            wanted.place,
            victims,
            keep=frozenset(_inner(wanted.keep, wanted.within).values()),
            may_continue=bench.token_is_current,
            throttle=bench.throttle(wanted.area),
            checkpoint=bench.checkpoint,
        )
        if wanted.form is Form.FILES:
            leave_note(wanted.place.below, wanted.place.root, wanted.readme, bench.job, bench.checkpoint)
        bench.checkpoint("prune.done")
        record = Quarantined(
            permit=wanted.permit,
            moved=tuple(outcome.moved),
            bytes=outcome.bytes,
            left=tuple(outcome.left),
            missing=tuple(outcome.missing),
        )
        return Result(Outcome.SUCCEEDED, (record,))


def _files_of(wanted: Order) -> list[Victim]:
    metas = [file.meta for file in read_text(Path(wanted.manifest).read_text("utf-8")).contents.files]
    digests = {meta.path: meta.sha256 for meta in metas}
    inner = _inner(digests, wanted.within)
    return [
        Victim(
            path=inner[meta.path],
            size=meta.size,
            sha256=meta.sha256 or digests.get(meta.hardlink_of or "", ""),
            mtime_ns=meta.mtime_ns,
            ctime_ns=meta.ctime_ns,
            inode=meta.inode,
            link_target=meta.link_target,
            may_vanish=meta.role in (FileRole.FLAT, FileRole.DARK),
        )
        for meta in metas
        if meta.path in inner
    ]


def _inner(paths: Iterable[str], within: str) -> dict[str, str]:
    """Each path that is in the folder, with its path below it."""
    prefix = f"{within}/" if within else ""
    return {path: path[len(prefix) :] for path in paths if path.startswith(prefix)}


def _package_of(wanted: Order) -> list[Victim]:
    return [
        Victim(os.path.relpath(f.location, wanted.place.root), f.size, f.sha256, as_it_is=wanted.as_it_is)
        for f in wanted.files
    ]


PLUGIN: type[Action] = Prune
