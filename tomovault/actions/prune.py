"""prune, phase one: under a permit, move one replica's files into quarantine; nothing is removed yet."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from tomovault.core.ports import Action, Bench, Checkpoint
from tomovault.core.record import Outcome, Quarantined, Result
from tomovault.core.replica import Form, StoredFile
from tomovault.core.wire import from_plain
from tomovault.package.manifest import read_text
from tomovault.tiers.quarantine import Victim, move_in

#: Written into a pruned scan's folder; the watcher ignores it.
README_NAME = "TOMOVAULT-README.txt"


@dataclass(frozen=True)
class Order:
    """Which replica goes, and where to. `below` is the area's root (files) or the vault (package)."""

    permit: str
    form: Form
    area: str
    below: str
    root: str
    quarantine: str
    manifest: str
    files: tuple[StoredFile, ...]
    keep: tuple[str, ...]
    readme: str


class Prune:
    """See the module."""

    name: ClassVar[str] = "prune"

    def perform(self, order: Mapping[str, Any], bench: Bench) -> Result:
        """What is as it was packed lies in quarantine; a text file in the scan's folder says where the data is."""
        wanted = from_plain(Order, dict(order))
        victims = _files_of(wanted) if wanted.form is Form.FILES else _package_of(wanted)
        bench.checkpoint("prune.begin")
        outcome = move_in(
            wanted.below,
            wanted.root,
            victims,
            wanted.quarantine,
            keep=frozenset(wanted.keep),
            may_continue=bench.token_is_current,
            throttle=bench.throttle(wanted.area),
            checkpoint=bench.checkpoint,
        )
        if wanted.form is Form.FILES and outcome.moved:
            write_readme(wanted.root, wanted.readme, bench.job, bench.checkpoint)
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
    manifest = read_text(Path(wanted.manifest).read_text("utf-8"))
    metas = [file.meta for file in manifest.contents.files]
    digests = {meta.path: meta.sha256 for meta in metas}
    return [
        Victim(
            path=meta.path,
            size=meta.size,
            sha256=meta.sha256 or digests.get(meta.hardlink_of or "", ""),
            mtime_ns=meta.mtime_ns,
            ctime_ns=meta.ctime_ns,
            inode=meta.inode,
            link_target=meta.link_target,
        )
        for meta in metas
    ]


def _package_of(wanted: Order) -> list[Victim]:
    return [Victim(os.path.relpath(f.location, wanted.root), f.size, f.sha256) for f in wanted.files]


def write_readme(folder: str, text: str, job: str, checkpoint: Checkpoint) -> None:
    """The scan's folder tells where its data went, and how to get it back."""
    target = Path(folder, README_NAME)
    temporary = target.with_name(f".{README_NAME}.{job}")
    temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
    checkpoint("prune.readme")
    temporary.replace(target)


PLUGIN: type[Action] = Prune
