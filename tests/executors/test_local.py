import json
import os
import signal
import subprocess
import time

import pytest

from tomovault.executors import local
from tomovault.executors.local import start_job


@pytest.fixture
def started(tmp_path):
    """Called with an order for its process; every process is over in the end."""
    jobs = []

    def start(order):
        folder = tmp_path / f"a{len(jobs)}"
        folder.mkdir()
        (folder / "order.json").write_text(json.dumps(order))
        jobs.append(start_job(folder))
        return jobs[-1]

    yield start
    for job in jobs:
        job.stop(patience_s=0.1)


def test_a_job_writes_its_result(started):
    job = started(
        {"job": "j1", "action": "no_such_action", "order": {}, "site": "/nowhere", "attempt": "a", "token": 1}
    )
    job.process.wait(30)
    assert not job.running()
    assert job.ended_how() == "ended with exit code 0"
    result = json.loads((job.folder / "result.json").read_text())
    assert result["outcome"] == "failed"
    assert "no_such_action" in result["error"]


def test_an_order_that_cannot_be_read_leaves_a_log(started):
    job = started({})
    job.process.wait(30)
    assert job.ended_how() == "ended with exit code 1"
    assert "KeyError" in (job.folder / "log.txt").read_text()


def test_how_a_killed_job_ended(started):
    job = started({"job": "j1", "action": "x", "order": {}, "site": "/", "attempt": "a", "token": 1})
    os.kill(job.process.pid, signal.SIGKILL)
    job.process.wait(30)
    assert job.ended_how() == "was ended by SIGKILL"
    job.stop()


def test_a_job_that_does_not_listen_is_killed(tmp_path, monkeypatch):
    script = tmp_path / "deaf"
    script.write_text("#!/bin/sh\ntrap '' TERM\ntouch $3/ready\nwhile :; do sleep 0.05; done\n")
    script.chmod(0o755)
    monkeypatch.setattr(local.sys, "executable", str(script))
    job = start_job(tmp_path)
    deadline = time.monotonic() + 10
    while not (tmp_path / "ready").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    job.stop(patience_s=0.2)
    assert job.ended_how() == "was ended by SIGKILL"


class Hung:
    """A process that hangs in the kernel: no signal reaches it."""

    pid = 2**22 + 1  # nobody's

    def poll(self):
        return None

    def wait(self, timeout=None):
        assert timeout is not None, "this would wait for ever"
        time.sleep(timeout)
        raise subprocess.TimeoutExpired("job", timeout)


def test_a_job_that_hangs_in_the_kernel_is_left_to_it(tmp_path):
    began = time.monotonic()
    assert not local.LocalJob(tmp_path, Hung()).stop(patience_s=0.05)
    assert time.monotonic() - began < 5


def test_no_child_takes_locks_or_many_threads():
    assert local.JOB_ENVIRONMENT["HDF5_USE_FILE_LOCKING"] == "FALSE"
    assert {local.JOB_ENVIRONMENT[k] for k in local.JOB_ENVIRONMENT if k.endswith("THREADS")} == {"1"}
