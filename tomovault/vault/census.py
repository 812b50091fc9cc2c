"""A census of an area: what scans are there, and what stands beside them that nobody has explained yet."""

from __future__ import annotations

import json
import os
import pwd
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

from tomovault.catalog.census import Closure, census_found, failed_looks, walk_closures
from tomovault.catalog.comparing import Placed, list_elsewhere, list_moved
from tomovault.catalog.suspects import list_suspects
from tomovault.core.scan import FileState
from tomovault.vault.job_folder import write_json
from tomovault.vault.page_text import name_of
from tomovault.vault.vault import Vault
from tomovault.watch.remainder import Remainder, Walked, walk_remainder

#: Folders are told of on their own down to so many levels below the area.
LEVELS = 3

#: After so long somebody should have said what unexplained data is; nothing happens to it by itself.
EXPLAIN_WITHIN = timedelta(days=90)

#: How far a walk is is kept this often, and what was kept is believed for so long: later other things stand there.
_KEPT_EVERY_S = 5.0
_GONE_ON_WITHIN = timedelta(days=1)

#: So many suspect, moved and copied scans are told.
_MOST = 1000

#: Manifests that are kept in memory at a time: a walk goes through the folder of one scan after the other, and in one
#: folder may be that many scans.
_KEPT = 256


