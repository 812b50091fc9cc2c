import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from tomovault.core.known import JobStatus
from tomovault.core.record import Checked, Inspected, Made, Outcome, PutBack, Quarantined, Removed, Result
from tomovault.core.replica import Form, ProductKind, ReplicaState
from tomovault.core.scan import (
    Candidate,
    Certificate,
    FileRole,
    FileState,
    FrameCounts,
    ScanFile,
    ScanReport,
    Verdict,
)
from tomovault.vault import foreman as foremen
from tomovault.vault.foreman import Foreman, Running, read_result
from tomovault.vault.job import result_of_failure, result_to_plain
from tomovault.vault.removals import grant, regrant
from tomovault.vault.vault import Vault


@pytest.fixture
def permit(town):
    scan = town.scan("one")
    town.room()
    rule = next(r for r in town.vault.policy_of("inhouse").rules if r.do == "prune")
    with town.vault.catalogue.writing() as tx:
        known = town.vault.catalogue.known(tx, scan)
        return scan, grant(town.vault, tx, known, town.replica(scan, Form.FILES).id, rule=rule, now=town.now).id


@pytest.fixture
def foreman(town, permit):
    return Foreman(town.vault, "here")


def _claim(foreman, town, action):
    return foreman.claim(datetime.now(UTC), actions=frozenset({action}))


@pytest.mark.parametrize("outcome", [Outcome.REFUSED, Outcome.FAILED, Outcome.DAMAGED, Outcome.DEFECT])
def test_a_removal_that_failed_is_taken_back_by_a_job(town, foreman, permit, outcome):
    """Some of its files may be in quarantine, so the permit stays until they are back."""
    scan, name = permit
    claimed = _claim(foreman, town, "prune")
    assert foreman._end(claimed, Result(outcome, error="half of it")) is JobStatus.FAILED
    assert town.known(scan).permits[0].phase.value == "granted"
    assert town.replica(scan, Form.FILES).state.value == "leaving"
    assert [j.order["permit"] for j in town.jobs(scan, "undo_prune")] == [name]


def test_a_moot_removal_is_taken_back_too(town, foreman, permit):
    scan, _ = permit
    town.pin(scan)
    assert foreman.start(_claim(foreman, town, "prune")) is None
    assert town.jobs(scan, "prune")[0].status is JobStatus.SUCCEEDED
    assert "pinned" in town.jobs(scan, "prune")[0].error
    assert len(town.jobs(scan, "undo_prune")) == 1


@pytest.mark.parametrize("failed", [False, True])
def test_a_removal_stopped_half_way_is_taken_back_where_another_scan_stands_now(town, foreman, permit, failed):
    """Its first attempt moved some files, then a rescan was found in the place."""
    scan, name = permit
    outcome = Outcome.FAILED if failed else Outcome.TRANSIENT
    foreman._end(_claim(foreman, town, "prune"), Result(outcome, error="half of it"))
    old = town.known(scan)
    file = ScanFile(FileState("a.edf", 999, 5000, 5000, 9, 1, 0o100644), FileRole.PROJECTION)
    certificate = Certificate(Verdict.COMPLETE, FrameCounts(2, 1, 1), FrameCounts(2, 1, 1))
    report = ScanReport("edf", "again", old.root, old.entry, "other", certificate, (file,))
    candidate = Candidate("edf", old.root, "")
    catalogue = town.vault.catalogue
    with catalogue.writing() as tx:
        catalogue.note_candidate(tx, "inhouse", candidate, "later", True, town.now)
        catalogue.record_inspected(tx, "inhouse", Inspected(candidate, "later", True, (report,)), town.now)
    assert town.known(scan).superseded_by
    assert town.known(scan).permits[0].phase.value == "granted"
    if not failed:
        with catalogue.writing() as tx:
            catalogue.retry_job(tx, town.jobs(scan, "prune")[0].id, "anna", town.now)
        assert foreman.start(_claim(foreman, town, "prune")) is None
        assert "another scan stands" in town.jobs(scan, "prune")[0].error
    assert [(j.order["permit"], j.status) for j in town.jobs(scan, "undo_prune")] == [(name, JobStatus.TODO)]
    assert town.finish("undo_prune", Result(Outcome.SUCCEEDED, (PutBack(name, 1, 400),))) is JobStatus.SUCCEEDED
    assert town.known(scan).permits[0].phase.value == "undone"
    files = next(r for r in town.known(scan).replicas if r.form is Form.FILES)
    assert files.state is ReplicaState.GONE, "what is in its place is the other's"


