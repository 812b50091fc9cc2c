"""The ground that a removal, or taking it back, happens on: recognised before anything there is touched (law 3)."""

from __future__ import annotations

from typing import Protocol

from tomovault.tiers.place import Place, check_place
from tomovault.watch.area import AreaIdentity, check_area


class OnGround(Protocol):
    """An order for something in an area, which has an identity, or on a tier, which has a marker."""

    @property
    def area_path(self) -> str: ...
    @property
    def identity(self) -> AreaIdentity | None: ...
    @property
    def tier(self) -> Place | None: ...


def require_ground(order: OnGround) -> None:
    """The tier or the area is there, and the one that was meant.

    Raises PlaceAbsent or AreaAbsent where it is not, ValueError where nothing says by what it is recognised.
    """
    if order.tier is not None:
        check_place(order.tier)
    elif order.identity is not None:
        check_area(order.area_path, order.identity)
    else:
        raise ValueError("nothing says by what the place of a removal is recognised")
