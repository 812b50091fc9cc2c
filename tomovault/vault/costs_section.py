"""The section `costs` of `tomovault.yaml`: its model, and the way from there to `Costs`."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Annotated

from pydantic import BeforeValidator, Field

from tomovault.policy.calendar import parse_months
from tomovault.policy.prices import Costs
from tomovault.policy.quantity import show_found
from tomovault.policy.yaml_text import Fault, Strict, Word, nearest


def _parse_price(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e12:
        raise ValueError(f"{show_found(value)} is not a price: a number from 0 on, in your money")
    return float(value)


def _parse_horizon(value: object) -> int:
    found = parse_months(value) if isinstance(value, str) else None
    if found is None or found.count < 1:
        raise ValueError(f"{show_found(value)} is not a number of months or years, such as 12 months")
    return found.count


Price = Annotated[float, BeforeValidator(_parse_price)]


class CostsSection(Strict):
    """The section as it is written."""

    tb_month: Mapping[Word, Price] = Field(min_length=1)
    core_hour: Price
    horizon: Annotated[int, BeforeValidator(_parse_horizon)] = 12

    def problems(self, places: Collection[str]) -> Iterator[Fault]:
        """Prices of places that the site does not have: what is there would be kept for no reason that anybody sees."""
        for name in sorted(self.tb_month.keys() - places):
            told = f"there is no area or tier {name!r}{nearest(name, places)}"
            yield Fault(told, ("costs", "tb_month", name), at_key=True)

    def costs(self) -> Costs:
        """The prices as rules read them."""
        return Costs(dict(self.tb_month), self.core_hour, self.horizon)
