"""A person's word that scans missing from an area were removed on purpose (law 3)."""

from __future__ import annotations

import os
from datetime import UTC, datetime

from tomovault.catalog.unclaimed import list_without_scan
from tomovault.catalog.work import confirm_missing, list_taken_away
from tomovault.core.errors import UserError
from tomovault.core.scan import Candidate
from tomovault.vault.area_formats import format_of
from tomovault.vault.site_settings import Area
from tomovault.vault.vault import Vault
from tomovault.watch.area import AreaIdentity, check_area
from tomovault.watch.listing import list_folder


def confirm_absence(vault: Vault, area: str, *, by: str, do_it: bool) -> list[str]:
    """Folders of candidates that are not in an area any more; confirmed as gone if `do_it`. Left out are
    those that were pruned, and those that were no scan: nothing is lost with them.

    Raises AreaAbsent where the area itself is not what was recorded: then nothing is missing, it is just not there.
    """
    if area not in vault.site.areas:
        raise UserError(f"there is no area {area!r}", hint=f"the site has: {', '.join(sorted(vault.site.areas))}")
    with vault.catalogue.reading() as tx:
        row = next((a for a in vault.catalogue.list_areas(tx) if a.name == area), None)
        entries = vault.catalogue.list_candidates(tx, area)
        no_loss = list_taken_away(tx, area) | list_without_scan(tx, area)
    if row is None:
        raise UserError(f"area {area} was never marked", hint=f"tomovault area add {area}=PATH")
    path = str(vault.site.areas[area].path)
    check_area(path, AreaIdentity(row.uuid or None, row.simulated, row.fsid, row.mount_source, area))
    expected = [e.candidate for e in entries if e.inspected_snapshot is not None and e.candidate not in no_loss]
    missing = [candidate for candidate in expected if not _is_there(vault.site.areas[area], candidate)]
    if do_it:
        with vault.catalogue.writing() as tx:
            for candidate in missing:
                confirm_missing(tx, area, candidate, by, datetime.now(UTC))
    return [os.path.join(c.folder, c.key) for c in missing]


def _is_there(area: Area, candidate: Candidate) -> bool:
    try:
        listing = list_folder(candidate.folder)
    except FileNotFoundError:
        return False
    found = format_of(area, candidate.format).recognise(listing)
    return any((c.folder, c.key) == (candidate.folder, candidate.key) for c in found)
