"""restore: give a person data back, bit for bit, from the nearest good copy or from a named tier."""

from __future__ import annotations

import contextlib
import fnmatch
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

from tomovault.core.errors import IntegrityError, InUse, Transient, UserError
from tomovault.core.layout import FrameKind
from tomovault.core.mark import Marked, MarkedFile
from tomovault.core.ports import Action, Bench, Placed, Throttle
from tomovault.core.record import Checked, GivenBack, GivenFile, Outcome, Record, Result, Stored, Unfinished
from tomovault.core.replica import Form, ProductKind, StoredFile, TierClass
from tomovault.core.wire import from_plain
from tomovault.tiers.copying import copy_stored
from tomovault.tiers.ground import Ground, exists, hash_below, parts_below, split
from tomovault.tiers.note import leave_note
from tomovault.tiers.recall import recall
from tomovault.tiers.restored_mark import leave_mark
from tomovault.watch.area import AreaIdentity, check_area


@dataclass(frozen=True)
class Source:
    """A good copy to read from. `on_disk` ones are read in place, others are recalled first."""

    replica: str
    tier: str
    tier_class: TierClass
    domain: str
    location: str
    files: tuple[StoredFile, ...]
    on_disk: bool


@dataclass(frozen=True)
class Recall:
    """Where a recalled package is put, and until when it stays there; not `keep` where a good one is there already.
    What stands at a location of `own` is this scan's.
    """

    area: str
    domain: str
    folder: str
    floor_bytes: int
    pinned_until: datetime
    keep: bool = True
    own: tuple[str, ...] = ()


@dataclass(frozen=True)
class Watched:
    """The area that the target is in. It is recognised before a tape moves for it, before anything is written there
    and before that is recorded: an empty folder under a mount point is not the area (law 3).
    """

    area: str
    path: str
    identity: AreaIdentity
    domain: str


@dataclass(frozen=True)
class Home:
    """The target is where the scan was written: what is restored whole is a replica again, held until then.

    `readme` is what the text file about pruned scans says from then on, nothing if it is empty.
    """

    bytes: int
    pinned_until: datetime
    readme: str


@dataclass(frozen=True)
class Elsewhere:
    """The target is in a watched area and not where the scan was written: what is put there carries a mark. If it is
    the `whole` original it is one more replica.
    """

    scan: str
    bytes: int
    whole: bool


@dataclass(frozen=True)
class Order:
    """What is asked for, and the copies to try in order. A selection is at most one of the four kinds.

    `floor_bytes` stay free where the target lies. `home` and `elsewhere` are of a target that is `watched`.
    """

    scan_name: str
    root: str
    product: ProductKind
    digest: str
    sources: tuple[Source, ...]
    target: str
    recall: Recall | None = None
    watched: Watched | None = None
    home: Home | None = None
    elsewhere: Elsewhere | None = None
    files: tuple[str, ...] = ()
    frames: tuple[int, int] | None = None
    kind: str | None = None
    overwrite: bool = False
    floor_bytes: int = 0


class Restore:
    """See the module."""

    name: ClassVar[str] = "restore"

    def perform(self, order: Mapping[str, Any], bench: Bench) -> Result:
        """The data stands below the target folder, every byte compared with its digest on the way.

        A copy that turns out damaged is recorded so and the next one is tried; with none left the data is damaged.
        One whose folder is not there is passed over, and so is one whose drive or cartridge others use for long, as far
        as there is another. Raises Unfinished with what was recorded where another trouble than a copy's ends it,
        Transient where the target goes away or its area is not there, NotYet while a tape is on its way or in use.
        """
        wanted = from_plain(Order, dict(order))
        if not wanted.sources:
            raise UserError(f"{wanted.scan_name}: no good copy of its {wanted.product} is known")
        _make_target(wanted)
        bad: list[Record] = []
        problems = []
        in_use: InUse | None = None
        for source in wanted.sources:
            try:
                if _is_absent(source):
                    problems.append(f"{source.tier} {source.location}: its folder is not there")
                    continue
                result = _restore_from(source, wanted, bench)
            except IntegrityError as damage:
                problems.append(f"{source.tier} {source.location}: {damage}")
                bad.append(Checked(source.replica, ok=False, at=bench.now(), reason=f"when restored from: {damage}"))
            except InUse as busy:
                in_use = in_use or busy
            except Exception as problem:
                if not bad:
                    raise
                raise Unfinished(bad) from problem
            else:
                return replace(result, records=(*bad, *result.records))
        if in_use is not None:
            if not bad:
                raise in_use
            raise Unfinished(bad) from in_use
        if not bad:
            raise Transient("no copy can be reached: " + "; ".join(problems), hint="is its file system mounted?")
        return Result(
            Outcome.DAMAGED,
            tuple(bad),
            error="no copy could be read: " + "; ".join(problems),
            hint=f"tomovault verify {wanted.scan_name}",
        )


