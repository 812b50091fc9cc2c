import pytest

from tomovault.core.errors import Transient
from tomovault.daemon import lead as module
from tomovault.daemon.lead import Lead
from tomovault.vault.asking import LEADER, holder_name


@pytest.fixture
def lead(town):
    made = Lead(town.vault, holder_name(town.vault))
    yield made
    made.drop()


def test_the_lead_is_taken_renewed_and_dropped(town, lead, monkeypatch):
    lead.take()
    monkeypatch.setattr(module, "_LEASE_S", 0.0)
    assert lead.renew()
    lead.drop()
    with town.vault.catalogue.reading() as tx:
        assert town.vault.catalogue.lease_holder(tx, LEADER) is None


def test_a_second_one_is_told_who_leads(town, lead):
    lead.take()
    with pytest.raises(Transient, match="another daemon leads this site"):
        Lead(town.vault, "other-1-x").take()
    assert lead.renew()


def test_a_lead_that_another_took_is_lost_for_good(town, lead, monkeypatch):
    lead.take()
    with town.vault.catalogue.writing() as tx:
        town.vault.catalogue.drop_lease(tx, LEADER, lead._holder)
        assert town.vault.catalogue.take_lease(tx, LEADER, "other-1-x", 60.0)
    assert lead.renew()
    monkeypatch.setattr(module, "_LEASE_S", 0.0)
    assert not lead.renew()
    assert lead.lost
    assert not lead.renew()
