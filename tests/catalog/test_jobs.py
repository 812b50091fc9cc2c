from __future__ import annotations

import threading
from datetime import timedelta

import pytest

from tomovault.catalog.work import last_outcome
from tomovault.core.errors import Refused, UserError
from tomovault.core.known import JobStatus
from tomovault.core.record import Checked, GivenBack, Outcome, Result
from tomovault.core.replica import ReplicaState

DONE = Result(Outcome.SUCCEEDED)


def _queue(site, tx, now, key="k", scan=None, **more):
    values = {"rule": "r", "place": "inhouse"} | more
    return site.queue_job(tx, "pack", scan, {"x": 1}, dedup_key=key, now=now, **values)


def _finish(site, tx, claimed, result, now, **more):
    values = {"retry_after_s": 60.0, "max_attempts": 3} | more
    return site.finish_job(tx, claimed.id, claimed.token, result, now, **values)


def test_a_job_is_queued_once_per_set_of_facts(site, scan_id, make, now):
    with site.writing() as tx:
        assert _queue(site, tx, now, scan=scan_id)
        assert _queue(site, tx, now, scan=scan_id) is None
        claimed = site.claim_job(tx, "me", now=now)
        assert _queue(site, tx, now, scan=scan_id) is None
        _finish(site, tx, claimed, Result(Outcome.SUCCEEDED, (make.made(),)), now)
        assert _queue(site, tx, now, scan=scan_id) is None, "its own facts are not new ones"
        assert _queue(site, tx, now, key="k2", scan=scan_id)
        site.add_pin(tx, scan_id, "ann", "x", now + timedelta(days=1), now)
        assert _queue(site, tx, now, scan=scan_id), "a fact came after it"


@pytest.mark.parametrize("end", ["failed", "cancelled"])
def test_a_job_that_failed_stays_so_until_a_person_or_another_key(site, scan_id, now, end):
    with site.writing() as tx:
        job = _queue(site, tx, now, scan=scan_id)
        if end == "failed":
            _finish(site, tx, site.claim_job(tx, "me", now=now), Result(Outcome.FAILED, error="e"), now)
        else:
            site.cancel_job(tx, job, "ann", now)
        site.add_pin(tx, scan_id, "ann", "x", now + timedelta(days=1), now)
        assert _queue(site, tx, now, scan=scan_id) is None
        assert _queue(site, tx, now, key="other", scan=scan_id)
        site.retry_job(tx, job, "ann", now)
        assert site.read_job(tx, job).status is JobStatus.TODO
        with pytest.raises(UserError):
            site.retry_job(tx, job, "ann", now)


def test_a_job_that_waits_is_done_at_once_on_a_person_s_word(site, scan_id, now):
    wait = Result(Outcome.WAITING, error="the vault is absent")
    with site.writing() as tx:
        job = _queue(site, tx, now, scan=scan_id)
        claimed = site.claim_job(tx, "me", now=now)
        site.finish_job(tx, job, claimed.token, wait, now, retry_after_s=90, max_attempts=1)
        assert site.claim_job(tx, "me", now=now) is None
        site.retry_job(tx, job, "ann", now)
        assert site.claim_job(tx, "me", now=now).id == job
        with pytest.raises(UserError, match="is doing"):
            site.retry_job(tx, job, "ann", now)


def test_a_claim_takes_what_may_run_here_and_now(site, now):
    later = now + timedelta(seconds=5)
    with site.writing() as tx:
        a = _queue(site, tx, now, "a", not_before=later)
        b = _queue(site, tx, now + timedelta(seconds=1), "b", host="h1")
        c = _queue(site, tx, now + timedelta(seconds=2), "c", place="slow")
        claim = lambda **k: site.claim_job(tx, "me", **({"now": now} | k))  # noqa: E731
        assert claim(actions=["prune"]) is None
        assert claim(skip_places={"slow"}, host="h2") is None
        first = claim(host="h2")
        assert (first.id, first.order, first.rule, first.place, first.number) == (c, {"x": 1}, "r", "slow", 1)
        second = claim(host="h1", actions={"pack"})
        assert second.id == b
        assert second.token > first.token
        assert claim(host="h1") is None
        assert claim(now=later).id == a


