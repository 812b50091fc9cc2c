from types import SimpleNamespace

import pytest

from tomovault.core.errors import NoScan, SourceChanged
from tomovault.core.scan import Candidate, Certificate, ScanReport, Verdict
from tomovault.formats.certified import find_report

HERE = Candidate("bliss", "/data/x", "x.h5")


def _report(entry, identity):
    return ScanReport("bliss", "x", "/data/x", entry, identity, Certificate(Verdict.COMPLETE))


def _formats(*reports):
    return SimpleNamespace(inspect=lambda candidate, *, settled: reports)


def test_the_scan_is_found_among_those_of_its_master():
    first, second = _report("1.1", "a"), _report("2.1", "b")
    assert find_report(_formats(first, second), HERE, "2.1", "b") is second


@pytest.mark.parametrize(("entry", "identity"), [("2.1", "a"), ("1.1", "b"), ("3.1", "a")])
def test_a_rescan_in_place_is_not_the_scan_that_was_certified(entry, identity):
    with pytest.raises(SourceChanged, match="/data/x is not the one that was certified"):
        find_report(_formats(_report("1.1", "a"), _report("2.1", "b")), HERE, entry, identity)


def test_what_is_no_scan_any_more_has_changed():
    def inspect(_candidate, *, settled):
        raise NoScan("its camera files are gone")

    with pytest.raises(SourceChanged):
        find_report(SimpleNamespace(inspect=inspect), HERE, "1.1", "a")
