from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import func, select

from tomovault.catalog import engine, schema, tables
from tomovault.catalog import usage_history as history
from tomovault.core.errors import UserError
from tomovault.core.replica import Form

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def _day_ns(moment):
    return int(moment.timestamp()) * 10**9


@pytest.fixture
def scan(site, make):
    """Adds a scan of one file, written when it is first seen unless told otherwise; returns its id."""

    def add(name, size, at, *, mtime=None, proposal="ma1", identity=""):
        file = make.file(size=size, mtime_ns=_day_ns(mtime or at))
        report = make.report(f"/data/inhouse/{name}", identity or name, proposal=proposal, files=(file,))
        with site.writing() as tx:
            return site.record_inspected(tx, "inhouse", make.inspected(report), at)[0]

    return add


def _record(site, at):
    with site.writing() as tx:
        return history.record_usage(tx, at)


def _points(site, by, since, value):
    with site.reading() as tx:
        return [(p.at, p.bytes, p.written) for p in history.list_history(tx, by, since) if p.value == value]


def _growth(site, by, now, value, days=365):
    with site.reading() as tx:
        return history.growth(tx, by, now, days=days).get(value)


def test_a_row_is_written_only_where_something_changed(site, scan):
    assert _record(site, NOON) == 0
    scan("one", 100, NOON)
    first = _record(site, NOON + HOUR)
    assert first == 5, "its area, tier, proposal, owner and beamline"
    assert _record(site, NOON + 2 * HOUR) == 0
    scan("two", 30, NOON, proposal="ma2")
    assert _record(site, NOON + 3 * HOUR) == 5
    assert _points(site, "proposal", NOON, "ma1") == [(NOON + HOUR, 100, 100)]
    assert _points(site, "area", NOON, "inhouse") == [(NOON + HOUR, 100, 100), (NOON + 3 * HOUR, 130, 130)]
    with site.reading() as tx, pytest.raises(UserError, match="colour"):
        history.list_history(tx, "colour", NOON)


def test_a_history_begins_with_what_stood_at_its_begin(site, scan):
    scan("one", 100, NOON)
    _record(site, NOON)
    scan("two", 30, NOON)
    _record(site, NOON + 5 * DAY)
    begin = NOON + 2 * DAY
    assert _points(site, "proposal", begin, "ma1") == [(begin, 100, 100), (NOON + 5 * DAY, 130, 130)]


def test_what_goes_is_in_the_history_and_no_growth(site, scan):
    scan("one", 100, NOON)
    _record(site, NOON)
    scan("one", 40, NOON + DAY, identity="another in its place")
    _record(site, NOON + DAY)
    assert _points(site, "proposal", NOON, "ma1")[-1][1:] == (40, 140)
    assert _growth(site, "area", NOON + 3 * DAY, "inhouse") == (40, 0)


def test_what_lay_there_long_before_it_was_found_is_no_growth(site, scan):
    scan("new", 100, NOON)
    scan("old", 5000, NOON, mtime=NOON - 30 * DAY)
    _record(site, NOON)
    assert _points(site, "proposal", NOON, "ma1") == [(NOON, 5100, 100)]


def test_what_only_changes_hands_is_no_growth(site, scan):
    scan("one", 100, NOON)
    scan("one", 150, NOON + DAY, proposal="ma2")
    _record(site, NOON + DAY)
    assert _points(site, "proposal", NOON, "ma1")[-1][1:] == (0, 100)
    assert _points(site, "proposal", NOON, "ma2")[-1][1:] == (150, 50), "the file grew by 50"


def test_growth_is_told_by_whole_days_and_the_first_day_is_none(site, scan):
    scan("before", 1000, NOON)
    _record(site, NOON)
    scan("a", 10, NOON + DAY)
    _record(site, NOON + DAY)
    scan("b", 5, NOON + DAY)
    _record(site, NOON + DAY + HOUR)
    scan("c", 7, NOON + 4 * DAY)
    _record(site, NOON + 4 * DAY)
    now = NOON + 5 * DAY
    assert _growth(site, "proposal", now, "ma1") == (15, 0, 0, 7)
    assert _growth(site, "proposal", now, "ma1", days=2) == (0, 7)
    assert _growth(site, "proposal", now - DAY, "ma1") == (15, 0, 0), "today is not over"
    assert _growth(site, "proposal", now, "ma9") is None


def test_rows_from_the_future_go(site, scan):
    scan("one", 100, NOON)
    _record(site, NOON + 400 * DAY)
    _record(site, NOON)
    assert _points(site, "proposal", NOON - DAY, "ma1") == [(NOON, 100, 100)]


def _thin(site, now):
    return len(list(history.thin_in_turns(site.writing, now)))


