"""verify: re-read replicas now, each to the digests it was recorded with."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from tomovault.core.errors import IntegrityError, TomovaultError
from tomovault.core.ports import Action, Bench, Placed
from tomovault.core.record import Checked, Outcome, Result
from tomovault.core.replica import Form, ProductKind, StoredFile, TierClass
from tomovault.core.wire import from_plain
from tomovault.tiers.quarantine import hash_below, open_folder, split


@dataclass(frozen=True)
class Target:
    """One replica to re-read. `manifest` is the path of its product's manifest text ('' if it has none)."""

    replica: str
    product: ProductKind
    form: Form
    tier: str
    tier_class: TierClass
    place: str
    location: str
    domain: str
    digest: str
    files: tuple[StoredFile, ...]
    manifest: str


@dataclass(frozen=True)
class Order:
    """Replicas, in any order."""

    targets: tuple[Target, ...]
    threads: int = 2


class Verify:
    """See the module."""

    name: ClassVar[str] = "verify"

    def perform(self, order: Mapping[str, Any], bench: Bench) -> Result:
        """One `Checked` a replica. What cannot be reached now is left out, and the attempt is tried again."""
        wanted = from_plain(Order, dict(order))
        records = []
        for done, target in enumerate(wanted.targets):
            bench.progress(done, len(wanted.targets))
            try:
                problem = _problem_of(target, wanted.threads, bench)
            except IntegrityError as damage:
                problem = damage.message
            except FileNotFoundError as missing:
                problem = f"not found: {missing.filename}"
            except (OSError, TomovaultError) as other:
                problem = f"cannot be read: {other}"
            grown = problem.startswith("grown: ")
            records.append(Checked(target.replica, not problem or grown, bench.now(), problem))
        return Result(Outcome.SUCCEEDED, tuple(records))


def _problem_of(target: Target, threads: int, bench: Bench) -> str:
    throttle = bench.throttle(target.place)
    if target.tier_class is TierClass.ARCHIVE or target.tier != target.place:
        placed = Placed(target.location, target.domain, target.files)
        return bench.tier(target.tier).verify([placed], throttle=throttle)[0]
    if target.form is Form.FILES:
        return _problem_of_files(target, bench)
    if target.product is ProductKind.PREVIEW:
        from tomovault.package.preview import verify_preview

        return "" if verify_preview(target.location) == target.digest else "its content has another digest"
    if target.product is ProductKind.VOLUME:
        from tomovault.package.volume import verify_volume

        return "" if verify_volume(target.location) == target.digest else "its content has another digest"
    from tomovault.package.verify import verify_package

    return verify_package(target.files, throttle=throttle, threads=threads, progress=bench.progress)


def _problem_of_files(target: Target, bench: Bench) -> str:
    from tomovault.package.manifest import read_text

    throttle = bench.throttle(target.place)
    bad: list[str] = []
    grown: list[str] = []
    for file in read_text(Path(target.manifest).read_text("utf-8")).contents.files:
        meta = file.meta
        if meta.link_target is not None or meta.hardlink_of is not None:
            continue
        parts, name = split(meta.path)
        try:
            with open_folder(target.location, parts) as fd:
                if hash_below(fd, name, throttle) == meta.sha256:
                    continue
                longer = os.stat(name, dir_fd=fd, follow_symlinks=False).st_size > meta.size
        except OSError as problem:
            bad.append(f"{meta.path}: {problem.strerror}")
            continue
        (grown if longer else bad).append(meta.path + (" has grown" if longer else " has changed"))
    if bad:
        return f"{len(bad)} files, first {bad[0]}"
    return f"grown: {', '.join(grown[:3])}" if grown else ""


PLUGIN: type[Action] = Verify
