from datetime import UTC, datetime

import pytest

from tomovault.core.record import Outcome, Result
from tomovault.daemon.workers import REMOVALS, Workers
from tomovault.vault.foreman import Running


class Process:
    def __init__(self):
        self.over = False

    def running(self):
        return not self.over


class Foreman:
    """Claims from a list of (action, place), without processes."""

    def __init__(self, *jobs):
        self.jobs = list(jobs)
        self.reaped, self.abandoned = [], []
        self.problem = None
        self.taken_over = ()
        #: The next job of this action waits, as the real foreman lets it wait, at the head of the line.
        self.without_memory = ""

    def claim(self, now, *, actions, skip_places=(), only=None):
        for job in self.jobs:
            if job.action in actions and job.place not in skip_places:
                if job.action == self.without_memory:
                    return None
                self.jobs.remove(job)
                return job
        return None

    def start(self, job):
        return Running(job, Process(), "scan", datetime.now(UTC))

    def reap(self, running):
        if self.problem is not None:
            raise self.problem
        self.reaped.append(running)
        return Result(Outcome.SUCCEEDED)

    def has(self, running):
        return running.claimed.place not in self.taken_over

    def abandon(self, running):
        self.abandoned.append(running)


class Job:
    def __init__(self, action, place="inhouse"):
        self.action, self.place = action, place


@pytest.fixture
def workers(town):
    def make(*jobs):
        foreman = Foreman(*jobs)
        return Workers(foreman, town.vault.site), foreman

    return make


def _launch_all(workers, **more):
    while workers.launch(datetime.now(UTC), **more):
        pass
    return [r.claimed.action for r in workers.running]


def test_an_inspection_never_waits_behind_heavy_work(workers, town):
    many = [Job("pack") for _ in range(9)]
    made, _ = workers(*many, Job("reconstruct"), Job("preview"), Job("inspect"))
    actions = _launch_all(made)
    assert actions.count("pack") == max(1, town.vault.site.jobs.cpus)
    assert actions.count("reconstruct") + actions.count("preview") == 1
    assert "inspect" in actions


def test_nothing_is_done_in_an_absent_area(workers):
    made, _ = workers(Job("restore", "away"), Job("pack", "away"), Job("pack"))
    assert _launch_all(made, absent=frozenset({"away"})) == ["pack"]


def test_where_work_is_stopped_people_get_their_data(workers):
    made, _ = workers(Job("prune"), Job("pack"), Job("restore"), Job("undo_prune"))
    assert sorted(_launch_all(made, stopped=frozenset({"inhouse"})))[0] == "restore"
    assert "prune" not in [r.claimed.action for r in made.running]


def test_jobs_that_hang_in_an_absent_area_take_no_others_turn(workers, town):
    most = max(1, town.vault.site.jobs.cpus)
    made, _ = workers(*[Job("pack", "away") for _ in range(most)], Job("pack"))
    assert _launch_all(made) == ["pack"] * most
    assert _launch_all(made, absent=frozenset({"away"})) == ["pack"] * (most + 1)


def test_removals_can_be_held_back(workers):
    made, _ = workers(Job("prune"), Job("empty_quarantine"), Job("undo_prune"))
    assert _launch_all(made, without=REMOVALS) == ["undo_prune"]


def test_a_job_that_cannot_be_recorded_now_is_recorded_later(workers):
    made, foreman = workers(Job("pack"))
    _launch_all(made)
    made.running[0].process.over = True
    foreman.problem = RuntimeError("the database is locked")
    told = []
    with pytest.raises(RuntimeError):
        made.reap(tell=lambda *_: told.append(1))
    assert len(made.running) == 1
    foreman.problem = None
    assert made.reap(tell=lambda *_: told.append(1)) == 1
    assert (made.running, told) == ([], [1])


def test_a_stop_abandons_what_runs(workers):
    made, foreman = workers(Job("pack"), Job("inspect"))
    _launch_all(made)
    made.stop()
    assert len(foreman.abandoned) == 2
    assert made.running == []


def test_a_late_lease_ends_only_what_others_took_over(workers):
    made, foreman = workers(Job("pack"), Job("inspect", "away"))
    _launch_all(made)
    assert made.stop_lost() == 0
    foreman.taken_over = ("away",)
    assert made.stop_lost() == 1
    assert [r.claimed.action for r in foreman.abandoned] == ["inspect"]
    assert [r.claimed.action for r in made.running] == ["pack"]


def test_small_work_does_not_wait_behind_a_job_that_waits_for_memory(workers):
    made, foreman = workers(Job("pack"), Job("inspect"), Job("export"))
    foreman.without_memory = "pack"
    _launch_all(made)
    assert sorted(r.claimed.action for r in made.running) == ["export", "inspect"]
