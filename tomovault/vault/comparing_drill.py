"""What a fire drill compares: restored files with the manifest, with the originals, and a slice with the volume's."""

from __future__ import annotations

import hashlib
import os
import random
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tomovault.catalog.drills import DrillOutcome
from tomovault.core.errors import IntegrityError, TomovaultError
from tomovault.core.known import KnownScan
from tomovault.core.layout import FrameKind
from tomovault.core.manifest import ManifestFile
from tomovault.core.ports import Engine, Progress, Throttle
from tomovault.core.replica import Form, ProductKind, Replica, StoredFile, TierClass
from tomovault.tiers.ground import Ground, hash_below, parts_below
from tomovault.vault.checkpoints import checkpoint
from tomovault.vault.plugins import load_plugin
from tomovault.vault.vault import Vault
from tomovault.vault.workbench import open_throttle

_BLOCK = 1 << 20


@dataclass(frozen=True)
class Compared:
    """What a drill found. `bad` is what is wrong with the copy, `differs` what could not be reproduced from a good one,
    `put_off` why nothing was found out. `doubted` is the replica of files on disk that are not what was archived.
    """

    bad: str = ""
    differs: str = ""
    put_off: str = ""
    doubted: str = ""
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def outcome(self) -> DrillOutcome:
        """What matters most of it."""
        if self.bad:
            return DrillOutcome.BAD
        if self.put_off:
            return DrillOutcome.WAITING if "asked" in self.facts else DrillOutcome.PUT_OFF
        return DrillOutcome.NOT_REPRODUCED if self.differs else DrillOutcome.PASSED

    @property
    def problem(self) -> str:
        """In words; '' where all is well."""
        return self.bad or self.put_off or self.differs


def compare_restored(
    vault: Vault,
    scan: KnownScan,
    copy: Replica,
    fetched: Sequence[StoredFile],
    scratch: Path,
    floor: int,
    rng: random.Random,
    progress: Progress,
) -> Compared:
    """The package was restored into `scratch` and every byte of every file read again there from the disk.

    Raises IntegrityError where a file is not what the manifest says, NoSpace, and what restoring raises.
    """
    from tomovault.package.reader import PackageReader

    throttle = open_throttle(vault.site, scan.area)
    with PackageReader.open(fetched[0].location, throttle=throttle) as reader:
        if (product := reader.manifest().product) != copy.digest:
            raise IntegrityError(f"it is a package of {product[:12]} and not of {copy.digest[:12]}")
        target = scratch / "files"
        reader.restore(
            str(target),
            job=scratch.name.rpartition(".")[2],
            throttle=throttle,
            progress=progress,
            checkpoint=checkpoint,
            floor_bytes=floor,
        )
        checkpoint("drill.restored")
        files = reader.files()
        size = sum(_check_restored(target, file, throttle) for file in files)
        same, strange = _compare_originals(vault, scan, files, throttle)
        facts: dict[str, Any] = {"files": len(files), "bytes": size, "originals": same}
        differs = f"{strange} is not what was archived, and nothing shows that it was changed" if strange else ""
        sliced, row, why = _compare_slice(vault, scan, reader, rng)
    facts |= {"slice": sliced, **({"row": row} if row >= 0 else {}), **({"no_slice": why} if why else {})}
    if sliced == "differs":
        differs = "; ".join(filter(None, (differs, why)))
    return Compared(differs=differs, doubted=_files_replica(scan) if strange else "", facts=facts)


def _check_restored(target: Path, file: ManifestFile, throttle: Throttle) -> int:
    """Bytes of a restored file, all of them as archived. Raises IntegrityError."""
    from tomovault.package.landing import drop_cache

    path = target / file.path
    if file.link_target is not None:
        if not path.is_symlink() or os.readlink(path) != file.link_target:
            raise IntegrityError(f"{file.path}: it was a link to {file.link_target}, and is not restored as one")
        return 0
    try:
        drop_cache(path)
        size, sha256 = _digest(path, throttle)
    except OSError as problem:
        raise IntegrityError(f"{file.path} was not restored: {problem.strerror}") from problem
    if (size, sha256) != (file.size, file.sha256):
        raise IntegrityError(f"{file.path} is restored with other bytes than were archived")
    return size


def _digest(path: Path, throttle: Throttle) -> tuple[int, str]:
    sha, size = hashlib.sha256(), 0
    for block in _blocks(path):
        throttle.spend(len(block))
        sha.update(block)
        size += len(block)
    return size, sha.hexdigest()


def _blocks(path: Path) -> Iterator[bytes]:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(0, "it is no regular file")
        while block := os.read(fd, _BLOCK):
            yield block
    finally:
        os.close(fd)


def _compare_originals(
    vault: Vault, scan: KnownScan, files: Sequence[ManifestFile], throttle: Throttle
) -> tuple[int, str]:
    """How many files still stand where the scan was written as they were archived, and one that looks untouched and
    has other bytes, '' if there is none. Those that are gone or were changed since say nothing of the archive.
    """
    area = vault.site.areas.get(scan.area)
    if not scan.files_on_disk or area is None or area.host not in (None, vault.host) or scan.area in vault.silent:
        return 0, ""
    same = 0
    with Ground(str(area.path)) as ground:
        for file in files:
            found = _is_as_archived(ground, str(Path(scan.root, file.path)), file, throttle)
            if found is False:
                return same, str(Path(scan.root, file.path))
            same += found is True
    return same, ""


def _is_as_archived(ground: Ground, path: str, file: ManifestFile, throttle: Throttle) -> bool | None:
    """Whether a file that looks as it did when it was packed has those bytes still; None for any other."""
    if file.link_target is not None:
        return None
    try:
        *parts, name = parts_below(ground.root, path)
        with ground.folder(parts) as folder:
            before = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if not stat.S_ISREG(before.st_mode) or (before.st_size, before.st_mtime_ns) != (file.size, file.mtime_ns):
                return None
            sha256, after = hash_below(folder, name, throttle)
    except (OSError, TomovaultError, ValueError):
        return None
    if not sha256 or after.st_ctime_ns != before.st_ctime_ns:
        return None
    return sha256 == file.sha256


def _files_replica(scan: KnownScan) -> str:
    return next((replica.id for replica in scan.replicas_of(ProductKind.ORIGINAL, Form.FILES)), "")


def _compare_slice(vault: Vault, scan: KnownScan, reader: Any, rng: random.Random) -> tuple[str, int, str]:
    """'same', 'differs' or 'none', the row of the slice, and why it is not the same."""
    volume = next(
        (
            replica
            for replica in scan.replicas_of(ProductKind.VOLUME, Form.PACKAGE)
            if replica.good and replica.tier_class is not TierClass.ARCHIVE and os.path.isfile(replica.location)
        ),
        None,
    )
    if volume is None:
        return "none", -1, "no volume of it is on disk"
    if not reader.indices(FrameKind.PROJECTION):
        return "none", -1, "its package keeps its files whole"
    from tomovault.package.reslice import remake_slice

    engine: Engine = load_plugin("engines", vault.site.engine.kind)()
    try:
        made = remake_slice(volume.location, reader, engine, rng.choice, vault.site.jobs.memory_bytes)
    except TomovaultError as problem:
        return "none", -1, problem.message
    if made.skipped:
        return "none", made.row, made.skipped
    if made.same:
        return "same", made.row, ""
    return "differs", made.row, f"row {made.row} of its volume, made again, differs by {made.largest:.2g} of its range"
