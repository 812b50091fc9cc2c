"""The vaults and the tiers' folders of a site: whether each is there, and which it is.

A marker is written where nothing of ours is known to be, or where what is known to be there was seen there; once there
is one, a folder without it is absent.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from tomovault.catalog.places import list_locations
from tomovault.core.errors import PlaceAbsent, Transient
from tomovault.core.replica import Form
from tomovault.tiers.place import Place, check_place, is_marked, is_recorded, mark_place
from tomovault.vault.plugins import load_plugin
from tomovault.vault.vault import Vault

#: So many copies are looked for in a place that has no marker yet.
_LOOKED_FOR = 200

_READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)


def place_of(vault: Vault, tier: str) -> Place | None:
    """The vault of an area, or the folder of a tier; None for a tier that keeps its copies in no folder."""
    site = vault.site
    area = site.areas.get(tier)
    if area is not None:
        return Place(f"the vault of {tier}", str(area.vault), site.record_of_vault(tier))
    record = site.tiers[tier].options.get("record") if tier in site.tiers else None
    if record is None:
        return None
    return Place(f"tier {tier}", str(site.tiers[tier].options["path"]), str(record))


def require_place(vault: Vault, tx: Any, tier: str, *, make: bool = True) -> None:
    """The vault of an area, or the folder of a tier, is there and marked. A new vault is made where `make` says so.

    Raises PlaceAbsent if it is not there, Transient if it cannot be written.
    """
    place = place_of(vault, tier)
    if place is not None and tier in vault.silent:
        raise PlaceAbsent(f"{place.name}: the file server of area {tier} does not answer", hint="look at the server")
    if place is None or is_marked(place):
        return
    known = _known_copies(vault, tx, tier)
    if (problem := _problem_of(place, known)) is not None:
        raise problem
    _mark(place, known, make=make and tier in vault.site.areas)


def _known_copies(vault: Vault, tx: Any, tier: str) -> list[str]:
    """Where copies should be found in the place of a tier; none for one whose folder holds no copies."""
    settings = vault.site.tiers.get(tier)
    if settings is not None and not getattr(load_plugin("tiers", settings.kind), "COPIES_IN_FOLDER", True):
        return []
    return list_locations(tx, tier, Form.PACKAGE, limit=_LOOKED_FOR)


def _problem_of(place: Place, known: list[str]) -> PlaceAbsent | None:
    """Why a place, where these copies are known to be, is absent; None if it is not."""
    if not known:
        return None
    if is_recorded(place):
        try:
            check_place(place)
        except PlaceAbsent as absent:
            return absent
    elif not any(_is_there(place.folder, location) for location in known):
        return PlaceAbsent(f"{place.name} is absent: none of its copies is in {place.folder}", hint=_hint(place))
    return None


def _hint(place: Place) -> str:
    return f"mount {place.folder}, or correct its path in tomovault.yaml"


def _mark(place: Place, known: list[str], *, make: bool) -> None:
    try:
        if make and not known:
            os.makedirs(place.folder, exist_ok=True)
        mark_place(place, datetime.now(UTC))
    except FileNotFoundError as problem:
        raise PlaceAbsent(f"{place.name} is absent: there is no folder {place.folder}", hint=_hint(place)) from problem
    except OSError as problem:
        if known and problem.errno in _READ_ONLY:
            return  # what is there can be read, as before there were markers
        told = f"{place.name}: {problem.filename}: {problem.strerror}"
        raise Transient(told, hint="give the daemon's account the right to write there") from problem
    except ValueError as problem:
        raise PlaceAbsent(f"{place.name}: the marker in {place.folder} is damaged: {problem}") from problem


def _is_there(folder: str, location: str) -> bool:
    """A location is an absolute path, or names a cartridge and a file on it."""
    cartridge = location.partition("#")[0]
    return os.path.lexists(location if os.path.isabs(location) else os.path.join(folder, "cartridges", cartridge))


def tiers_there(vault: Vault) -> frozenset[str]:
    """The tiers of the site that are not seen to be absent now. Nothing is marked."""
    places = {name: place_of(vault, name) for name in vault.site.tiers}
    return frozenset(name for name, place in places.items() if place is None or _seems_there(place))


def _seems_there(place: Place) -> bool:
    return is_marked(place) or (not is_recorded(place) and os.path.isdir(place.folder))


def find_absence(vault: Vault, tx: Any, tier: str) -> Transient | None:
    """Why the vault of an area, or the folder of a tier, is not there or cannot be used; None if it can."""
    try:
        require_place(vault, tx, tier)
    except Transient as problem:
        return problem
    return None


def mark_places(vault: Vault) -> None:
    """Every place that is there and may be marked is marked: what `init` and `area add` do while all is mounted."""
    with vault.catalogue.reading() as tx:
        for name in _places_here(vault):
            with contextlib.suppress(Transient):
                require_place(vault, tx, name, make=False)


def absent_places(vault: Vault, tx: Any) -> Iterator[PlaceAbsent]:
    """What is absent of the places that this machine works in. Nothing is marked."""
    for name in _places_here(vault):
        place = place_of(vault, name)
        if place is None or is_marked(place):
            continue
        if (problem := _problem_of(place, _known_copies(vault, tx, name))) is not None:
            yield problem


def _places_here(vault: Vault) -> list[str]:
    here = [name for name, area in vault.site.areas.items() if area.host in (None, vault.host)]
    return [*here, *vault.site.tiers]
