"""Names of a package's files, and of what is there while it is made."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from tomovault.core.errors import UserError

SUFFIX = ".tomo.h5"
BESIDE = ".manifest.json"
PART = ".part"
JOURNAL = ".journal"

_JOB = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


@dataclass(frozen=True)
class Whose:
    """The scan that a file in a vault is of, as the file says. What stands at `locations` is known to be of it."""

    scan: str
    locations: tuple[str, ...] = ()


def readable(value: object) -> str:
    """A value as text that UTF-8 can hold, as HDF5 wants it: bytes of a name that are not UTF-8 become escapes."""
    return str(value).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace").replace("\0", "")


def part_name(stem: str, number: int) -> str:
    """Name of part `number`; part 0 is the package's first file."""
    return f"{stem}{SUFFIX}" if number == 0 else f"{stem}.tomo.{number:03d}.h5"


def beside_name(stem: str) -> str:
    """Name of the manifest that stands beside a package."""
    return f"{stem}{BESIDE}"


def stem_of(path: str) -> str:
    """The stem in the path of a package's first file; raises UserError for another name."""
    name = os.path.basename(path)
    if not name.endswith(SUFFIX) or name == SUFFIX:
        raise UserError(f"{path} is not named like a package", hint=f"a package is named <scan>{SUFFIX}")
    return name[: -len(SUFFIX)]


def temp_path(folder: str, name: str, job: str) -> str:
    """Where a file named `name` is written before it is renamed."""
    return os.path.join(folder, f".{name}.{job}{PART}")


def leftovers(folder: str, job: str) -> list[str]:
    """Paths of temporary files that an attempt of `job` left in a folder; a missing folder has none."""
    check_job(job)
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    return sorted(os.path.join(folder, n) for n in names if n.startswith(".") and n.endswith(f".{job}{PART}"))


def check_job(job: str) -> str:
    """Return a job id that can stand in a file name; raises UserError for any other."""
    if not _JOB.fullmatch(job):
        raise UserError(f"{job!r} cannot stand in a file name as a job id")
    return job


def check_stem(stem: str) -> str:
    """Return a stem that can be a file name; raises UserError for any other."""
    if not stem or "/" in stem or "\0" in stem or stem.startswith(".") or len(os.fsencode(stem)) > 160:
        raise UserError(f"{stem!r} cannot be the name of a package")
    return stem
