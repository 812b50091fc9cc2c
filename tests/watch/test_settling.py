import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tomovault.watch.settling import Settling


def test_first_sight_never_settles_even_without_quiet_time():
    settling = Settling(0.0)
    assert not settling.observe("a", "1", began=5.0, ended=5.0).settled
    assert settling.observe("a", "1", began=5.0, ended=5.0).settled


def test_quiet_counts_from_the_end_of_the_first_look_to_the_beginning_of_the_next():
    settling = Settling(60.0)
    settling.observe("a", "1", began=0.0, ended=50.0)
    assert settling.observe("a", "1", began=109.9, ended=200.0).settled is False
    rest = settling.observe("a", "1", began=110.0, ended=111.0)
    assert (rest.settled, rest.quiet_for_s) == (True, 60.0)


def test_a_change_back_to_an_earlier_snapshot_is_a_change():
    settling = Settling(10.0)
    for began, snapshot in ((0, "1"), (5, "2"), (10, "1")):
        settling.observe("a", snapshot, began=began, ended=began)
    assert not settling.observe("a", "1", began=15, ended=15).settled
    assert settling.observe("a", "1", began=20, ended=20).settled


def test_trusted_snapshot_is_settled_at_first_sight_only_if_equal():
    settling = Settling(10.0, trusted_s=100.0)
    settling.trust("a", "1")
    settling.trust("b", "1")
    assert settling.observe("a", "1", began=3, ended=3) == settling.observe("a", "1", began=3, ended=3)
    assert settling.observe("a", "1", began=3, ended=3).settled
    assert not settling.observe("b", "other", began=3, ended=3).settled
    assert not settling.observe("b", "1", began=4, ended=4).settled, "trust is used up by the first sight"


def test_trust_does_not_override_what_was_seen_changing():
    settling = Settling(10.0)
    settling.observe("a", "1", began=0, ended=0)
    settling.trust("a", "2")
    assert not settling.observe("a", "2", began=1, ended=1).settled


def test_forget_makes_the_next_look_a_first_sight():
    settling = Settling(1.0)
    settling.observe("a", "1", began=0, ended=0)
    settling.forget("a")
    settling.forget("never seen")
    assert len(settling) == 0
    assert not settling.observe("a", "1", began=50, ended=50).settled


@pytest.mark.parametrize("quiet", [-1.0, float("inf"), float("nan")])
def test_a_quiet_time_that_means_nothing_is_refused(quiet):
    with pytest.raises(ValueError, match="quiet_s"):
        Settling(quiet)


@given(
    st.lists(st.tuples(st.floats(0, 1000), st.floats(0, 100), st.sampled_from("ab")), max_size=30), st.floats(0, 200)
)
def test_settled_means_that_no_look_within_the_quiet_time_differed(looks, quiet):
    """Against the plain definition, over any history of (pause, length of look, snapshot)."""
    settling = Settling(quiet)
    now, history = 0.0, []
    for pause, length, snapshot in looks:
        began = now + pause
        now = began + length
        rest = settling.observe("k", snapshot, began=began, ended=now)
        same_since = None
        for ended, earlier in reversed(history):
            if earlier != snapshot:
                break
            same_since = ended
        expected = same_since is not None and began - same_since >= quiet
        assert rest.settled is expected
        history.append((now, snapshot))


class History(RuleBasedStateMachine):
    """A writer with any wall clock, a watcher with a monotonic one."""

    quiet = 60.0

    def __init__(self):
        super().__init__()
        self.settling = Settling(self.quiet)
        self.now = 0.0
        self.version = 0
        self.wall = 0
        self.last_write = 0.0
        self.rest = None

    @rule(pause=st.floats(0.001, 40), wall=st.integers(-(10**9), 10**9))
    def write(self, pause, wall):
        self.now += pause
        self.version += 1
        self.wall = wall
        self.last_write = self.now
        self.rest = None

    @rule(pause=st.floats(0.001, 90))
    def look(self, pause):
        self.now += pause
        # The wall time of the file is part of what is seen, and of nothing else.
        self.rest = self.settling.observe("k", f"{self.version}:{self.wall}", began=self.now, ended=self.now)

    @precondition(lambda self: self.rest is not None)
    @rule()
    def settles_after_two_looks(self):
        self.look(0.001)
        self.look(self.quiet + 0.001)
        assert self.rest.settled

    @invariant()
    def never_settled_within_the_quiet_time_after_a_write(self):
        if self.rest is not None and self.rest.settled:
            assert self.now - self.last_write >= self.quiet


TestHistory = History.TestCase