def test_a_transient_end_is_tried_again_until_the_attempts_are_used_up(site, scan_id, now):
    wait = Result(Outcome.TRANSIENT, error="busy", hint="wait")
    with site.writing() as tx:
        job = _queue(site, tx, now, scan=scan_id)
        for number in (1, 2):
            claimed = site.claim_job(tx, "me", now=now)
            assert claimed.number == number
            assert _finish(site, tx, claimed, wait, now) is JobStatus.TODO
            assert site.claim_job(tx, "me", now=now) is None
            now += timedelta(seconds=60)
        assert _finish(site, tx, site.claim_job(tx, "me", now=now), wait, now) is JobStatus.FAILED
        found = site.read_job(tx, job)
        assert (found.status, found.attempts, found.error, found.hint) == (JobStatus.FAILED, 3, "busy", "wait")
        assert [j.id for j in site.list_jobs(tx, JobStatus.FAILED)] == [job]
        assert site.count_jobs(tx)[JobStatus.FAILED] == 1
        assert site.count_jobs(tx)[JobStatus.TODO] == 0


def test_a_stale_token_applies_nothing(site, archived, now):
    bad = Result(Outcome.SUCCEEDED, (Checked(archived.replica["tape/pool-a"], False, now, "x"),))
    with site.writing() as tx:
        _queue(site, tx, now, scan=archived.id)
        stale = site.claim_job(tx, "dead", now=now)
        assert site.token_is_current(tx, stale.id, stale.token)
        assert site.requeue_orphans(tx, lambda h: h != "dead", now) == [stale.id]
        assert not site.token_is_current(tx, stale.id, stale.token)
        fresh = site.claim_job(tx, "me", now=now)
        assert (fresh.id, fresh.number) == (stale.id, 2)
        assert fresh.token > stale.token
    with pytest.raises(Refused) as refusal, site.writing() as tx:
        _finish(site, tx, stale, bad, now)
    assert refusal.value.by == "law 7"
    with pytest.raises(Refused), site.writing() as tx:
        site.release_job(tx, stale.id, stale.token, now)
    with site.writing() as tx:
        assert {r.state for r in site.known(tx, archived.id).replicas} == {ReplicaState.VERIFIED}
        assert site.token_is_current(tx, fresh.id, fresh.token)
        assert _finish(site, tx, fresh, DONE, now) is JobStatus.SUCCEEDED
        assert not site.token_is_current(tx, fresh.id, fresh.token)
    with pytest.raises(Refused), site.writing() as tx:
        _finish(site, tx, fresh, DONE, now)


def test_all_facts_of_a_result_or_none(site, scan_id, make, now):
    with site.writing() as tx:
        _queue(site, tx, now, scan=scan_id)
        claimed = site.claim_job(tx, "me", now=now)
    records = (make.stored("no-such-tier"), make.made())
    with pytest.raises(UserError, match="no-such-tier"), site.writing() as tx:
        _finish(site, tx, claimed, Result(Outcome.SUCCEEDED, records), now)
    with site.reading() as tx:
        scan = site.known(tx, scan_id)
        assert scan.products == ()
        assert scan.jobs[0].status is JobStatus.DOING


def test_a_released_job_counts_no_attempt(site, now):
    with site.writing() as tx:
        _queue(site, tx, now)
        claimed = site.claim_job(tx, "me", now=now)
        site.release_job(tx, claimed.id, claimed.token, now)
        again = site.claim_job(tx, "me", now=now)
        assert (again.number, again.attempt != claimed.attempt) == (1, True)


