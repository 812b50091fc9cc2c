import pytest

from tomovault.core.scan import Verdict
from tomovault.formats import family


def problems(report):
    return "\n".join(report.certificate.problems)


def _as_longs(image):
    """An image as a detector's sums are stored: in samples twice as wide."""
    header, body = image[:-48], image[-48:]
    header = header.replace(b"UnsignedShort", b"UnsignedLong ").replace(b"= 48 ;", b"= 96 ;")
    return header + b"".join(body[i : i + 2] + b"\0\0" for i in range(0, 48, 2))


@pytest.mark.parametrize("dark_n", [3, 20])
def test_a_lone_dark_that_is_told_to_be_a_sum_stands_for_all(edf_folder, image_bytes, dark_n):
    scan = edf_folder(dark_n=dark_n).write(dark=False)
    for image in (image_bytes(extra=f"no_summed = {dark_n} ;\n"), _as_longs(image_bytes(900))):
        scan.put("dark0000.edf", image)
        report = scan.report()
        assert report.certificate.verdict is Verdict.COMPLETE, report.certificate
        assert report.certificate.found.darks == dark_n
        summed = {f.path: f.frames[0].summed for f in family.load("edf").layout(report).files}
        assert summed["dark0000.edf"] == dark_n


def test_a_lone_dark_of_which_nothing_is_told_is_undecided(edf_folder, image_bytes):
    scan = edf_folder(dark_n=20).write(dark=False)
    scan.put("dark0000.edf", image_bytes(900))
    report = scan.report()
    assert report.certificate.verdict is Verdict.UNDECIDED
    assert "nothing says whether dark0000.edf is the sum of 20 darks or the first of them" in problems(report)
    assert report.certificate.found.darks == 1
    scan.put("dark.edf", image_bytes(901))
    assert scan.report().certificate.verdict is Verdict.COMPLETE


@pytest.mark.parametrize(("name", "told"), [("dark0007.edf", ""), ("dark0000.edf", "no_summed = 1 ;\n")])
def test_one_of_many_darks_does_not_stand_for_all(edf_folder, image_bytes, name, told):
    scan = edf_folder(dark_n=20).write(dark=False)
    scan.put(name, image_bytes(900, extra=told))
    report = scan.report()
    assert report.certificate.verdict is Verdict.INCOMPLETE
    assert "19 of 20 darks are missing" in problems(report)
    assert report.certificate.found.darks == 1
    assert {f.path: f.frames[0].summed for f in family.load("edf").layout(report).files}[name] == 1


def test_a_sum_of_fewer_darks_than_announced_is_incomplete(edf_folder, image_bytes):
    scan = edf_folder(dark_n=20).write(dark=False)
    scan.put("darkend0000.edf", image_bytes(900, extra="no_summed = 5 ;\n"))
    report = scan.report()
    assert report.certificate.verdict is Verdict.INCOMPLETE
    assert "15 of 20 darks are missing" in problems(report)


def test_every_single_dark_makes_them_whole(edf_folder, image_bytes):
    scan = edf_folder(dark_n=3).write(dark=False)
    for index in range(3):
        scan.put(f"dark{index:04d}.edf", image_bytes(900 + index))
    assert scan.report().certificate.verdict is Verdict.COMPLETE
    (scan.path / "dark0001.edf").unlink()
    assert "1 of 3 darks are missing" in problems(scan.report())
