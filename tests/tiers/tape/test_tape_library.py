"""A library behind st and mtx, on stand-ins for both: what only tape has, and what goes wrong with it."""

import errno
import os

import pytest

from tomovault.core.errors import IntegrityError, InUse, NoRoomYet, Transient, UserError
from tomovault.tiers import st
from tomovault.tiers.st import TapeDevice
from tomovault.tiers.tape_cartridge import TapeCartridge


class PowerCut(BaseException):
    pass


def fails(call, number, barcode=None, *, file=None, times=None):
    """A drive that answers one call with an error, of one cartridge if that is named."""
    left = [times]

    def failing(asked, inside, at, _record):
        if asked != call or barcode not in (None, inside) or file not in (None, at) or left[0] == 0:
            return
        if left[0] is not None:
            left[0] -= 1
        raise OSError(number, os.strerror(number))

    return failing


def states(tier):
    return {line["barcode"]: line["state"] for line in tier.cartridges()}


def test_every_cartridge_of_a_pool_and_no_other_is_looked_at_before_the_first_is_written(library, put, parcel, log):
    tier = library()
    (placed,) = put(tier, parcel("s", b"s"))
    assert placed.location == "TA0001L9#1"
    assert states(tier) == {"TA0001L9": "filling", "TA0002L9": "blank", "TA0003L9": "blank", "TB0001L9": "blank"}
    assert "XX0001L9" not in {line["barcode"] for line in log("mount")}


def test_the_end_of_the_medium_sends_the_bundle_to_the_next_cartridge(library, put, parcel, bucket, stand):
    tier = library()
    sent = [parcel(f"s{n}", os.urandom(2_300_000)) for n in range(3)]
    placed = [put(tier, one)[0] for one in sent]
    assert [one.location for one in placed] == ["TA0001L9#1", "TA0001L9#2", "TA0002L9#1"]
    assert states(tier)["TA0001L9"] == "full"
    assert list(library().verify(placed, throttle=bucket)) == [""] * 3
    read = library().read_cartridge("TA0001L9", placed[:2], throttle=bucket, progress=lambda *_: None)
    assert [file.finished for file in read.files] == [True, True, False]
    assert {where.location for _, where in library().inventory()} == {one.location for one in placed}


def test_a_bundle_that_a_new_cartridge_cannot_hold_ends_and_is_not_tried_on_the_next(library, put, parcel):
    tier = library(capacity="18TB")
    with pytest.raises(IntegrityError, match="TA0001L9 ended"):
        put(tier, parcel("s", os.urandom(7_000_000)))
    assert states(tier)["TA0002L9"] == "blank"
    with pytest.raises(UserError, match="does not fit"):
        put(library(), parcel("s", os.urandom(7_000_000)))


def test_no_cartridge_with_room_waits_for_one(library, put, parcel):
    tier = library(pools={"A": "TB*"})
    put(tier, parcel("s", os.urandom(4_000_000)))
    with pytest.raises(NoRoomYet, match="pool A") as caught:
        put(tier, parcel("t", os.urandom(4_000_000)))
    assert "TB*" in caught.value.hint


def test_a_write_protected_cartridge_is_passed_over_read_and_used_again_when_its_tab_is_back(
    library, put, parcel, bucket, stand
):
    tier = library()
    (first,) = put(tier, parcel("s", b"s"))
    stand.change(protected=["TA0001L9"])
    (second,) = put(tier, parcel("t", b"t"))
    assert second.location == "TA0002L9#1"
    assert states(tier)["TA0001L9"] == "read-only"
    assert "write-protected: TA0001L9" in tier.health().detail
    assert list(tier.verify([first], throttle=bucket)) == [""]
    assert states(tier)["TA0001L9"] == "read-only"
    stand.change(protected=[])
    assert list(tier.verify([first], throttle=bucket)) == [""]
    assert states(tier)["TA0001L9"] == "filling"


def test_what_the_power_cut_left_behind_the_last_filemark_is_written_over(library, put, parcel, bucket, stand):
    tier = library()
    put(tier, parcel("s", b"s"))
    stand.system.failing = lambda call, *_: None

    def cut(name):
        if name == "archive.trailer":
            # The drive loses power: no filemark of the driver follows.
            for _, head in stand.system._heads.values():
                head.dirty = False
            stand.system._open.clear()
            raise PowerCut

    with pytest.raises((PowerCut, KeyError)):
        put(tier, parcel("t", os.urandom(900_000)), checkpoint=cut)
    stand.system._heads.clear()
    (again,) = put(library(), parcel("t", b"other"))
    assert again.location == "TA0001L9#2"
    assert list(library().verify([again], throttle=bucket)) == [""]


