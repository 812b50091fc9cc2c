"""The manifest that stands beside a package, so that its content can be read where HDF5 is not at hand."""

from __future__ import annotations

import os
from pathlib import Path

from tomovault.package.landing import sync_path
from tomovault.package.names import beside_name, check_job, stem_of, temp_path
from tomovault.package.store import inner_manifest


def write_beside(path: str, job: str) -> None:
    """The manifest inside the package at `path` stands beside it, whole and synced; one that was there is replaced."""
    folder = os.path.dirname(path)
    name = beside_name(stem_of(path))
    temporary = temp_path(folder, name, check_job(job))
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(inner_manifest(path).text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, os.path.join(folder, name))
    sync_path(Path(folder))
