"""Finding a plug-in by its name: `kind: posix` of a tier is `tomovault/tiers/posix.py`, ending in `PLUGIN`.

After the built-in ones, entry points of the group `tomovault.<family>` are tried.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import re
from difflib import get_close_matches
from importlib import metadata
from pkgutil import iter_modules
from typing import Any

from tomovault.core.errors import UserError


def load_plugin(family: str, kind: str) -> Any:
    """The class of a plug-in. Raises UserError, naming the nearest kind, if there is none."""
    if re.fullmatch(r"[a-z][a-z0-9_]*", kind):
        name = f"tomovault.{family}.{kind}"
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError as problem:
            if problem.name != name:
                raise UserError(
                    f"{family} of kind {kind} needs the package {problem.name}, which is not installed"
                ) from problem
        else:
            if hasattr(module, "PLUGIN"):
                return module.PLUGIN
    for entry in metadata.entry_points(group=f"tomovault.{family}", name=kind):
        return entry.load()
    known = list_kinds(family)
    near = get_close_matches(kind, known, n=1)
    raise UserError(
        f"there is no kind {kind!r} of {family}",
        hint=f"did you mean {near[0]!r}?" if near else f"known kinds: {', '.join(known)}",
    )


@functools.cache
def is_installed(family: str, kind: str) -> bool:
    """Whether there is such a plug-in, which is not loaded for it."""
    if importlib.util.find_spec(f"tomovault.{family}.{kind}") is not None:
        return True
    return bool(metadata.entry_points(group=f"tomovault.{family}", name=kind))


def list_kinds(family: str) -> list[str]:
    """Names of every plug-in of a family, sorted. Modules without PLUGIN are parts, not plug-ins."""
    package = importlib.import_module(f"tomovault.{family}")
    kinds = {
        info.name
        for info in iter_modules(package.__path__)
        if hasattr(importlib.import_module(f"tomovault.{family}.{info.name}"), "PLUGIN")
    }
    kinds.update(entry.name for entry in metadata.entry_points(group=f"tomovault.{family}"))
    return sorted(kinds)
