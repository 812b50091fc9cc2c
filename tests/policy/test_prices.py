"""A volume is cheaper to make again than to keep, or not, or nobody knows: then it is kept."""

from dataclasses import replace

import pytest

from tomovault.core.known import Product
from tomovault.core.replica import ProductKind, ReplicaState, TierClass
from tomovault.policy.expression import CHEAPER, Flag, read_expression
from tomovault.policy.prices import Costs
from tomovault.policy.reading import evaluate
from tomovault.policy.values import values_of

SENTENCE = "volume and cheaper to recompute"
COSTS = Costs({"inhouse": 5.0, "fast": 40.0}, core_hour=0.05, months=12)


@pytest.fixture
def reconstructed(scan, replica, now):
    """A scan with a volume of 1 TB in the area `inhouse` that took so many CPU seconds."""

    def make(cpu_s, state=ReplicaState.VERIFIED, tier="inhouse"):
        volume = replica(
            "v", tier=tier, tier_class=TierClass.SERVER, product=ProductKind.VOLUME, digest="v", bytes=10**12
        )
        known = scan(replace(volume, state=state), volume_cpu_s=cpu_s)
        return replace(
            known, products=(*known.products, Product("v", ProductKind.VOLUME, "v", 10**12, 1, True, True, now))
        )

    return make


def answer(known, area, now, costs=COSTS):
    prices = None if costs is None else costs.of(known.area)
    return evaluate(read_expression(SENTENCE), values_of(known, area(prices=prices), now))


def test_sixty_of_our_money_keep_a_terabyte_for_a_year_and_pay_for_1200_core_hours(reconstructed, area, now):
    assert answer(reconstructed(1199 * 3600.0), area, now).value
    assert not answer(reconstructed(1200 * 3600.0), area, now).value
    told = answer(reconstructed(100 * 3600.0), area, now).explain()
    assert told == "volume: yes, cheaper to recompute: 5 to make it again, 60 to keep it"


def test_a_longer_horizon_and_a_cheaper_tier_decide_otherwise(reconstructed, area, now):
    known = reconstructed(1500 * 3600.0)
    assert not answer(known, area, now).value
    assert answer(known, area, now, replace(COSTS, months=24)).value
    assert not answer(reconstructed(3600.0), area, now, replace(COSTS, tb_month={"inhouse": 0.0})).value


@pytest.mark.parametrize("costs", [None, Costs({"fast": 40.0}, 0.05, 12)], ids=["no costs", "no price of the area"])
def test_without_a_price_nobody_knows(reconstructed, area, now, costs):
    found = answer(reconstructed(1.0), area, now, costs)
    assert (found.value, found.doubtful) == (False, True)
    assert "cheaper to recompute: not known" in found.explain()


def test_without_a_measured_run_or_a_good_volume_here_nobody_knows(reconstructed, area, now):
    for known in (
        reconstructed(None),
        reconstructed(1.0, tier="elsewhere"),
    ):
        assert answer(known, area, now).doubtful
    assert not answer(reconstructed(1.0, ReplicaState.SUSPECT), area, now).value


def test_it_is_one_term_and_a_misspelt_one_is_pointed_at():
    assert read_expression("cheaper  to\nrecompute") == Flag(CHEAPER, "cheaper to recompute")
    with pytest.raises(ValueError, match="cannot stand here"):
        read_expression("cheaper to keep")
