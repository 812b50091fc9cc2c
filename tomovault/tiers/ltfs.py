"""A mounted LTFS volume, or a folder of an HSM, as an archive: each package is a bundle, a file with nothing beside it.

What such a folder tells that a disk does not: where on tape a file begins (`ltfs_attributes`), and that a file is on
tape only (`hsm`). docs/archives.md says how to attach one, and what of this was tried on what.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar

from tomovault.core.errors import (
    IntegrityError,
    NoSpace,
    NotYet,
    Refused,
    TomovaultError,
    Transient,
    UserError,
    waits_for_room,
)
from tomovault.core.ports import Checkpoint, Harm, Health, Parcel, Placed, Progress, Surveyed, Throttle, Tier
from tomovault.core.replica import StoredFile, TierClass
from tomovault.tiers.address import package_of
from tomovault.tiers.blocks import shown, translating
from tomovault.tiers.bundle import (
    BundlePackage,
    bundle_size,
    check_bundle,
    checked_names,
    parcel_key,
    plan_bundle,
    read_manifest,
    read_text,
    read_trailer,
)
from tomovault.tiers.bundle_file import part_name, sweep_parts, whole_package, write_file
from tomovault.tiers.claim import require_claim
from tomovault.tiers.failure_domain import disk_domain
from tomovault.tiers.folders import exists_in, folder_below, free_on
from tomovault.tiers.free import FREE
from tomovault.tiers.hsm import HSM_OPTIONS, Hsm
from tomovault.tiers.ltfs_attributes import in_tape_order, names_of_volume, volume_of
from tomovault.tiers.one_bundle import MOST_FORMS, fetch_package, object_names, placed_in, plain_word
from tomovault.tiers.options import folder_option, place_option, size_option, text_option
from tomovault.tiers.recovery import parcel_of
from tomovault.tiers.spool import OpenedBundle
from tomovault.tiers.surveying import of_another_tier
from tomovault.tiers.volume_folder import VolumeFolder

#: So many files are brought back at a time where all are read: they have to fit on the HSM's disk together.
_BATCH = 16
#: So long the reading of everything waits for a job that reads or writes the same tape.
_SURVEY_WAIT_S = 3600.0
_NO_FILE = (errno.ELOOP, errno.EINVAL, errno.ENXIO)


class LtfsTier:
    """The tier of kind `ltfs`. Options: path; floor, bytes that are never taken; domain, instead of the volume; volume,
    the one that has to be mounted; recall and migrate, programs for a list of files; spool, a folder on a disk for
    those lists; stub, the bytes that a stub keeps; gather and timeout, in seconds.
    """

    OPTIONS: ClassVar[frozenset[str]] = frozenset({"path", "floor", "domain", "volume"}) | HSM_OPTIONS
    TIER_CLASS: ClassVar[TierClass] = TierClass.ARCHIVE
    MARKED: ClassVar[bool] = True

    def __init__(self, name: str, options: Mapping[str, Any], *, now: Callable[[], datetime]) -> None:
        self.name = name
        self._path = folder_option(name, options)
        self._floor = size_option(name, options, "floor", 0)
        self._domain = text_option(name, options, "domain", "")
        volume = text_option(name, options, "volume", "")
        self._folder = VolumeFolder(name, self._path, place_option(name, options), volume)
        self._hsm = Hsm(name, self._path, options, now=now)
        self._now = now
        self._may_continue: Callable[[], bool] = lambda: True

    def hold_to(self, may_continue: Callable[[], bool]) -> None:
        """As `ClaimedTier.hold_to`."""
        self._may_continue = self._hsm.may_continue = may_continue

    def domains(self) -> Sequence[str]:
        """One: what is configured, else the volume, else the disk that the folder is on. Raises Transient where the
        folder is absent, or does not tell now.
        """
        if self._domain:
            return (self._domain,)
        with self._folder.root() as root, translating(f"tier {self.name}"):
            volume = volume_of(root)
            return (f"ltfs:{volume}" if volume else disk_domain(self._path),)

    # --- writing ---------------------------------------------------------------------------------

    def put(
        self, parcels: Sequence[Parcel], domain: str, *, job: str, throttle: Throttle, checkpoint: Checkpoint
    ) -> Sequence[Placed]:
        """Each parcel is a file that appears whole under its name, synced, and the volume's index names it. Raises as
        `Tier.put`.

        A file that is there already is read whole before it is taken for this parcel.
        """
        if domain not in self.domains():
            raise UserError(f"{domain!r} is no domain of tier {self.name}", hint=f"it has {', '.join(self.domains())}")
        for parcel in parcels:
            checked_names(parcel)
        with self._folder.root() as root, translating(f"tier {self.name}"):
            with self._folder.turn(root):
                require_claim(self._may_continue, "written")
                placed = tuple(self._put_one(root, parcel, domain, job, throttle, checkpoint) for parcel in parcels)
            if placed:
                self._folder.write_index()
        return placed

    def _put_one(
        self, root: int, parcel: Parcel, domain: str, job: str, throttle: Throttle, checkpoint: Checkpoint
    ) -> Placed:
        group, key = _group_parts(parcel.group), parcel_key(parcel)
        with folder_below(root, group, create=True) as folder:
            sweep_parts(folder, key, job)
            for name in object_names(parcel, key):
                location = os.path.join(self._path, *group, name)
                if not exists_in(folder, name):
                    require_claim(self._may_continue, "written")
                    package = self._write(folder, name, parcel, domain, job, throttle, checkpoint)
                    if package is not None:
                        return placed_in(location, domain, package)
                self._hsm.bring([location])
                if (package := whole_package(folder, name, key)) is not None:
                    return placed_in(location, domain, package)
        raise UserError(f"{parcel.scan_name!r} has {MOST_FORMS} bad files", hint=f"see {shown(self._path)}")

    def _write(
        self,
        folder: int,
        name: str,
        parcel: Parcel,
        domain: str,
        job: str,
        throttle: Throttle,
        checkpoint: Checkpoint,
    ) -> BundlePackage | None:
        """The package as it is in the new file `name`; None where another process took that name meanwhile."""
        bundle = plan_bundle([parcel], bundle=name, job=job, tier=self.name, pool=domain, copy=1, now=self._now())
        with waits_for_room():
            self._need(folder, bundle_size(bundle))
        written = write_file(
            folder,
            name,
            part_name(job, parcel_key(parcel)),
            bundle,
            parcel,
            room=lambda count: self._need(folder, count) if self._floor else None,
            throttle=throttle,
            checkpoint=checkpoint,
        )
        return bundle.packages[0] if written else None

    def _need(self, folder: int, count: int) -> None:
        """Raises NoSpace where `count` more bytes would cross the floor."""
        free = free_on(folder)
        if free is not None and free - count < self._floor:
            raise NoSpace(
                f"tier {self.name}: {count} bytes would leave {max(free - count, 0)} free, the floor is {self._floor}",
                hint="what is on a full volume can be read; give the site another one",
            )

    # --- reading ---------------------------------------------------------------------------------

    def verify(self, placed: Sequence[Placed], *, throttle: Throttle) -> Sequence[str]:
        """Each file was dropped from the cache and read whole, in the order in which they lie. Where the site names
        `migrate`, they were on tape only before, and were brought back from there.

        Raises Transient where a file stays on disk, or does not come back: then nothing was proved.
        """
        answers: dict[int, str] = {}
        with self._folder.root() as root:
            paths = in_tape_order(item.location for item in placed)
            self._hsm.send_to_tape(paths)
            self._hsm.bring(paths)
            for index in sorted(range(len(placed)), key=lambda i: paths.index(placed[i].location)):
                with translating(f"tier {self.name}"), self._folder.turn(root):
                    answers[index] = self._problem_of(root, placed[index], throttle)
        if any(answers.values()):
            with self._folder.root():  # what was unmounted meanwhile is not damaged
                pass
        return tuple(answers[index] for index in range(len(placed)))

    def _problem_of(self, root: int, item: Placed, throttle: Throttle) -> str:
        if not item.files:
            return f"{shown(item.location)}: no files are recorded"
        try:
            with self._folder.opened(root, item.location, from_disk=True) as source:
                bundle = check_bundle(source, throttle)
            package_of(bundle, item)
        except IntegrityError as problem:
            return problem.message
        except OSError as problem:
            if self._hsm.offline_of([item.location]):
                raise Transient(f"{shown(item.location)} does not come back from tape: {problem.strerror}") from problem
            return f"{shown(item.location)}: {problem.strerror}"
        return ""

    def stage(self, locations: Sequence[str]) -> str:
        """What is on tape only is asked for in one list, with what others want; the ticket is the list itself."""
        with self._folder.root() as root:
            self._hsm.want([one for one in locations if not self._folder.why_closed(root, one)])
        return json.dumps(list(locations))

    def poll(self, ticket: str) -> Mapping[str, str]:
        """'ready' for each file that is on disk or, where the site has no program to bring it, is there at all: then
        reading brings it. Raises UserError for what is no ticket.
        """
        locations = self._locations(ticket)
        with self._folder.root() as root:
            states = {location: self._state_of(root, location) for location in locations}
        if "pending" in states.values():
            self._hsm.ask_if_due()
        return states

    def _state_of(self, root: int, location: str) -> str:
        if problem := self._folder.why_closed(root, location):
            return f"failed: {problem}"
        return "pending" if self._hsm.is_away(location) else "ready"

    def _locations(self, ticket: str) -> list[str]:
        try:
            return [str(location) for location in json.loads(ticket)]
        except (ValueError, TypeError) as problem:
            raise UserError(f"{ticket!r} is no ticket of tier {self.name}") from problem

    def fetch(
        self, placed: Placed, destination: str, *, throttle: Throttle, progress: Progress
    ) -> Sequence[StoredFile]:
        """The item's files are in `destination`, synced, each under its name only if its digest is right.

        Raises NotYet for what went back to tape since it was staged, and IntegrityError for what the medium cannot
        give: another copy is to be used.
        """
        where = shown(placed.location)
        with self._folder.root() as root, translating(where):
            if self._hsm.is_away(placed.location):
                raise NotYet(f"tier {self.name}: {where} is on tape only")
            with self._folder.turn(root):
                try:
                    with self._folder.opened(root, placed.location) as source:
                        return fetch_package(source, placed, destination, throttle, progress)
                except OSError as problem:
                    if problem.errno != errno.EIO or self._hsm.offline_of([placed.location]):
                        raise
                    with self._folder.root():  # what was unmounted meanwhile is not damaged
                        pass
                    raise IntegrityError(f"{where}: {problem.strerror}", hint="use another copy") from problem

    def release(self, ticket: str) -> None:
        """These are not wanted back any more."""
        self._hsm.forget(self._locations(ticket))

    # --- keeping ---------------------------------------------------------------------------------

    def remove(self, placed: Placed, *, as_it_is: bool = False) -> None:
        """The file is gone; what is gone already is no error. On tape its bytes stay until the volume is reclaimed.

        Raises Refused for what this tier did not place, and IntegrityError, with nothing removed, where the file's
        manifest is not that of the item, but with `as_it_is`.
        """
        *above, name = self._folder.parts(placed.location)
        for stored in placed.files:
            if not stored.location.startswith(f"{placed.location}/packages/"):
                raise Refused(f"{shown(stored.location)} is no file of {shown(placed.location)}", by="law 5")
        with self._folder.root() as root, translating(shown(placed.location)), contextlib.ExitStack() as opened:
            try:
                folder = opened.enter_context(folder_below(root, above))
            except FileNotFoundError:
                return
            if exists_in(folder, name):
                if not as_it_is:
                    self._hsm.bring([placed.location])
                with self._folder.turn(root):
                    require_claim(self._may_continue, "removed")
                    _unlink(folder, name, placed, as_it_is=as_it_is)
            self._folder.write_index()  # also for one that an earlier try has unlinked

    def inventory(self) -> Iterable[tuple[Parcel, Placed]]:
        """The package of every file that has a sound manifest and a trailer, in the order in which they lie. Raises
        Transient where a folder or a file cannot be read.
        """
        (domain,) = self.domains()

        def stop(problem: OSError) -> None:
            raise problem

        with self._folder.root() as root, translating(f"tier {self.name}"):
            for path in self._brought(in_tape_order(self._folder.bundles(stop))):
                try:
                    with self._folder.opened(root, path) as source:
                        bundle = read_manifest(source)
                        texts = [read_text(source, package.manifest) for package in bundle.packages]
                        read_trailer(source, bundle)
                except IntegrityError:
                    continue
                except OSError as problem:
                    if problem.errno != errno.EIO or self._hsm.offline_of([path]):
                        raise
                    with self._folder.root():  # what was unmounted meanwhile is not damaged
                        continue
                for package, text in zip(bundle.packages, texts, strict=True):
                    placed = placed_in(path, domain, package)
                    yield parcel_of(package, placed, text), placed

    def survey(self, progress: Progress) -> Iterator[Surveyed]:
        """See `SurveyedTier`; files are read in the order in which they lie, and only those that are called as ours."""
        (domain,) = self.domains()
        with self._folder.root() as root:
            unreadable: list[OSError] = []
            sizes = self._folder.bundles(unreadable.append)
            for problem in unreadable:
                why = f"cannot be listed: {problem.strerror}"
                yield Surveyed(str(problem.filename), problem=why, harm=Harm.UNREACHED)
            total, done = sum(sizes.values()), 0
            for path in self._brought(in_tape_order(sizes)):
                progress(done, total)
                with translating(f"tier {self.name}"), self._folder.turn(root, _SURVEY_WAIT_S):
                    found = self._survey_file(root, path, domain)
                if any(one.problem for one in found):
                    with self._folder.root():  # what was unmounted meanwhile is not damaged
                        pass
                yield from found
                done += sizes[path]
            progress(done, total)
        with self._folder.root():  # what was unmounted meanwhile is not damaged
            pass

    def _survey_file(self, root: int, path: str, domain: str) -> list[Surveyed]:
        try:
            with self._folder.opened(root, path, from_disk=True) as source:
                bundle = check_bundle(source, FREE)
                texts = [read_text(source, package.manifest) for package in bundle.packages]
        except OSError as problem:
            away = problem.errno != errno.EIO or self._hsm.offline_of([path])
            return [
                Surveyed(path, problem=f"{problem.strerror}", harm=Harm.UNREACHED if away else Harm.COPY),
            ]
        except IntegrityError as problem:
            return [Surveyed(path, problem=problem.message)]
        if foreign := of_another_tier("a bundle", bundle.tier, self.name):
            return [Surveyed(path, problem=foreign)]
        placed = [placed_in(path, domain, package) for package in bundle.packages]
        return [
            Surveyed(path, parcel_of(package, item, text), item, bundle.written_at)
            for package, item, text in zip(bundle.packages, placed, texts, strict=True)
        ]

    def _brought(self, paths: Sequence[str]) -> Iterator[str]:
        """The paths, some at a time brought back before they are given."""
        for at in range(0, len(paths), _BATCH):
            batch = paths[at : at + _BATCH]
            self._hsm.bring(batch)
            yield from batch

    def free_bytes(self) -> int | None:
        """Room above the floor, of an HSM that of its disk; None where nothing sensible is told. Raises Transient."""
        with self._folder.root() as root, translating(f"tier {self.name}"):
            free = free_on(root)
        return None if free is None else max(0, free - self._floor)

    def health(self) -> Health:
        """Whether the folder is there, can be written and has room above the floor, and the programs can be started."""
        try:
            free = self.free_bytes()
            with translating(f"tier {self.name}"):
                named = names_of_volume(self._path)
                only_read = bool(os.statvfs(self._path).f_flag & os.ST_RDONLY)
        except TomovaultError as problem:
            return Health(False, problem.message, problem.hint)
        about = f"LTFS volume {' '.join(named)}" if named else f"{shown(self._path)}, without what LTFS tells"
        if problem_of_programs := self._hsm.problem():
            return Health(False, problem_of_programs, f"correct that of tier {self.name}")
        if only_read:
            return Health(False, f"{about}: it is mounted read-only", "what is there can be read, and no more is added")
        if not os.access(self._path, os.R_OK | os.W_OK | os.X_OK):
            return Health(False, f"{about}: it cannot be written", f"see the rights of {shown(self._path)}")
        if free == 0:
            return Health(False, f"{about}: it is full down to its floor of {self._floor} bytes", "add another volume")
        told = "its free space is not told" if free is None else f"{free} bytes free above the floor"
        return Health(True, f"{about}: {told}")


def _group_parts(group: str) -> tuple[str, ...]:
    return tuple(plain_word(part, "other") for part in group.split("/") if part)


def _unlink(folder: int, name: str, placed: Placed, *, as_it_is: bool) -> None:
    """Raises IntegrityError, with nothing removed, where the file is not that of the item; OSError."""
    try:
        with OpenedBundle(name, dir_fd=folder) as source:
            state = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if not as_it_is:
                package_of(read_manifest(source), placed)
    except OSError as problem:
        if problem.errno not in _NO_FILE:
            raise
        raise IntegrityError(f"{shown(placed.location)} is no file", hint="nothing was removed") from problem
    now = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if (now.st_size, now.st_mtime_ns) != (state.st_size, state.st_mtime_ns):
        raise IntegrityError(f"{shown(placed.location)} has changed", hint="nothing was removed; look at it")
    os.unlink(name, dir_fd=folder)
    os.fsync(folder)


PLUGIN: type[Tier] = LtfsTier
