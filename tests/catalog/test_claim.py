import contextlib
import subprocess
import sys
import threading

import pytest

from tomovault.catalog.claim import Claim
from tomovault.core.errors import IntegrityError, Transient, UserError


@pytest.fixture
def claim_on():
    """Called for a claim that is closed when the test is over."""
    with contextlib.ExitStack() as stack:
        yield lambda *of: stack.enter_context(contextlib.closing(Claim(*of)))


def _claimed(site, now):
    with site.writing() as tx:
        site.queue_job(tx, "pack", None, {}, dedup_key="k", now=now, rule="r", place="inhouse")
        return site.claim_job(tx, "me", now=now)


def test_it_stands_until_another_has_it(site, url, now, claim_on):
    job = _claimed(site, now)
    claim = claim_on(url, job.id, job.token)
    assert claim.stands()
    assert not claim_on(url, job.id, job.token + 1).stands()
    assert not claim_on(url, "j0", job.token).stands()
    with site.writing() as tx:
        site.requeue_orphans(tx, lambda holder: False, now)
        assert claim.stands() or url.startswith("postgresql"), "not committed yet"
    assert not claim.stands(), "told by the same object, which keeps nothing"
    with site.writing() as tx:
        again = site.claim_job(tx, "other", now=now)
    assert not claim.stands()
    assert claim_on(url, again.id, again.token).stands()


def test_it_is_asked_from_any_thread_while_somebody_writes(site, url, now, claim_on):
    job = _claimed(site, now)
    claim, told = claim_on(url, job.id, job.token), []
    assert claim.stands()
    with site.writing():
        asking = threading.Thread(target=lambda: told.append(claim.stands()))
        asking.start()
        asking.join(20.0)
    assert told == [True]


def test_a_catalogue_that_is_not_there_is_not_made(tmp_path, claim_on):
    path = tmp_path / "odd name #1%.db"
    with pytest.raises(Transient):
        claim_on(f"sqlite:///{path}", "j1", 1).stands()
    assert not path.exists()
    path.touch()
    with pytest.raises(UserError, match="no tables"):
        claim_on(f"sqlite:///{path}", "j1", 1).stands()
    path.write_bytes(b"this is no database" * 100)
    with pytest.raises(IntegrityError):
        claim_on(f"sqlite:///{path}", "j1", 1).stands()


def test_a_job_process_need_not_load_what_it_does_not_use(new_url):
    """What most of a short job's time went into."""
    url = new_url("sqlite")
    code = f"""
import sys
from tomovault.vault import job, workbench
from tomovault.catalog.claim import Claim
claim = Claim({url!r}, "j1", 1)
assert not claim.stands()
claim.close()
assert "sqlalchemy" not in sys.modules, "SQLAlchemy"
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
