from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tomovault.core.replica import (
    LEAST_COPIES,
    Form,
    ProductKind,
    Replica,
    ReplicaState,
    TierClass,
    good_domains,
)

NOW = datetime(2030, 1, 1, tzinfo=UTC)
YEAR = timedelta(days=400)
TAPE = Replica(
    "r1",
    ProductKind.ORIGINAL,
    "d",
    True,
    Form.PACKAGE,
    "tape",
    TierClass.ARCHIVE,
    "pool A",
    "A1#1",
    10,
    ReplicaState.VERIFIED,
    "s",
    NOW,
    NOW - timedelta(days=1),
)


def test_two_is_the_least():
    assert LEAST_COPIES == 2


def test_copies_in_one_domain_count_once():
    copies = [TAPE, replace(TAPE, id="r2"), replace(TAPE, id="r3", domain="pool B")]
    assert good_domains(copies, TierClass.ARCHIVE) == {"pool A", "pool B"}
    assert good_domains(copies, TierClass.ARCHIVE, without="r1") == {"pool A", "pool B"}
    assert good_domains(copies, TierClass.ARCHIVE, without="r3") == {"pool A"}
    assert good_domains(copies, TierClass.SERVER) == frozenset()


@pytest.mark.parametrize(
    "change",
    [
        {"state": ReplicaState.ARRIVING},
        {"state": ReplicaState.PRESENT},
        {"state": ReplicaState.SUSPECT},
        {"state": ReplicaState.LEAVING},
        {"state": ReplicaState.GONE},
        {"verified_at": None},
        {"lossless": False},
        {"tier_class": TierClass.SERVER},
    ],
)
def test_copies_that_count_for_nothing(change):
    copy = replace(TAPE, **change)
    assert not good_domains([copy], TierClass.ARCHIVE)


def test_recency():
    assert TAPE.verified_within(timedelta(days=1), NOW)
    assert not TAPE.verified_within(timedelta(hours=23), NOW)
    assert not replace(TAPE, verified_at=NOW + timedelta(seconds=1)).verified_within(YEAR, NOW)


def test_a_copy_on_an_emulated_library_of_a_real_site_archives_and_lets_nothing_go():
    copy = replace(TAPE, counts=False)
    assert copy.good
    assert copy.read_within(YEAR, NOW)
    assert good_domains([copy], TierClass.ARCHIVE) == {"pool A"}
    assert not copy.verified_within(YEAR, NOW)


def test_only_what_is_gone_takes_no_room():
    for state in ReplicaState:
        assert replace(TAPE, state=state).live is (state is not ReplicaState.GONE)


COPIES = st.lists(
    st.builds(
        lambda i, domain, state, days, counts, lossless: replace(
            TAPE,
            id=str(i),
            domain=domain,
            state=state,
            counts=counts,
            lossless=lossless,
            verified_at=None if days is None else NOW - timedelta(days=days),
        ),
        st.integers(0, 9),
        st.sampled_from("ABC"),
        st.sampled_from(ReplicaState),
        st.none() | st.integers(-5, 800),
        st.booleans(),
        st.booleans(),
    ),
    max_size=6,
)


@given(COPIES, st.integers(0, 800))
def test_what_law_4_counts_is_among_what_is_good(copies, days):
    good = good_domains(copies, TierClass.ARCHIVE)
    recent = {c.domain for c in copies if c.lossless and c.verified_within(timedelta(days=days), NOW)}
    assert recent <= good <= {c.domain for c in copies}
    for domain in recent:
        assert any(
            c.domain == domain
            and c.counts
            and c.lossless
            and c.state is ReplicaState.VERIFIED
            and c.verified_at is not None
            and NOW - timedelta(days=days) <= c.verified_at <= NOW
            for c in copies
        )
