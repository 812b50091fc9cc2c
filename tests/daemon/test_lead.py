import contextlib

import pytest

from tomovault.core.errors import Transient
from tomovault.daemon import lead as module
from tomovault.daemon.lead import Lead
from tomovault.vault.asking import holder_name
from tomovault.vault.fellows import LEADER, daemon_lease, read_fellows, rest_lease, watch_lease


@pytest.fixture
def join(town, monkeypatch):
    """Called with the name of a machine for a daemon's place; not to be asked again before it is asked."""
    monkeypatch.setattr(module, "_LOOK_S", 0.0)
    with contextlib.ExitStack() as ending:

        def make(host=None):
            if host is not None:
                town.vault.__dict__["host"] = host
            made = Lead(town.vault, holder_name(town.vault))
            made.join()
            ending.callback(made.drop)
            return made

        yield make


@pytest.fixture
def fellows(town):
    def read():
        with town.vault.catalogue.reading() as tx:
            return read_fellows(town.vault, tx)

    return read


def take(town, name, holder="other-1-x"):
    """Somebody else has this lease."""
    with town.vault.catalogue.writing() as tx:
        for lease, had in town.vault.catalogue.list_leases(tx).items():
            if lease == name:
                town.vault.catalogue.drop_lease(tx, lease, had)
        assert town.vault.catalogue.take_lease(tx, name, holder, 60.0)


def test_the_lead_is_taken_renewed_and_dropped(town, join, fellows):
    lead = join()
    assert lead.leads
    lead._lease_s = 1e-6
    assert lead.renew()
    assert lead.lapsed, "it came too late, but nobody else was there"
    lead._lease_s = 60.0
    assert lead.renew()
    assert not lead.lapsed
    lead.drop()
    assert fellows().holders == frozenset()


def test_a_second_one_is_told_who_is_there(town, join, backend):
    lead = join()
    told = "another daemon leads this site" if backend == "sqlite" else "another daemon runs for the machine"
    with pytest.raises(Transient, match=told) as refused:
        Lead(town.vault, "other-1-x").join()
    assert lead._holder in refused.value.message
    assert lead.renew()


def test_on_sqlite_one_of_another_machine_has_no_place_either(town, join, backend):
    join("one")
    if backend == "sqlite":
        with pytest.raises(Transient, match="another daemon leads this site: one-"):
            join("two")
    else:
        assert not join("two").leads


def test_a_lead_that_another_took_is_lost_for_good(town, join):
    lead = join()
    take(town, LEADER)
    assert lead.renew(), "not asked yet"
    lead._lease_s = 0.0
    assert not lead.renew()
    assert lead.lost == "another daemon took the lead"
    assert not lead.renew()


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
@pytest.mark.component("postgresql")
class TestFollowing:
    """On a shared catalogue."""

    def test_a_follower_leads_when_the_leader_is_gone(self, join, fellows):
        first, second = join("one"), join("two")
        assert (first.leads, second.leads) == (True, False)
        seen = fellows()
        assert seen.leader == first._holder
        assert seen.daemons == {"one": first._holder, "two": second._holder}
        assert seen.followers == (second._holder,)
        assert not second.try_lead()
        first.drop()
        assert second.look_round(frozenset())
        assert second.fellows.leader is None
        assert second.try_lead()
        assert second.leads
        assert fellows().followers == ()

    def test_a_place_that_another_took_is_lost(self, town, join):
        join("one")
        second = join("two")
        take(town, daemon_lease("two"))
        second._lease_s = 0.0
        assert not second.renew()
        assert "on two" in second.lost

    def test_words_are_told_and_taken_back(self, join, fellows):
        first, second = join("one"), join("two")
        second.look_round(frozenset({watch_lease("inhouse"), rest_lease("two")}))
        assert fellows().watched == {"inhouse": second._holder}
        first.look_round(frozenset({watch_lease("inhouse")}))
        assert fellows().watched == {"inhouse": second._holder}, "one watches an area"
        assert fellows().all_rest_but(first._holder)
        assert not fellows().all_rest_but(second._holder)
        second.look_round(frozenset())
        first.look_round(frozenset({watch_lease("inhouse")}))
        assert fellows().watched == {"inhouse": first._holder}
        assert not fellows().all_rest_but(first._holder)

    def test_the_others_are_not_looked_at_all_the_time(self, join, monkeypatch):
        monkeypatch.setattr(module, "_LOOK_S", 60.0)
        lead = join("one")
        lead._looked_at = -100.0
        assert lead.look_round(frozenset())
        assert not lead.look_round(frozenset())
