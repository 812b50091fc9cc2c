"""What it costs to keep a volume where it is, and to make it again: in whatever money the site counts in. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tomovault.core.known import KnownScan
from tomovault.core.replica import ProductKind, ReplicaState

_TB = 1e12
_HOUR_S = 3600.0


@dataclass(frozen=True)
class Prices:
    """In one area: of a byte that stays for as long as the site looks ahead, and of a CPU second."""

    byte_kept: float
    cpu_second: float


@dataclass(frozen=True)
class Costs:
    """What a site says: the price of a TB for a month by area, that of a CPU core for an hour, and the months for which
    something would be kept.
    """

    tb_month: Mapping[str, float]
    core_hour: float
    months: int

    def of(self, area: str) -> Prices | None:
        """The prices in an area; None where the site names none for it."""
        price = self.tb_month.get(area)
        return None if price is None else Prices(price * self.months / _TB, self.core_hour / _HOUR_S)


def costs_of_volume(scan: KnownScan, prices: Prices | None) -> tuple[float, float] | None:
    """(to keep the volume in its area, to make it again as it was measured when it was made); None where one of them is
    not known: then it is kept.
    """
    here = (r for r in scan.replicas_of(ProductKind.VOLUME) if r.state is ReplicaState.VERIFIED and r.tier == scan.area)
    size = max((r.bytes for r in here), default=None)
    if prices is None or size is None or scan.volume_cpu_s is None:
        return None
    return size * prices.byte_kept, scan.volume_cpu_s * prices.cpu_second
