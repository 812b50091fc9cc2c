"""Finds scans in an area by polling: file servers send no events for what other machines write."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from tomovault.core.ports import Format
from tomovault.core.scan import Candidate
from tomovault.watch.listing import Descent, FolderListing, key_of, read_folder, skip
from tomovault.watch.missing import Missing
from tomovault.watch.mounts import mounted_below, read_mounts
from tomovault.watch.readahead import ReadAhead, Reading
from tomovault.watch.settling import Settling
from tomovault.watch.snapshot import Members, digest_of, snapshot_of
from tomovault.watch.sweep import FolderLinks, Seen, Sweep, missing_brake

#: A listing may be older than the folder's time by the time that an NFS client caches folder attributes
#: (acdirmax, 60 s by default, nfs(5)) and by the grain of the server's clock; so long a folder is listed
#: again although its time did not change.
LISTING_DOUBT_S = 120.0


@dataclass(slots=True)
class _Folder:
    """What is remembered of one folder. `found` holds None for a candidate whose members could not be read.

    The gate compares `key`, that of the folder, and `members`, those of the member folders in it; both are as they
    were `since`. `digest` is that of the listing, where all that was found is in the folder itself; else it is empty.
    """

    key: tuple[int, int, int]
    members: tuple[tuple[str, int, int, int], ...]
    since: float
    children: dict[str, None]
    found: dict[Candidate, Seen | None]
    closed: bool
    sweep: int
    digest: bytes
    #: Of how many files `found` speaks: candidates of several formats may speak of one.
    places: int
    #: Whether there are symbolic links in it.
    linked: bool


@dataclass
class _Tally:
    began: float
    full: bool
    mounted: frozenset[str]
    known: int
    seen: list[Seen] = field(default_factory=list)
    changed: list[Seen] = field(default_factory=list)
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    links: list[FolderLinks] = field(default_factory=list)
    folders: int = 0
    listed: int = 0
    stats: int = 0


class _Stopped(Exception):
    """The sweep says nothing about what it did not see."""


class Walker:
    """Sweeps over one area and remembers between sweeps what was there; nothing of it needs to be stored.

    A folder is gated, that is visited by lstat alone, once its (mtime, ctime, inode) and those of member
    folders stay as they were and all its candidates were quiet for `recent_s`. A gated folder's files may be
    rewritten in place unseen; a `full` sweep looks at everything.
    """

    def __init__(
        self,
        area_path: str,
        formats: Sequence[Format],
        *,
        clock: Callable[[], float] = time.monotonic,
        quiet_s: float,
        recent_s: float | None = None,
    ) -> None:
        """`recent_s`: by default one hour, or 20 times `quiet_s` if longer."""
        self.root = os.path.abspath(area_path)
        self._prefix = self.root.rstrip("/") + "/"
        self.quiet_s = quiet_s
        self.recent_s = max(3600.0, 20 * quiet_s) if recent_s is None else max(recent_s, quiet_s)
        self._doubt_s = min(self.recent_s, max(2 * quiet_s, LISTING_DOUBT_S))
        self._formats = tuple(formats)
        self._clock = clock
        self._settling: Settling[Candidate] = Settling(quiet_s, trusted_s=self.recent_s)
        self._folders: dict[str, _Folder] = {}
        self._primed: dict[Candidate, str] = {}
        self._no_scans: dict[Candidate, str] = {}
        self._missing = Missing()
        self._number = 0
        #: Whether something was being written here when last seen: then nobody reads ahead.
        self._unsettled = True

    def prime(self, known: Iterable[tuple[Candidate, str]], *, no_scans: bool = False) -> None:
        """Candidates with the snapshots that the catalogue inspected: equal at first sight, they are settled, which
        none is whose snapshot is empty; not found, they have vanished. Those of a format that is not watched are left
        out. Raises ValueError for a candidate outside the area.

        With `no_scans` they were looked into and are none: that they vanished is told, and brakes nothing.
        """
        watched = {kind.name for kind in self._formats}
        for candidate, snapshot in known:
            if candidate.format not in watched:
                continue
            self._primed[candidate] = self._relative(candidate)
            self._settling.trust(candidate, snapshot)
            if no_scans:
                self._no_scans[candidate] = snapshot

    def forget(self, candidates: Iterable[Candidate]) -> None:
        """These were removed by us, or are confirmed gone: their absence is not reported and brakes nothing, nor is
        that of what other formats saw in the same place.

        One that is still there is a first sight at the next sweep.
        """
        for candidate in self._with_others(candidates):
            self._settling.forget(candidate)
            self._missing.drop(candidate)
            self._missing.leaving.discard(candidate)
            self._primed.pop(candidate, None)
            self._no_scans.pop(candidate, None)
            state = self._folders.get(self._relative(candidate))
            if state is not None and candidate in state.found:
                del state.found[candidate]
                state.places = _count_places(state.found)
                state.closed = False
                state.digest = b""

    def let_leave(self, candidates: Iterable[Candidate]) -> None:
        """These are being taken away by us: whether they are there or not is nobody's loss, until they are forgotten or
        kept. It holds for what other formats saw in the same place, too.
        """
        self._missing.leaving.update(self._with_others(candidates))

    def keep(self, candidates: Iterable[Candidate]) -> None:
        """These were not taken away after all: their absence would be one."""
        self._missing.leaving.difference_update(self._with_others(candidates))

    def _with_others(self, candidates: Iterable[Candidate]) -> Iterator[Candidate]:
        for candidate in candidates:
            others = (Candidate(kind.name, candidate.folder, candidate.key) for kind in self._formats)
            yield from dict.fromkeys((candidate, *others))

    def sweep(
        self, *, full: bool = False, stop: Callable[[], bool] | None = None, listen: Callable[[], None] | None = None
    ) -> Sweep:
        """Visit every folder of the area once. No error of the file system is raised.

        `listen` is called when all was walked and before anything is missed: what it forgets or lets leave, this sweep
        does not miss.

        An unreadable folder is unknown, with all below it. The sweep ends early, with `stopped` set and
        nothing counted as missing, if the root cannot be read or is empty although it held scans, on EIO
        anywhere, or when `stop` returns True. If more went missing than may be believed, `stopped` says so
        and each further sweep says it again, until they are back or forgotten.
        """
        self._number += 1
        mounted = mounted_below(self.root, read_mounts())
        tally = _Tally(self._clock(), full, mounted, self._count_known())
        stopped = ""
        vanished: tuple[Candidate, ...] = ()
        try:
            with Descent(self.root) as descent, ReadAhead(descent, self._clock) as ahead:
                self._walk(descent, ahead, tally, stop)
        except _Stopped as reason:
            stopped = str(reason)
        except OSError as problem:
            stopped = f"{self.root}: {problem.strerror}"
        else:
            if listen is not None:
                listen()
            self._account(tally)
            vanished = self._missing.untold()
            gone = len(_places(candidate for candidate in vanished if candidate not in self._no_scans))
            if missing_brake(tally.known, gone):
                stopped = f"{gone} of {tally.known} scans are missing in one sweep"
            else:
                self._missing.mark_told(vanished)
                self._missing.confirm(lambda candidate, relative: self._is_gone(relative, candidate))
        self._unsettled = bool(stopped) or not all(seen.settled for seen in tally.seen)
        return Sweep(
            seen=tuple(tally.seen),
            vanished=vanished,
            unreadable=tuple(tally.unreadable),
            folders=tally.folders,
            stats=tally.stats,
            duration_s=self._clock() - tally.began,
            stopped=stopped,
            changed=tuple(tally.changed),
            absent=self._missing.all(),
            listed=tally.listed,
            links=tuple(tally.links),
        )

    # --- walking ---

    def _walk(self, descent: Descent, ahead: ReadAhead, tally: _Tally, stop: Callable[[], bool] | None) -> None:
        pending = [""]
        reads_ahead = tally.full and not self._unsettled
        while pending:
            if stop is not None and stop():
                raise _Stopped("asked to stop")
            if reads_ahead:
                ahead.expect(pending)
            relative = pending.pop()
            tally.folders += 1
            try:
                children = self._visit(relative, descent, ahead, tally)
            except OSError as problem:
                self._note_unreadable(relative, problem, tally)
                continue
            if children:
                prefix = relative + "/" if relative else ""
                pending += [prefix + name for name in reversed(children)]

    def _note_unreadable(self, relative: str, problem: OSError, tally: _Tally) -> None:
        if problem.errno == errno.EIO or not relative:
            raise _Stopped(f"{self._path(relative)}: {problem.strerror}") from problem
        reason = str(problem.strerror)
        if problem.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            # Replaced since its parent was listed: only a new listing of the parent can say by what.
            parent = self._folders.get(relative.rpartition("/")[0])
            if parent is not None:
                parent.closed = False
            reason = "went away while the area was walked"
        tally.unreadable.append((self._path(relative), reason))

    def _visit(self, relative: str, descent: Descent, ahead: ReadAhead, tally: _Tally) -> dict[str, None]:
        if relative in tally.mounted:
            raise OSError(errno.EXDEV, "something else is mounted here")
        state = self._folders.get(relative)
        if state is None:
            return self._read(relative, None, descent, ahead, tally)
        if state.closed and not tally.full and self._is_unchanged(relative, state, descent, tally):
            state.sweep = self._number
            tally.seen += [seen for seen in state.found.values() if seen is not None]
            return state.children
        reading = ahead.take(relative)
        if reading is not None and reading.digest == state.digest:
            return self._look_again(state, reading, tally)
        return self._read(relative, state, descent, ahead, tally)

    def _is_unchanged(self, relative: str, state: _Folder, descent: Descent, tally: _Tally) -> bool:
        parent, _, name = relative.rpartition("/")
        at = descent.enter(parent)
        tally.stats += 1
        now = os.stat(name, dir_fd=at, follow_symlinks=False) if name else os.fstat(at)
        if key_of(now) != state.key or now.st_dev != descent.device or not stat.S_ISDIR(now.st_mode):
            return False
        for member, *key in state.members:
            tally.stats += 1
            path = os.path.join(name, member)
            now = os.stat(path, dir_fd=at, follow_symlinks=False)
            if list(key_of(now)) != key or now.st_dev != descent.device or not stat.S_ISDIR(now.st_mode):
                return False
        return True

    def _read(
        self, relative: str, state: _Folder | None, descent: Descent, ahead: ReadAhead, tally: _Tally
    ) -> dict[str, None]:
        began = self._clock()
        descriptor = descent.enter(relative)
        listing, stats = read_folder(descriptor, self._path(relative))
        ahead.judge(len(stats))
        if not relative and tally.known and not stats and not listing.folders:
            raise _Stopped(f"{self.root} is empty, but {tally.known} scans were there: is it mounted?")
        reading = Reading(began, key_of(descent.own), digest_of(listing, stats), len(stats))
        if state is not None and state.digest == reading.digest:
            return self._look_again(state, reading, tally)
        troubles = len(tally.unreadable)
        self._note_replaced(listing, state, tally)
        if listing.links or (state is not None and state.linked):
            tally.links.append(FolderLinks(listing.folder, listing.links))
        members = Members(listing, stats, descriptor, descent)
        found = dict(self._look(listing, members, state, began, tally))
        keys = members.keys()
        whole = len(tally.unreadable) == troubles
        self._note_gone(relative, state, found)
        same = state is not None and (state.key, state.members) == (reading.key, keys)
        self._folders[relative] = state = _Folder(
            key=reading.key,
            members=keys,
            since=state.since if state is not None and same else self._clock(),
            children=dict.fromkeys(listing.folders),
            found=found,
            closed=False,
            sweep=self._number,
            digest=reading.digest if whole and not keys and None not in found.values() else b"",
            places=_count_places(found),
            linked=bool(listing.links),
        )
        state.closed = whole and self._may_close(state, began)
        tally.listed += 1
        tally.stats += 1 + len(stats) + members.stats
        return state.children

    def _may_close(self, state: _Folder, began: float) -> bool:
        """Whether all in a folder is at rest, as of a look that began then."""
        if began - state.since < self._doubt_s:
            return False
        return all(seen is not None and self._is_at_rest(seen) for seen in state.found.values())

    def _is_at_rest(self, seen: Seen) -> bool:
        return seen.settled and seen.quiet_for_s >= self.recent_s

    def _note_replaced(self, listing: FolderListing, state: _Folder | None, tally: _Tally) -> None:
        for name in state.children if state is not None else ():
            if name in listing.files:
                kind = "link, which is not followed" if listing.files[name].link_target is not None else "file"
                tally.unreadable.append((os.path.join(listing.folder, name), f"the folder was replaced by a {kind}"))

    # --- candidates ---

    def _look_again(self, state: _Folder, reading: Reading, tally: _Tally) -> dict[str, None]:
        """What was found before is there as it was: no format needs to be asked about the same names again."""
        tally.listed += 1
        tally.stats += 1 + reading.files
        for candidate, old in state.found.items():
            if old is not None:
                looked = (old.snapshot, old.listing_bytes, old.newest)
                state.found[candidate] = self._see(candidate, looked, old, reading.began, tally)
        if state.key != reading.key:
            state.key, state.since = reading.key, self._clock()
        state.closed = self._may_close(state, reading.began)
        state.sweep = self._number
        return state.children

    def _look(
        self, listing: FolderListing, members: Members, state: _Folder | None, before: float, tally: _Tally
    ) -> Iterator[tuple[Candidate, Seen | None]]:
        for kind in self._formats:
            try:
                candidates = [(c, kind.members(c, listing)) for c in dict.fromkeys(kind.recognise(listing))]
            except Exception as problem:  # noqa: BLE001 - a defect of one plug-in must not blind the watch
                tally.unreadable.append((listing.folder, f"format {kind.name} failed on its names: {problem!r}"))
                yield from ((c, None) for c in (state.found if state is not None else ()) if c.format == kind.name)
                continue
            for candidate, (files, folders) in candidates:
                yield candidate, self._look_at(candidate, files, folders, members, state, before, tally)

    def _look_at(
        self,
        candidate: Candidate,
        files: Sequence[str],
        folders: Sequence[str],
        members: Members,
        state: _Folder | None,
        before: float,
        tally: _Tally,
    ) -> Seen | None:
        try:
            stats = members.collect(files, folders)
        except OSError as problem:
            if problem.errno == errno.EIO:
                raise
            tally.unreadable.append((candidate.folder, f"a member folder: {problem.strerror}"))
            return None
        earlier = state.found.get(candidate) if state is not None else None
        return self._see(candidate, snapshot_of(stats), earlier, before, tally)

    def _see(
        self,
        candidate: Candidate,
        looked: tuple[str, int, int],
        earlier: Seen | None,
        before: float,
        tally: _Tally,
    ) -> Seen:
        snapshot, size, newest = looked
        rest = self._settling.observe(candidate, snapshot, began=before, ended=self._clock())
        seen = Seen(candidate, snapshot, rest.settled, rest.quiet_for_s, size, newest)
        tally.seen.append(seen)
        if earlier is None or earlier.snapshot != snapshot or earlier.settled != seen.settled:
            tally.changed.append(seen)
        if self._primed:
            self._primed.pop(candidate, None)
        self._missing.drop(candidate)
        if self._no_scans and self._no_scans.get(candidate, snapshot) != snapshot:
            del self._no_scans[candidate]  # it may be one now
        return seen

    def _note_gone(self, relative: str, state: _Folder | None, found: dict[Candidate, Seen | None]) -> None:
        for candidate in state.found if state is not None else ():
            if candidate not in found:
                self._lose(candidate, relative)

    def _lose(self, candidate: Candidate, relative: str) -> None:
        self._settling.forget(candidate)
        self._missing.add(candidate, relative)

    # --- what is not there ---

    def _account(self, tally: _Tally) -> None:
        """After a whole walk: drop folders that are gone, and count what is missing in places that were read."""
        for relative in [r for r, s in self._folders.items() if s.sweep != self._number and self._is_gone(r)]:
            state = self._folders.pop(relative)
            if state.linked:
                tally.links.append(FolderLinks(self._path(relative)))
            for candidate in state.found:
                self._lose(candidate, relative)
        for candidate, relative in list(self._primed.items()):
            if self._is_gone(relative, candidate):
                del self._primed[candidate]
                self._lose(candidate, relative)

    def _is_gone(self, relative: str, candidate: Candidate | None = None) -> bool:
        """Whether this sweep read the place where it would be, or one above it, and it was not there."""
        state = self._folders.get(relative)
        if state is not None and state.sweep == self._number:
            return candidate is not None and candidate not in state.found
        while relative:
            relative, _, name = relative.rpartition("/")
            if skip(name):
                return False
            state = self._folders.get(relative)
            if state is not None and state.sweep == self._number:
                return name not in state.children
        return False

    def _count_known(self) -> int:
        """So many places held something that may be a scan."""
        seen = sum(state.places for state in self._folders.values())
        return seen + len(_places(self._primed)) + len(_places(self._missing.untold()))

    def _path(self, relative: str) -> str:
        return self._prefix + relative if relative else self.root

    def _relative(self, candidate: Candidate) -> str:
        if candidate.folder == self.root:
            return ""
        if not candidate.folder.startswith(self._prefix):
            raise ValueError(f"{candidate.folder!r} is not in the area {self.root!r}")
        return candidate.folder[len(self._prefix) :]


def _places(candidates: Iterable[Candidate]) -> set[tuple[str, str]]:
    return {(candidate.folder, candidate.key) for candidate in candidates}


def _count_places(found: Iterable[Candidate]) -> int:
    return len({candidate.key for candidate in found})
