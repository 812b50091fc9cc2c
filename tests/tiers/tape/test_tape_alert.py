import pytest

from tomovault.tiers import tape_alert

#: As sg_logs 1.46 has it in its source: flags that are set, one a line, below the name of the page.
PRINTED = """\
Tape alert page (ssc-3) [0x2e]
  Read warning: 0
  Clean now: 1
  Media life: 1
"""


@pytest.fixture
def inspector(tmp_path, monkeypatch):
    def make(printed, code=0):
        program = tmp_path / "sg_logs"
        program.write_text(f"#!/bin/sh\ncat <<END\n{printed}END\nexit {code}\n")
        program.chmod(0o755)
        monkeypatch.setattr(tape_alert, "generic_of", lambda _device: "/dev/sg1")
        return tape_alert.Inspector("tape", ["/dev/nst0"], str(program))

    return make


@pytest.fixture
def noted():
    lines = []

    def note(drive, barcode, event, **more):
        lines.append((drive, barcode, event, more))

    note.lines = lines
    return note


def test_flags_that_are_set_are_noted(inspector, noted):
    inspector(PRINTED).alerts(0, "TA0001L9", noted)
    assert noted.lines == [(0, "TA0001L9", "tape_alert", {"flags": ["Clean now", "Media life"]})]


def test_a_drive_without_trouble_is_not_noted(inspector, noted):
    inspector("Tape alert page (ssc-3) [0x2e]\n").alerts(0, "TA0001L9", noted)
    assert not noted.lines


def test_a_drive_that_cannot_be_asked_is_told_once(inspector, noted):
    asked = inspector("", code=9)
    for _ in range(3):
        asked.alerts(0, "TA0001L9", noted)
    assert [line[2] for line in noted.lines] == ["no_tape_alert"]


def test_a_drive_that_the_kernel_does_not_know_has_no_serial_number(tmp_path):
    assert tape_alert.serial_of(str(tmp_path / "nst0")) == ""
    assert tape_alert.generic_of(str(tmp_path / "nst0")) == ""