def test_old_days_keep_their_last_row_and_their_growth(site, scan, monkeypatch):
    rng = random.Random(1)
    for hour in range(0, 24 * 6, 5):
        scan(f"s{hour}", rng.randrange(1, 100), NOON + hour * HOUR)
        _record(site, NOON + hour * HOUR)
    now = NOON + 6 * DAY + history.KEPT_WHOLE
    grown, before = _growth(site, "area", now, "inhouse"), _points(site, "area", NOON, "inhouse")
    monkeypatch.setattr(history, "_IN_A_TURN", 1)
    assert _thin(site, now - 3 * DAY) == 5, "a turn for each series"
    after = _points(site, "area", NOON, "inhouse")
    days = {at.date(): (at, size, written) for at, size, written in before}
    young = [p for p in before if p[0] >= (NOON + 3 * DAY).replace(hour=0)]
    assert after == [p for p in days.values() if p not in young] + young
    assert len(young) > 3
    assert _growth(site, "area", now, "inhouse") == grown
    assert _thin(site, now - 3 * DAY) == 5
    assert _points(site, "area", NOON, "inhouse") == after


def test_a_decade_of_a_thousand_proposals_stays_small(site):
    """One bound: no series has more than a row a day but for the last 60 days, and none on days without a change."""
    with site.writing() as tx:
        number = history._add_series(tx, "proposal", "ma1")
        rows = [
            {"series": number, "at": int((NOON + n * HOUR).timestamp()), "bytes": n, "files": 1, "scans": 1,
             "logical": n, "written": n}
            for n in range(0, 24 * 100)
        ]  # fmt: skip
        tx.run(tables.usage_history.insert(), rows)
    now = NOON + 100 * DAY
    _thin(site, now)
    with site.reading() as tx:
        count = tx.value(select(func.count()).select_from(tables.usage_history))
    assert 40 + 60 * 24 <= count <= 41 + 61 * 24


def test_since_when_a_soft_limit_is_exceeded(site):
    over = {("proposal", "ma1"), ("owner", "ann")}
    with site.writing() as tx:
        history.note_over(tx, over, NOON)
        history.note_over(tx, {("proposal", "ma1")}, NOON + DAY)
        assert history.over_since(tx) == {("proposal", "ma1"): NOON}
        history.note_over(tx, set(), NOON + DAY)
        assert history.over_since(tx) == {}
        history.note_over(tx, {("proposal", "ma1")}, NOON + 2 * DAY)
        assert history.over_since(tx) == {("proposal", "ma1"): NOON + 2 * DAY}, "it counts from anew"


def test_logical_size_of_files_packages_and_what_is_not_packed(site, archived, make):
    with site.writing() as tx:
        other = make.report("/data/inhouse/s2", "two")
        site.record_inspected(tx, "inhouse", make.inspected(other), NOON)
        rows = {r.value: (r.bytes, r.logical) for r in site.usage(tx, "tier")}
        assert site.recount(tx) == []
    assert rows["inhouse"] == (300, 300)
    assert rows["inhouse.vault"] == (60, 150)
    assert rows["tape"] == (120, 300)


def test_an_old_catalogue_gets_its_logical_sizes(site, archived, make, url, now):
    opened = engine.open_engine(url)
    with site.writing() as tx:
        report = make.report("/data/inhouse/s2", "two", proposal="ma\\1\ud800")
        site.record_inspected(tx, "inhouse", make.inspected(report), now)
        before = {by: [(r.value, r.bytes, r.logical) for r in site.usage(tx, by)] for by in ("area", "proposal")}
    with engine.writing(opened) as conn:
        for table in ("usage_history", "usage_series"):
            conn.exec_driver_sql(f"DROP TABLE {table}")
        names = "key_hash, area, tier, proposal, owner, beamline, bytes, files, scans"
        conn.exec_driver_sql(f"CREATE TABLE old AS SELECT {names} FROM usage")
        conn.exec_driver_sql("DROP TABLE usage")
        conn.exec_driver_sql("ALTER TABLE old RENAME TO usage")
        with Operations.context(MigrationContext.configure(conn)):
            ScriptDirectory(schema.migrations_folder()).get_revision("0005").module.upgrade()
    opened.dispose()
    with site.writing() as tx:
        assert site.recount(tx) == []
        assert {by: [(r.value, r.bytes, r.logical) for r in site.usage(tx, by)] for by in before} == before
        assert {r.written for r in site.usage(tx, "area")} == {0}
        site.apply_records(tx, [make.stored("tape", "c", form=Form.PACKAGE, size=5)], now, scan_id=archived.id)
    assert site.check() == []
