"""A removal and its undo cut off at any moment: what is told of the files is true, and none is lost."""

import contextlib
import itertools
import json
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tomovault.tiers import quarantine as q
from tomovault.tiers.note import OPENING, leave_note


class Killed(Exception):
    pass


def _killer(at):
    passes = [0]

    def checkpoint(_name):
        passes[0] += 1
        if passes[0] == at:
            raise Killed

    return checkpoint


@pytest.mark.parametrize("at", range(1, 9))
def test_phase_one_cut_off_is_taken_up_again(scan, at):
    with pytest.raises(Killed):
        scan.move(checkpoint=_killer(at))
    outcome = scan.move(scan.victims)
    assert sorted(outcome.moved) == sorted(scan.names)
    assert (outcome.left, outcome.missing) == ([], [])
    assert scan.back()[0::2] == (6, [])


@pytest.mark.parametrize("at", range(1, 9))
def test_phase_one_cut_off_is_put_back(scan, at):
    before = scan.tree(scan.root)
    with pytest.raises(Killed):
        scan.move(checkpoint=_killer(at))
    assert scan.back()[2] == []
    assert scan.tree(scan.root) == before
    assert not os.path.exists(scan.place.quarantine)


@pytest.mark.parametrize("at", range(1, 7))
def test_undo_cut_off_is_taken_up_again(scan, at):
    before = scan.tree(scan.root)
    scan.move()
    with pytest.raises(Killed):
        scan.back(checkpoint=_killer(at))
    assert scan.back() == (6, sum(v.size for v in scan.victims), [])
    assert scan.tree(scan.root) == before


@pytest.mark.parametrize("at", range(1, 7))
def test_phase_two_cut_off_is_taken_up_again(scan, at):
    size = scan.move().bytes
    with pytest.raises(Killed):
        scan.empty(checkpoint=_killer(at))
    assert scan.empty() == (6, size, [])
    assert not os.path.exists(scan.place.quarantine)


def test_a_journal_without_its_last_lines_still_finds_every_file(scan):
    """After a power cut the plan is on the disk; what came after it may not be."""
    scan.move()
    journal = scan.inside.parent / "journal.jsonl"
    planned = [line for line in journal.read_text().splitlines() if json.loads(line)["step"] == "planned"]
    journal.write_text("\n".join(planned) + '\n{"path": "f0.e')
    assert scan.back()[0::2] == (6, [])
    scan.move(scan.victims)
    journal.write_text("\n".join(planned) + "\n")
    assert scan.empty()[0::2] == (6, [])


def _clock(at):
    """Called at each moment of a run: the run ends at the one with this number."""
    passed = itertools.count(1)

    def moment(*_told):
        if next(passed) == at:
            raise Killed

    return moment


def _run_until(at, call, **more):
    """The call's result, or None where it ended at its moment `at`: before or after a rename or a line of the journal,
    or at a checkpoint.
    """
    moment, move, add = _clock(at), q.move, q.Journal.add

    def moving(*arguments):
        moment()
        move(*arguments)
        moment()

    def adding(*arguments, **how):
        moment()
        add(*arguments, **how)
        moment()

    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(Killed):
        patch.setattr(q, "move", moving)
        patch.setattr(q.Journal, "add", adding)
        return call(checkpoint=moment, **more)
    return None


def _cut_power(journal, how):
    """Of what was written after the plan, none or half a line is on the disk."""
    lines = journal.read_text().splitlines(keepends=True) if journal.exists() else []
    planned = [line for line in lines if '"planned"' in line]
    if how and planned:
        journal.write_text("".join(planned) + ('{"path": "f0.e' if how == "torn" else ""))


@given(
    first=st.integers(1, 40),
    power=st.sampled_from(["", "lost", "torn"]),
    again=st.booleans(),
    second=st.integers(1, 16),
    undo=st.integers(1, 20),
)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_told_is_true_wherever_a_removal_was_cut_off(new_scan, first, power, again, second, undo):
    """Phase one is cut off; where it is run `again`, so is phase two; so is the undo, which then goes to its end."""
    scan = new_scan()
    before = scan.tree(scan.root)
    _run_until(first, scan.move)
    _cut_power(scan.inside.parent / "journal.jsonl", power)
    if again:
        outcome = scan.move(scan.victims)
        assert (sorted(outcome.moved), outcome.left, outcome.missing) == (sorted(scan.names), [], [])
        _run_until(second, scan.empty)
    gone = sorted(before.keys() - scan.tree(scan.root).keys() - scan.tree(scan.inside).keys())
    moved = scan.names if again else []
    files, _, conflicts = _run_until(undo, scan.back, moved=moved) or scan.back(moved=moved)
    assert sorted(conflicts) == [f"{name}: was removed already" for name in gone]
    stock = q.take_stock(scan.place, moved=moved)
    assert (sorted(stock.removed), stock.kept) == (gone, {})
    assert scan.tree(scan.root) == {name: text for name, text in before.items() if name not in gone}
    assert not again or files == len(before) - len(gone)


@pytest.mark.parametrize("stands", [False, True])
def test_a_file_swapped_before_a_cut_does_not_stay_in_quarantine(scan, monkeypatch, stands):
    """It was never packed, and nobody compared it: the run was cut off right after the rename."""
    real = q.move

    def swap(source, target, name):
        (scan.root / name).unlink()
        (scan.root / name).write_bytes(b"new and precious")
        real(source, target, name)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(q, "move", swap)
        with pytest.raises(Killed):
            scan.move()
    if stands:
        (scan.root / "f0.edf").write_bytes(b"newer")
    outcome = scan.move(scan.victims)
    assert sorted(outcome.moved) == sorted(scan.names[1:])
    if stands:
        assert outcome.left == ["f0.edf: File exists"]
        assert scan.empty()[2] == ["f0.edf: is not the file that was put into quarantine"]
        assert (scan.inside / "f0.edf").read_bytes() == b"new and precious"
        return
    assert outcome.left == ["f0.edf: has become shorter"]
    assert scan.empty()[0::2] == (5, [])
    assert (scan.root / "f0.edf").read_bytes() == b"new and precious"


def test_a_quarantine_whose_journal_lacks_what_went_in_says_what_was_removed(scan):
    """Journals of earlier versions may lack it."""
    scan.move()
    _cut_power(scan.inside.parent / "journal.jsonl", "lost")
    with pytest.raises(Killed):
        scan.empty(checkpoint=_killer(3))
    files, _, conflicts = scan.back()
    assert (files, [c.split(": ")[1] for c in conflicts]) == (4, ["was removed already"] * 2)
    assert len(q.take_stock(scan.place).removed) == 2


def test_undo_of_a_half_emptied_quarantine_says_what_is_gone(scan):
    scan.move()
    with pytest.raises(Killed):
        scan.empty(checkpoint=_killer(3))
    files, _, conflicts = scan.back()
    assert files == 4
    assert [c.split(": ")[1] for c in conflicts] == ["was removed already"] * 2
    stock = q.take_stock(scan.place)
    assert (len(stock.kept), len(stock.removed)) == (0, 2)


def test_a_note_cut_off_leaves_nothing_beside_it_after_the_next(scan):
    with pytest.raises(Killed):
        leave_note(str(scan.area), str(scan.root), OPENING, "j1", _killer(1))
    leave_note(str(scan.area), str(scan.root), OPENING, "j1", lambda _n: None)
    assert [p.name for p in (scan.area / ".tomovault").iterdir()] == []
