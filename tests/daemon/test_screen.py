import pytest

from tomovault.core.record import GivenBack, Outcome, Quarantined, Removed, Result
from tomovault.daemon.screen import Screen, _now_running


class Claimed:
    action = "restore"


class Running:
    claimed = Claimed()

    def __init__(self, name):
        self.scan_name = name

    def progress(self):
        return 1, 4


ODD = "b\udcffd\n\x1b[31m[red]name"


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (GivenBack("tape", "A00001", "/x", 3, 1_500_000), "restored"),
        (Quarantined("m1", ("a",), 400, ("b: has grown",)), "1 left where they are"),
        (Removed("m1", 1, 400, ("note.txt",)), "1 files that are not ours left"),
    ],
)
def test_a_line_an_event_whatever_the_name(capsys, record, said):
    with Screen(quiet=False) as screen:
        screen.tell("job", {"running": Running(ODD), "result": Result(Outcome.SUCCEEDED, (record,))})
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert "\x1b" not in err
    assert "\\udcffd" in err or "\\xff" in err


def test_a_failure_is_one_line(capsys):
    screen = Screen(quiet=False)
    failed = Result(Outcome.FAILED, error="it broke\nbadly", hint="mend it")
    screen.tell("job", {"running": Running("one"), "result": failed})
    assert capsys.readouterr().err.count("\n") == 1


def test_an_area_that_is_absent_is_told(capsys):
    Screen(quiet=False).tell("area", {"area": "inhouse", "text": "it has no marker"})
    said = capsys.readouterr().err
    assert said.endswith("inhouse: it has no marker\n")


def test_quiet_says_nothing(capsys):
    Screen(quiet=True).tell("job", {"running": Running("one"), "result": Result(Outcome.FAILED, error="x")})
    assert capsys.readouterr().err == ""


def test_what_runs_now_shows_odd_names_as_text():
    import io

    from rich.console import Console

    console = Console(file=io.StringIO(), width=200)
    console.print(_now_running({"running": [Running(ODD)], "unsettled": {"inhouse": 2}}))
    said = console.file.getvalue()
    assert "[red]name" in said
    assert "25%" in said
    assert "2 scans are being written" in said