def _is_absent(source: Source) -> bool:
    """Whether the folder of a copy on disk is missing, which says nothing of the copy.

    Raises IntegrityError where the folder is there and lacks one of the files.
    """
    if not source.on_disk:
        return False
    for file in source.files:
        if not os.path.isdir(os.path.dirname(file.location)):
            return True
        if not os.path.exists(file.location):
            raise IntegrityError(f"{file.location} is not there")
    return False


def _make_target(wanted: Order) -> None:
    target, watched = wanted.target, wanted.watched
    try:
        if watched is None:
            os.makedirs(target, exist_ok=True)
            return
        _check_watched(wanted)
        with Ground(watched.path) as ground, ground.folder(parts_below(watched.path, target), create=0o777):
            pass
    except OSError as problem:
        raise UserError(f"{target}: {problem.strerror}", hint="choose a folder that can be written") from problem


def _check_watched(wanted: Order) -> None:
    """Raises AreaAbsent where the target is in an area that is not there."""
    if wanted.watched is not None:
        check_area(wanted.watched.path, wanted.watched.identity)


def _mark(files: Sequence[MarkedFile], wanted: Order, bench: Bench) -> None:
    """Before a file stands under its name in a watched area it is on the mark of its folder (law 3)."""
    watched, elsewhere = wanted.watched, wanted.elsewhere
    if watched is None or elsewhere is None:
        return
    marked = Marked(
        area=watched.identity.uuid or "",
        scan=elsewhere.scan,
        digest=wanted.digest,
        whole=elsewhere.whole,
        job=bench.job,
        at=bench.now().isoformat(),
        files=tuple(files),
    )
    leave_mark(watched.path, wanted.target, marked, bench.checkpoint)


def _restore_from(source: Source, wanted: Order, bench: Bench) -> Result:
    if source.on_disk:
        return Result(Outcome.SUCCEEDED, _give(source.files, source, wanted, bench))
    where = wanted.recall
    if where is None:
        raise UserError(f"{wanted.scan_name}: no area has room for what is recalled")
    arriving = Path(where.folder, f".recall.{bench.job}")
    try:
        fetched = _fetch(source, wanted, where, arriving, bench)
        stored = _keep(fetched, wanted, where, bench) if where.keep else None
        if stored is None:
            return Result(Outcome.SUCCEEDED, _give(fetched, source, wanted, bench))
    finally:
        shutil.rmtree(arriving, ignore_errors=True)
    return Result(Outcome.SUCCEEDED, (stored, *_give(stored.files, source, wanted, bench)))


def _give(files: Sequence[StoredFile], source: Source, wanted: Order, bench: Bench) -> tuple[Record, ...]:
    bench.checkpoint("restore.begin")
    _check_watched(wanted)
    with _reached(wanted.target):
        if wanted.product is ProductKind.ORIGINAL:
            given = _give_original(files, source, wanted, bench)
        else:
            given = _give_copy(files, source, wanted, bench)
        _check_watched(wanted)
        if wanted.watched is not None and wanted.home is not None:
            leave_note(wanted.watched.path, wanted.root, wanted.home.readme, bench.job, bench.checkpoint)
    bench.checkpoint("restore.done")
    again = _replica_again(wanted, bench.now())
    return (given,) if again is None else (again, given)