def test_a_cartridge_under_the_barcode_of_another_is_not_written(library, put, parcel, bucket, stand):
    (placed,) = put(library(), parcel("s", b"s"))
    os.replace(stand.media("TA0001L9"), stand.media("TA0002L9"))
    stand.media("TA0001L9").touch()
    stand.system._heads.clear()
    tier = library()
    answers = tier.verify([placed], throttle=bucket)
    assert "blank, and 2 tape files were written" in answers[0]
    moved = tier.read_cartridge("TA0002L9", [], throttle=bucket, progress=lambda *_: None)
    assert "says that it is TA0001L9" in moved.problem


def test_where_less_is_found_than_was_written_nothing_is_written_over_it(library, put, parcel, bucket, monkeypatch):
    """Such as by a drive that takes a bad place for the end of what was written."""
    (first,) = put(library(), parcel("a", b"a"))
    counted, looks = TapeCartridge._counted, []

    def short(cartridge):
        looks.append(cartridge.header.barcode)
        right = counted(cartridge)
        return (1, 0) if looks.count("TA0001L9") == 2 else right  # right when looked at, wrong when written to

    with monkeypatch.context() as patch:
        patch.setattr(TapeCartridge, "_counted", short)
        (second,) = put(library(), parcel("b", b"b"))
    assert second.location == "TA0002L9#1"
    assert states(library())["TA0001L9"] == "suspect"
    assert list(library().verify([first, second], throttle=bucket)) == ["", ""]


def test_a_cartridge_with_something_else_on_it_is_left_alone(library, put, parcel, stand):
    record = b"precious" * 64
    stand.media("TA0001L9").write_bytes(b"\x01" + len(record).to_bytes(4, "little") + record)
    before = stand.media("TA0001L9").read_bytes()
    tier = library()
    (placed,) = put(tier, parcel("s", b"s"))
    assert placed.location == "TA0002L9#1"
    assert states(tier)["TA0001L9"] == "suspect"
    assert stand.media("TA0001L9").read_bytes() == before


def test_a_cartridge_that_mt_weof_erased_is_a_blank_one(library, put, parcel, stand):
    stand.media("TA0001L9").write_bytes(b"\x02\0\0\0\0")
    assert put(library(), parcel("s", b"s"))[0].location == "TA0001L9#1"


def test_a_stuck_move_is_told_and_nothing_is_damaged_by_it(library, put, parcel, bucket, stand):
    tier = library()
    (placed,) = put(tier, parcel("s", b"s"))
    stand.change(stuck=True)
    with pytest.raises(Transient, match="Hardware Error"):
        tier.verify([placed], throttle=bucket)
    stand.change(stuck=False)
    assert list(tier.verify([placed], throttle=bucket)) == [""]


def test_a_changer_that_brings_another_cartridge_is_not_believed(library, put, parcel, stand):
    put(library(), parcel("s", b"s"))
    before = stand.media("XX0001L9").read_bytes()
    stand.change(lies="4")
    with pytest.raises(Transient, match="XX0001L9 is in drive"):
        put(library(), parcel("s", b"s"), pool="B")
    assert stand.media("XX0001L9").read_bytes() == before


@pytest.mark.parametrize(
    ("number", "kind", "told"),
    [
        (errno.EBUSY, InUse, "in use by another program"),
        (errno.ENXIO, Transient, "the drive is not there"),
        (errno.EACCES, Transient, "Permission denied"),
        (errno.ENOMEDIUM, Transient, "no cartridge is in it"),
    ],
)
def test_a_drive_that_cannot_be_opened_says_why(library, put, parcel, bucket, stand, number, kind, told):
    tier = library()
    (placed,) = put(tier, parcel("s", b"s"))
    stand.system.failing = fails("open", number, "TA0001L9")
    with pytest.raises(kind, match=told) as caught:
        with tier._mount("TA0001L9"):
            pass
    assert caught.value.hint
    stand.system.failing = lambda *_: None
    assert list(tier.verify([placed], throttle=bucket)) == [""]


def test_a_drive_lost_while_it_writes_leaves_no_bundle(library, put, parcel, bucket, stand):
    tier, sent = library(), parcel("s", os.urandom(1_500_000))
    put(tier, parcel("r", b"r"))
    stand.system.failing = fails("write", errno.EIO, "TA0001L9", file=2)
    with pytest.raises(Transient):
        put(tier, sent)
    stand.system.failing = lambda *_: None
    assert len(list(library().inventory())) == 1
    (placed,) = put(library(), sent)
    assert list(library().verify([placed], throttle=bucket)) == [""]


def test_a_filemark_that_the_drive_did_not_write_leaves_no_bundle_that_counts(library, put, parcel, stand):
    tier = library()
    put(tier, parcel("r", b"r"))
    stand.system.failing = fails("weof", errno.EIO, "TA0001L9", file=2)
    with pytest.raises(Transient):
        put(tier, parcel("s", b"s"))
    assert [b.file for b in tier._shelf.read().cartridge("TA0001L9").bundles] == [1]


