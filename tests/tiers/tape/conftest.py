import json
import stat
import sys
from types import SimpleNamespace

import pytest

from tomovault.testing import mtx_stand
from tomovault.testing.tape_stand import TapeStand, change_stand, make_stand
from tomovault.tiers import st
from tomovault.tiers.tape_library import TapeLibrary

CAPACITY = 6_000_000


@pytest.fixture
def mtx(tmp_path):
    """A program that stands in for mtx; what it was asked to move is a line each of moves.txt beside it."""
    path = tmp_path / "mtx"
    path.write_text(
        f'#!/bin/sh\ncase $3 in status) ;; *) echo "$3 $4 $5" >>{tmp_path}/moves.txt ;; esac\n'
        f'exec {sys.executable} -S -E {mtx_stand.__file__} "$@"\n'
    )
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture
def stand(tmp_path, monkeypatch, mtx):
    """Two drives, and five cartridges in a changer of seven slots; one of them is nobody's."""
    folder = tmp_path / "behind"
    make_stand(str(folder), {1: "TA0001L9", 2: "TA0002L9", 3: "TB0001L9", 4: "XX0001L9", 5: "TA0003L9"})
    system = TapeStand(str(folder), capacity=CAPACITY)
    monkeypatch.setattr(st, "SYSTEM", system)
    return SimpleNamespace(
        system=system,
        folder=folder,
        state=lambda: json.loads((folder / "state.json").read_text()),
        change=lambda **more: change_stand(str(folder), lambda state: {**state, **more}),
        media=lambda barcode: folder / "media" / barcode,
        moves=lambda: (tmp_path / "moves.txt").read_text().split("\n")[:-1],
    )


@pytest.fixture
def library(tmp_path, stand, mtx, now):
    """A library on the stand; called again it is another process on the same folder."""

    def open_library(**options):
        (tmp_path / "tape").mkdir(exist_ok=True)
        given = {
            "path": str(tmp_path / "tape"),
            "mtx": str(mtx),
            "sg_logs": str(tmp_path / "none"),
            "changer": str(stand.folder / "state.json"),
            "devices": [str(stand.folder / "nst0"), str(stand.folder / "nst1")],
            "pools": {"A": "TA*", "B": "TB*"},
            "capacity": CAPACITY,
            "ready_s": 0,
            "wait_s": 5,
            **options,
        }
        return TapeLibrary("tape", given, now=lambda: now)

    return open_library


@pytest.fixture
def log(tmp_path):
    """The lines of the library's log, all or those of one event."""

    def read(event=None):
        lines = [json.loads(line) for line in (tmp_path / "tape" / "log.jsonl").read_text().splitlines()]
        return [line for line in lines if event in (None, line["event"])]

    return read
