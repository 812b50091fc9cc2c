"""A catalogue that was lost, made again from what the media of a tier tell."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tomovault.catalog.elsewhere import latest_ns
from tomovault.catalog.rebuilding import (
    Found,
    Spoilt,
    list_held,
    list_strangers,
    record_found,
    record_missed,
    record_spoilt,
    refuse_strangers,
)
from tomovault.core.backup import CATALOGUE, read_backup
from tomovault.core.errors import AreaAbsent, IntegrityError, Refused, TomovaultError, Transient, UserError
from tomovault.core.known import CODED_FRAMES
from tomovault.core.ports import Harm, Parcel, Placed, Surveyed, SurveyedTier
from tomovault.core.record import Made, Stored
from tomovault.core.replica import Form, ProductKind
from tomovault.core.scan import FileRole
from tomovault.core.told import ScanTold, read_told
from tomovault.package.manifest import PackageManifest, read_text
from tomovault.tiers.place import name_told
from tomovault.vault.page_text import name_of
from tomovault.vault.places import place_of, require_place
from tomovault.vault.vault import Vault
from tomovault.vault.workbench import open_tier
from tomovault.watch.area import AreaIdentity, check_marker, read_identity

#: Called with bytes of the media that were read, and all of them, 0 where that is not known.
Told = Callable[[int, int], None]

_INTERRUPTED = 130

#: An area that is not there: a daemon does nothing in it before `tomovault area add` has marked it again.
_NOT_SEEN = AreaIdentity(None, False, "", "")


@dataclass(frozen=True)
class Noted:
    """A place of the medium that a person should know of, the name of its scan if that is known, and why."""

    location: str
    name: str
    reason: str
    harm: Harm


@dataclass
class Rebuilt:
    """What a run added to the catalogue, and what of the media is damaged or could not be taken in, what could not be
    read now, and what else a person should know. `suspect` copies were known, and are read as bad; `doubted` are their
    scans. `ended` is what ended the run before it had read everything.
    """

    tier: str
    scans: int = 0
    products: int = 0
    replicas: int = 0
    suspect: int = 0
    backups: int = 0
    noted: list[Noted] = field(default_factory=list)
    doubted: set[str] = field(default_factory=set)
    ended: TomovaultError | KeyboardInterrupt | None = None

    @property
    def damaged(self) -> list[Noted]:
        """What is damaged or could not be taken in."""
        return [one for one in self.noted if one.harm not in (Harm.UNREACHED, Harm.NOTICE)]

    @property
    def stopped(self) -> str:
        """Why the media were not read to their end, '' if they were."""
        return self.ended.message if isinstance(self.ended, TomovaultError) else "interrupted" if self.ended else ""

    @property
    def exit_code(self) -> int:
        """That of what a person must not miss: damage before all, then what ended the run or was not read."""
        if self.damaged:
            return IntegrityError.exit_code
        if self.ended is not None:
            return self.ended.exit_code if isinstance(self.ended, TomovaultError) else _INTERRUPTED
        away = any(one.harm is Harm.UNREACHED for one in self.noted)
        return Transient.exit_code if away else 0

    def page(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return {
            "tier": self.tier,
            "scans": self.scans,
            "products": self.products,
            "replicas": self.replicas,
            "suspect": self.suspect,
            "backups": self.backups,
            "damaged": _rows(self.damaged),
            "unreached": _rows(one for one in self.noted if one.harm is Harm.UNREACHED),
            "notices": _rows(one for one in self.noted if one.harm is Harm.NOTICE),
            "stopped": self.stopped,
        }


def _rows(noted: Iterable[Noted]) -> list[dict[str, str]]:
    return [{"location": one.location, "name": one.name, "reason": one.reason} for one in noted]


def rebuild(vault: Vault, name: str, progress: Told, tell: Callable[[Noted], None] = lambda _noted: None) -> Rebuilt:
    """Every package on the media of a tier is in the catalogue with its product and its scan, unverified. What was
    there before stays as it is, but for copies at a place that is read as bad: those are suspect. Each package is
    committed on its own, so that the same call goes on where one ended. `tell` is called with what a person should know
    as soon as it is found. Interrupted, or ended after damage was found, it is told what was found until then.

    Raises UserError for a tier that cannot tell what it holds, Refused where the catalogue has scans that the tier
    does not, or where the tier's folder is that of another one, Transient where a daemon runs or the tier is not there.
    """
    tier = open_tier(vault.site, name)
    if not isinstance(tier, SurveyedTier):
        raise UserError(f"tier {name} is of a kind that cannot tell what it holds", hint="name another tier")
    _require_own(vault, name)
    with vault.catalogue.reading() as tx:
        _require_rest(vault, tx)
        held = list_held(tx, name)
        strangers = list_strangers(tx)
        require_place(vault, tx, name)
    if strangers:
        on_media = {parcel.scan for parcel, _ in tier.inventory()}
        refuse_strangers({scan: known for scan, known in strangers.items() if scan not in held}, on_media)
        strangers = {scan: known for scan, known in strangers.items() if scan not in on_media}
    _record_areas(vault, datetime.now(UTC))
    rebuilt = Rebuilt(name)
    try:
        for one in tier.survey(progress):
            if (noted := _note(vault, rebuilt, one)) is not None:
                rebuilt.noted.append(noted)
                tell(noted)
        for noted in _missed(vault, rebuilt, strangers):
            rebuilt.noted.append(noted)
            tell(noted)
    except KeyboardInterrupt as end:
        rebuilt.ended = end
    except TomovaultError as end:
        if not rebuilt.damaged:
            raise
        rebuilt.ended = end
    return rebuilt


def _require_own(vault: Vault, name: str) -> None:
    """Raises Refused where the folder of a tier has the marker of another place: what is there is not this tier's."""
    place = place_of(vault, name)
    told = "" if place is None else name_told(place)
    if place is not None and told not in ("", place.name):
        raise Refused(
            f"{place.folder} is the folder of {told}, by its marker, and not of {place.name}",
            by="law 3",
            hint="correct the path in tomovault.yaml, or give the tier the name that its marker has",
        )