def test_the_bytes_stay_where_a_copy_went_bad_since_the_second_look(town, foreman, permit):
    """The job waited for its turn meanwhile; what comes of it is looked at again once something is known."""
    scan, name = permit
    town.quarantine(scan)
    catalogue = town.vault.catalogue
    copies = [r.id for r in town.known(scan).replicas if r.tier == "tape"]
    with catalogue.writing() as tx:
        known = catalogue.known(tx, scan)
        regrant(town.vault, tx, known, known.permits[0], town.now + timedelta(days=15))
        bad = [Checked(replica, ok=False, at=town.now, reason="another digest") for replica in copies]
        catalogue.apply_records(tx, bad, town.now)
        wish = {"permit": name}
        catalogue.queue_job(tx, "empty_quarantine", scan, wish, dedup_key="e", rule="r", now=town.now, place="inhouse")
    assert foreman.start(_claim(foreman, town, "empty_quarantine")) is None
    (job,) = town.jobs(scan, "empty_quarantine")
    assert (job.status, "law 4" in job.error) == (JobStatus.SUCCEEDED, True)
    assert town.known(scan).permits[0].phase.value == "leaving"
    with catalogue.reading() as tx:
        assert scan in catalogue.list_due(tx, town.now + timedelta(minutes=1), 9)


def test_a_removal_names_the_copies_that_it_relies_on_when_it_begins(town, foreman, permit, monkeypatch):
    scan, _ = permit
    monkeypatch.setattr(foremen, "start_job", lambda folder: SimpleNamespace(folder=folder))
    before = {c["verified_at"] for c in town.known(scan).permits[0].relied_on}
    copies = [r.id for r in town.known(scan).replicas if r.tier == "tape"]
    later = town.now + timedelta(minutes=5)
    with town.vault.catalogue.writing() as tx:
        again = [Checked(replica, ok=True, at=later, reason="") for replica in copies]
        town.vault.catalogue.apply_records(tx, again, later)
    monkeypatch.setattr(foremen, "datetime", SimpleNamespace(now=lambda _zone: later + timedelta(minutes=1)))
    assert foreman.start(_claim(foreman, town, "prune")) is not None
    after = {c["verified_at"] for c in town.known(scan).permits[0].relied_on}
    assert after != before


def test_a_removal_that_is_tried_again_keeps_its_permit(town, foreman, permit):
    scan, _ = permit
    assert foreman._end(_claim(foreman, town, "prune"), Result(Outcome.TRANSIENT, error="busy")) is JobStatus.TODO
    assert town.jobs(scan, "undo_prune") == []


def test_a_removal_in_quarantine_is_not_taken_back(town, foreman, permit):
    scan, name = permit
    moved = Result(Outcome.SUCCEEDED, (Quarantined(name, ("a.edf",), 400),))
    assert foreman._end(_claim(foreman, town, "prune"), moved) is JobStatus.SUCCEEDED
    assert town.jobs(scan, "undo_prune") == []


def test_what_the_catalogue_refuses_fails_the_job_not_the_daemon(town, foreman, permit):
    scan, _ = permit
    claimed = _claim(foreman, town, "prune")
    brought = Result(Outcome.SUCCEEDED, (Removed("m-of-nobody", 1, 1),))
    assert foreman._end(claimed, brought) is JobStatus.FAILED
    assert "refused" in town.jobs(scan, "prune")[0].error
    bad = Made(ProductKind.ORIGINAL, "short", -5, 1)
    with town.vault.catalogue.writing() as tx:
        town.vault.catalogue.queue_job(tx, "verify", scan, {}, dedup_key="v", rule="r", now=town.now, place="inhouse")
    foreman._end(_claim(foreman, town, "verify"), Result(Outcome.SUCCEEDED, (bad, Removed("m0", 1, 1))))
    assert len(town.known(scan).products) == 1, "all or nothing"


def test_a_job_taken_over_brings_nothing(town, foreman, permit):
    scan, name = permit
    claimed = _claim(foreman, town, "prune")
    with town.vault.catalogue.writing() as tx:
        town.vault.catalogue.cancel_job(tx, claimed.id, "anna", town.now)
    result = Result(Outcome.SUCCEEDED, (Quarantined(name, ("a.edf",), 400),))
    assert foreman._end(claimed, result) is JobStatus.CANCELLED
    assert town.known(scan).permits[0].phase.value == "granted"


