"""The formats that are looked for in one area: all of them, and its own folders that the site names."""

from __future__ import annotations

from tomovault.core.ports import Format
from tomovault.formats.family import kinds, load
from tomovault.formats.folder import GenericFolder
from tomovault.vault.site_settings import Area


def formats_of(area: Area) -> list[Format]:
    """One object of every format, in the order of their kinds."""
    return [format_of(area, kind) for kind in kinds()]


def format_of(area: Area, kind: str) -> Format:
    """One format as it is in this area. Raises UserError for a kind that is not installed."""
    if kind == GenericFolder.name:
        return GenericFolder(str(area.path), area.folders, area.folder_done or "")
    return load(kind)
