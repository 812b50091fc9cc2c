"""Files of a folder by how their names end."""

from __future__ import annotations

from tomovault.core.ports import Listing
from tomovault.formats.edf_names import is_noise


def files_ending(listing: Listing, endings: tuple[str, ...]) -> list[str]:
    """Sorted names, in any case, of files that are neither links nor noise. A state is asked for last: there may be
    thousands of other files.
    """
    return [
        name
        for name in sorted(name for name in listing.files if name.lower().endswith(endings))
        if not is_noise(name) and listing.files[name].link_target is None
    ]
