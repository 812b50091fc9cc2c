"""Where exports go: a folder of a collection, as a person or a rule writes it."""

from __future__ import annotations

import uuid
from pathlib import PurePosixPath

from tomovault.core.errors import UserError
from tomovault.vault.site_settings import GlobusSettings


def parse_destination(text: str, globus: GlobusSettings) -> tuple[str, str]:
    """(collection, folder) of COLLECTION:/PATH, the collection by its UUID or its name in the site's file."""
    named, colon, path = text.partition(":")
    if not colon or not path.startswith("/") or "\0" in path or ".." in path.split("/"):
        raise UserError(
            f"{text!r} is no destination", hint="write COLLECTION:/PATH, where PATH begins at the collection's root"
        )
    folder = str(PurePosixPath("/" + path.lstrip("/")))
    if named in globus.names:
        return globus.names[named], folder
    try:
        return str(uuid.UUID(named)), folder
    except ValueError:
        known = f"; this site names {', '.join(sorted(globus.names))}" if globus.names else ""
        raise UserError(
            f"{named!r} is neither the UUID of a collection nor a name of one", hint=f"see `globus.names`{known}"
        ) from None
