"""verify: re-read replicas now, each to the digests it was recorded with."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from tomovault.core.errors import IntegrityError, Recalling, TomovaultError, Transient
from tomovault.core.manifest import ManifestFile, names_together
from tomovault.core.ports import Action, Bench, ColdTier, Placed, Throttle
from tomovault.core.record import Checked, Outcome, Result
from tomovault.core.replica import Form, ProductKind, StoredFile
from tomovault.core.wire import from_plain
from tomovault.tiers.ground import Ground, hash_below, parts_below, split
from tomovault.tiers.place import Place, check_place
from tomovault.watch.area import AreaIdentity, check_area


@dataclass(frozen=True)
class Area:
    """The area that a replica on disk is in, and its vault."""

    name: str
    path: str
    identity: AreaIdentity
    vault: Place | None = None


@dataclass(frozen=True)
class Absence:
    """Why something is not there, and what to do."""

    message: str
    hint: str


@dataclass(frozen=True)
class Target:
    """One replica to re-read: in an area, or else by its tier. `manifest` is the path of its product's manifest
    text ('' if it has none). `absent` says why its place was not there when the order was made.
    """

    replica: str
    product: ProductKind
    form: Form
    tier: str
    area: Area | None
    location: str
    domain: str
    digest: str
    files: tuple[StoredFile, ...]
    manifest: str
    absent: Absence | None = None


@dataclass(frozen=True)
class Order:
    """Replicas, in any order."""

    targets: tuple[Target, ...]
    threads: int = 2


class Verify:
    """See the module."""

    name: ClassVar[str] = "verify"

    def perform(self, order: Mapping[str, Any], bench: Bench) -> Result:
        """One `Checked` a replica that could be reached. One that could not is left as it was, and if there is such
        a one the outcome is transient: absence is never an order.

        Raises Recalling, with nothing read, while a tier brings what it keeps where it cannot be read: the other copies
        are not read over and over meanwhile.
        """
        wanted = from_plain(Order, dict(order))
        _warm(wanted.targets, bench)
        records = []
        unreached: list[TomovaultError] = []
        for done, target in enumerate(wanted.targets):
            bench.progress(done, len(wanted.targets))
            try:
                _check_there(target)
                problem = _told_of(target, wanted.threads, bench)
                if problem:
                    _check_there(target)  # what was unmounted meanwhile is not damaged
            except TomovaultError as other:
                unreached.append(other)
                continue
            grown = problem.startswith("grown: ")
            records.append(Checked(target.replica, not problem or grown, bench.now(), problem))
        if unreached:
            first = unreached[0]
            told = f"{len(unreached)} of {len(wanted.targets)} copies cannot be re-read now: {first.message}"
            return Result(Outcome.TRANSIENT, tuple(records), error=told, hint=first.hint)
        return Result(Outcome.SUCCEEDED, tuple(records))


def _warm(targets: Sequence[Target], bench: Bench) -> None:
    """All that has to be brought first was asked for. A tier that cannot be asked says so when it is read."""
    cold: list[str] = []
    for name in dict.fromkeys(target.tier for target in targets if target.area is None and target.absent is None):
        with contextlib.suppress(TomovaultError):
            tier = bench.tier(name)
            if isinstance(tier, ColdTier):
                cold += tier.warm([_placed(target) for target in targets if target.tier == name])
    if cold:
        raise Recalling.waiting_for(cold)


def _placed(target: Target) -> Placed:
    return Placed(target.location, target.domain, target.files)


def _check_there(target: Target) -> None:
    """Raises Transient where the area, its vault or the tier's folder is absent."""
    if target.absent is not None:
        raise Transient(target.absent.message, hint=target.absent.hint)
    if target.area is None:
        return
    check_area(target.area.path, target.area.identity)
    if target.form is Form.PACKAGE and target.area.vault is not None:
        check_place(target.area.vault)


def _told_of(target: Target, threads: int, bench: Bench) -> str:
    try:
        return _problem_of(target, threads, bench)
    except IntegrityError as damage:
        return damage.message
    except FileNotFoundError as missing:
        return f"not found: {os.fspath(missing.filename or target.location)}"
    except OSError as other:
        return f"cannot be read: {other.strerror or other}"


def _problem_of(target: Target, threads: int, bench: Bench) -> str:
    if target.area is None:
        return bench.tier(target.tier).verify([_placed(target)], throttle=bench.throttle(target.tier))[0]
    throttle = bench.throttle(target.area.name)
    if target.form is Form.FILES:
        return _problem_of_files(target, target.area, throttle)
    if target.product is ProductKind.PREVIEW:
        from tomovault.package.preview import verify_preview

        found = verify_preview(target.location, throttle=throttle)
        return "" if found == target.digest else "its content has another digest"
    if target.product is ProductKind.VOLUME:
        from tomovault.package.volume import verify_volume

        found = verify_volume(target.location, throttle=throttle)
        return "" if found == target.digest else "its content has another digest"
    from tomovault.package.verify import verify_package

    return verify_package(target.files, throttle=throttle, threads=threads, progress=bench.progress)


def _problem_of_files(target: Target, area: Area, throttle: Throttle) -> str:
    from tomovault.package.manifest import read_text

    try:
        text = Path(target.manifest).read_text("utf-8")
    except OSError as problem:
        raise Transient(f"the manifest {target.manifest} cannot be read: {problem.strerror}") from problem
    bad: list[str] = []
    grown: list[str] = []
    files = read_text(text).contents.files
    _, together = names_together([file.meta.path for file in files])
    outside = os.path.commonpath([area.path, target.location]) != os.path.normpath(area.path)
    below = target.location if outside else area.path  # the texts of a split scan are outside of its area
    above = parts_below(below, target.location)
    with Ground(below) as ground:
        for file in files:
            meta = file.meta
            try:
                wrong = _problem_below(ground, above, meta.path, meta, throttle)
            except FileNotFoundError as failed:
                wrong = failed.strerror or str(failed)
                if together[meta.path] != meta.path:
                    with contextlib.suppress(OSError):
                        wrong = _problem_below(ground, above, together[meta.path], meta, throttle)
            except OSError as failed:
                wrong = failed.strerror or str(failed)
            if wrong == "has grown":
                grown.append(f"{meta.path} has grown")
            elif wrong:
                bad.append(f"{meta.path}: {wrong}")
    if bad:
        return f"{len(bad)} files, first {bad[0]}"
    return f"grown: {', '.join(grown[:3])}" if grown else ""


def _problem_below(ground: Ground, above: list[str], path: str, meta: ManifestFile, throttle: Throttle) -> str:
    folders, name = split(path)
    with ground.folder([*above, *folders]) as fd:
        return _problem_of_file(fd, name, meta, throttle)


def _problem_of_file(fd: int, name: str, meta: ManifestFile, throttle: Throttle) -> str:
    if meta.link_target is not None:
        return "" if os.readlink(name, dir_fd=fd) == meta.link_target else "points elsewhere"
    if meta.hardlink_of is not None and not meta.sha256:
        os.stat(name, dir_fd=fd, follow_symlinks=False)
        return ""
    digest, state = hash_below(fd, name, throttle, length=meta.size, from_disk=True)
    if digest != meta.sha256:
        return "has changed" if state.st_size >= meta.size else "has become shorter"
    return "has grown" if state.st_size > meta.size else ""


PLUGIN: type[Action] = Verify