def test_living_holders_keep_their_jobs_and_killers_are_given_up(site, now):
    with site.writing() as tx:
        for key in "ab":
            _queue(site, tx, now, key)
        kept = site.claim_job(tx, "alive", now=now)
        for _ in range(2):
            lost = site.claim_job(tx, "dead", now=now)
            assert site.requeue_orphans(tx, lambda h: h == "alive", now, max_attempts=2) == [lost.id]
        assert site.claim_job(tx, "dead", now=now) is None
        assert site.read_job(tx, lost.id).status is JobStatus.FAILED
        assert site.token_is_current(tx, kept.id, kept.token)


def test_what_was_given_back_is_kept(site, scan_id, now):
    given = GivenBack("tape", "T00001", "/home/\udcff", 2, 150, read_bytes=60)
    with site.writing() as tx:
        _queue(site, tx, now, scan=scan_id)
        claimed = site.claim_job(tx, "me", now=now)
        _finish(site, tx, claimed, Result(Outcome.SUCCEEDED, (given,)), now)
        assert site.read_job_result(tx, claimed.id) == (given,)
        assert site.list_audit(tx, scan_id)[0].op == "given back"


def test_an_inspection_is_recorded_in_the_area_of_its_job(site, make, now):
    with site.writing() as tx:
        site.queue_job(tx, "inspect", None, {"area": "inhouse"}, dedup_key="i", rule="", now=now, place="elsewhere")
        claimed = site.claim_job(tx, "me", now=now)
        _finish(
            site,
            tx,
            claimed,
            Result(Outcome.SUCCEEDED, (make.inspected(make.report()),)),
            now,
            whose=lambda _r: {"owner": ("ann", "path")},
        )
        (scan,) = site.list_scans(tx)
        assert (scan.area, scan.owner) == ("inhouse", "ann")


def test_no_two_claims_get_one_job(site, now):
    with site.writing() as tx:
        queued = {_queue(site, tx, now, f"k{i}") for i in range(40)}
    got = []
    problems = []

    def work(name):
        try:
            while True:
                with site.writing() as tx:
                    claimed = site.claim_job(tx, name, now=now)
                if claimed is None:
                    return
                got.append(claimed)
        except Exception as problem:  # noqa: BLE001 - carried to the test's own thread
            problems.append(problem)

    threads = [threading.Thread(target=work, args=(f"w{i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert len(got) == 40
    assert {c.id for c in got} == queued
    assert len({c.token for c in got}) == 40


def test_what_a_failed_attempt_brought_is_recorded(site, scan_id, make, now):
    brought = Result(Outcome.TRANSIENT, (make.made(), make.stored("tape", "pool-a")), error="no drive is free")
    with site.writing() as tx:
        job = _queue(site, tx, now, scan=scan_id)
        claimed = site.claim_job(tx, "me", now=now)
        status = site.finish_job(tx, job, claimed.token, brought, now, retry_after_s=1.0, max_attempts=3)
        assert status is JobStatus.TODO
        assert [r.domain for r in site.known(tx, scan_id).replicas] == ["pool-a"]


def test_to_wait_for_something_uses_up_no_attempt(site, scan_id, now):
    wait = Result(Outcome.WAITING, error="the tape is on its way")
    with site.writing() as tx:
        job = _queue(site, tx, now, scan=scan_id)
        at, pauses = now, []
        for _ in range(60):
            claimed = site.claim_job(tx, "me", now=at)
            assert claimed.number == 1
            assert site.finish_job(tx, job, claimed.token, wait, at, retry_after_s=10, max_attempts=1) is JobStatus.TODO
            told = site.read_job(tx, job)
            assert (told.attempts, told.error) == (0, "the tape is on its way")
            pauses.append((told.not_before - at).total_seconds())
            at = told.not_before
        assert pauses[0] == 10
        assert pauses == sorted(pauses)
        assert pauses[-1] == 600
        claimed = site.claim_job(tx, "me", now=at)
        site.finish_job(tx, job, claimed.token, Result(Outcome.FAILED), at, retry_after_s=10, max_attempts=1)
        assert last_outcome(tx, job) == "failed"
