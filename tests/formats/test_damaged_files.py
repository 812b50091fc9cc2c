"""Scans with some bytes of their files changed: always an answer that is no defect, never more than a file holds."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tomovault.core.layout import Layout
from tomovault.core.scan import Candidate, ScanReport, Verdict
from tomovault.core.wire import from_plain, to_plain
from tomovault.formats.child import answer_text
from tomovault.formats.limits import LimitedFormats, Limits, child_environment
from tomovault.testing.bliss_scan import write_bliss_scan
from tomovault.testing.edf_scan import write_edf_scan
from tomovault.testing.one_file_scan import write_one_file_scan

_PROGRAM = """
import sys
from tomovault.formats.child import answer_text, limit_self
limit_self(2 << 30, 300)
for line in sys.stdin:
    print(answer_text(line), flush=True)
"""
_SMALL = {"shape": (5, 6), "projections": 6, "flats": 1, "darks": 1}
_CHANGES = 60


class Child:
    """Answers request after request; a file that ends it is asked of a fresh one, which may end too."""

    def __init__(self):
        self.ended = 0
        self._start()

    def _start(self):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        command = [sys.executable, "-P", "-B", "-c", _PROGRAM]
        self._process = subprocess.Popen(command, env=child_environment(), cwd="/", **pipes)

    def ask(self, request):
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if line:
            return json.loads(line)
        self.close()
        self.ended += 1
        self._start()
        return {"error": {"message": "the child ended"}}

    def close(self):
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()


@pytest.fixture
def child():
    made = Child()
    yield made
    made.close()


def _damage(content, rng):
    """Some bytes changed, a stretch of zeros, two stretches swapped, or the end cut off."""
    data = bytearray(content)
    way = rng.randrange(4)
    if way == 0:
        for _ in range(rng.randint(1, 12)):
            data[rng.randrange(len(data))] = rng.randrange(256)
    elif way == 1:
        at = rng.randrange(len(data))
        data[at : at + rng.randint(1, 512)] = b""
    elif way == 2:
        at, length = rng.randrange(len(data)), rng.randint(1, 256)
        data[at : at + length] = bytes(min(length, len(data) - at))
    else:
        del data[rng.randrange(1, len(data)) :]
    return bytes(data)


#: What an answer must not begin with: these are mistakes of ours, whatever the file.
_DEFECTS = re.compile(
    r"(Type|Key|Index|Attribute|Assertion|ZeroDivision|UnboundLocal|Name|Recursion|Overflow|UnicodeDecode)Error\b"
)


def _check_answer(child, answer):
    """It is an answer, and what it lays out lies in the files; returns the verdicts."""
    assert answer.get("no_scan") or answer.get("error") or answer.get("reports")
    for told in (answer.get("no_scan") or "", (answer.get("error") or {}).get("message", "")):
        assert not _DEFECTS.match(told), told
    verdicts = set()
    for plain in answer.get("reports", ()):
        report = from_plain(ScanReport, plain)
        verdicts.add(report.certificate.verdict)
        laid = child.ask({"op": "layout", "report": to_plain(report)})
        assert not _DEFECTS.match((laid.get("error") or {}).get("message", "")), laid
        for file in from_plain(Layout, laid["layout"]).files if "layout" in laid else ():
            end = 0
            for frame in file.frames:
                assert end <= frame.offset
                end = frame.offset + frame.length
            assert end <= file.size <= Path(report.root, file.path).stat().st_size
    return verdicts


@pytest.mark.parametrize("kind", ["nxtomo", "dataexchange"])
def test_a_damaged_scan_always_gets_an_answer(tmp_path, child, kind):
    (truth,) = write_one_file_scan(str(tmp_path), "bone", variant=f"{kind}-plain", **_SMALL).scans
    path = Path(truth.folder, truth.key)
    whole = path.read_bytes()
    rng = random.Random(f"{kind} 1")
    verdicts = set()
    for _ in range(_CHANGES):
        path.write_bytes(_damage(whole, rng))
        look = {"format": kind, "folder": truth.folder, "key": truth.key}
        verdicts |= _check_answer(child, child.ask({"op": "inspect", "settled": True, "candidate": look}))
    assert child.ended <= 2, "the library falls with few files"
    assert verdicts & {Verdict.UNREADABLE, Verdict.INCOMPLETE, Verdict.UNDECIDED}


@pytest.mark.parametrize("kind", ["edf", "bliss"])
def test_a_damaged_file_of_a_folder_always_gets_an_answer(tmp_path, child, kind):
    """One file of the scan, large or small, is damaged at a time; one that is cut off is never part of a whole scan."""
    write = {"edf": write_edf_scan, "bliss": write_bliss_scan}[kind]
    (truth,) = write(str(tmp_path), "bone", variant=f"{kind}-plain", **_SMALL).scans
    files = sorted(p for p in Path(truth.folder).rglob("*") if p.is_file())
    rng = random.Random(f"{kind} 1")
    verdicts = set()
    for _ in range(2 * _CHANGES):
        path = rng.choice(files)
        whole = path.read_bytes()
        damaged = _damage(whole, rng)
        path.write_bytes(damaged)
        look = {"format": kind, "folder": truth.folder, "key": truth.key}
        found = _check_answer(child, child.ask({"op": "inspect", "settled": True, "candidate": look}))
        if path.suffix in (".edf", ".h5") and len(damaged) < len(whole):
            assert Verdict.COMPLETE not in found, path
        verdicts |= found
        path.write_bytes(whole)
    assert child.ended <= 2, "the library falls with few files"
    assert verdicts & {Verdict.UNREADABLE, Verdict.INCOMPLETE, Verdict.UNDECIDED}


def test_a_report_that_was_changed_lays_out_nothing_of_other_files(tmp_path):
    (truth,) = write_one_file_scan(str(tmp_path), "bone", variant="nxtomo-at-once", **_SMALL).scans
    (report,) = LimitedFormats(Limits()).inspect(Candidate("nxtomo", truth.folder, truth.key), settled=True)
    plain = to_plain(report)
    plain["files"][0]["state"]["path"] = "../bone/bone.nx"
    assert "error" in json.loads(answer_text(json.dumps({"op": "layout", "report": plain})))
