"""A folder of packages on a disk: `<path>/<group>/<scan name>-<digest>/`, each with a manifest of its own beside."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar

from tomovault.core.errors import IntegrityError, NoSpace, Refused, TomovaultError, UserError, waits_for_room
from tomovault.core.manifest import path_bytes
from tomovault.core.ports import Checkpoint, Harm, Health, Parcel, Placed, Progress, Surveyed, Throttle, Tier
from tomovault.core.replica import StoredFile, TierClass
from tomovault.tiers.blocks import deliver, open_regular, read_blocks, shown, source_blocks, translating
from tomovault.tiers.bundle import checked_names
from tomovault.tiers.failure_domain import disk_domain
from tomovault.tiers.folders import (
    exists_in,
    folder_below,
    free_on,
    names_below,
    problem_of,
    size_in,
    take_lock,
    tier_folder,
    write_new,
)
from tomovault.tiers.options import folder_option, place_option, size_option, text_option
from tomovault.tiers.package_folder import clear_folder, remove_files
from tomovault.tiers.sidecar import SIDECAR, identity, read_sidecar, sidecar_text
from tomovault.tiers.surveying import Told, survey_quarantines

_PART = ".tomovault-part."
#: How names of folders begin that hold nothing of a package: markers, parts and quarantines.
_OWN = ".tomovault"
_NAME_LIMIT = 200
_MOST_FORMS = 1000


class PosixTier:
    """The tier of kind `posix`. Options: path; floor, bytes that are never taken; domain, instead of the device."""

    OPTIONS: ClassVar[frozenset[str]] = frozenset({"path", "floor", "domain"})
    TIER_CLASS: ClassVar[TierClass] = TierClass.SERVER
    MARKED: ClassVar[bool] = True

    def __init__(self, name: str, options: Mapping[str, Any], *, now: Callable[[], datetime]) -> None:
        self.name = name
        self._path = folder_option(name, options)
        self._place = place_option(name, options)
        self._floor = size_option(name, options, "floor", 0)
        self._domain = text_option(name, options, "domain", "")
        self._now = now

    def domains(self) -> Sequence[str]:
        """One: the disk that the folder is on. Raises Transient where the folder is absent."""
        if self._domain:
            return (self._domain,)
        with self._root(), translating(f"tier {self.name}"):
            return (disk_domain(self._path),)

    # --- writing ---------------------------------------------------------------------------------

    def put(
        self, parcels: Sequence[Parcel], domain: str, *, job: str, throttle: Throttle, checkpoint: Checkpoint
    ) -> Sequence[Placed]:
        """Each parcel is a folder that appears whole under its name, synced. Raises as `Tier.put`.

        A package that is there already is re-read before it is taken for this one.
        """
        if domain not in self.domains():
            raise UserError(f"{domain!r} is no domain of tier {self.name}", hint=f"it has {', '.join(self.domains())}")
        for parcel in parcels:
            if SIDECAR in checked_names(parcel):
                raise UserError(f"a file of the parcel of {parcel.scan_name!r} is called {SIDECAR}")
        with self._root() as root:
            return tuple(self._put_one(root, parcel, domain, job, throttle, checkpoint) for parcel in parcels)

    def _put_one(
        self, root: int, parcel: Parcel, domain: str, job: str, throttle: Throttle, checkpoint: Checkpoint
    ) -> Placed:
        group = _group_parts(parcel.group)
        with translating(f"tier {self.name}"), folder_below(root, group, create=True) as folder:
            _sweep(folder, parcel.digest, job)
            for name in _names(parcel):
                location = os.path.join(self._path, *group, name)
                placed = self._placed(parcel, location, domain)
                if not exists_in(folder, name):
                    if self._write(folder, name, parcel, job, throttle, checkpoint):
                        return placed
                    continue
                if self._is_whole(folder, name, parcel, throttle):
                    return placed
        raise UserError(
            f"{parcel.scan_name!r} has {_MOST_FORMS} packages of one digest", hint="look at the tier's folder"
        )

    def _placed(self, parcel: Parcel, location: str, domain: str) -> Placed:
        names = checked_names(parcel)
        files = (
            StoredFile(os.path.join(location, name), f.size, f.sha256.lower())
            for name, f in zip(names, parcel.files, strict=True)
        )
        return Placed(location, domain, tuple(files))

    def _is_whole(self, folder: int, name: str, parcel: Parcel, throttle: Throttle) -> bool:
        """Whether the folder `name` is this very parcel, every byte of it read."""
        try:
            with folder_below(folder, (name,)) as inside:
                kept = read_sidecar(inside)
                if identity(kept) != identity(parcel):
                    return False
                files = zip(checked_names(parcel), parcel.files, strict=True)
                return not any(problem_of(inside, file, stored, throttle) for file, stored in files)
        except (OSError, IntegrityError):
            return False

    def _write(
        self, folder: int, name: str, parcel: Parcel, job: str, throttle: Throttle, checkpoint: Checkpoint
    ) -> bool:
        """The folder `name` holds the parcel, synced; False where another process took the name meanwhile."""
        with waits_for_room():
            self._need(folder, parcel.size)
        part = _part_name(job, parcel.digest)
        os.mkdir(part, 0o755, dir_fd=folder)
        with folder_below(folder, (part,)) as inside:
            take_lock(inside)
            try:
                for file, stored in zip(checked_names(parcel), parcel.files, strict=True):
                    self._copy(inside, file, stored, throttle)
                    checkpoint("archive.member")
                write_new(inside, SIDECAR, [sidecar_text(parcel)])
                checkpoint("archive.manifest")
                os.fsync(inside)
                os.rename(part, name, src_dir_fd=folder, dst_dir_fd=folder)
            except Exception as problem:
                _remove_part(folder, part)
                if isinstance(problem, OSError) and problem.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                    return False
                raise
        os.fsync(folder)
        checkpoint("archive.synced")
        return True

    def _copy(self, inside: int, name: str, stored: StoredFile, throttle: Throttle) -> None:
        def paid() -> Iterator[bytes]:
            for block in source_blocks(stored, throttle):
                self._need(inside, len(block))
                yield block

        write_new(inside, name, paid())

    def _need(self, folder: int, count: int) -> None:
        """Raises NoSpace where `count` more bytes would cross the floor."""
        free = free_on(folder)
        if free is not None and free - count < self._floor:
            raise NoSpace(
                f"tier {self.name}: {count} bytes would leave {max(free - count, 0)} free, the floor is {self._floor}",
                hint="free space there, or lower the tier's floor",
            )

    # --- reading ---------------------------------------------------------------------------------

    def verify(self, placed: Sequence[Placed], *, throttle: Throttle) -> Sequence[str]:
        """Each file is synced, dropped from the cache, read again and hashed; the manifest beside is read too."""
        with self._root() as root:
            answers = tuple(self._verify_one(root, item, throttle) for item in placed)
        if any(answers):
            with self._root():  # what was unmounted meanwhile is not damaged
                pass
        return answers

    def _verify_one(self, root: int, item: Placed, throttle: Throttle) -> str:
        if not item.files:
            return f"{shown(item.location)}: no files are recorded"
        try:
            with folder_below(root, self._parts(item.location)) as inside:
                read_sidecar(inside)
                for stored in item.files:
                    if problem := problem_of(inside, self._file_name(item, stored), stored, throttle):
                        return problem
        except IntegrityError as problem:
            return problem.message
        except OSError as problem:
            return f"{shown(item.location)}: {problem.strerror}"
        return ""

    def stage(self, locations: Sequence[str]) -> str:
        """Nothing is to be done on a disk; the ticket is the list itself."""
        return json.dumps(list(locations))

    def poll(self, ticket: str) -> Mapping[str, str]:
        """'ready' for each folder that is there with its manifest. Raises UserError for what is no ticket."""
        try:
            locations = json.loads(ticket)
        except ValueError as problem:
            raise UserError(f"{ticket!r} is no ticket of tier {self.name}") from problem
        with self._root() as root:
            return {location: self._state_of(root, location) for location in locations}

    def _state_of(self, root: int, location: str) -> str:
        try:
            with folder_below(root, self._parts(location)) as inside:
                read_sidecar(inside)
        except IntegrityError as problem:
            return f"failed: {problem.message}"
        except OSError as problem:
            return f"failed: {problem.strerror}"
        return "ready"

    def fetch(
        self, placed: Placed, destination: str, *, throttle: Throttle, progress: Progress
    ) -> Sequence[StoredFile]:
        """The item's files are in `destination`, synced, each under its name only if its digest is right."""
        total, done = sum(f.size for f in placed.files), 0

        def moved(count: int) -> None:
            nonlocal done
            done += count
            progress(done, total)

        fetched = []
        with (
            self._root() as root,
            translating(shown(placed.location)),
            folder_below(root, self._parts(placed.location)) as inside,
        ):
            for stored in placed.files:
                name = self._file_name(placed, stored)
                fd = open_regular(name, dir_fd=inside)
                try:
                    fetched.append(deliver(stored, name, destination, read_blocks(fd, throttle), moved))
                finally:
                    os.close(fd)
        return tuple(fetched)

    def release(self, ticket: str) -> None:
        """Nothing was staged."""

    # --- keeping ---------------------------------------------------------------------------------

    def remove(self, placed: Placed, *, as_it_is: bool = False) -> None:
        """The item's files, its manifest and its folder are gone; what is gone already is no error.

        Raises Refused for what this tier did not place, and IntegrityError, with nothing removed, where a file is not
        as it was recorded, but with `as_it_is`. Leaves what others put there.
        """
        wanted = {self._file_name(placed, stored): stored for stored in placed.files}
        with self._above(placed) as folder:
            if folder is None:
                return
            name = os.path.basename(placed.location)
            if exists_in(folder, name):
                with folder_below(folder, (name,)) as inside:
                    remove_files(inside, placed.location, wanted, as_it_is=as_it_is)
                clear_folder(folder, name, frozenset(wanted), lambda _name: None)

    def clear_away(self, placed: Placed, *, checkpoint: Checkpoint) -> Sequence[str]:
        """See `FolderTier`. Raises Refused for what is not below this tier's folder, Transient."""
        wanted = frozenset(self._file_name(placed, stored) for stored in placed.files)
        with self._above(placed) as folder:
            if folder is None:
                return ()
            return clear_folder(folder, os.path.basename(placed.location), wanted, checkpoint)

    @contextlib.contextmanager
    def _above(self, placed: Placed) -> Iterator[int | None]:
        """A descriptor of the folder that an item's folder is in, None where it is gone. Raises Refused, Transient."""
        *above, _name = self._parts(placed.location)
        with self._root() as root, translating(shown(placed.location)), contextlib.ExitStack() as opened:
            try:
                folder = opened.enter_context(folder_below(root, above))
            except FileNotFoundError:
                folder = None
            yield folder

    def inventory(self) -> Iterable[tuple[Parcel, Placed]]:
        """Every folder with a sound manifest and all its files. Raises Transient where a folder cannot be read."""
        (domain,) = self.domains()

        def stop(problem: OSError) -> None:
            raise problem

        with self._root(), translating(f"tier {self.name}"):
            for folder, below, names, inside in os.fwalk(self._path, onerror=stop):
                below[:] = sorted(name for name in below if not name.startswith(_PART))
                if SIDECAR not in names:
                    continue
                try:
                    kept = read_sidecar(inside)
                except IntegrityError:
                    continue
                placed = self._placed(kept, folder, domain)
                if all(size_in(inside, os.path.basename(f.location)) == f.size for f in placed.files):
                    yield Parcel(**{**kept.__dict__, "files": placed.files}), placed

    def survey(self, progress: Progress) -> Iterator[Surveyed]:
        """See `SurveyedTier`. A folder with files and no manifest beside them is told as damaged."""
        (domain,) = self.domains()
        with self._root() as root:
            yield from survey_quarantines(self._path)
            unreadable: list[OSError] = []
            folders = self._folders_with_files(unreadable.append)
            for problem in unreadable:
                why = f"cannot be listed: {problem.strerror}"
                yield Surveyed(str(problem.filename), problem=why, harm=Harm.UNREACHED)
            told = Told(progress, sum(folders.values()))
            for folder, size in folders.items():
                one = self._survey_folder(root, folder, domain, told)
                if one.problem:
                    with self._root():  # what was unmounted meanwhile is not damaged
                        pass
                yield one
                told.passed(size)
        with self._root():  # what was unmounted meanwhile is not damaged
            pass

    def _folders_with_files(self, onerror: Callable[[OSError], None]) -> dict[str, int]:
        """Bytes in each folder that holds files, by its path; those of ours that hold no package are left out."""
        found: dict[str, int] = {}
        for folder, below, names, inside in os.fwalk(self._path, onerror=onerror):
            below[:] = sorted(name for name in below if not name.startswith(_OWN))
            if names and (folder != self._path or SIDECAR in names):
                found[folder] = sum(max(0, size_in(inside, name)) for name in names)
        return found

    def _survey_folder(self, root: int, folder: str, domain: str, told: Throttle) -> Surveyed:
        try:
            with folder_below(root, self._parts(folder)) as inside:
                kept = read_sidecar(inside)
                placed = self._placed(kept, folder, domain)
                parcel = Parcel(**{**kept.__dict__, "files": placed.files})
                written = datetime.fromtimestamp(os.stat(SIDECAR, dir_fd=inside).st_mtime, UTC)
                problems = (problem_of(inside, os.path.basename(f.location), f, told) for f in placed.files)
                return Surveyed(folder, parcel, placed, written, next(filter(None, problems), ""))
        except TomovaultError as problem:
            return Surveyed(folder, problem=problem.message)
        except OSError as problem:
            return Surveyed(folder, problem=f"{problem.strerror}")
        except (ValueError, OverflowError) as problem:
            return Surveyed(folder, problem=f"the date of its manifest cannot be: {problem}")

    def free_bytes(self) -> int | None:
        """Room above the floor; None where the file system says nothing sensible. Raises Transient."""
        with self._root() as root:
            free = free_on(root)
        return None if free is None else max(0, free - self._floor)

    def health(self) -> Health:
        """Whether the folder is there, can be written, and has room above the floor."""
        hint = f"mount or make {self._path}, or correct the path of tier {self.name}"
        try:
            free = self.free_bytes()
            writable = os.access(self._path, os.R_OK | os.W_OK | os.X_OK)
        except TomovaultError as problem:
            return Health(False, problem.message, problem.hint)
        if not writable:
            return Health(False, f"{shown(self._path)} cannot be written", hint)
        if free is None:
            return Health(False, f"{shown(self._path)}: the file system gives sizes that cannot be", hint)
        if not free:
            return Health(False, f"{shown(self._path)} is full down to its floor of {self._floor} bytes", "free space")
        return Health(True, f"{free} bytes free above the floor")

    def _root(self) -> contextlib.AbstractContextManager[int]:
        return tier_folder(self.name, self._path, self._place)

    def _parts(self, location: str) -> tuple[str, ...]:
        return names_below(self.name, self._path, location)

    def _file_name(self, placed: Placed, stored: StoredFile) -> str:
        folder, name = os.path.split(stored.location)
        if folder != placed.location or name in ("", ".", "..", SIDECAR):
            raise Refused(f"{shown(stored.location)} is no file of {shown(placed.location)}", by="law 5")
        return name


