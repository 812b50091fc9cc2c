"""What a person's command does once: write a site, mark its areas, put them into the catalogue."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tomovault.catalog.catalogue import Catalogue
from tomovault.core.errors import UserError
from tomovault.vault.editing import change_site
from tomovault.vault.places import mark_places
from tomovault.vault.site import add_area, init_site, load_site
from tomovault.vault.vault import Vault
from tomovault.watch.area import check_marker, write_marker


def set_up_site(
    folder: Path, areas: Mapping[str, str], *, simulated: bool, settings: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """A site stands in `folder`, its areas marked and recorded, with `settings` in place of the defaults.

    Raises UserError if it cannot be.
    """
    for name, path in areas.items():
        _check(name, path, simulated)
    init_site(folder, areas, simulated=simulated)
    if settings:
        change_site(folder, settings)
    vault = Vault.open(folder)
    try:
        marked = [_mark(vault, name) for name in vault.site.areas]
    finally:
        vault.close()
    return {"site": str(Path(folder).absolute()), "simulated": simulated, "areas": marked}


def refuse_used(url: str) -> None:
    """Raises UserError for a database that is the catalogue of a site already; one without our tables is free."""
    catalogue = Catalogue.open(url, manifests="")
    try:
        if catalogue.revision_problem():
            return
        with catalogue.reading() as tx:
            areas = [area.name for area in catalogue.list_areas(tx)]
    finally:
        catalogue.close()
    if areas:
        raise UserError(
            f"this database is the catalogue of a site already, with the areas {', '.join(areas)}",
            hint="name an empty one, made with createdb",
        )


def set_up_area(folder: Path, name: str, path: str) -> dict[str, Any]:
    """The site watches one more folder, which is marked and recorded."""
    site = load_site(folder)
    if name not in site.areas or str(site.areas[name].path) != path:
        _check(name, path, site.simulated)
        add_area(folder, name, path)
    vault = Vault.open(folder)
    try:
        return _mark(vault, name)
    finally:
        vault.close()


def _check(name: str, path: str, simulated: bool) -> None:
    """A marker that forbids it is found before anything is written."""
    if os.path.isdir(path):
        check_marker(path, name=name, simulated=simulated)


def _mark(vault: Vault, name: str) -> dict[str, Any]:
    area = vault.site.areas[name]
    now = datetime.now(UTC)
    identity = write_marker(str(area.path), name=name, simulated=vault.site.simulated, now=now)
    with vault.catalogue.writing() as tx:
        vault.record_places(tx, name, identity, now)
    mark_places(vault)
    return {"name": name, "path": str(area.path), "marked": identity.uuid is not None}
