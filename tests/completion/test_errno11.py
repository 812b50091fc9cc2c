"""A writer that locks what it opens is never in the way of an inspection, however fast those follow each other."""

import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest

from tomovault.core.scan import Candidate
from tomovault.core.wire import to_plain
from tomovault.formats.limits import LimitedFormats
from tomovault.testing.truth import read_truth

#: Writes a scan, says so, then opens its master and camera files for writing until told to stop by an empty line,
#: at least so many times.
WRITER = """
import glob, os, select, sys
from tomovault.testing.bliss_scan import write_bliss_scan
from tomovault.testing.locked_hdf5 import open_repeatedly
from tomovault.testing.timeline import Timeline
from tomovault.testing.truth import TruthLog

area, log_path, least = sys.argv[1], sys.argv[2], int(sys.argv[3])
with TruthLog(log_path) as log:
    timeline = Timeline()
    (truth,) = write_bliss_scan(area, "night", shape=(8, 8), projections=25, fast=True, log=log).scans
    files = [os.path.join(truth.folder, truth.key), *sorted(glob.glob(truth.folder + "/scan*/*.h5"))]
    print(truth.folder, truth.key, flush=True)
    opens = 0
    while opens < least or not select.select([sys.stdin], [], [], 0)[0]:
        for path in files:
            open_repeatedly(path, 2, timeline, log, pause_s=0.001)
            opens += 2
"""

#: Reads as a program does that knows nothing of acquisitions, until its input ends.
CARELESS = """
import select, sys, h5py
print("begun", flush=True)
while not select.select([sys.stdin], [], [], 0)[0]:
    try:
        with h5py.File(sys.argv[1], "r") as file:
            list(file)
    except OSError:
        pass  # the writer has it now
"""


def _start(program, *arguments):
    # The variable decides over every open of a process; an inspection sets it for itself alone.
    environment = {k: v for k, v in os.environ.items() if k != "HDF5_USE_FILE_LOCKING"}
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )


@contextmanager
def _running(program, *arguments):
    process = _start(program, *arguments)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.stdin.close()
        process.stdout.close()
        process.wait()


def _end(process):
    process.stdin.write("\n")
    process.stdin.flush()
    assert process.wait(120) == 0


class Looks:
    """Inspections and layouts by the real children, one after the other, until stopped; when each one was."""

    def __init__(self, candidate):
        self.times = []
        self._candidate = candidate
        self._stop = threading.Event()
        self._problems = []
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()
        assert self._problems == []

    def _run(self):
        formats = LimitedFormats()
        try:
            while not self._stop.is_set():
                began = time.monotonic()
                (report,) = formats.inspect(self._candidate, settled=True)
                self.times.append((began, time.monotonic()))
                # What a pack job reads first.
                formats.layout(report)
        except Exception as problem:  # noqa: BLE001 - a thread has nobody to raise to
            self._problems.append(problem)


def _watch_a_writer(tmp_path, inspector, *, opens, children, quick):
    """(events of the writer, times of inspections) after at least so many opens and inspections of both kinds."""
    log = str(tmp_path / "truth.jsonl")
    quickly = []
    with _running(WRITER, str(tmp_path), log, str(opens)) as writer:
        folder, _, key = writer.stdout.readline().strip().rpartition(" ")
        candidate = Candidate("bliss", folder, key)
        with Looks(candidate) as looks:
            while len(looks.times) < children or len(quickly) < quick:
                began = time.monotonic()
                assert inspector.inspect(to_plain(candidate), True)["reports"]
                quickly.append((began, time.monotonic()))
            _end(writer)
    return read_truth(log), [*looks.times, *quickly]


def _judge(events, times, *, opens):
    opened = [event.t for event in events if event.action == "open"]
    assert [event for event in events if event.action == "errno11"] == []
    assert len(opened) >= opens
    overlapped = [span for span in times if any(span[0] <= t <= span[1] for t in opened)]
    assert len(overlapped) >= 50


def test_a_writer_never_meets_errno_11(tmp_path, inspector):
    events, times = _watch_a_writer(tmp_path, inspector, opens=150, children=2, quick=60)
    _judge(events, times, opens=150)


@pytest.mark.soak
def test_a_writer_never_meets_errno_11_in_a_thousand_opens(tmp_path, inspector):
    events, times = _watch_a_writer(tmp_path, inspector, opens=1000, children=50, quick=200)
    _judge(events, times, opens=1000)


def test_a_reader_that_locks_does_break_the_writer(tmp_path):
    log = str(tmp_path / "truth.jsonl")
    with _running(WRITER, str(tmp_path), log, "150") as writer:
        folder, _, key = writer.stdout.readline().strip().rpartition(" ")
        with _running(CARELESS, os.path.join(folder, key)) as reader:
            assert reader.stdout.readline() == "begun\n"
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline and not any(e.action == "errno11" for e in read_truth(log)):
                time.sleep(0.2)
            _end(reader)
        _end(writer)
    assert any(event.action == "errno11" for event in read_truth(log))