@contextlib.contextmanager
def _reached(target: str) -> Iterator[None]:
    """Where the target goes away meanwhile it is Transient, and says nothing of what is read from."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as lost:
        raise Transient(
            f"{target}: {lost.strerror} while the data was put there", hint="is its file system mounted?"
        ) from lost


def _replica_again(wanted: Order, now: datetime) -> Stored | None:
    """The files as one more replica, where all of them were put into an area.

    Hashed on the way, but not re-read from the disk: present, until a verify has read them (law 2).
    """
    watched, place = wanted.watched, wanted.home or wanted.elsewhere
    if watched is None or place is None or (isinstance(place, Elsewhere) and not place.whole):
        return None
    return Stored(
        kind=ProductKind.ORIGINAL,
        digest=wanted.digest,
        form=Form.FILES,
        tier=watched.area,
        domain=watched.domain,
        location=wanted.root if isinstance(place, Home) else wanted.target,
        files=(),
        bytes=place.bytes,
        sha256=wanted.digest,
        written_at=now,
        verified_at=None,
        pinned_until=place.pinned_until if isinstance(place, Home) else None,
    )


def _fetch(source: Source, wanted: Order, where: Recall, arriving: Path, bench: Bench) -> list[StoredFile]:
    """The package's files are in the folder `arriving`, each with the digest it was stored with. Raises as `recall`."""
    throttle = bench.throttle(where.area)
    fetched = recall(
        bench.tier(source.tier),
        Placed(source.location, source.domain, source.files),
        arriving,
        name=wanted.scan_name,
        floor_bytes=where.floor_bytes,
        may_continue=bench.token_is_current,
        throttle=throttle,
        progress=bench.progress,
        checkpoint=bench.checkpoint,
    )
    bench.checkpoint("recall.fetched")
    if wanted.product is ProductKind.ORIGINAL:
        from tomovault.package.verify import verify_package

        problem = verify_package(fetched, throttle=throttle, threads=2, progress=bench.progress)
        if problem:
            raise IntegrityError(f"what came back does not re-read: {problem}")
    return fetched


def _keep(fetched: Sequence[StoredFile], wanted: Order, where: Recall, bench: Bench) -> Stored | None:
    """The package stands in its place on disk again, with a pin so that it stays.

    None where another scan's file is in that place: then it is read where it arrived, and not kept.
    """
    from tomovault.package.kept import keep_files

    final = keep_files(fetched, Path(where.folder), where.own)
    if final is None:
        return None
    if wanted.product is ProductKind.ORIGINAL:
        from tomovault.package.beside import write_beside

        write_beside(final[0].location, bench.job)
    bench.checkpoint("recall.placed")
    now = bench.now()
    return Stored(
        kind=wanted.product,
        digest=wanted.digest,
        form=Form.PACKAGE,
        tier=where.area,
        domain=where.domain,
        location=final[0].location,
        files=final,
        bytes=sum(f.size for f in final),
        sha256=final[0].sha256,
        written_at=now,
        verified_at=now if wanted.product is ProductKind.ORIGINAL else None,
        pinned_until=where.pinned_until,
    )


def _throttle(source: Source, wanted: Order, bench: Bench) -> Throttle:
    """The share of the server that the package is read from: that of what was recalled is where it was put."""
    return bench.throttle(source.tier if source.on_disk or wanted.recall is None else wanted.recall.area)


def _give_original(files: Sequence[StoredFile], source: Source, wanted: Order, bench: Bench) -> GivenBack:
    from tomovault.package.reader import PackageReader

    reader = PackageReader.open(files[0].location)
    selection, derived = _selection(reader, wanted)
    if derived is None:
        only = None if selection is None else set(selection)
        chosen = [f for f in reader.files() if only is None or f.path in only]
        _mark([MarkedFile(f.path, f.size, f.mtime_ns, f.sha256, f.link_target) for f in chosen], wanted, bench)
    else:
        _mark([MarkedFile(reader.excerpt_name(_label(wanted)), -1, 0, "")], wanted, bench)
    if derived is not None:
        outcome = reader.write_frames(
            wanted.target,
            derived,
            label=_label(wanted),
            job=bench.job,
            overwrite=wanted.overwrite,
            throttle=_throttle(source, wanted, bench),
            progress=bench.progress,
            checkpoint=bench.checkpoint,
            floor_bytes=wanted.floor_bytes,
        )
    else:
        outcome = reader.restore(
            wanted.target,
            select=selection,
            job=bench.job,
            overwrite=wanted.overwrite,
            throttle=_throttle(source, wanted, bench),
            progress=bench.progress,
            checkpoint=bench.checkpoint,
            floor_bytes=wanted.floor_bytes,
        )
    files_given = len(outcome.paths) + len(outcome.kept)
    given = _given(source, wanted, files_given, outcome.bytes, derived=derived is not None, read=outcome.read_bytes)
    if derived is None or wanted.elsewhere is None:
        return given
    return _made(given, [_reread(wanted, path, bench) for path in (*outcome.paths, *outcome.kept)], wanted, bench)


