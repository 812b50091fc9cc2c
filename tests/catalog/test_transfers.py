from __future__ import annotations

from datetime import timedelta

import pytest

from tomovault.core.errors import Refused, UserError
from tomovault.core.known import JobStatus, export_standing
from tomovault.core.life import Status
from tomovault.core.record import Outcome, Result
from tomovault.core.replica import ProductKind
from tomovault.core.transfer import (
    Receipt,
    TransferFailed,
    TransferPlanned,
    TransferReceived,
    TransferState,
    TransferSubmitted,
)

DAY = timedelta(days=1)


@pytest.fixture
def asked(site, archived, make, now):
    """Called with a record for the transfer as it is then; `id` is that of a transfer of the archived scan."""

    def tell(*records):
        with site.writing() as tx:
            site.apply_records(tx, records, now, scan_id=archived.id)
        with site.reading() as tx:
            return site.read_transfer(tx, tell.id)

    with site.writing() as tx:
        tell.id = site.add_transfer(
            tx,
            archived.id,
            ProductKind.ORIGINAL,
            make.digest("d"),
            collection="home",
            path="/in/a\\b",
            by="ann",
            now=now,
        )
    tell.planned = TransferPlanned(tell.id, "u1", now + DAY)
    tell.submitted = TransferSubmitted(tell.id, "u1", "t1", now)
    receipt = Receipt("t1", "site", "home", "/in/a\\b", make.digest("d"), ("x", "y"), 60, 1, now, now, now)
    tell.received = TransferReceived(tell.id, "u1", receipt)
    tell.failed = TransferFailed(tell.id, "u1", "t1", "it expired", now)
    return tell


def _known(site, archived):
    with site.reading() as tx:
        return site.known(tx, archived.id)


def _ops(site, archived):
    with site.reading() as tx:
        ops = [row.op for row in site.list_audit(tx, archived.id) if row.op.startswith("transfer")]
    return ops[::-1]


def test_a_transfer_goes_from_the_wish_to_the_receipt(site, archived, asked, now):
    (first,) = _known(site, archived).transfers
    assert (first.id, first.state, first.asked_by, first.asked_at) == (asked.id, TransferState.ASKED, "ann", now)
    assert (first.collection, first.path, first.product) == ("home", "/in/a\\b", ProductKind.ORIGINAL)
    planned = asked(asked.planned)
    assert (planned.state, planned.submission_id, planned.task_id) == (TransferState.PLANNED, "u1", None)
    assert planned.deadline == now + DAY
    submitted = asked(asked.submitted)
    assert (submitted.state, submitted.task_id, submitted.submitted_at) == (TransferState.SUBMITTED, "t1", now)
    done = asked(asked.received)
    assert (done.state, done.finished_at, done.receipt) == (TransferState.SUCCEEDED, now, asked.received.receipt)
    assert _ops(site, archived) == [
        "transfer asked",
        "transfer planned",
        "transfer submitted",
        "transfer received",
    ]
    assert site.check() == []


def test_what_is_known_already_changes_nothing(site, archived, asked):
    for record in (asked.planned, asked.planned, asked.submitted, asked.submitted, asked.received):
        asked(record)
    before = _ops(site, archived)
    done = asked(asked.submitted, asked.received, asked.failed)
    assert done.state is TransferState.SUCCEEDED
    assert _ops(site, archived) == before


def test_nothing_is_recorded_of_a_submission_that_was_not_committed_first(site, archived, asked, now):
    for record in (asked.submitted, asked.received, asked.failed):
        with pytest.raises(Refused, match="was not submitted under"):
            asked(record)
    asked(asked.planned)
    with pytest.raises(Refused, match="was not submitted under"):
        asked(TransferSubmitted(asked.id, "u2", "t2", now))
    with pytest.raises(Refused, match="another submission"):
        asked(TransferPlanned(asked.id, "u2", now + DAY))


def test_one_that_failed_has_a_new_submission_and_the_log_has_both(site, archived, asked, now):
    failed = asked(asked.planned, asked.submitted, asked.failed)
    assert (failed.state, failed.error, failed.task_id) == (TransferState.FAILED, "it expired", "t1")
    again = asked(TransferPlanned(asked.id, "u2", now + DAY))
    assert (again.state, again.submission_id, again.task_id) == (TransferState.PLANNED, "u2", None)
    assert (again.error, again.finished_at) == ("", None)
    with pytest.raises(Refused, match="was not submitted under u1"):
        asked(asked.received)
    assert _ops(site, archived).count("transfer planned") == 2


