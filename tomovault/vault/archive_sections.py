"""The sections `catalogue_backup` and `fire_drill` of `tomovault.yaml`, and the way from there to their settings."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field

from tomovault.policy.quantity import show_found
from tomovault.policy.yaml_text import Fault, Strict, Switch, Whole, Word, nearest
from tomovault.vault.notify_section import Clock
from tomovault.vault.site_settings import BackupSettings, DrillSettings


def _parse_text(value: object) -> str:
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise ValueError(f"{show_found(value)} is not a path")
    return os.path.expanduser(value)


def _parse_rate(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1000:
        raise ValueError(f"{show_found(value)} is not a number of scans from 0, which is none, to 1000")
    return float(value)


Text = Annotated[str, BeforeValidator(_parse_text)]


class BackupSection(Strict):
    """The section `catalogue_backup` as it is written."""

    nightly: Switch = True
    at: Clock = BackupSettings.at
    keep: Whole = Field(default=BackupSettings.keep, ge=1, le=1000)
    folder: Text = "backups"
    tiers: tuple[Word, ...] | None = None
    pg_dump: Text = BackupSettings.pg_dump

    def problems(self, archives: Collection[str]) -> Iterator[Fault]:
        """Names that are no archive tiers of the site."""
        for at, name in enumerate(self.tiers or ()):
            if name not in archives:
                told = f"there is no tier {name!r} of class archive{nearest(name, archives)}"
                yield Fault(told, ("catalogue_backup", "tiers", at))

    def settings(self, folder: Path) -> BackupSettings:
        """With absolute paths; a program without a slash is looked for where programs are."""
        program = os.path.normpath(folder / self.pg_dump) if "/" in self.pg_dump else self.pg_dump
        return BackupSettings(
            folder=os.path.normpath(folder / self.folder),
            nightly=self.nightly,
            at=self.at,
            keep=self.keep,
            tiers=self.tiers,
            pg_dump=program,
        )


class DrillSection(Strict):
    """The section `fire_drill` as it is written."""

    scans_a_week: Annotated[float, BeforeValidator(_parse_rate)] = DrillSettings.scans_a_week
    scratch: Text | None = None

    def problems(self, folder: Path, areas: Mapping[str, str]) -> Iterator[Fault]:
        """A place where what is restored would be taken for a scan."""
        scratch = "" if self.scratch is None else os.path.realpath(folder / self.scratch)
        for name, path in areas.items():
            watched = os.path.realpath(path)
            if scratch and os.path.commonpath([watched, scratch]) == watched:
                yield Fault(f"it lies in the area {name!r}, where scans are looked for", ("fire_drill", "scratch"))

    def settings(self, folder: Path) -> DrillSettings:
        """With absolute paths."""
        return DrillSettings(
            self.scans_a_week, None if self.scratch is None else os.path.normpath(folder / self.scratch)
        )
