import os

from tomovault.core.scan import FileRole, Verdict


def problems(report):
    return "\n".join(report.certificate.problems)


def test_abort(edf_folder):
    scan = edf_folder().write(xml=False, dark=False)
    (scan.path / "scan_0008.edf").unlink()
    scan.put("scan_.abo", b"")
    assert scan.report().certificate.verdict is Verdict.ABORTED


def _leave_abort(scan, age_s):
    """An `.abo` so many seconds older than what comes next."""
    scan.clock -= age_s
    scan.put("scan_.abo", b"")
    scan.clock += age_s


def test_an_abort_of_an_earlier_scan_does_not_end_a_later_one(edf_folder):
    scan = edf_folder()
    _leave_abort(scan, 9999)
    scan.info()
    scan.flats(0)
    for index in range(4):
        scan.projection(index)
    report = scan.report()
    assert report.certificate.verdict is Verdict.INCOMPLETE
    assert "scan_.abo is older than scan_0003.edf" in problems(report)
    assert scan.report(settled=False).certificate.verdict is Verdict.ACQUIRING
    scan.write()
    report = scan.report()
    assert report.certificate.verdict is Verdict.COMPLETE, report.certificate
    assert {f.state.path: f.role for f in report.files}["scan_.abo"] is FileRole.METADATA


def test_an_abort_of_an_earlier_scan_ends_with_the_first_flats_of_the_next(edf_folder):
    scan = edf_folder().write(xml=False, dark=False)
    (scan.path / "scan_0008.edf").unlink()
    scan.put("scan_.abo", b"")
    assert scan.report().certificate.verdict is Verdict.ABORTED
    scan.clock += 60
    scan.flats(0)
    assert scan.report().certificate.verdict is not Verdict.ABORTED


def test_an_abort_that_overtakes_the_last_frame_is_one(edf_folder):
    scan = edf_folder().write(xml=False, dark=False)
    (scan.path / "scan_0008.edf").unlink()
    _leave_abort(scan, 3)
    assert scan.report().certificate.verdict is Verdict.ABORTED


def test_an_abort_says_nothing_of_files_that_cannot_be_read(edf_folder, monkeypatch):
    scan = edf_folder().write(xml=False)
    scan.put("scan_.abo", b"")
    real_open = os.open

    def refuse(path, flags, *args, **kwargs):
        if path == "scan_0008.edf":
            raise PermissionError(13, "Permission denied")
        return real_open(path, flags, *args, **kwargs)

    monkeypatch.setattr(os, "open", refuse)
    assert scan.report().certificate.verdict is Verdict.UNREADABLE