def test_a_process_that_cannot_be_started_is_tried_again(town, foreman, permit, monkeypatch):
    def fail(_folder):
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(foremen, "start_job", fail)
    scan, _ = permit
    assert foreman.start(_claim(foreman, town, "prune")) is None
    job = town.jobs(scan, "prune")[0]
    assert (job.status, job.attempts) == (JobStatus.TODO, 1)
    assert "no process can be started" in job.error


def test_waits_double_up_to_the_most(town, foreman, permit):
    scan, _ = permit
    town.change(retries={"attempts": 9, "after": "10s", "most": "30s"})
    patient = Foreman(town.vault, "here")
    waits = []
    from datetime import UTC, datetime, timedelta

    for _ in range(4):
        claimed = patient.claim(datetime.now(UTC) + timedelta(days=1), actions=frozenset({"prune"}))
        before = datetime.now(UTC)
        patient._end(claimed, Result(Outcome.TRANSIENT, error="busy"))
        waits.append(round((town.jobs(scan, "prune")[0].not_before - before).total_seconds()))
    assert waits == [10, 20, 30, 30]


@pytest.mark.parametrize(
    ("text", "outcome"),
    [("{", Outcome.TRANSIENT), ("{}", Outcome.DEFECT), ('{"records": [{"type": "Nonsense"}]}', Outcome.DEFECT)],
)
def test_a_result_that_makes_no_sense(tmp_path, text, outcome):
    (tmp_path / "result.json").write_text(text)
    assert read_result(tmp_path).outcome is outcome


def test_a_result_survives_its_file(tmp_path):
    assert read_result(tmp_path) is None
    result = Result(Outcome.SUCCEEDED, (Removed("m1", 3, 4),), peak_bytes=5, cpu_s=0.5)
    (tmp_path / "result.json").write_text(json.dumps(result_to_plain(result)))
    assert read_result(tmp_path) == result


@pytest.mark.parametrize(
    ("problem", "outcome"),
    [
        (OSError(28, "No space left on device"), Outcome.TRANSIENT),
        (OSError(5, "Input/output error"), Outcome.TRANSIENT),
        (PermissionError(13, "Permission denied"), Outcome.FAILED),
        (MemoryError(), Outcome.FAILED),
        (KeyError("x"), Outcome.DEFECT),
    ],
)
def test_what_an_exception_means(problem, outcome):
    assert result_of_failure(problem).outcome is outcome


def test_orphans_are_taken_up(town, permit):
    scan, name = permit
    dead = Foreman(town.vault, "dead")
    claimed = _claim(dead, town, "prune")
    folder = town.vault.run_folder / "jobs" / claimed.attempt
    folder.mkdir(parents=True)
    done = Result(Outcome.SUCCEEDED, (Quarantined(name, ("a.edf",), 400),))
    (folder / "result.json").write_text(json.dumps(result_to_plain(done)))
    assert Foreman(town.vault, "next").take_up_orphans() == 1
    assert town.known(scan).permits[0].phase.value == "quarantined"
    assert not folder.exists()


def test_a_job_that_takes_its_daemon_along_each_time_ends(town, permit):
    """A daemon that a person stops uses nothing up; what such a removal had moved is taken back."""
    scan, name = permit
    town.change(retries={"attempts": 2, "after": "0s"})
    fine = town.scan("two")
    with town.vault.catalogue.writing() as tx:
        town.vault.catalogue.queue_job(tx, "verify", fine, {}, dedup_key="v", rule="r", now=town.now, place="inhouse")
    deaths = 0
    while town.jobs(scan, "prune")[0].status is JobStatus.TODO:
        assert deaths < 20, "it is done for ever"
        deaths += 1
        dead = Foreman(town.vault, f"dead{deaths}")
        _claim(dead, town, "prune")
        if deaths == 3:
            _claim(dead, town, "verify")
        following = Foreman(town.vault, f"next{deaths}")
        assert following.take_up_orphans() == 1 + (deaths == 3)
    job = town.jobs(scan, "prune")[0]
    assert (job.status, job.attempts, following.failed) == (JobStatus.FAILED, deaths, 1)
    assert deaths == 10, "a person may end it a few times"
    assert f"{deaths} times" in job.error
    assert f"tomovault retry {job.id}" in job.hint
    assert [(j.order["permit"], j.status) for j in town.jobs(scan, "undo_prune")] == [(name, JobStatus.TODO)]
    assert (town.jobs(fine, "verify")[0].status, town.jobs(fine, "verify")[0].attempts) == (JobStatus.TODO, 1)


