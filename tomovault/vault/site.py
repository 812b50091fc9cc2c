"""A site: the folder with `tomovault.yaml`. Finding, loading and making one, and adding an area to it.

The parser and its models are imported when a file is read, so that the command line starts light.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from tomovault.core.errors import UserError
from tomovault.vault.site_settings import (
    POLICIES,
    SITE_FILE,
    Area,
    GlobusSettings,
    GuardSettings,
    JobSettings,
    PackageSettings,
    PluginSettings,
    QuarantineSettings,
    RestoreSettings,
    RetrySettings,
    Site,
    TierSettings,
    WatchSettings,
    find_policy,
    shipped_policies,
)

__all__ = [
    "POLICIES",
    "SITE_FILE",
    "Area",
    "GlobusSettings",
    "GuardSettings",
    "JobSettings",
    "PackageSettings",
    "PluginSettings",
    "QuarantineSettings",
    "RestoreSettings",
    "RetrySettings",
    "Site",
    "TierSettings",
    "WatchSettings",
    "add_area",
    "find_policy",
    "find_site",
    "init_site",
    "load_site",
    "shipped_policies",
]


def load_site(folder: str | os.PathLike[str], *, policies: bool = True) -> Site:
    """The site in a folder; without `policies` their files are not read, for who needs no rules.

    Raises UserError with every problem of `tomovault.yaml`, or of a policy that it names, as file:line:column.
    """
    from tomovault.vault.site_file import read_site

    return read_site(Path(folder), policies=policies)


def find_site(explicit: str | os.PathLike[str] | None, env: Mapping[str, str], cwd: str | os.PathLike[str]) -> Path:
    """The folder of the site: the one named, else `TOMOVAULT_SITE`, else the current folder or the nearest parent.

    Raises UserError if there is none there; a site that was named is never looked for elsewhere.
    """
    here = Path(os.path.abspath(cwd))
    for named, word in ((explicit, "--site"), (env.get("TOMOVAULT_SITE") or None, "TOMOVAULT_SITE")):
        if named is None:
            continue
        folder = Path(os.path.normpath(here / Path(named).expanduser()))
        if folder.name == SITE_FILE and folder.is_file():
            folder = folder.parent
        if (folder / SITE_FILE).is_file():
            return folder
        raise UserError(
            f"{word}: there is no {SITE_FILE} in {folder}", hint=f"make a site there with: tomovault init {folder}"
        )
    for folder in (here, *here.parents):
        if (folder / SITE_FILE).is_file():
            return folder
    raise UserError(
        f"there is no {SITE_FILE} in {here} or above it",
        hint="name a site with --site DIR or TOMOVAULT_SITE, or make one with: tomovault init DIR",
    )


def init_site(folder: str | os.PathLike[str], areas: Mapping[str, str], *, simulated: bool = False) -> Path:
    """A new site in `folder`, ready to run on embedded defaults; returns its absolute path.

    Writes `tomovault.yaml`, `policies/standard.yaml` and `tape/`, and on a simulated site the areas' folders where
    they are missing. Nothing is written to an area; its marker is the caller's. Relative paths count from the
    current folder. Raises UserError, before anything is written, if there is a site already or an area is not a
    folder.
    """
    from tomovault.vault.init import make_site

    return make_site(Path(os.path.abspath(folder)), areas, simulated=simulated)


def add_area(folder: str | os.PathLike[str], name: str, path: str | os.PathLike[str]) -> Area:
    """One more area in the site's file, whose comments stay; returns the area as it will be read.

    The marker is the caller's to write. Raises UserError if the name is taken, the path is no folder, or the file
    would not be right with it; the file is then as it was.
    """
    from tomovault.vault.init import write_area

    return write_area(Path(os.path.abspath(folder)), name, os.fspath(path))
