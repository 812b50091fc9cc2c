import pytest

from tomovault.core.errors import Transient, UserError
from tomovault.tiers.changer import Changer, read_contents

#: As mtx 1.3.12 printed it of an emulated library, mail slot and unknown home as its source has them. It pads each
#: tag with spaces.
STATUS = """\
  Storage Changer /dev/sg3:2 Drives, 9 Slots ( 1 Import/Export )
Data Transfer Element 0:Full (Storage Element 3 Loaded):VolumeTag = A00003L9
Data Transfer Element 1:Full (Unknown Storage Element Loaded):VolumeTag = A00009L9
Data Transfer Element 2:Empty
      Storage Element 1:Full :VolumeTag=A00001L9
      Storage Element 2:Full :VolumeTag=
      Storage Element 3:Empty:VolumeTag=
      Storage Element 4:Full
      Storage Element 9 IMPORT/EXPORT:Full :VolumeTag=A00008L9
"""


def test_what_mtx_prints_is_understood():
    contents = read_contents(STATUS.replace("L9\n", "L9" + 24 * " " + "\n"))
    assert {n: (d.full, d.barcode, d.home) for n, d in contents.drives.items()} == {
        0: (True, "A00003L9", 3),
        1: (True, "A00009L9", None),
        2: (False, "", None),
    }
    assert contents.barcodes() == ["A00001L9", "A00003L9", "A00009L9"]
    assert (contents.slot_of("A00001L9"), contents.drive_of("A00003L9")) == (1, 0)
    assert contents.slot_of("A00008L9") == 9
    assert contents.nameless() == 2
    assert (contents.free_slot(3), contents.free_slot(None), contents.free_slot(1)) == (3, 3, 3)


def test_what_is_no_status_is_told(stand, mtx):
    with pytest.raises(ValueError, match="no drive"):
        read_contents("mtx: No such file or directory")
    with pytest.raises(UserError, match="cannot be started"):
        Changer("tape", "/no/such/mtx", str(stand.folder / "state.json"), 5).contents()
    stand.change(drives=[])
    with pytest.raises(Transient, match="cannot be understood"):
        Changer("tape", str(mtx), str(stand.folder / "state.json"), 5).contents()


def test_a_move_that_the_changer_refuses_is_told_with_its_reason(stand, mtx):
    changer = Changer("tape", str(mtx), str(stand.folder / "state.json"), 5)
    changer.load(1, 0)
    with pytest.raises(Transient, match="Drive 0 Full"):
        changer.load(2, 0)
    with pytest.raises(Transient, match="removal prevented"):
        changer.unload(1, 0)
