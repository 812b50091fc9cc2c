import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tomovault.core.known import Job, KnownScan, Permit, Pin
from tomovault.core.life import Facts, Stage, Wants
from tomovault.core.manifest import ManifestFile
from tomovault.core.record import (
    RECORD_TYPES,
    Checked,
    GivenBack,
    Made,
    Outcome,
    Processing,
    PutBack,
    Quarantined,
    Removed,
    Result,
    Stored,
)
from tomovault.core.replica import Form, ProductKind, Replica
from tomovault.core.scan import Candidate, Certificate, Condition, FileState, ScanReport, Verdict
from tomovault.core.wire import from_plain, to_plain

#: Names are bytes, carried with surrogate escapes.
NAMES = st.binary(min_size=1, max_size=12).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
TIMES = st.datetimes(timezones=st.just(UTC))
INTS = st.integers(-(2**70), 2**70)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
PLAIN = st.recursive(
    st.none() | st.booleans() | INTS | FLOATS | NAMES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)


PROCESSINGS = st.builds(
    Processing,
    engine=NAMES,
    engine_version=NAMES,
    parameters=st.dictionaries(NAMES, PLAIN, max_size=2),
    started_at=TIMES,
    finished_at=TIMES,
    outputs=st.lists(NAMES, max_size=2).map(tuple),
)
CONDITIONS = st.builds(Condition, value=st.none() | INTS | FLOATS | NAMES, unit=st.none() | NAMES, source=NAMES)
RECORDS = st.one_of(
    st.builds(
        Made,
        kind=st.sampled_from(ProductKind),
        digest=NAMES,
        bytes=INTS,
        files=INTS,
        manifest=NAMES,
        processing=st.none() | PROCESSINGS,
        details=st.dictionaries(NAMES, PLAIN, max_size=2),
    ),
    st.builds(
        Stored,
        kind=st.sampled_from(ProductKind),
        form=st.sampled_from(Form),
        location=NAMES,
        written_at=TIMES,
        verified_at=st.none() | TIMES,
        pinned_until=st.none() | TIMES,
    ),
    st.builds(Checked, replica=NAMES, ok=st.booleans(), at=TIMES, reason=NAMES),
    st.builds(Quarantined, permit=NAMES, moved=st.lists(NAMES, max_size=3).map(tuple), bytes=INTS),
    st.builds(Removed, permit=NAMES, files=INTS, bytes=INTS),
    st.builds(PutBack, permit=NAMES, files=INTS, bytes=INTS, conflicts=st.lists(NAMES, max_size=2).map(tuple)),
    st.builds(GivenBack, tier=NAMES, cartridge=st.none() | NAMES, target=NAMES, files=INTS, bytes=INTS),
)


def through_json(kind, value):
    return from_plain(kind, json.loads(json.dumps(to_plain(value))))


@given(RECORDS)
def test_a_record_comes_back_as_it_was(record):
    assert through_json(type(record), record) == record
    assert RECORD_TYPES[type(record).__name__] is type(record)


@given(st.lists(RECORDS, max_size=3).map(tuple), st.sampled_from(Outcome), NAMES)
def test_a_result_keeps_the_kind_of_each_record(records, outcome, error):
    result = Result(outcome, records, error)
    back = through_json(Result, result)
    assert back == result
    assert [type(r) for r in back.records] == [type(r) for r in records]


@given(CONDITIONS)
def test_a_condition_keeps_the_type_of_its_value(condition):
    back = through_json(Condition, condition)
    assert back == condition
    assert type(back.value) is type(condition.value)


@given(NAMES)
def test_a_name_is_the_same_bytes(name):
    state = FileState(name, 1, 2, 3, 4, 5, 6, link_target=name)
    back = through_json(FileState, state)
    assert back.path.encode("utf-8", "surrogateescape") == name.encode("utf-8", "surrogateescape")
    assert back == state


@given(
    st.builds(
        ScanReport,
        certificate=st.builds(Certificate),
        conditions=st.dictionaries(NAMES, CONDITIONS, max_size=2),
        acquired_at=st.none() | TIMES,
        metadata=st.dictionaries(NAMES, PLAIN, max_size=2),
    )
)
def test_a_report_comes_back(report):
    assert through_json(ScanReport, report) == report


@pytest.mark.parametrize("kind", [Replica, Pin, Permit, Job, Candidate, Facts, ManifestFile])
def test_every_kind_of_core_has_a_plain_form(kind):
    @given(
        st.builds(
            kind,
            **{
                name: TIMES
                for name, hint in kind.__annotations__.items()
                if str(hint).startswith("datetime") and "None" not in str(hint)
            },
            **{
                name: st.none() | TIMES
                for name, hint in kind.__annotations__.items()
                if str(hint).startswith("datetime") and "None" in str(hint)
            },
            **({"relied_on": st.just(())} if kind is Permit else {}),
            **({"order": st.just({})} if kind is Job else {}),
        )
    )
    def comes_back(value):
        assert through_json(kind, value) == value

    comes_back()


def test_a_whole_scan_comes_back():
    at = datetime(2030, 1, 1, tzinfo=UTC)
    scan = KnownScan("i", "n\udcff", "/r", "a", "edf", "", "x", Certificate(Verdict.COMPLETE), True, at, at, 1, 2)
    back = through_json(KnownScan, scan)
    assert back.name == scan.name
    assert back.complete


def test_keys_that_are_words_of_ours_become_text():
    wants = Wants(by={Stage.PACKED: "r"})
    back = through_json(Wants, wants)
    assert back == wants
    assert back.by[Stage.PACKED] == "r"


@pytest.mark.parametrize(
    ("kind", "plain", "word"),
    [
        (Candidate, {"format": "edf", "folder": "/x", "extra": 1}, "unknown keys"),
        (Candidate, {"format": "edf"}, "missing keys"),
        (Candidate, {"format": 3, "folder": "/x"}, "expected"),
        (Candidate, [], "expected an object"),
        (Candidate, None, "expected an object"),
        (Checked, {"replica": "r", "ok": 1, "at": "2030-01-01T00:00:00+00:00"}, "expected"),
        (Checked, {"replica": "r", "ok": True, "at": 5}, "expected"),
        (Checked, {"replica": "r", "ok": True, "at": "yesterday"}, "yesterday"),
        (Removed, {"permit": "p", "files": True, "bytes": 0}, "expected"),
        (Removed, {"permit": "p", "files": 1.0, "bytes": 0}, "expected"),
        (Quarantined, {"permit": "p", "moved": "abc", "bytes": 0}, "expected a list"),
        (Result, {"outcome": "perhaps"}, "perhaps"),
        (Result, {"outcome": "succeeded", "records": [{"nothing": 1}]}, "unknown keys"),
    ],
)
def test_what_is_not_right_is_a_value_error(kind, plain, word):
    with pytest.raises(ValueError, match=word):
        from_plain(kind, plain)


def test_what_has_no_plain_form():
    with pytest.raises(TypeError, match="no plain form for bytes"):
        to_plain({"a": [b"x"]})