@dataclass
class Explained:
    """Says of a file whether a scan explains it. Few manifests are in memory at a time."""

    read_files: Callable[[str], frozenset[str] | None]
    root: str
    places: dict[str, list[Closure]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._files = lru_cache(maxsize=_KEPT)(self.read_files)
        self._above = lru_cache(maxsize=1)(lambda folder: tuple(self._places_above(folder)))

    def __call__(self, folder: str, state: FileState) -> bool:
        """Where it is not known which files a scan has, every file in its folder may be its own."""
        path = f"{folder}/{state.path}"
        for place in self._above(folder):
            for closure in self.places[place]:
                files = self._files(closure.digest) if closure.digest is not None else closure.files
                if files is None or path[len(place) + 1 :] in files:
                    return True
        return False

    def is_in_a_scan(self, folder: str) -> bool:
        """Whether the folder is that of a scan, or below it."""
        return bool(self._above(folder))

    def _places_above(self, folder: str) -> Iterator[str]:
        while len(folder) >= len(self.root):
            if folder in self.places:
                yield folder
            folder = os.path.dirname(folder)


def find_remainder(vault: Vault, area: str, progress: Callable[[int, int], None]) -> tuple[list[Remainder], Walked]:
    """What no scan explains in the area, that of most bytes first, and what was walked over. A walk that was ended, by
    what `progress` raised or with its process, is gone on with where it was kept, unless that is long ago.

    `progress` is called with the files seen, and those that the file system has altogether, 0 where it does not say.
    Raises OSError where the area cannot be read.
    """
    walk = _kept_walk(vault, area)
    kept_at = time.monotonic()

    def told(done: int, total: int) -> None:
        nonlocal kept_at
        is_over = True
        try:
            progress(done, total)
            is_over = False
        finally:
            if is_over or time.monotonic() - kept_at > _KEPT_EVERY_S:
                _keep_walk(vault, walk)
                kept_at = time.monotonic()

    go_on(vault, walk, told)
    return walk.rows(), walk.walked


def _kept_walk(vault: Vault, area: str) -> Walk:
    """The walk over the area that is under way, or one that begins."""
    with suppress(OSError, KeyError, TypeError, ValueError):
        kept = json.loads(_walk_file(vault, area).read_text("utf-8"))
        if timedelta(0) <= datetime.now(UTC) - datetime.fromisoformat(kept["at"]) <= _GONE_ON_WITHIN:
            return Walk.from_plain(area, kept["walk"])
    return Walk(area)


def _keep_walk(vault: Vault, walk: Walk) -> None:
    place = _walk_file(vault, walk.area)
    place.parent.mkdir(parents=True, exist_ok=True)
    write_json(place, {"at": _time(datetime.now(UTC)), "walk": walk.to_plain()}, durable=False)


def forget_walk(vault: Vault, area: str) -> None:
    """The next walk over the area begins anew."""
    _walk_file(vault, area).unlink(missing_ok=True)


def _walk_file(vault: Vault, area: str) -> Path:
    return vault.run_folder / "census" / "under_way" / f"{area}.json"


@dataclass
class Walk:
    """A walk over an area, that can be left and taken up again: what was found, and how far it is."""

    area: str
    walked: Walked = field(default_factory=Walked)
    found: list[Remainder] = field(default_factory=list)

    def rows(self) -> list[Remainder]:
        """What was found, that of most bytes first."""
        return sorted(_joined(self.found), key=lambda one: (-one.bytes, one.folder))

    def to_plain(self) -> dict[str, Any]:
        """To be kept: the folder that is being added up is begun anew."""
        return {
            "at": self.walked.at,
            "before": list(self.walked.before),
            "unreadable": [list(one) for one in self.walked.unreadable[: self.walked.unreadable_before]],
            "found": [asdict(one) for one in self.found],
        }

    @classmethod
    def from_plain(cls, area: str, plain: Mapping[str, Any]) -> Walk:
        """As it was kept. Raises KeyError, TypeError or ValueError for what no walk kept."""
        folders, files, size = plain["before"]
        unreadable = [(str(path), str(reason)) for path, reason in plain["unreadable"]]
        walked = Walked(folders, files, size, unreadable, plain["at"], (folders, files, size), len(unreadable))
        return cls(area, walked, [Remainder(**one) for one in plain["found"]])


def go_on(vault: Vault, walk: Walk, progress: Callable[[int, int], None]) -> None:
    """The walk is over. What `progress` raises leaves it as it was, to be gone on with. Raises OSError where the area
    cannot be read.
    """
    area, walked = walk.area, walk.walked
    root = str(vault.area(area).path)
    total = _files_on(root)
    explained = Explained(vault.catalogue.files_of, root)
    with vault.catalogue.reading() as tx:
        for closure in walk_closures(tx, area):
            explained.places.setdefault(closure.root, []).append(closure)
    remainders = walk_remainder(
        root,
        explained,
        explained.is_in_a_scan,
        levels=LEVELS,
        walked=walked,
        progress=lambda: progress(walked.files, max(total, walked.files)),
        begin_at=walked.at,
    )
    for one in remainders:
        walk.found.append(one)


def _joined(found: list[Remainder]) -> list[Remainder]:
    """One for each folder and owner: a walk comes back to a folder after those below it."""
    joined: dict[tuple[str, int], Remainder] = {}
    for one in found:
        key = (one.folder, one.uid)
        old = joined.get(key)
        joined[key] = (
            one
            if old is None
            else Remainder(
                one.folder,
                one.uid,
                old.files + one.files,
                old.bytes + one.bytes,
                max(old.newest_ns, one.newest_ns),
                old.beside_scans or one.beside_scans,
            )
        )
    return list(joined.values())


def _files_on(root: str) -> int:
    try:
        space = os.statvfs(root)
    except OSError:
        return 0
    return max(0, space.f_files - space.f_ffree)


def census_page(
    vault: Vault, tx: Any, area: str, found: list[Remainder], walked: Walked, now: datetime
) -> dict[str, Any]:
    """What the census found; kept in `run/census` of the site, so that the next one knows since when it is there."""
    last = last_census(vault, area).get("unexplained", [])
    since = {(row["folder"], row["owner"]): row["since"] for row in last}
    told = {(row["folder"], row["owner"]): row.get("told_at") for row in last}
    scans = [
        {"format": s.format, "verdict": s.verdict, "scans": s.scans, "files": s.files, "bytes": s.bytes}
        for s in census_found(tx, area)
    ]
    return {
        "at": _time(now),
        "area": area,
        "folders": walked.folders,
        "files": walked.files,
        "bytes": walked.bytes,
        "scans": scans,
        "failed_jobs": failed_looks(tx, area),
        "unreadable": [{"path": name_of(path), "reason": reason} for path, reason in walked.unreadable],
        "unexplained": [_row(one, since, told, now) for one in found],
        "not_found": [
            {"scan": one.scan, "name": name_of(one.name), "tier": one.tier, "location": name_of(one.location)}
            | {"reason": name_of(one.reason)}
            for one in list_suspects(tx, _MOST)
            if one.area == area
        ],
        "moved": [_placed(one) for one in list_moved(tx, area, _MOST)],
        "elsewhere": [_placed(one) for one in list_elsewhere(tx, area, _MOST)],
    }


def _placed(one: Placed) -> dict[str, str]:
    return {"scan": one.scan, "name": name_of(one.name), "location": name_of(one.location)}


def _row(
    one: Remainder, since: Mapping[tuple[str, str], str], told: Mapping[tuple[str, str], str | None], now: datetime
) -> dict[str, Any]:
    folder, owner = name_of(one.folder), _owner(one.uid)
    first = since.get((folder, owner), _time(now))
    return {
        "folder": folder,
        "owner": owner,
        "files": one.files,
        "bytes": one.bytes,
        "newest": _time(datetime.fromtimestamp(max(0, one.newest_ns) / 1e9, UTC)),
        "beside_scans": one.beside_scans,
        "since": first,
        "deadline": _time(datetime.fromisoformat(first) + EXPLAIN_WITHIN),
        "told_at": told.get((folder, owner)),
    }


def last_census(vault: Vault, area: str) -> dict[str, Any]:
    """What the last census of an area found, empty where there was none."""
    try:
        page: dict[str, Any] = json.loads(_place(vault, area).read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return page


def keep_census(vault: Vault, page: Mapping[str, Any]) -> None:
    """The page is there for the next census."""
    place = _place(vault, page["area"])
    place.parent.mkdir(parents=True, exist_ok=True)
    write_json(place, dict(page), durable=False)


def _place(vault: Vault, area: str) -> Path:
    return vault.run_folder / "census" / f"{area}.json"


def _owner(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def _time(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