def test_a_read_error_makes_the_copy_bad_and_no_other(library, put, parcel, bucket, stand):
    tier = library()
    (bad,), (good,) = put(tier, parcel("s", os.urandom(900_000))), put(tier, parcel("t", b"t"))
    stand.system.failing = fails("read", errno.EIO, "TA0001L9", file=1)
    answers = tier.verify([bad, good], throttle=bucket)
    assert "read error at record 0 of TA0001L9#1" in answers[0]
    assert not answers[1]


def test_a_drive_without_block_numbers_is_used_by_file_numbers(library, put, parcel, bucket, stand, log):
    stand.system._tells_block = False
    placed = [put(library(), parcel(f"s{n}", b"s"))[0] for n in range(3)]
    assert list(library().verify(placed[::-1], throttle=bucket)) == [""] * 3
    assert {line["block"] for line in log("write")} == {None}


def test_nothing_is_moved_or_written_for_a_job_whose_claim_is_lost(library, put, parcel, bucket, stand):
    tier = library()
    (placed,) = put(tier, parcel("s", b"s"))
    before, media = stand.moves(), stand.media("TA0001L9").read_bytes()
    tier.hold_to(lambda: False)
    with pytest.raises(Transient, match="claim"):
        tier.verify([placed], throttle=bucket)
    with pytest.raises(Transient, match="claim"):
        put(tier, parcel("t", b"t"))
    assert stand.moves() == before
    assert stand.media("TA0001L9").read_bytes() == media


def test_a_copy_is_verified_behind_a_remount(library, put, parcel, bucket, stand):
    tier = library()
    (placed,) = put(tier, parcel("s", b"s"))
    before = len(stand.moves())
    tier.verify([placed], throttle=bucket)
    assert [move.split()[0] for move in stand.moves()[before:]] == ["unload", "load"]


def test_a_cartridge_that_was_taken_out_is_missed(library, put, parcel, bucket, stand):
    tier = library()
    (placed,), (other,) = put(tier, parcel("s", b"s")), put(tier, parcel("s", b"s"), pool="B")
    state = stand.state()
    drives = [d if d["barcode"] != "TA0001L9" else {"barcode": "", "home": 0, "out": False} for d in state["drives"]]
    slots = {n: "" if b == "TA0001L9" else b for n, b in state["slots"].items()}
    stand.change(drives=drives, slots=slots)
    tier = library()
    assert "not in the library" in tier.verify([placed, other], throttle=bucket)[0]
    assert tier.poll(tier.stage([placed.location]))[placed.location].startswith("failed")
    assert not tier.health().ok


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"devices": ["/dev/st0"]}, "rewinds whenever"),
        ({"devices": "nst0"}, "must be a list"),
        ({"devices": ["/dev/nst0", "/dev/nst0"]}, "must be a list"),
        ({"pools": {"a": "TA*"}}, "capital letter"),
        ({"pools": {}}, "capital letter"),
        ({"changer": "sg3"}, "absolute path"),
    ],
)
def test_a_site_file_that_is_wrong_is_told(library, options, told):
    with pytest.raises(UserError, match=told):
        library(**options)


def test_a_drive_that_the_changer_does_not_have_is_told_by_doctor(library, stand):
    stand.folder.joinpath("nst2").touch()
    health = library(devices=[str(stand.folder / f"nst{n}") for n in range(3)]).health()
    assert not health.ok
    assert "names 3" in health.detail


def test_a_record_of_another_size_is_a_bad_one(stand):
    stand.change(drives=[{"barcode": "XX0001L9", "home": 4, "out": False}, {"barcode": "", "home": 0, "out": False}])
    device = TapeDevice.open(str(stand.folder / "nst0"), write=True)
    device.write(b"x" * 1000)
    device.do(st.Operation.WRITE_FILEMARKS)
    device.do(st.Operation.REWIND)
    with pytest.raises(OSError, match="memory"):
        device.read(999)
    assert device.status().record == 0
    assert len(device.read(1001)) == 1000


def test_tape_files_are_counted_by_reading_where_a_drive_moves_not(library, put, parcel, bucket, stand, tmp_path):
    placed = [put(library(), parcel(f"s{n}", b"s"))[0] for n in range(2)]
    (tmp_path / "tape" / "library.json").unlink()
    stand.system.failing = fails("fsf", errno.EIO)
    tier = library()
    tier._stock()
    stand.system.failing = lambda *_: None
    assert states(tier)["TA0001L9"] == "filling"
    assert tier._shelf.read().cartridge("TA0001L9").files == 3
    assert list(tier.verify(placed, throttle=bucket)) == ["", ""]
