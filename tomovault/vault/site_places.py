"""Which folders of a site stand in each other's way: areas, their vaults, and tiers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tomovault.policy.yaml_text import Fault


@dataclass(frozen=True)
class SitePlaces:
    """The real paths of a site's own folder, and of its areas, their vaults and its tiers by name."""

    site: str
    areas: Mapping[str, str]
    vaults: Mapping[str, str]
    tiers: Mapping[str, str]

    def problems(self) -> Iterator[Fault]:
        """No place of ours lies inside a watched folder, and no two areas, vaults or tiers share a file."""
        yield from self._problems_of_areas()
        yield from self._problems_of_tiers()

    def _problems_of_areas(self) -> Iterator[Fault]:
        areas, vaults = self.areas, self.vaults
        seen: list[str] = []
        for name, path in areas.items():
            for other in seen:
                if _overlap(path, areas[other]):
                    yield Fault(f"it overlaps the area {other!r} ({areas[other]})", ("areas", name, "path"))
                if _overlap(vaults[name], vaults[other]):
                    yield Fault(
                        f"its vault overlaps the vault of {other!r} ({vaults[other]})", ("areas", name, "vault")
                    )
            seen.append(name)
            for other, watched in areas.items():
                if _within(vaults[name], watched):
                    yield Fault(
                        f"its vault would lie inside the watched area {other!r} ({watched})", ("areas", name, "vault")
                    )
                if _within(path, vaults[other]):
                    yield Fault(f"it lies inside the vault of {other!r} ({vaults[other]})", ("areas", name, "path"))
            if _within(self.site, path):
                yield Fault("the site itself lies inside it, and would be watched", ("areas", name, "path"))

    def _problems_of_tiers(self) -> Iterator[Fault]:
        seen: list[str] = []
        for name, place in self.tiers.items():
            here = ("tiers", name, "path")
            for other, watched in self.areas.items():
                if _within(place, watched):
                    yield Fault(f"it would lie inside the watched area {other!r} ({watched})", here)
            for other, vault in self.vaults.items():
                if _overlap(place, vault):
                    yield Fault(_shared(f"the vault of {other!r} ({vault})"), here)
            for other in seen:
                if _overlap(place, self.tiers[other]):
                    yield Fault(_shared(f"the tier {other!r} ({self.tiers[other]})"), here)
            seen.append(name)


def _shared(other: str) -> str:
    return f"it overlaps {other}, where one file would count as two copies; give each a folder of its own"


def _overlap(path: str, other: str) -> bool:
    return _within(path, other) or _within(other, path)


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")
