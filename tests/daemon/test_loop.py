from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tomovault.core.errors import TomovaultError
from tomovault.core.replica import TierClass
from tomovault.daemon import loop
from tomovault.daemon.loop import Daemon
from tomovault.vault.vault import Vault


@pytest.fixture
def daemon(town):
    return Daemon(town.vault)


def test_an_area_that_left_the_sites_file_rests(town):
    """Its jobs wait and its scans stay due until it stands there again."""
    scan = town.scan("one", copies=0)
    catalogue = town.vault.catalogue
    with catalogue.writing() as tx:
        catalogue.queue_job(tx, "verify", scan, {}, dedup_key="v", rule="r", now=town.now, place="inhouse")
    daemon = Daemon(Vault(replace(town.vault.site, areas={}), catalogue))
    daemon._start_watches()
    daemon._brake()
    now = datetime.now(UTC)
    assert daemon._plan_scans(now) == 0
    assert daemon._launch(now) == 0
    daemon._make_room(now)
    assert daemon.is_idle()
    assert [j.status.value for j in town.jobs(scan, "verify")] == ["todo"]


def test_copies_that_cannot_be_re_read_do_not_stand_before_the_rest(town, daemon, monkeypatch):
    """Each turn of a day takes up other copies than the turns before it."""
    scan = town.scan("one", copies=2)
    monkeypatch.setattr(loop, "_OVERDUE_AT_ONCE", 1)
    monkeypatch.setattr(type(town.vault), "verified_within", lambda *_: dict.fromkeys(TierClass, timedelta(0)))
    turns = [daemon._queue_overdue() for _ in range(5)]
    assert turns == [1, 1, 1, 0, 0]
    read = [j.order["replicas"][0] for j in town.jobs(scan, "verify")]
    assert len(set(read)) == 3


def test_the_head_of_the_audit_log_is_exported_nightly(town, daemon):
    assert town.vault.exported_head() is None
    daemon._timers.put("nightly")
    daemon._take_timers(town.now)
    with town.vault.catalogue.reading() as tx:
        newest = town.vault.catalogue.list_audit(tx, limit=1)[0]
    assert town.vault.exported_head() == (newest.seq, newest.hash)


def test_a_daemon_that_stops_exports_the_head(town):
    daemon = Daemon(town.vault)
    daemon.stop()
    daemon.run()
    assert town.vault.exported_head() is not None


def test_a_head_that_cannot_be_written_stops_nothing(town, daemon):
    town.vault.heads_file.mkdir()
    daemon._export_head()
    with pytest.raises((TomovaultError, OSError)):
        town.vault.exported_head()
