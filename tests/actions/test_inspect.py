from __future__ import annotations

import pytest

from tomovault.actions.inspect import Inspect
from tomovault.core.errors import Transient, UserError
from tomovault.core.scan import Candidate, Certificate, ScanReport, Verdict
from tomovault.core.wire import to_plain
from tomovault.formats.family import load
from tomovault.formats.limits import InspectionEnded
from tomovault.watch.snapshot import snapshot_now


class Formats:
    """Says complete when settled; `meanwhile` happens while it looks."""

    def __init__(self, meanwhile=lambda: None, errors=()):
        self.asked = []
        self._meanwhile = meanwhile
        self._errors = list(errors)

    def inspect(self, candidate, *, settled):
        self.asked.append(settled)
        if self._errors:
            raise self._errors.pop(0)
        self._meanwhile()
        self._meanwhile = lambda: None
        verdict = Verdict.COMPLETE if settled else Verdict.ACQUIRING
        return [ScanReport("edf", "a_", candidate.folder, "", "identity", Certificate(verdict))]


class Bench:
    def __init__(self, formats):
        self.formats = formats

    def progress(self, done, total):
        pass


@pytest.fixture
def place(tmp_path):
    (tmp_path / "a_0000.edf").write_bytes(b"x")
    return Candidate("edf", str(tmp_path), "a_")


def look(place, formats, snapshot=None):
    order = {
        "area": "inhouse",
        "looks": [
            {
                "candidate": to_plain(place),
                "snapshot": snapshot or snapshot_now(place, load("edf")),
                "settled": True,
            }
        ],
    }
    (inspected,) = Inspect().perform(order, Bench(formats)).records
    return inspected


def test_what_is_as_it_was_seen_is_settled(place):
    inspected = look(place, Formats())
    assert inspected.settled
    assert inspected.reports[0].certificate.verdict is Verdict.COMPLETE


def test_what_changed_before_or_while_it_was_looked_at_is_not_settled(place, tmp_path):
    earlier = look(place, Formats(), snapshot="as it was some time ago")
    grown = look(place, Formats(lambda: (tmp_path / "a_0001.edf").write_bytes(b"y")))
    for inspected in (earlier, grown):
        assert not inspected.settled
        assert [r.certificate.verdict for r in inspected.reports] == [Verdict.ACQUIRING]


def test_a_busy_master_is_tried_again_and_a_broken_one_told(place, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    busy = Formats(errors=[Transient("held by its writer")])
    assert look(place, busy).problem == ""
    assert len(busy.asked) == 2
    assert look(place, Formats(errors=[UserError("no HDF5 file")])).problem == "no HDF5 file"


def test_a_look_that_may_end_otherwise_another_time_is_not_settled(place, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    for errors in ([Transient("held by its writer")] * 3, [InspectionEnded("took longer than 60 s and was ended")]):
        inspected = look(place, Formats(errors=errors))
        assert inspected.problem
        assert not inspected.settled
    assert look(place, Formats(errors=[UserError("no HDF5 file")])).settled
