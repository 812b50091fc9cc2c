import pytest

from tomovault.actions.verify import Verify
from tomovault.core.errors import Recalling, Transient, UserError
from tomovault.core.record import Outcome
from tomovault.core.wire import to_plain


@pytest.fixture
def verify(packed, bench):
    """Called with replica kinds for the result of re-reading them."""
    area = {"name": "inhouse", "path": str(packed.area), "identity": to_plain(packed.identity)}
    common = {"product": "original", "digest": packed.digest, "manifest": packed.manifest}
    tape = packed.copies[0]
    targets = {
        "files": {"form": "files", "tier": "inhouse", "area": area, "location": str(packed.root), "domain": "d"},
        "package": {
            "form": "package",
            "tier": "inhouse",
            "area": area,
            "location": packed.files[0].location,
            "domain": "d",
        },
        "tape": {"form": "package", "tier": "tape", "area": None, "location": tape.location, "domain": tape.domain},
    }
    stored = {"files": (), "package": packed.files, "tape": tape.files}

    def perform(*kinds):
        orders = [{"replica": k, "files": to_plain(stored[k]), **common, **targets[k]} for k in kinds]
        return Verify().perform({"targets": orders, "threads": 1}, bench)

    return perform


def _told(result):
    return {r.replica: (r.ok, r.reason) for r in result.records}


def test_every_copy_that_is_right_is_so(verify):
    result = verify("files", "package", "tape")
    assert result.outcome is Outcome.SUCCEEDED
    assert _told(result) == {"files": (True, ""), "package": (True, ""), "tape": (True, "")}


def test_files_are_re_read_from_the_disk(verify, packed, dropped):
    """What the memory still holds of them proves nothing (law 2)."""
    assert verify("files").records[0].ok
    assert {(packed.root / n).stat().st_ino for n in packed.names if n != "link"} <= dropped


def test_a_damaged_byte_is_found_on_each(verify, packed, bench):
    (packed.root / "f1.edf").write_bytes(b"B" * 1999 + b"x")
    path = packed.files[0].location
    with open(path, "r+b") as file:
        file.seek(-200, 2)
        file.write(b"\xff" * 50)
    tape = bench.tiers["tape"]
    tape.content[packed.copies[0].files[0].location][100] ^= 1
    result = verify("files", "package", "tape")
    assert result.outcome is Outcome.SUCCEEDED
    assert {k: ok for k, (ok, _) in _told(result).items()} == {"files": False, "package": False, "tape": False}
    assert "f1.edf: has changed" in _told(result)["files"][1]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda r: (r / "f0.edf").write_bytes(b"A"), "has become shorter"),
        (lambda r: (r / "f0.edf").write_bytes(b"Z" * 3000), "has changed"),
        (lambda r: (r / "f0.edf").unlink(), "No such file"),
        (lambda r: ((r / "link").unlink(), (r / "link").symlink_to("f1.edf")), "points elsewhere"),
    ],
)
def test_files_that_are_not_as_they_were(verify, packed, change, why):
    change(packed.root)
    ok, reason = _told(verify("files"))["files"]
    assert not ok
    assert why in reason


def test_a_file_that_grew_is_reported_and_not_bad(verify, packed):
    with open(packed.root / "f0.edf", "ab") as file:
        file.write(b"more")
    assert _told(verify("files"))["files"] == (True, "grown: f0.edf has grown")


def test_a_scan_folder_that_is_a_link_now_is_not_read(verify, packed, tmp_path):
    packed.root.rename(tmp_path / "elsewhere")
    packed.root.symlink_to(tmp_path / "elsewhere")
    assert _told(verify("files"))["files"][0] is False


def test_an_absent_area_makes_nothing_bad(verify, packed):
    packed.area.rename(packed.area.with_name("was"))
    packed.area.mkdir()
    result = verify("files", "package", "tape")
    assert result.outcome is Outcome.TRANSIENT
    assert _told(result) == {"tape": (True, "")}
    assert "2 of 3 copies cannot be re-read now" in result.error


@pytest.mark.parametrize("problem", [Transient("the drive is busy"), UserError("no such tier")])
def test_a_tier_that_cannot_be_used_makes_nothing_bad(verify, bench, problem):
    def fail(*_args, **_more):
        raise problem

    bench.tiers["tape"].verify = fail
    result = verify("tape")
    assert (result.outcome, result.records) == (Outcome.TRANSIENT, ())
    assert problem.message in result.error


def test_a_missing_manifest_says_nothing_of_the_files(verify, packed):
    import os

    os.unlink(packed.manifest)
    result = verify("files")
    assert (result.outcome, result.records) == (Outcome.TRANSIENT, ())


def test_what_has_to_be_brought_first_is_asked_for_and_nothing_is_read_meanwhile(verify, packed, bench):
    """The other copies would be read again at each look."""
    tape, asked, read = bench.tiers["tape"], [], []
    reads = tape.verify
    tape.cold_of = lambda _parcels: []
    tape.warm = lambda placed: asked.extend(placed) or [item.location for item in placed]
    tape.verify = lambda placed, **more: read.append(placed) or reads(placed, **more)
    with pytest.raises(Recalling, match="cannot be read yet"):
        verify("package", "tape")
    assert [item.location for item in asked] == [packed.copies[0].location]
    assert read == []
    tape.warm = lambda _placed: []
    assert _told(verify("package", "tape")) == {"package": (True, ""), "tape": (True, "")}


def test_a_tier_that_cannot_be_asked_keeps_no_other_copy_from_being_read(verify, bench):
    def fail(*_args, **_more):
        raise Transient("no network")

    bench.tiers["tape"].cold_of = bench.tiers["tape"].warm = bench.tiers["tape"].verify = fail
    result = verify("package", "tape")
    assert result.outcome is Outcome.TRANSIENT
    assert _told(result) == {"package": (True, "")}
    assert "no network" in result.error
