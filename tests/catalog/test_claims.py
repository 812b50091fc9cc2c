"""Several processes claim from one catalogue: every job is done once, by the holder that its claim names."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from sqlalchemy import insert, select

from tomovault.catalog import tables

_WORKER = """
import json, sys
from datetime import UTC, datetime
from tomovault.catalog.catalogue import Catalogue
from tomovault.core.record import Outcome, Result

url, manifests, holder, host = sys.argv[1:]
catalogue = Catalogue.open(url, manifests=manifests)
sys.stdin.readline()
claimed = []
while True:
    now = datetime.now(UTC)
    with catalogue.writing() as tx:
        job = catalogue.claim_job(tx, holder, now=now, host=host, unbound=host == "one")
        if job is None:
            break
        if len(claimed) % 7 == 0:
            catalogue.release_job(tx, job.id, job.token, now)
            job = catalogue.claim_job(tx, holder, now=now, host=host, unbound=host == "one")
        catalogue.finish_job(tx, job.id, job.token, Result(Outcome.SUCCEEDED), now, retry_after_s=1, max_attempts=1)
    claimed.append([job.id, job.token])
catalogue.close()
print(json.dumps(claimed))
"""


def _queue(catalogue, now, count):
    hosts = ("one", "two", None)
    with catalogue.writing() as tx:
        tx.run(
            insert(tables.job),
            [
                {
                    "id": f"j{n:012x}",
                    "action": "verify",
                    "status": "todo",
                    "dedup_key": f"verify:{n}",
                    "rule": "r",
                    "place": "inhouse",
                    "host": hosts[n % 3],
                    "order": {},
                    "attempts": 0,
                    "error": "",
                    "hint": "",
                    "queued_at": now,
                }
                for n in range(count)
            ],
        )
    return {f"j{n:012x}": hosts[n % 3] for n in range(count)}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("count", [300, pytest.param(5000, marks=pytest.mark.soak)])
def test_no_job_is_claimed_twice(catalogue, url, tmp_path, now, count):
    """Three processes at once, two of them for the same machine."""
    queued = _queue(catalogue, now, count)
    workers = {
        holder: subprocess.Popen(
            [sys.executable, "-c", _WORKER, url, str(tmp_path), holder, host],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for holder, host in (("a", "one"), ("b", "two"), ("c", "one"))
    }
    for worker in workers.values():
        worker.stdin.write("go\n")
        worker.stdin.flush()
    claimed = {holder: json.loads(worker.communicate(timeout=580)[0]) for holder, worker in workers.items()}
    assert [worker.returncode for worker in workers.values()] == [0, 0, 0]
    every = [job for jobs in claimed.values() for job, _ in jobs]
    assert sorted(every) == sorted(queued)
    tokens = [token for jobs in claimed.values() for _, token in jobs]
    assert len(set(tokens)) == count
    assert {queued[job] for job, _ in claimed["b"]} == {"two"}
    assert "two" not in {queued[job] for holder in "ac" for job, _ in claimed[holder]}
    attempt = tables.attempt
    with catalogue.reading() as tx:
        done = tx.rows(select(attempt).where(attempt.c.outcome == "succeeded"))
    assert sorted((row.job_id, row.holder) for row in done) == sorted(
        (job, holder) for holder, jobs in claimed.items() for job, _ in jobs
    )
