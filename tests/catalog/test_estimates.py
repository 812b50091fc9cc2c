"""What was told of when restores will be over, and what came of it."""

from datetime import timedelta

import pytest

from tomovault.catalog.estimates import honesty_of, last_estimates, note_estimate, open_estimates, pace_of
from tomovault.core.record import Outcome, Result


@pytest.fixture
def told(site, now):
    """A restore of which it was told that it takes so long; it took `took_s`, or is not over."""
    count = 0

    def add(told_s, took_s=None, *, model_s=100.0, outcome=Outcome.SUCCEEDED):
        nonlocal count
        count += 1
        at = now + timedelta(hours=count)
        with site.writing() as tx:
            job = site.queue_job(
                tx, "restore", None, {}, dedup_key=f"restore:{count}", rule="anna", now=at, place="inhouse"
            )
            note_estimate(tx, job, at, model_s, at + timedelta(seconds=told_s))
            if took_s is not None:
                claimed = site.claim_job(tx, "here", now=at, only=job)
                end = at + timedelta(seconds=took_s)
                result = Result(outcome)
                site.finish_job(tx, job, claimed.token, result, end, retry_after_s=1.0, max_attempts=1)
        return job

    return add


def test_what_was_told_of_a_job_is_known_until_it_is_over(site, told, now):
    over, waiting = told(60, 50), told(70)
    with site.reading() as tx:
        assert [(e.job, e.ends_at - e.told_at) for e in open_estimates(tx)] == [(waiting, timedelta(seconds=70))]
        (last,) = last_estimates(tx)
    assert (last.job, last.ended_at - last.told_at) == (over, timedelta(seconds=50))


def test_the_middle_of_the_last_ones_says_how_honest_it_was(site, told):
    for took in (50, 100, 400):
        told(100, took, model_s=50.0)
    told(100, 9999, outcome=Outcome.FAILED)
    with site.reading() as tx:
        last = last_estimates(tx)
    assert (honesty_of(last), pace_of(last)) == (1.0, 2.0)


def test_of_few_nothing_is_concluded(site, told):
    with site.reading() as tx:
        assert (honesty_of(last_estimates(tx)), pace_of(last_estimates(tx))) == (None, 1.0)
    told(100, 300)
    told(100, 300)
    with site.reading() as tx:
        assert (honesty_of(last_estimates(tx)), pace_of(last_estimates(tx))) == (3.0, 1.0)


def test_only_the_last_ones_count(site, told):
    for took in (*[10] * 5, *[200] * 20):
        told(100, took)
    with site.reading() as tx:
        assert (len(last_estimates(tx)), pace_of(last_estimates(tx))) == (20, 2.0)
