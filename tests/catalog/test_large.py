"""What is asked all the time starts from the few rows that it is about, however many others there are."""

import pytest
from sqlalchemy import event

from tomovault.catalog.recalls import list_begun, list_errands
from tomovault.catalog.suspects import list_suspects
from tomovault.catalog.work import area_bytes, has_work_before, list_granted, list_removable, unfinished_by_place
from tomovault.core.replica import Form

pytestmark = pytest.mark.parametrize("backend", ["sqlite"])


@pytest.fixture
def plans(site):
    """Called with a question; gives the steps of SQLite's plans for what it asks."""

    def of(question):
        asked = []

        def hear(_connection, _cursor, statement, parameters, _context, _many):
            asked.append((statement, parameters))

        with site.reading() as tx:
            engine = tx.conn.engine
            event.listen(engine, "before_cursor_execute", hear)
            try:
                question(tx)
            finally:
                event.remove(engine, "before_cursor_execute", hear)
            explained = [tx.conn.exec_driver_sql(f"EXPLAIN QUERY PLAN {words}", values) for words, values in asked]
            return [row[3] for plan in explained for row in plan]

    return of


@pytest.mark.parametrize(
    ("question", "step"),
    [
        (lambda tx, now: has_work_before(tx, now, now, hosts={"here"}), "SEARCH job USING INDEX"),
        (lambda tx, _: unfinished_by_place(tx, "verify", "due"), "SEARCH job USING INDEX"),
        (lambda tx, now: list_errands(tx, now, limit=9), "SEARCH job USING INDEX ix_job_taped"),
        (lambda tx, _: list_begun(tx), "SEARCH job USING INDEX"),
        (lambda tx, _: area_bytes(tx, "inhouse"), "SCAN permit USING INDEX ix_permit_open"),
        (lambda tx, _: list_granted(tx, "inhouse"), "SCAN permit USING INDEX ix_permit_open"),
        (lambda tx, _: list_suspects(tx, 50), "SCAN replica USING INDEX ix_replica_suspect"),
        (
            lambda tx, _: list_removable(tx, "inhouse", Form.FILES),
            "SEARCH replica USING INDEX ix_replica_tier_form_state (tier=? AND form=? AND state=?)",
        ),
    ],
)
def test_a_question_starts_from_the_rows_that_it_is_about(plans, now, question, step):
    steps = plans(lambda tx: question(tx, now))
    assert any(told.startswith(step) for told in steps), steps
    whole = [f"SCAN {table}" for table in ("candidate", "scan", "product", "replica", "job", "permit")]
    assert not set(whole) & set(steps), steps
    assert "ix_scan_area" not in str(steps)
