"""Files that formats were asked about and none took."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

from tomovault.catalog.unclaimed import SILENT, list_without_scan
from tomovault.catalog.work import list_inspected, list_inspected_in_vain, record_vanished
from tomovault.core.record import Inspected, Quarantined, Removed
from tomovault.core.scan import Candidate, Verdict

AREA = "inhouse"


def _look(kind, key, folder="/data/x"):
    return Candidate(kind, folder, key)


def _record(site, now, *looks):
    with site.writing() as tx:
        for look in looks:
            site.note_candidate(tx, AREA, look.candidate, look.snapshot, look.settled, now)
            site.record_inspected(tx, AREA, look, now)


def _none(candidate, reason="no images", *, settled=True):
    return Inspected(candidate, "snap", settled, no_scan=reason)


def _unclaimed(site, area=AREA):
    with site.reading() as tx:
        return [(row.path, dict(row.reasons)) for row in site.list_unclaimed(tx, area)]


def test_each_format_gives_its_reason(site, now):
    _record(site, now, _none(_look("nxtomo", "a.h5")), _none(_look("nexus", "a.h5"), "not of GDA"))
    _record(site, now, Inspected(_look("bliss", "a.h5"), "snap", True))
    _record(site, now, Inspected(_look("als832", "a.h5"), "snap", True, problem="it cannot be read"))
    assert _unclaimed(site) == [
        (
            "/data/x/a.h5",
            {"nxtomo": "no images", "nexus": "not of GDA", "bliss": SILENT, "als832": "it cannot be read"},
        )
    ]
    assert _unclaimed(site, None) == _unclaimed(site)
    assert _unclaimed(site, "elsewhere") == []


def test_no_scan_is_no_problem(site, now):
    _record(site, now, _none(_look("nxtomo", "a.h5")))
    with site.reading() as tx:
        assert site.list_problems(tx) == []


def test_what_another_format_took_is_claimed(site, make, now):
    report = make.report()
    taken = make.inspected(report)
    other = _none(dataclasses.replace(taken.candidate, format="nexus"))
    _record(site, now, other)
    assert len(_unclaimed(site)) == 1
    _record(site, now, taken)
    assert _unclaimed(site) == []


def test_what_was_not_looked_into_or_changed_since_is_not_told(site, now):
    _record(site, now, _none(_look("nxtomo", "a.h5"), settled=False))
    assert _unclaimed(site) == []
    _record(site, now, _none(_look("nxtomo", "a.h5")))
    assert len(_unclaimed(site)) == 1
    with site.writing() as tx:
        site.note_candidate(tx, AREA, _look("nxtomo", "a.h5"), "another", False, now)
    assert _unclaimed(site) == []


def test_files_of_a_closure_are_not_unclaimed(site, make, now):
    report = make.report()
    report = dataclasses.replace(report, metadata={"master": "m.h5", "linked_files": ["cams/c.h5"]})
    _record(site, now, make.inspected(report))
    _record(site, now, _none(_look("nxtomo", "c.h5", f"{report.root}/cams")))
    _record(site, now, _none(_look("nxtomo", "d.h5", f"{report.root}/cams")))
    assert [path for path, _ in _unclaimed(site)] == [f"{report.root}/cams/d.h5"]


def test_what_went_away_is_told_of_no_more_and_looked_into_when_it_is_back(site, now):
    look = _none(_look("nxtomo", "a.h5"))
    _record(site, now, look)
    with site.reading() as tx:
        assert list_without_scan(tx, AREA) == {look.candidate}
        assert list(list_inspected_in_vain(tx, AREA)) == [(look.candidate, "snap")]
        assert list(list_inspected(tx, AREA)) == [], "nothing is lost where it goes"
    with site.writing() as tx:
        record_vanished(tx, AREA, look.candidate, now)
    assert _unclaimed(site) == []
    with site.writing() as tx:
        assert list(list_inspected_in_vain(tx, AREA)) == []
        assert site.note_candidate(tx, AREA, look.candidate, "snap", True, now)


def test_a_scan_whose_file_is_none_any_more_is_unreadable(site, make, now):
    taken = make.inspected(make.report())
    with site.writing() as tx:
        (scan_id,) = site.record_inspected(tx, AREA, taken, now)
    later = now + timedelta(hours=1)
    gone = Inspected(taken.candidate, "other", True, no_scan="it is empty")
    with site.writing() as tx:
        site.note_candidate(tx, AREA, taken.candidate, "other", True, later)
        assert site.record_inspected(tx, AREA, gone, later) == [scan_id]
    with site.reading() as tx:
        scan = site.known(tx, scan_id)
    assert (scan.verdict, scan.certificate.problems) == (Verdict.UNREADABLE, ("it is empty",))


def test_a_file_that_we_removed_is_told_of_no_more_until_another_is_looked_into(site, archived, now):
    """Its scan may be elsewhere by now, and other formats were asked about the file, too."""
    looks = [
        _none(_look("nxtomo", name, "/data/inhouse/s1"), "it is a Data Exchange file") for name in ("a.h5", "b.h5")
    ]
    _record(site, now, *looks)
    with site.writing() as tx:
        permit = site.grant_permit(
            tx,
            archived.id,
            archived.replica["inhouse/disk"],
            removal_enabled=True,
            copies_asked=2,
            within={},
            rule="r",
            hold_until=now,
            archiving_hopeful=True,
            now=now,
        )
        site.apply_records(tx, [Quarantined(permit.id, ("a.h5",), 150, ("b.h5: has grown",))], now)
        site.apply_records(tx, [Removed(permit.id, 1, 150)], now)
    assert [path for path, _ in _unclaimed(site)] == ["/data/inhouse/s1/b.h5"]
    later = now + timedelta(hours=1)
    _record(site, later, dataclasses.replace(looks[0], snapshot="new"))
    assert [path for path, _ in _unclaimed(site)] == ["/data/inhouse/s1/a.h5", "/data/inhouse/s1/b.h5"]
