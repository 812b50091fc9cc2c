import pytest

from tomovault.core.errors import UserError
from tomovault.policy.prices import Prices
from tomovault.vault.editing import change_site
from tomovault.vault.site import load_site


def test_without_the_section_nothing_is_priced(town):
    assert town.vault.site.costs is None


def test_the_prices_of_an_area(town):
    town.change(costs={"tb_month": {"inhouse": 5, "tape": 0.5}, "core_hour": 0.036, "horizon": "2 years"})
    costs = town.vault.site.costs
    assert costs.of("inhouse") == Prices(5 * 24 / 1e12, 0.036 / 3600)
    assert costs.of("nowhere") is None
    with town.vault.catalogue.reading() as tx:
        assert town.vault.area_facts(tx, "inhouse", town.now).prices == costs.of("inhouse")


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ({"tb_month": {"inhouse": -1}, "core_hour": 1}, "is not a price"),
        ({"tb_month": {"inhose": 1}, "core_hour": 1}, "did you mean 'inhouse'"),
        ({"tb_month": {"inhouse": True}, "core_hour": 1}, "is not a price"),
        ({"tb_month": {"inhouse": "5 EUR"}, "core_hour": 1}, "is not a price"),
        ({"tb_month": {"inhouse": float("nan")}, "core_hour": 1}, "is not a price"),
        ({"tb_month": {"inhouse": 1}}, "core_hour"),
        ({"tb_month": {}, "core_hour": 1}, "tb_month"),
        ({"tb_month": {"inhouse": 1}, "core_hour": 1, "horizon": "30d"}, "12 months"),
        ({"tb_month": {"inhouse": 1}, "core_hour": 1, "horizon": "0 months"}, "12 months"),
    ],
)
def test_what_is_no_price_is_pointed_at(town, section, told):
    with pytest.raises(UserError) as problem:
        _load_with(town.folder, section)
    assert told in str(problem.value)


def _load_with(folder, section):
    change_site(folder, {"costs": section})
    load_site(folder)