def test_an_abandoned_job_is_as_if_it_had_not_been_tried(town, foreman, permit):
    scan, _ = permit
    claimed = _claim(foreman, town, "prune")
    process = SimpleNamespace(folder=town.vault.run_folder / "jobs" / "x", stop=lambda: None)
    foreman.abandon(foremen.Running(claimed, process, "one", town.now))
    job = town.jobs(scan, "prune")[0]
    assert (job.status, job.attempts) == (JobStatus.TODO, 0)


def test_a_job_of_an_area_that_is_not_in_the_sites_file_fails_alone(town, permit):
    scan, _ = permit
    without = Foreman(Vault(replace(town.vault.site, areas={}), town.vault.catalogue), "here")
    assert without.start(_claim(without, town, "prune")) is None
    job = town.jobs(scan, "prune")[0]
    assert job.status is JobStatus.FAILED
    assert "there is no area 'inhouse' in tomovault.yaml" in job.error
    assert "area add" in job.hint


@pytest.mark.parametrize("problem", [KeyError("x"), RuntimeError("y"), ZeroDivisionError()])
def test_a_defect_ends_its_job_not_the_daemon(town, foreman, permit, monkeypatch, problem):
    scan, _ = permit

    def fail(*_a, **_k):
        raise problem

    monkeypatch.setattr(foremen, "build_order", fail)
    assert foreman.start(_claim(foreman, town, "prune")) is None
    job = town.jobs(scan, "prune")[0]
    assert (job.status, type(problem).__name__ in job.error) == (JobStatus.FAILED, True)


def test_a_result_that_trips_us_fails_its_job(town, foreman, permit, monkeypatch):
    scan, _ = permit
    claimed = _claim(foreman, town, "prune")
    real, calls = town.vault.catalogue.finish_job, []

    def trip(*a, **k):
        calls.append(a)
        if len(calls) == 1:
            raise KeyError("x")
        return real(*a, **k)

    monkeypatch.setattr(town.vault.catalogue, "finish_job", trip, raising=False)
    assert foreman._end(claimed, Result(Outcome.SUCCEEDED)) is JobStatus.FAILED
    assert "refused" in town.jobs(scan, "prune")[0].error


def test_jobs_that_failed_are_counted_wherever_they_ended(town, foreman, permit):
    """Also those that were refused before they began, and those whose attempts are used up."""
    town.change(retries={"attempts": 2, "after": "0s"})
    counting = Foreman(town.vault, "here")
    counting._end(_claim(counting, town, "prune"), Result(Outcome.TRANSIENT, error="busy"))
    assert counting.failed == 0
    counting._end(_claim(counting, town, "prune"), Result(Outcome.TRANSIENT, error="busy"))
    assert counting.failed == 1
    without = Foreman(Vault(replace(town.vault.site, areas={}), town.vault.catalogue), "here")
    without.start(_claim(without, town, "undo_prune"))
    assert without.failed == 1


@pytest.mark.parametrize("text", [None, "{", "[]", "{}", '{"done": null, "total": 1}'])
def test_progress_that_cannot_be_read_ends_nothing(tmp_path, text):
    """It is shown to a person, in the daemon's main loop."""
    path = tmp_path / foremen.PROGRESS
    path.mkdir() if text is None else path.write_text(text)
    assert Running(None, SimpleNamespace(folder=tmp_path), "one", None).progress() == (0, 0)


def test_whether_a_job_is_this_holders_still(town, foreman, permit):
    claimed = _claim(foreman, town, "prune")
    running = Running(claimed, None, "one", None)
    assert foreman.has(running)
    with town.vault.catalogue.writing() as tx:
        town.vault.catalogue.requeue_orphans(tx, lambda _holder: False, town.now)
    assert not foreman.has(running)
    assert _claim(foreman, town, "prune").id == claimed.id
    assert not foreman.has(running), "it is done anew, under another claim"


def test_a_scan_that_cannot_be_read_ends_its_job_alone(town, foreman, permit, monkeypatch):
    def known(_tx, _scan):
        raise ValueError("no JSON")

    with monkeypatch.context() as broken:
        broken.setattr(town.vault.catalogue, "known", known)
        claimed = foreman.claim(datetime.now(UTC), actions=frozenset({"prune"}))
        with pytest.raises(ValueError, match="no JSON"):
            foreman._order(claimed, town.now)
