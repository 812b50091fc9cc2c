"""Changing settings of a site's file for a person, its comments kept."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tomovault.core.errors import UserError
from tomovault.vault.site import SITE_FILE

#: A long value, such as the URL of a catalogue, stays on the line of its key.
_NEVER_FOLDED = 1 << 20


def change_site(folder: Path, changes: Mapping[str, Any]) -> None:
    """The site's file says what `changes` says, the rest as it was.

    Raises UserError, with the file as it was, where the result would not be right.
    """
    from ruamel.yaml import YAML

    from tomovault.vault.site_file import parse_site

    path = Path(folder, SITE_FILE)
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = _NEVER_FOLDED
    document = yaml.load(path.read_text("utf-8"))
    if not isinstance(document, dict):
        raise UserError(f"{path} is not a site file")
    _merge(document, changes)
    out = io.StringIO()
    yaml.dump(document, out)
    parse_site(out.getvalue(), str(path), Path(folder))
    temporary = path.with_name(f".{SITE_FILE}.{os.getpid()}")
    temporary.write_text(out.getvalue(), "utf-8")
    temporary.replace(path)


def _merge(into: Any, changes: Mapping[str, Any]) -> None:
    for key, value in changes.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value
