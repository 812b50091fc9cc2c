"""Reading cartridges whole, and holding what is on them against what the catalogue knows."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Any

from tomovault.catalog.taped import Copy
from tomovault.core.backup import CATALOGUE
from tomovault.core.errors import Transient, UserError
from tomovault.core.ports import CartridgeRead, DriveTier, Placed, TapeFile
from tomovault.core.record import Checked
from tomovault.core.replica import ReplicaState
from tomovault.vault.cartridges import Library
from tomovault.vault.page_text import name_of
from tomovault.vault.places import find_absence
from tomovault.vault.vault import Vault
from tomovault.vault.verifying import READABLE, list_overdue, list_replaced
from tomovault.vault.workbench import open_throttle, open_tier

#: Between two cartridges the drives are left alone for so long, several times what a process that waits for one needs
#: to see that it is free.
_REST_S = 0.2
_LONG_AGO = datetime.min.replace(tzinfo=UTC)

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Chosen:
    """A cartridge to read: its state as the library has it, the places on it that the catalogue knows, the bytes of
    the copies there, and since when every one of these was read.
    """

    tier: str
    barcode: str
    state: str
    locations: frozenset[str]
    bytes: int
    read_at: datetime


def choose_cartridges(vault: Vault, barcodes: Sequence[str], *, due: bool, now: datetime) -> list[Chosen]:
    """These cartridges, or all that something is on; the one least recently read first. With `due` those only that
    hold a copy which is overdue. Raises UserError for a barcode that is not known.
    """
    known = _list_known(vault)
    names = {one.barcode for one in known}
    for barcode in barcodes:
        if barcode not in names:
            near = get_close_matches(barcode, sorted(names), n=1, cutoff=0.0)
            raise UserError(
                f"no cartridge {barcode!r} is known" + (f"; did you mean {near[0]}?" if near else ""),
                hint="`tomovault tape list` shows them all",
            )
    chosen = [one for one in known if (one.barcode in barcodes if barcodes else one.locations or one.state != "blank")]
    if due:
        late = _overdue_places(vault, now)
        chosen = [one for one in chosen if any((one.tier, location) in late for location in one.locations)]
    return sorted(chosen, key=lambda one: (one.read_at, one.tier, one.barcode))


def _list_known(vault: Vault) -> list[Chosen]:
    found = []
    for name in vault.site.tiers:
        tier = open_tier(vault.site, name)
        if not isinstance(tier, DriveTier) or not isinstance(tier, Library):
            continue
        states = {str(line["barcode"]): str(line["state"]) for line in tier.cartridges()}
        lying = defaultdict(list)
        with vault.catalogue.reading() as tx:
            for one in vault.catalogue.list_readings(tx, name):
                if one.state in READABLE:
                    lying[_barcode_of(one.location)].append(one)
        for barcode in sorted({*states, *lying}):
            there = lying[barcode]
            found.append(
                Chosen(
                    name,
                    barcode,
                    states.get(barcode, "unknown"),
                    frozenset(one.location for one in there),
                    sum(one.bytes for one in there),
                    min((one.verified_at or _LONG_AGO for one in there), default=_LONG_AGO),
                )
            )
    return found


def _barcode_of(location: str) -> str:
    return location.partition("#")[0]


def _overdue_places(vault: Vault, now: datetime) -> set[tuple[str, str]]:
    with vault.catalogue.reading() as tx:
        late = {one.replica for one in list_overdue(vault, tx, now)}
        tiers = [name for name in vault.site.tiers if late]
        readings = ((tier, one) for tier in tiers for one in vault.catalogue.list_readings(tx, tier))
        return {(tier, one.location) for tier, one in readings if one.replica in late}


def scrub_cartridges(vault: Vault, chosen: Sequence[Chosen], *, named: bool, progress: Progress) -> dict[str, Any]:
    """Each cartridge that could be had was read whole now, one after the other; the page of `tomovault tape scrub`.

    What was read right counts as re-read, what was not is suspect. Interrupted, the cartridge that is being read
    counts as not read: nothing of it is recorded, and `stopped` names it. Bad copies that nothing needs any more are
    `replaced`, and bad no more, where the cartridges were not `named`.
    """
    scrub = _Scrub(vault, named, progress, sum(one.bytes for one in chosen))
    stopped = ""
    for number, one in enumerate(chosen):
        stopped = one.barcode
        try:
            if number:
                time.sleep(_REST_S)
            scrub.read(one)
        except KeyboardInterrupt:
            break
        stopped = ""
    return scrub.page(len(chosen), stopped)


class _Scrub:
    """Cartridges read so far, and what was found on them."""

    def __init__(self, vault: Vault, named: bool, progress: Progress, total: int) -> None:
        self._vault = vault
        self._named = named
        self._progress = progress
        self._left = total
        self._done = 0
        self._checked = 0
        self._cartridges: list[dict[str, Any]] = []
        self._unreached: list[dict[str, Any]] = []

    def page(self, chosen: int, stopped: str) -> dict[str, Any]:
        bad = [row for cartridge in self._cartridges for row in cartridge["bad"]]
        return {
            "cartridges": self._cartridges,
            "checked": self._checked,
            "ok": self._checked - sum(row["replica"] is not None for row in bad),
            "bad": bad,
            "unreached": self._unreached,
            "chosen": chosen,
            "stopped": stopped,
        }

    def read(self, one: Chosen) -> None:
        """What was found on a cartridge is recorded, or it is told why it cannot be read now."""
        self._left -= one.bytes
        try:
            copies, read = self._reread(one)
        except Transient as problem:
            told = {"cartridge": one.barcode, "tier": one.tier, "reason": name_of(problem.message)}
            self._unreached.append({**told, "exit_code": problem.exit_code})
            return
        self._done += read.bytes
        self._record(one, copies, read)

    def _reread(self, one: Chosen) -> tuple[list[Copy], CartridgeRead]:
        vault = self._vault
        with vault.catalogue.reading() as tx:
            if (absent := find_absence(vault, tx, one.tier)) is not None:
                raise absent
            there = vault.catalogue.list_copies_at(tx, one.tier, one.locations)
            copies = [copy for copy in there if copy.state in READABLE]
        if one.state == "blank" and not copies:
            return [], CartridgeRead((), ())
        tier = open_tier(vault.site, one.tier)
        if not isinstance(tier, DriveTier):
            raise UserError(f"tier {one.tier} has no cartridges")

        def progress(done: int, total: int) -> None:
            self._progress(one.barcode, self._done + done, self._done + total + self._left)

        self._progress(f"waiting for {one.barcode}", self._done, self._done + one.bytes + self._left)
        placed = [Placed(copy.location, copy.domain, copy.files) for copy in copies]
        throttle = open_throttle(vault.site, one.tier)
        return copies, tier.read_cartridge(one.barcode, placed, throttle=throttle, progress=progress)

    def _record(self, one: Chosen, copies: Sequence[Copy], read: CartridgeRead) -> None:
        vault, now = self._vault, datetime.now(UTC)
        places = {*one.locations, *(f"{one.barcode}#{file.number}" for file in read.files)}
        with vault.catalogue.writing() as tx:
            known = vault.catalogue.list_copies_at(tx, one.tier, places)
            unneeded = self._list_unneeded(tx, known)
            standing = {copy.replica: copy for copy in known if copy.state in READABLE}
            judged = {
                copy.replica: (copy, answer)
                for copy, answer in zip(copies, read.answers, strict=True)
                if copy.replica in standing and _same_place(copy, standing[copy.replica])
            }
            checked = [Checked(replica, not answer, now, answer) for replica, (_, answer) in judged.items()]
            vault.catalogue.apply_records(tx, checked, now)
            _judge_backups(vault, tx, one, read, now)
        wrong = [(copy, answer) for copy, answer in judged.values() if answer]
        bad = [_copy_row(one, copy, answer) for copy, answer in wrong if copy.replica not in unneeded]
        self._checked += len(judged) - sum(copy.replica in unneeded for copy, _ in wrong)
        self._cartridges.append(
            {
                "cartridge": one.barcode,
                "tier": one.tier,
                "bundles": sum(file.finished for file in read.files),
                "bytes": read.bytes,
                "state": one.state,
                "bad": bad + _rows_of_damage(one, read, known, unneeded, [copy for copy, _ in wrong]),
                "unfinished": [_row(one, file.number, file.problem) for file in read.files if not file.finished],
                "unknown": _rows_of_unknown(one, read.files, known),
                "replaced": [_copy_row(one, copy, why) for copy, why in wrong if copy.replica in unneeded],
            }
        )

    def _list_unneeded(self, tx: Any, known: Sequence[Copy]) -> frozenset[str]:
        """Of these copies those that are bad and that nothing needs any more, unless their cartridges were named."""
        vault = self._vault
        scans = {copy.scan for copy in known if copy.state is ReplicaState.SUSPECT and not self._named}
        found = (list_replaced(vault, tx, vault.catalogue.known(tx, scan)) for scan in sorted(scans))
        return frozenset(replica for replicas in found for replica in replicas)


def _judge_backups(vault: Vault, tx: Any, one: Chosen, read: CartridgeRead, now: datetime) -> None:
    """Backups of the catalogue on the cartridge were read, too."""
    files = {f"{one.barcode}#{file.number}": file for file in read.files}
    for backup in vault.catalogue.list_backups(tx):
        copy = backup.copies.get(one.tier)
        if copy is None or copy.placed is None or _barcode_of(copy.placed.location) != one.barcode:
            continue
        file = files.get(copy.placed.location)
        if file is not None and file.finished and not file.problem:
            vault.catalogue.reread_backup_copy(tx, backup.id, one.tier, now)
        elif file is not None or not read.problem:
            why = file.problem if file is not None else "the cartridge ends before it"
            vault.catalogue.fail_backup_copy(tx, backup.id, one.tier, name_of(why))


def _same_place(before: Copy, now: Copy) -> bool:
    """Whether what was read is what is recorded now."""
    return (before.location, before.files) == (now.location, now.files)


def _row(one: Chosen, file: int | None, reason: str) -> dict[str, Any]:
    location = one.barcode if file is None else f"{one.barcode}#{file}"
    return {"file": file, "cartridge": one.barcode, "tier": one.tier, "location": location, "reason": name_of(reason)}


def _copy_row(one: Chosen, copy: Copy, reason: str) -> dict[str, Any]:
    file = int(copy.location.partition("#")[2])
    return {**_row(one, file, reason), "replica": copy.replica, "scan": copy.scan, "name": name_of(copy.name)}


def _rows_of_damage(
    one: Chosen, read: CartridgeRead, known: Sequence[Copy], unneeded: Collection[str], wrong: Sequence[Copy]
) -> list[dict[str, Any]]:
    """What is bad on the cartridge and is no copy's own: its label, and bundles of which every copy is still right.

    Left out are bundles of which it is known that nothing on them is wanted.
    """
    nobody: Mapping[str, Any] = {"replica": None, "scan": None, "name": ""}
    told = {copy.location for copy in wrong}
    wanted: dict[str, bool] = {}
    for copy in known:
        needed = copy.state is not ReplicaState.GONE and copy.replica not in unneeded
        wanted[copy.location] = wanted.get(copy.location, False) or needed
    rows = []
    if read.problem and (read.files or not wrong):
        rows.append({**_row(one, None, read.problem), **nobody})
    for file in read.files:
        location = f"{one.barcode}#{file.number}"
        if file.problem and file.finished and location not in told and wanted.get(location, True):
            rows.append({**_row(one, file.number, file.problem), **nobody})
    return rows


def _rows_of_unknown(one: Chosen, files: Sequence[TapeFile], known: Sequence[Copy]) -> list[dict[str, Any]]:
    """Packages on the cartridge that the catalogue has never heard of; its own backups are no packages of scans."""
    heard_of = {(copy.location, copy.product, copy.digest) for copy in known}
    return [
        {
            **_row(one, file.number, "the catalogue does not know it"),
            "scan": package.scan,
            "name": name_of(package.scan_name),
            "product": package.product,
            "digest": package.digest,
        }
        for file in files
        for package in file.packages
        if not package.removed
        and package.product != CATALOGUE
        and (f"{one.barcode}#{file.number}", package.product, package.digest) not in heard_of
    ]
