"""Clocks that jump by years: a date that cannot be believed counts for nothing, and is made new by a re-read."""

import os
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, update

from tomovault.catalog.tables import audit, permit, replica, scan

_YEARS = timedelta(days=5 * 366)


@pytest.fixture
def site(new_site):
    site = new_site("edf")
    site.write("edf", "bone_")
    site.live()
    return site


def _date_copies(site, moment, tier="%"):
    packages = update(replica).where(replica.c.tier.like(tier), replica.c.form == "package")
    with site.database() as db:
        assert db.execute(packages.values(verified_at=moment)).rowcount


@pytest.mark.parametrize("jump", [-_YEARS, _YEARS])
def test_a_date_that_cannot_be_believed_prunes_nothing(site, digests, jump):
    root = site.areas["edf"] / "bone_"
    before = digests(root)
    known = len(site.actions())
    _date_copies(site, datetime.now(UTC) + jump, tier="tape")
    site.pruned("bone_")
    assert site.ask("policy", "preview", "--rule", "prune-files")["rules"][0]["bytes_freed"] == {}
    site.live()
    assert ("prune", "succeeded") not in site.actions()[:known]
    page = site.show("bone_")
    read = [r for r in page["replicas"] if r["tier"] == "tape"]
    now = datetime.now(UTC)
    fresh = all(abs(now - datetime.fromisoformat(r["verified_at"])) < timedelta(hours=1) for r in read)
    if page["permits"]:
        assert fresh, "a permit relies on copies that were re-read"
        assert ("verify", "succeeded") in site.actions()
    else:
        assert digests(root) == before


@pytest.mark.parametrize("jump", [-_YEARS, _YEARS])
def test_an_overdue_copy_is_read_again(site, jump):
    """A scrub is queued; when it is done the copies count, and room is made."""
    _date_copies(site, datetime.now(UTC) + jump)
    site.live()
    assert ("verify", "succeeded") in site.actions()
    for copy in site.show("bone_")["replicas"]:
        if copy["form"] == "package":
            assert abs(datetime.now(UTC) - datetime.fromisoformat(copy["verified_at"])) < timedelta(hours=1)
    site.pruned("bone_")
    site.live()
    assert site.show("bone_")["stages"]["pruned"] == "done"


def test_a_person_reads_what_is_due(site):
    _date_copies(site, datetime.now(UTC) - _YEARS, tier="tape")
    assert site.ask("verify", "--due")["checked"] == 2
    assert site.ask("verify", "--due")["checked"] == 0


def test_a_hold_from_the_future_holds(new_site, digests):
    """The clock was years ahead when it was taken away: it stays in quarantine, and a person can have it back."""
    site = new_site("edf", settings={"quarantine": {"hold": "1d", "limit": "1GB"}})
    root = site.write("edf", "bone_")
    before = digests(root)
    site.live()
    site.pruned("bone_")
    site.live()
    with site.database() as db:
        assert db.execute(update(permit).values(hold_until=datetime(2099, 1, 1, tzinfo=UTC))).rowcount
    site.live()
    assert site.ask("prune", "list")["quarantine"]
    site.ask("prune", "undo", "bone_")
    assert digests(root) == before


@pytest.mark.parametrize("vouched", ["no", "yes"])
def test_a_clock_that_is_ahead_when_the_daemon_starts_ends_no_hold(new_site, digests, tmp_path, vouched):
    """As after a power cut that the machine's clock did not survive: by its date the hold is over for long."""
    asked = tmp_path / "bin" / "timedatectl"
    asked.parent.mkdir()
    asked.write_text(f"#!/bin/sh\necho {vouched}\n")
    asked.chmod(0o755)
    site = new_site("edf", settings={"quarantine": {"hold": "1d", "limit": "1GB"}})
    root = site.write("edf", "bone_")
    before = digests(root)
    site.live()
    site.pruned("bone_")
    site.live()
    with site.database() as db:
        trigger = "audit_no_update" if db.dialect.name == "sqlite" else "audit_no_change ON audit"
        db.exec_driver_sql(f"DROP TRIGGER {trigger}")
        for seq, at in db.execute(select(audit.c.seq, audit.c.at)).all():
            db.execute(update(audit).where(audit.c.seq == seq).values(at=at - timedelta(days=365)))
        assert db.execute(update(permit).values(hold_until=datetime(2020, 1, 1, tzinfo=UTC))).rowcount
        due = update(scan).where(scan.c.next_due_at.is_not(None))
        assert db.execute(due.values(next_due_at=datetime(2020, 1, 1, tzinfo=UTC))).rowcount
    site.live(env={**os.environ, "PATH": f"{asked.parent}:{os.environ['PATH']}"})
    if vouched == "yes":
        assert site.show("bone_")["stages"]["pruned"] == "done"
        assert site.ask("prune", "list")["quarantine"] == []
        return
    assert ("empty_quarantine", "succeeded") not in site.actions()
    site.ask("prune", "undo", "bone_")
    assert digests(root) == before