def _group_parts(group: str) -> tuple[str, ...]:
    return tuple(_safe(part) for part in group.split("/") if part)


def _names(parcel: Parcel) -> Iterator[str]:
    """Folder names for a parcel, the first free one to be taken: one digest can have packages of several forms."""
    start = f"{_safe(parcel.scan_name)}-{_safe(parcel.digest[:8])}"
    yield start
    for number in range(2, _MOST_FORMS):
        yield f"{start}.{number}"


def _safe(text: str) -> str:
    """A text as one name: no '/', not hidden, short; everything else as it is."""
    name = path_bytes(text).replace(b"/", b"_").replace(b"\0", b"_")[:_NAME_LIMIT]
    if name.startswith(b".") or not name:
        name = b"_" + name
    return name.decode("utf-8", "surrogateescape")


def _part_name(job: str, digest: str) -> str:
    return f"{_PART}{_safe(digest[:16])}.{_safe(job)}"[:255]


def _sweep(folder: int, digest: str, job: str) -> None:
    """What dead jobs, and this job before, left of this product's packages is gone. A live writer keeps its own."""
    own = _part_name(job, digest)
    for name in os.listdir(folder):
        if not name.startswith(own[: len(_PART) + 16]):
            continue
        with contextlib.suppress(FileNotFoundError):
            with folder_below(folder, (name,)) as part:
                locked = take_lock(part)
            if locked or (locked is None and name == own):
                _remove_part(folder, name)


def _remove_part(folder: int, part: str) -> None:
    try:
        with folder_below(folder, (part,)) as inside:
            for name in os.listdir(inside):
                os.unlink(name, dir_fd=inside)
        os.rmdir(part, dir_fd=folder)
    except FileNotFoundError:
        return


PLUGIN: type[Tier] = PosixTier
