"""A catalogue that was lost, made again from what the media of a tier tell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tomovault.catalog.elsewhere import latest_ns
from tomovault.catalog.rebuilding import Found, list_strangers, record_found, refuse_strangers
from tomovault.core.errors import AreaAbsent, IntegrityError, Refused, TomovaultError, Transient, UserError
from tomovault.core.known import CODED_FRAMES
from tomovault.core.ports import Parcel, Placed, Surveyed, SurveyedTier
from tomovault.core.record import Made, Stored
from tomovault.core.replica import Form, ProductKind
from tomovault.core.scan import FileRole
from tomovault.core.told import ScanTold, read_told
from tomovault.package.manifest import PackageManifest, read_text
from tomovault.vault.page_text import name_of
from tomovault.vault.places import require_place
from tomovault.vault.vault import Vault
from tomovault.vault.workbench import open_tier
from tomovault.watch.area import AreaIdentity, check_marker, read_identity

#: Called with bytes of the media that were read, and all of them, 0 where that is not known.
Told = Callable[[int, int], None]

#: An area that is not there: a daemon does nothing in it before `tomovault area add` has marked it again.
_NOT_SEEN = AreaIdentity(None, False, "", "")


@dataclass
class Rebuilt:
    """What a run added to the catalogue, and what on the media is damaged or could not be taken in."""

    tier: str
    scans: int = 0
    products: int = 0
    replicas: int = 0
    damaged: list[dict[str, str]] = field(default_factory=list)

    def page(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return {
            "tier": self.tier,
            "scans": self.scans,
            "products": self.products,
            "replicas": self.replicas,
            "damaged": self.damaged,
        }


def rebuild(vault: Vault, name: str, progress: Told) -> Rebuilt:
    """Every package on the media of a tier is in the catalogue with its product and its scan, unverified; what was
    there before stays as it is. Each package is committed on its own, so that the same call goes on where one ended.

    Raises UserError for a tier that cannot tell what it holds, Refused where the catalogue has scans that the tier
    does not, Transient where a daemon runs or the tier is not there.
    """
    tier = open_tier(vault.site, name)
    if not isinstance(tier, SurveyedTier):
        raise UserError(f"tier {name} is of a kind that cannot tell what it holds", hint="name another tier")
    with vault.catalogue.reading() as tx:
        _require_rest(vault, tx)
        strangers = list_strangers(tx)
        require_place(vault, tx, name)
    if strangers:
        refuse_strangers(strangers, {parcel.scan for parcel, _ in tier.inventory()})
    _record_areas(vault, datetime.now(UTC))
    rebuilt = Rebuilt(name)
    for one in tier.survey(progress):
        problem = one.problem
        if one.parcel is not None and one.placed is not None:
            problem = _take_in(vault, rebuilt, one, one.parcel, one.placed) or problem
        if problem:
            name = "" if one.parcel is None else name_of(one.parcel.scan_name)
            rebuilt.damaged.append({"location": name_of(one.location), "name": name, "reason": name_of(problem)})
    return rebuilt


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