def test_nobody_removes_what_is_being_sent(site, archived, asked, now):
    assert _known(site, archived).pins == ()
    asked(asked.planned)
    (pin,) = _known(site, archived).pins
    assert (pin.owner, pin.until) == ("tomovault", now + DAY)
    asked(asked.submitted, asked.failed)
    assert _known(site, archived).pins == ()
    asked(TransferPlanned(asked.id, "u2", now + DAY))
    assert len(_known(site, archived).pins) == 1
    asked(TransferReceived(asked.id, "u2", asked.received.receipt))
    assert _known(site, archived).pins == ()


def test_a_transfer_of_nothing_that_is_known_is_refused(site, asked, now):
    with pytest.raises(UserError, match="no transfer t404"), site.writing() as tx:
        site.apply_records(tx, [TransferPlanned("t404", "u", now)], now, scan_id="s1")
    with pytest.raises(UserError, match="no scan s404"), site.writing() as tx:
        site.add_transfer(tx, "s404", ProductKind.VOLUME, "x", collection="c", path="/", by="ann", now=now)


# --- what the stage reads ----------------------------------------------------------------------------


def _queue(site, archived, asked, now):
    with site.writing() as tx:
        job = site.queue_job(
            tx, "export", archived.id, {"transfer": asked.id}, dedup_key="k", rule="ann", now=now, place="inhouse"
        )
        return job, site.claim_job(tx, "me", now=now, only=job)


def _end(site, claimed, result, now):
    with site.writing() as tx:
        return site.finish_job(tx, claimed.id, claimed.token, result, now, retry_after_s=60.0, max_attempts=2)


def test_what_waited_for_its_records_only_goes_on_at_once(site, archived, asked, now):
    job, claimed = _queue(site, archived, asked, now)
    assert _end(site, claimed, Result(Outcome.WAITING, (asked.planned,), at_once=True), now) is JobStatus.TODO
    with site.writing() as tx:
        assert site.read_transfer(tx, asked.id).state is TransferState.PLANNED
        again = site.claim_job(tx, "me", now=now, only=job)
    assert again.number == 1
    assert _end(site, again, Result(Outcome.WAITING), now) is JobStatus.TODO
    with site.writing() as tx:
        assert site.claim_job(tx, "me", now=now, only=job) is None


def test_the_stage_waits_for_the_job_and_is_done_with_the_receipt(site, archived, asked, now):
    _, claimed = _queue(site, archived, asked, now)
    standing = export_standing(_known(site, archived), ProductKind.ORIGINAL)
    assert standing.status is Status.WAITING
    assert "asked by ann, is asked" in standing.reason
    assert export_standing(_known(site, archived), ProductKind.VOLUME) is None
    _end(site, claimed, Result(Outcome.SUCCEEDED, (asked.planned, asked.submitted, asked.received)), now)
    assert export_standing(_known(site, archived), ProductKind.ORIGINAL).status is Status.DONE


def test_the_stage_is_held_by_a_transfer_that_failed(site, archived, asked, now):
    _, claimed = _queue(site, archived, asked, now)
    result = Result(Outcome.REFUSED, (asked.planned, asked.submitted, asked.failed), error="it expired")
    _end(site, claimed, result, now)
    standing = export_standing(_known(site, archived), ProductKind.ORIGINAL)
    assert (standing.status, standing.reason.rpartition(": ")[2]) == (Status.HELD, "it expired")


def test_the_stage_is_held_where_the_job_gave_up(site, archived, asked, now):
    _, claimed = _queue(site, archived, asked, now)
    _end(site, claimed, Result(Outcome.REFUSED, error="the token is not accepted"), now)
    standing = export_standing(_known(site, archived), ProductKind.ORIGINAL)
    assert (standing.status, standing.reason.rpartition(": ")[2]) == (Status.HELD, "the token is not accepted")


def test_a_receipt_stays_one_when_a_later_transfer_fails_but_not_while_it_is_under_way(
    site, archived, asked, make, now
):
    asked(asked.planned, asked.submitted, asked.received)
    with site.writing() as tx:
        later = site.add_transfer(
            tx,
            archived.id,
            ProductKind.ORIGINAL,
            make.digest("d"),
            collection="elsewhere",
            path="/",
            by="bob",
            now=now + DAY,
        )
        site.queue_job(
            tx, "export", archived.id, {"transfer": later}, dedup_key="k", rule="bob", now=now, place="inhouse"
        )
    assert export_standing(_known(site, archived), ProductKind.ORIGINAL).status is Status.WAITING
    asked(TransferPlanned(later, "u9", now + DAY), TransferFailed(later, "u9", "", "no", now))
    with site.writing() as tx:
        claimed = site.claim_job(tx, "me", now=now)
    _end(site, claimed, Result(Outcome.REFUSED, error="no"), now)
    assert export_standing(_known(site, archived), ProductKind.ORIGINAL).status is Status.DONE
