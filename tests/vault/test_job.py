"""What a job process makes of how its action ends."""

from types import SimpleNamespace

import pytest

from tomovault.core.errors import IntegrityError, NotYet, Transient
from tomovault.core.record import Outcome, Removed, Unfinished
from tomovault.vault import plugins
from tomovault.vault.job import Stopped, carry_out

MADE = Removed("m1", 1, 2)


@pytest.fixture
def ended(monkeypatch, tmp_path):
    """Called with what an action does; the result of its job."""

    def run(perform):
        action = SimpleNamespace(perform=lambda _order, _bench: perform())
        monkeypatch.setattr(plugins, "load_plugin", lambda _family, _kind: lambda: action)
        return carry_out({"action": "verify", "order": {}, "job": "j", "token": 1, "site": "nowhere"}, tmp_path)

    return run


def test_a_site_that_is_being_edited_makes_no_job_fail(monkeypatch, tmp_path):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "tomovault.yaml").write_text("areas: {a: {pa")
    action = SimpleNamespace(perform=lambda _order, bench: bench.tier("tape"))
    monkeypatch.setattr(plugins, "load_plugin", lambda _family, _kind: lambda: action)
    order = {"action": "verify", "order": {}, "job": "j", "token": 1, "site": str(tmp_path / "site")}
    result = carry_out(order, tmp_path)
    assert result.outcome is Outcome.WAITING
    assert "cannot be read now" in result.error
    assert "tomovault.yaml:1" in result.error


@pytest.mark.parametrize(
    ("problem", "outcome"),
    [
        (Transient("no drive is free", hint="wait"), Outcome.TRANSIENT),
        (NotYet("the tape is on its way", hint="wait"), Outcome.WAITING),
        (IntegrityError("damaged", hint="wait"), Outcome.DAMAGED),
    ],
)
def test_what_was_brought_before_it_failed_is_told_with_the_failure(ended, problem, outcome):
    def perform():
        try:
            raise problem
        except Exception as why:
            raise Unfinished([MADE]) from why

    result = ended(perform)
    assert (result.outcome, result.records) == (outcome, (MADE,))
    assert (result.error, result.hint) == (problem.message, "wait")
    assert result.peak_bytes > 0


def test_a_daemon_that_stops_makes_no_job_fail(ended):
    def perform():
        try:
            raise Stopped
        except Exception as why:
            raise Unfinished([MADE]) from why

    result = ended(perform)
    assert (result.outcome, result.records, result.at_once) == (Outcome.WAITING, (MADE,), True)


def test_a_job_that_brought_nothing_ends_without_a_result_when_its_daemon_stops(ended):
    def perform():
        raise Stopped

    with pytest.raises(Stopped):
        ended(perform)


def test_a_defect_is_told_with_its_traceback(ended, capfd):
    def perform():
        raise KeyError("x")

    assert ended(perform).outcome is Outcome.DEFECT
    assert "in perform" in capfd.readouterr().err
