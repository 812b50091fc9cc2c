"""What is asked all the time starts from the few rows that it is about, however many others there are."""

import pytest
from sqlalchemy import event

from tomovault.catalog.holding import count_holding
from tomovault.catalog.recalls import list_begun, list_errands
from tomovault.catalog.suspects import list_suspects
from tomovault.catalog.work import area_bytes, has_work_before, list_granted, list_removable, unfinished_by_place
from tomovault.core.replica import Form
from tomovault.policy.area_facts import AreaFacts
from tomovault.policy.document import parse_policy

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
        (
            lambda tx, now: list_errands(tx, now, limit=9),
            "SEARCH job USING INDEX ix_job_unfinished (status=? AND action=?)",
        ),
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


@pytest.mark.parametrize("others", [0, 1], ids=["of all scans", "of a few"])
@pytest.mark.parametrize("term", ["packed", "archived", "replicas(tape, verified within 30d) >= 2"])
def test_a_sentence_about_copies_reads_no_row_of_a_product_or_a_copy(plans, site, make, now, term, others):
    """And where most scans are asked about, they are gone through in the order of the indexes."""
    with site.writing() as tx:
        for number in range(others):
            site.record_inspected(tx, "inhouse", make.inspected(make.report(root=f"/data/inhouse/s{number}")), now)
    policy = parse_policy(f"name: p\nversion: 1\nrules:\n  - {{name: r, when: '{term}', do: preview}}\n", "p.yaml")
    asked = AreaFacts("elsewhere" if others else "inhouse")
    steps = plans(lambda tx: count_holding(tx, policy, asked, now))
    began = "SEARCH" if others else "SCAN"
    assert any(told.startswith(f"{began} newest USING COVERING INDEX ix_product_newest") for told in steps), steps
    assert any(told.startswith("SEARCH copy USING COVERING INDEX ix_replica_verified") for told in steps), steps