def _made(given: GivenBack, files: Sequence[GivenFile], wanted: Order, bench: Bench) -> GivenBack:
    """With the files that the restore made, which the mark knows by their times now: nobody has to read them again."""
    _mark([MarkedFile(f.location, -1, f.mtime_ns, f.sha256) for f in files], wanted, bench)
    return replace(given, made=tuple(files))


def _reread(wanted: Order, path: str, bench: Bench) -> GivenFile:
    """A file below the target that was just made there."""
    place = bench.throttle(wanted.watched.area if wanted.watched is not None else "")
    parts, name = split(path)
    with Ground(wanted.target) as ground, ground.folder(parts) as fd:
        digest, state = hash_below(fd, name, place)
    return GivenFile(path, state.st_size, digest, state.st_mtime_ns)


def _selection(reader: Any, wanted: Order) -> tuple[list[str] | None, list[int] | None]:
    """(paths to write, None), or (None, frames for one derived file). (None, None) is everything."""
    kinds = {"flats": FrameKind.FLAT, "darks": FrameKind.DARK}
    if wanted.files:
        paths = [f.path for f in reader.files() if any(fnmatch.fnmatchcase(f.path, g) for g in wanted.files)]
        if not paths:
            raise UserError(
                f"no file of {wanted.scan_name} matches {' '.join(wanted.files)}",
                hint="patterns are compared with the whole path below the scan's folder, such as 'scan0004/*'",
            )
        return paths, None
    if wanted.frames is None and wanted.kind is None:
        return None, None
    kind = kinds[wanted.kind] if wanted.kind else FrameKind.PROJECTION
    every = list(reader.indices(kind))
    start, stop = wanted.frames or (0, len(every))
    if not every:
        raise UserError(f"{wanted.scan_name} has no {wanted.kind or 'projections'} that are frames of their own")
    if not 0 <= start < stop <= len(every):
        raise UserError(f"{wanted.scan_name} has {len(every)} of these frames; {start}:{stop} is not among them")
    paths = reader.files_of_frames(kind, start, stop)
    return (list(paths), None) if paths is not None else (None, every[start:stop])


def _label(wanted: Order) -> str:
    if wanted.frames is not None:
        return f"frames_{wanted.frames[0]}_{wanted.frames[1]}"
    return str(wanted.kind)


def _give_copy(files: Sequence[StoredFile], source: Source, wanted: Order, bench: Bench) -> GivenBack:
    """A product that we made is given back as the file that it is. What is written half is removed again."""
    from tomovault.package.container import check_space

    check_space(os.path.join(wanted.target, "."), wanted.floor_bytes, sum(f.size for f in files))
    names = {file: Path(file.location).name for file in files}
    throttle = _throttle(source, wanted, bench)
    with Ground(wanted.target) as ground, ground.folder(()) as fd:
        for name in names.values():
            if exists(fd, name) and not wanted.overwrite:
                raise _in_the_way(wanted, name)
        _mark([MarkedFile(name, -1, 0, "") for name in names.values()], wanted, bench)
        for file, name in names.items():
            try:
                copy_stored(file, fd, name, overwrite=wanted.overwrite, throttle=throttle, job=bench.job)
            except FileExistsError as there:
                raise _in_the_way(wanted, name) from there
        os.fsync(fd)
        times = {name: os.stat(name, dir_fd=fd, follow_symlinks=False).st_mtime_ns for name in names.values()}
    size = sum(f.size for f in files)
    given = _given(source, wanted, len(files), size, read=size)
    if wanted.elsewhere is None:
        return given
    made = [GivenFile(name, file.size, file.sha256, times[name]) for file, name in names.items()]
    return _made(given, made, wanted, bench)


def _in_the_way(wanted: Order, name: str) -> UserError:
    return UserError(f"{Path(wanted.target, name)} exists", hint="--overwrite replaces it")


def _given(source: Source, wanted: Order, files: int, size: int, *, read: int, derived: bool = False) -> GivenBack:
    cartridge = (
        source.location.split("#")[0] if source.tier_class is TierClass.ARCHIVE and "#" in source.location else None
    )
    return GivenBack(
        tier=source.tier,
        cartridge=cartridge,
        target=wanted.target,
        files=files,
        bytes=size,
        derived=derived,
        read_bytes=read,
        original_place=wanted.home is not None,
    )


PLUGIN: type[Action] = Restore
