"""The formats that are installed, by kind; `kind: edf` is the module `tomovault.formats.edf`.

A module of this package is a format if it ends in `PLUGIN: type[Format] = ...`; others come by entry
points of the group `tomovault.formats`. Loading a format opens no file and imports no HDF5 library.
"""

from __future__ import annotations

import importlib
import re
from functools import cache
from importlib.metadata import entry_points
from importlib.resources import files
from typing import cast

from tomovault.core.errors import UserError
from tomovault.core.ports import Format
from tomovault.formats.limits import LimitedFormats, Limits

GROUP = "tomovault.formats"

_KIND = re.compile(r"^[a-z][a-z0-9_]*$")


@cache
def kinds() -> tuple[str, ...]:
    """Names of every format, sorted."""
    own = {
        entry.name.removesuffix(".py")
        for entry in files(GROUP).iterdir()
        if entry.name.endswith(".py") and "\nPLUGIN: type[Format] =" in entry.read_text("utf-8")
    }
    return tuple(sorted(own | {point.name for point in entry_points(group=GROUP)}))


@cache
def load(kind: str) -> Format:
    """The one object of a format. Raises UserError for a kind that is not installed."""
    if _KIND.match(kind) and kind in kinds():
        for point in entry_points(group=GROUP, name=kind):
            return cast(type[Format], point.load())()
        return cast(type[Format], importlib.import_module(f"{GROUP}.{kind}").PLUGIN)()
    raise UserError(f"no format is called {kind!r}", hint=f"there are {', '.join(kinds())}")


def load_all() -> tuple[Format, ...]:
    """One object of every format, in the order of their kinds."""
    return tuple(load(kind) for kind in kinds())


__all__ = ["LimitedFormats", "Limits", "kinds", "load", "load_all"]
