import threading
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from tomovault.daemon.clerk import Clerk
from tomovault.vault.vault import Vault


@pytest.fixture
def employ():
    """Makes a clerk for a vault, with its bell to stop."""

    def make(vault, *, busy=lambda: False):
        stop = threading.Event()
        return Clerk(vault, stop=stop, tell=lambda _what, _facts: None, busy=busy), stop

    return make


def test_an_area_that_left_the_sites_file_rests(town, employ):
    """Its jobs wait and its scans stay due until it stands there again."""
    scan = town.scan("one", copies=0)
    catalogue = town.vault.catalogue
    with catalogue.writing() as tx:
        catalogue.queue_job(tx, "verify", scan, {}, dedup_key="v", rule="r", now=town.now, place="inhouse")
    clerk, _ = employ(Vault(replace(town.vault.site, areas={}), catalogue))
    clerk._lead.join()
    clerk.start_watches()
    clerk.brake()
    now = datetime.now(UTC)
    assert clerk.plan_scans(now) == 0
    assert clerk.launch(now) == 0
    clerk.make_room(now)
    assert clerk.is_idle()
    clerk._lead.drop()
    assert [j.status.value for j in town.jobs(scan, "verify")] == ["todo"]


def test_nothing_is_idle_while_somebody_else_writes(town, employ):
    clerk, _ = employ(Vault(replace(town.vault.site, areas={}), town.vault.catalogue), busy=lambda: True)
    clerk.make_room(datetime.now(UTC))
    assert not clerk.is_idle()


def test_a_clerk_that_stops_exports_the_head_and_frees_the_lead(town, employ):
    clerk, stop = employ(town.vault)
    stop.set()
    assert clerk.run(until_idle=False) == 0
    assert town.vault.exported_head() is not None
    again, stop = employ(town.vault)
    stop.set()
    assert again.run(until_idle=False) == 0
