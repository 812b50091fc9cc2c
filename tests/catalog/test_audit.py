from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import delete, update
from sqlalchemy.exc import DBAPIError

from tomovault.catalog import audit, tables
from tomovault.core.errors import IntegrityError, UserError


@pytest.fixture
def log(catalogue, now):
    with catalogue.writing() as tx:
        for i in range(5):
            body = {"i": i, "path": "\udcff", "at": now}
            catalogue.add_audit(tx, f"actor\udcff{i}", "op", body, now + timedelta(microseconds=i), scan=f"s{i % 2}")
    return catalogue


def test_what_was_written_around_a_moment(log, now):
    def around(microseconds):
        with log.reading() as tx:
            return log.find_audit_around(tx, now + timedelta(microseconds=microseconds))

    third, fourth = now + timedelta(microseconds=2), now + timedelta(microseconds=3)
    assert around(2) == (third, fourth)
    assert around(-1) == (None, now)
    assert around(9) == (now + timedelta(microseconds=4), None)


def _unguarded(tx, statement):
    """As someone with the database's own rights would: past the guard."""
    if tx.sqlite:
        for name in ("audit_no_update", "audit_no_delete"):
            tx.conn.exec_driver_sql(f"DROP TRIGGER {name}")
    else:
        tx.conn.exec_driver_sql("SET LOCAL session_replication_role = replica")
    tx.run(statement)


def test_the_chain_holds_over_a_restart(log, now):
    with log.writing() as tx:
        state = log.verify_audit(tx)
        assert (state.ok, state.rows, state.problem) == (True, 5, "")
        seq, digest = log.add_audit(tx, "a", "op", {}, now)
        assert seq == 6
        after = log.verify_audit(tx)
        assert (after.ok, after.rows, after.head) == (True, 6, digest)
        rows = log.list_audit(tx, "s1", 1)
        assert [(r.seq, r.scan, r.body["path"], r.actor) for r in rows] == [(4, "s1", "\udcff", "actor\udcff3")]
        assert len(log.list_audit(tx)) == 6


def test_an_empty_log_is_right(catalogue):
    with catalogue.reading() as tx:
        assert catalogue.verify_audit(tx) == audit.AuditState(True, 0, audit.GENESIS)


@pytest.mark.parametrize("statement", [update(tables.audit).values(actor="me"), delete(tables.audit)])
def test_rows_cannot_be_changed_or_deleted(log, statement):
    with pytest.raises(DBAPIError, match="append-only"), log.writing() as tx:
        tx.run(statement)
    assert log.check() == []


@pytest.mark.parametrize(
    "values", [{"actor": "me"}, {"op": "x"}, {"body": "{}"}, {"scan_id": None}, {"prev_hash": "0" * 64}, {"hash": "1"}]
)
def test_a_changed_row_breaks_the_chain(log, values):
    third = tables.audit.c.seq == 3
    with log.writing() as tx:
        _unguarded(tx, update(tables.audit).where(third).values(**values))
        state = log.verify_audit(tx)
    assert (state.ok, state.rows) == (False, 2)
    assert "row 3" in state.problem
    assert any("audit" in p for p in log.check())


def test_a_changed_time_breaks_the_chain(log, now):
    with log.writing() as tx:
        _unguarded(tx, update(tables.audit).where(tables.audit.c.seq == 3).values(at=now))
        assert not log.verify_audit(tx).ok


def test_a_missing_row_breaks_the_chain(log):
    with log.writing() as tx:
        _unguarded(tx, delete(tables.audit).where(tables.audit.c.seq == 3))
        assert not log.verify_audit(tx).ok


def test_only_an_exported_head_shows_that_the_end_was_cut_off(log, tmp_path, now):
    path = str(tmp_path / "head")
    with pytest.raises(UserError):
        log.read_exported(path)
    with log.writing() as tx:
        log.export_head(tx, path)
        head = log.read_exported(path)
        assert head[0] == 5
        assert log.verify_audit(tx, head).ok
        log.add_audit(tx, "a", "op", {}, now)
        assert log.verify_audit(tx, head).ok
        _unguarded(tx, delete(tables.audit).where(tables.audit.c.seq >= 5))
        assert log.verify_audit(tx).ok
        assert not log.verify_audit(tx, head).ok
        log.add_audit(tx, "forger", "op", {}, now)
        assert not log.verify_audit(tx, head).ok
    assert any("exported head" in p for p in log.check(head))


def test_a_half_written_line_of_an_export_is_passed_over(log, tmp_path):
    path = tmp_path / "head"
    with log.reading() as tx:
        head = log.export_head(tx, str(path))
    with path.open("a") as file:
        file.write('{"seq": 9')
    assert log.read_exported(str(path)) == head
    path.write_text("junk\n")
    with pytest.raises(IntegrityError):
        log.read_exported(str(path))