def _note(vault: Vault, rebuilt: Rebuilt, one: Surveyed) -> Noted | None:
    """What is at a place of the medium is taken in; or what a person should know of it, with the copies that the
    catalogue has there suspect if they are bad.
    """
    own = ""
    if one.parcel is not None and one.placed is not None and one.parcel.product == CATALOGUE:
        own = _take_in_backup(vault, rebuilt, one, one.parcel, one.placed)
    elif one.parcel is not None and one.placed is not None:
        own = _take_in(vault, rebuilt, one, one.parcel, one.placed)
    if one.problem and (own or one.parcel is None) and one.harm in (Harm.COPY, Harm.ALL):
        _suspect(vault, rebuilt, one)
    if not (own or one.problem):
        return None
    name = "" if one.parcel is None else name_of(one.parcel.scan_name)
    return Noted(name_of(one.location), name, name_of(own or one.problem), one.harm)


def _missed(vault: Vault, rebuilt: Rebuilt, strangers: Mapping[str, str]) -> Iterator[Noted]:
    """Scans that the catalogue has on this tier, and of which nothing was found there, not even damage."""
    if any(one.harm is Harm.UNREACHED for one in rebuilt.noted):
        return  # they may be there
    reason = "the catalogue has a copy of it on this tier, and nothing of it is there"
    for scan, name in strangers.items():
        if scan not in rebuilt.doubted:
            with vault.catalogue.writing() as tx:
                _require_rest(vault, tx)
                missed = record_missed(tx, rebuilt.tier, scan, reason, datetime.now(UTC))
            rebuilt.suspect += missed
            if missed:
                yield Noted(rebuilt.tier, name_of(name), reason, Harm.COPY)


def _suspect(vault: Vault, rebuilt: Rebuilt, one: Surveyed) -> None:
    """What the catalogue has at a bad place is suspect."""
    location, files = one.location, frozenset[str]()
    if one.placed is not None:
        location, files = one.placed.location, frozenset(file.location for file in one.placed.files)
    spoilt = Spoilt(rebuilt.tier, location, name_of(one.problem), within=one.harm is Harm.ALL, files=files)
    with vault.catalogue.writing() as tx:
        _require_rest(vault, tx)
        scans = record_spoilt(tx, spoilt, datetime.now(UTC))
    rebuilt.suspect += len(scans)
    rebuilt.doubted.update(scans)


def _require_rest(vault: Vault, tx: Any) -> None:
    """Raises Transient while a daemon runs: it would take the originals on the disks for new scans."""
    holders = vault.catalogue.list_leases(tx)
    if holders:
        raise Transient(
            f"a daemon works on this catalogue: {', '.join(sorted(set(holders.values())))}",
            hint="stop it, and start it when the catalogue is rebuilt",
        )


def _record_areas(vault: Vault, now: datetime) -> None:
    """Every area of the site is in the catalogue: as its marker says, or as one that was not seen yet."""
    with vault.catalogue.writing() as tx:
        known = {area.name for area in vault.catalogue.list_areas(tx)}
        for name in vault.site.areas:
            if name not in known:
                vault.record_places(tx, name, _identity(vault, name), now)
        vault.record_tiers(tx)


