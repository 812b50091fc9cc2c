"""The jobs that may need a cartridge, and the copies that they are about."""

from datetime import timedelta

import pytest

from tomovault.catalog.recalls import list_begun, list_errands
from tomovault.core.replica import Form, TierClass


@pytest.fixture
def queue(site, archived, now):
    count = 0

    def put(action, *, place="inhouse", **more):
        nonlocal count
        count += 1
        at = now + timedelta(seconds=count)
        with site.writing() as tx:
            return site.queue_job(
                tx, action, archived.id, {}, dedup_key=f"{count}", rule="r", now=at, place=place, **more
            )

    return put


def _jobs(site, now, **more):
    with site.reading() as tx:
        return [errand.job for errand in list_errands(tx, now, **{"limit": 9} | more)]


def test_they_come_with_every_copy_that_stands(site, archived, queue, now):
    job = queue("restore")
    with site.reading() as tx:
        (errand,) = list_errands(tx, now, limit=9)
    assert (errand.job, errand.action, errand.scan, errand.begun_at) == (job, "restore", archived.id, None)
    assert errand.queued_at == now + timedelta(seconds=1)
    places = {(copy.tier, copy.domain, copy.form, copy.tier_class) for copy in errand.copies}
    assert places == {
        ("inhouse", "disk", Form.FILES, TierClass.SERVER),
        ("inhouse.vault", "disk", Form.PACKAGE, TierClass.SERVER),
        ("tape", "pool-a", Form.PACKAGE, TierClass.ARCHIVE),
        ("tape", "pool-b", Form.PACKAGE, TierClass.ARCHIVE),
    }


def test_only_those_that_could_be_claimed_are_listed(site, queue, now):
    queue("pack")
    first, late = queue("verify"), queue("archive", not_before=now + timedelta(hours=1))
    bound, away = queue("restore", host="other"), queue("restore", place="away")
    assert _jobs(site, now) == [first, away]
    assert _jobs(site, now, skip_places={"away"}) == [first]
    assert _jobs(site, now, host="other", unbound=False) == [bound]
    assert _jobs(site, now, anywhere=True) == [first, bound, away]
    assert _jobs(site, now, actions={"restore", "pack"}) == [away]
    assert _jobs(site, now, limit=1) == [first, away]
    assert _jobs(site, now + timedelta(hours=2)) == [first, late, away]


def test_what_is_being_done_is_listed_by_itself(site, queue, now):
    job, other = queue("restore"), queue("restore")
    at = now + timedelta(minutes=1)
    with site.writing() as tx:
        site.claim_job(tx, "here", now=at, only=job)
        (begun,) = list_begun(tx)
    assert (begun.job, begun.begun_at) == (job, at)
    assert _jobs(site, now) == [other]