def _identity(vault: Vault, name: str) -> AreaIdentity:
    """By what an area is known that has its marker; a folder without one may be a mount point with nothing mounted."""
    path = str(vault.site.areas[name].path)
    try:
        check_marker(path, name=name, simulated=vault.site.simulated)
        found = read_identity(path)
    except (AreaAbsent, UserError):
        return _NOT_SEEN
    return found if found.uuid is not None else _NOT_SEEN


def _take_in(vault: Vault, rebuilt: Rebuilt, one: Surveyed, parcel: Parcel, placed: Placed) -> str:
    """One package is in the catalogue, or it is told why not: one that is odd must not hide those behind it.

    Raises what ends the run: Transient, and what the database says of itself.
    """
    try:
        found = _found(vault, rebuilt.tier, one, parcel, placed)
    except (IntegrityError, UserError, Refused) as own:
        return own.message
    except (ValueError, TypeError, ArithmeticError, LookupError, AttributeError, RecursionError) as odd:
        return f"what it tells of its scan cannot be understood: {type(odd).__name__}: {odd}"
    now = datetime.now(UTC)
    with vault.catalogue.writing() as tx:
        _require_rest(vault, tx)
        try:
            added = record_found(tx, found, now)
        except (IntegrityError, UserError, Refused) as own:
            return own.message
    rebuilt.scans += added.scans
    rebuilt.products += added.products
    rebuilt.replicas += added.replicas
    return ""


def _take_in_backup(vault: Vault, rebuilt: Rebuilt, one: Surveyed, parcel: Parcel, placed: Placed) -> str:
    """A backup of a catalogue that is lost is known again, or it is told why not."""
    try:
        told = read_backup(parcel.manifest)
        if (told.sha256, told.bytes) != (parcel.digest, parcel.size) or one.written_at is None:
            raise IntegrityError("what it tells of the catalogue is not of the file that it lies with")
    except IntegrityError as own:
        return own.message
    with vault.catalogue.writing() as tx:
        _require_rest(vault, tx)
        rebuilt.backups += vault.catalogue.record_found_backup(
            tx, told, rebuilt.tier, placed, one.written_at, one.problem
        )
    return ""


def _found(vault: Vault, tier: str, one: Surveyed, parcel: Parcel, placed: Placed) -> Found:
    if parcel.product != ProductKind.ORIGINAL.value:
        raise UserError(f"it is a package of a {parcel.product}, which tells nothing of its scan")
    manifest = read_text(parcel.manifest)
    told = read_told(manifest.scan)
    if (manifest.product, told.id) != (parcel.digest, parcel.scan):
        raise IntegrityError("the manifest of the package is not of the scan and the product that it lies under")
    area = vault.site.areas.get(told.area)
    if area is None:
        raise UserError(f"its scan {told.name} is of the area {told.area}, which tomovault.yaml does not have")
    return Found(
        told=told,
        made=_made(manifest, told),
        stored=_stored(tier, one, placed, parcel.digest),
        files_domain=_domain(vault, told.area),
        master=_master(manifest, told),
        newest_mtime_ns=_newest(manifest),
        problem=one.problem,
    )


def _domain(vault: Vault, area: str) -> str:
    """The failure domain of an area's files; the area itself where its disk is not there."""
    try:
        return vault.domain_of(area, str(vault.site.areas[area].path))
    except (OSError, TomovaultError):
        return f"area:{area}"


def _made(manifest: PackageManifest, told: ScanTold) -> Made:
    files = [file.meta for file in manifest.contents.files]
    return Made(
        kind=ProductKind.ORIGINAL,
        digest=manifest.product,
        bytes=sum(file.size for file in files),
        files=len(files),
        manifest=manifest.text,
        details={CODED_FRAMES: told.coded_frames},
    )


def _stored(tier: str, one: Surveyed, placed: Placed, digest: str) -> Stored:
    if not placed.files or one.written_at is None:
        raise IntegrityError("its manifest names no files")
    return Stored(
        kind=ProductKind.ORIGINAL,
        digest=digest,
        form=Form.PACKAGE,
        tier=tier,
        domain=placed.domain,
        location=placed.location,
        files=tuple(placed.files),
        bytes=sum(file.size for file in placed.files),
        sha256=placed.files[0].sha256,
        written_at=one.written_at,
        verified_at=None,
    )


def _master(manifest: PackageManifest, told: ScanTold) -> str | None:
    if told.candidate is not None and told.candidate.key:
        return f"{told.candidate.folder.rstrip('/')}/{told.candidate.key}"
    masters = (f.meta.path for f in manifest.contents.files if f.meta.role == FileRole.MASTER.value)
    path = next(masters, None)
    return None if path is None else f"{told.root.rstrip('/')}/{path}"


def _newest(manifest: PackageManifest) -> int | None:
    files = (file.meta for file in manifest.contents.files)
    return latest_ns(f.mtime_ns for f in files if f.role != FileRole.SIDE.value)
