"""A watch in virtual time over a simulated beamline: real walker, real lookout, real inspection in a child.

The writer sleeps by calling the watch, which sweeps and inspects whenever its next moment has come; a day of
polling takes a second. Files get the times that a server of that moment would give them.
"""

import heapq
import json
import math
import os
import queue
import random
import stat
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from types import SimpleNamespace

import pytest

from tomovault.core.scan import Verdict
from tomovault.daemon import lookout as lookout_module
from tomovault.daemon.areas import AreaWatch, Look
from tomovault.formats.family import load, load_all
from tomovault.formats.limits import child_environment
from tomovault.testing.bliss_scan import write_bliss_scan
from tomovault.testing.clock import FakeClock
from tomovault.testing.edf_scan import write_edf_scan
from tomovault.testing.one_file_scan import write_one_file_scan
from tomovault.testing.truth import TruthLog
from tomovault.watch.snapshot import snapshot_now
from tomovault.watch.walker import Walker

_PROPERTY = "completion"
#: Ends of an acquisition: what is said once is never taken back by waiting.
_FINAL = (Verdict.COMPLETE.value, Verdict.ABORTED.value)
_CHANGES = frozenset({"folder", "create", "write", "close", "rename", "remove", "link", "cut", "open"})
_PROGRAM = """
import sys
from tomovault.formats.child import answer_text, limit_self
limit_self(2 << 30, 1 << 20)
for line in sys.stdin:
    print(answer_text(line), flush=True)
"""


class Inspector:
    """The program that inspections run, answering one request after the other instead of one in its life."""

    def __init__(self):
        self._child = subprocess.Popen(
            [sys.executable, "-P", "-B", "-c", _PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=child_environment(),
            cwd="/",
            text=True,
        )

    def inspect(self, candidate, settled):
        """Reports in plain words of JSON, or {'error': ...}; `candidate` as it stands in an inspection's order."""
        request = {"op": "inspect", "candidate": candidate, "settled": settled}
        self._child.stdin.write(json.dumps(request) + "\n")
        self._child.stdin.flush()
        return json.loads(self._child.stdout.readline())

    def close(self):
        self._child.stdin.close()
        self._child.wait(30)
        self._child.stdout.close()


@pytest.fixture(scope="session")
def inspector():
    program = Inspector()
    yield program
    program.close()


class Catalogue:
    """What the lookout asks of the catalogue: candidates by what was seen and what was inspected of them."""

    def __init__(self):
        self._seen = {}
        self._inspected = {}
        self._inspected_at = {}
        self.orders = []
        self.gone = []

    @contextmanager
    def writing(self):
        yield self

    def note_candidate(self, tx, area, candidate, snapshot, settled, now):
        self._seen[candidate] = (snapshot, settled)
        inspected, inspected_settled = self._inspected.get(candidate, (None, False))
        return snapshot != inspected or (settled and not inspected_settled)

    @contextmanager
    def reading(self):
        yield self

    def note_links(self, tx, area, folder, links, now):
        """Nothing here asks where links lead."""

    def drop_other_links(self, tx, area, folders):
        """As `note_links`."""

    def list_unbelieved(self, tx, area):
        return [
            (candidate, snapshot, self._inspected_at[candidate])
            for candidate, (snapshot, settled) in self._seen.items()
            if settled and self._inspected.get(candidate) == (snapshot, False)
        ]

    def note_inspected(self, candidate, snapshot, settled, now):
        """Whether it is taken: what is outdated is dropped, as the catalogue does."""
        seen = self._seen[candidate]
        inspected, inspected_settled = self._inspected.get(candidate, (None, False))
        if inspected == seen[0] and (snapshot, settled) != seen:
            if snapshot != seen[0] or (inspected_settled and not settled):
                return False
        self._inspected[candidate] = (snapshot, settled)
        self._inspected_at[candidate] = now
        return True

    def queue_in(self, tx, area, action, scan, order, **about):
        assert action == "inspect"
        self.orders.append(order)


class ServerTimes:
    """Gives files and folders the modification time that a file server would give them at a virtual moment.

    A date that a writer set on purpose is kept as its distance from now, one that was copied as it is.
    """

    def __init__(self, clock, grain_ns):
        self._clock = clock
        self._grain_ns = grain_ns
        self._given = set()

    def stamp(self, path):
        try:
            found = os.lstat(path)
        except FileNotFoundError:
            return
        if stat.S_ISLNK(found.st_mode) or found.st_mtime_ns in self._given:
            return
        skew_s = (found.st_mtime_ns - time.time_ns()) / 1e9
        skew_ns = round(skew_s) * 1_000_000_000 if abs(skew_s) > 5 else 0
        now_ns = int(self._clock.now().timestamp() * 1e9) + skew_ns
        given = now_ns - now_ns % self._grain_ns
        # The file system may keep coarser times than it is told.
        os.utime(path, ns=(given, given))
        self._given.add(os.lstat(path).st_mtime_ns)

    def stamp_all(self, folder):
        for here, _, names in os.walk(folder):
            self.stamp(here)
            for name in names:
                self.stamp(os.path.join(here, name))


@dataclass(frozen=True)
class Said:
    """One verdict of an inspection: when it was made, and how long after the sweep that asked for it."""

    at: float
    waited_s: float
    verdict: str
    settled: bool
    right: bool
    problems: tuple[str, ...] = ()


@dataclass
class Span:
    """From `since` until `until` the files of a place (folder, entry) allow this verdict, and no other final one."""

    place: tuple[str, str]
    verdict: str
    since: float
    until: float | None = None


class Truths:
    """What the truth log says: the spans of every place, and every change of a file that belongs to a scan."""

    def __init__(self):
        self.spans = []
        self.changes = []
        self._begun = set()

    def open_span(self, place):
        return next((s for s in self.spans if s.place == place and s.until is None), None)

    def add(self, event):
        if event.action == "begin":
            self._begun.add(event.path)
        elif event.action == "verdict":
            place = (event.path, event.more["entry"])
            self._end(place, event.t)
            self.spans.append(Span(place, event.more["verdict"], event.t))
            self._begun.discard(event.path)
        elif event.action in _CHANGES:
            self._change(event)

    def _end(self, place, moment):
        span = self.open_span(place)
        if span is not None:
            span.until = moment
        return span

    def _change(self, event):
        folder, name = os.path.split(event.path)
        renamed = event.action == "rename" and os.path.isdir(event.path)
        if renamed:
            for span in [s for s in self.spans if s.place[0] == event.more["source"] and s.until is None]:
                span.until = event.t
                self.spans.append(Span((event.path, span.place[1]), span.verdict, event.t))
        frame = name.endswith(".edf") and "slice_" not in name
        taken_away = event.action == "remove" and not name.startswith("ref")
        if frame and (folder in self._begun or taken_away):
            self._end((folder, ""), event.t)
        if frame or renamed or name.endswith((".info", ".xml", ".abo", ".h5", ".nx")):
            self.changes.append((event.t, event.path))

    def rest_after(self, folders, moment, rest_s):
        """The first moment from then on after which nothing in the folders changes for so long."""
        for t, path in self.changes:
            inside = any(path == f or path.startswith(f + "/") for f in folders)
            if inside and moment <= t <= moment + rest_s:
                moment = t
        return moment


def _is_as_seen(candidate, snapshot):
    try:
        return snapshot_now(candidate, load(candidate.format)) == snapshot
    except OSError:
        return False


class VirtualWatch:
    """Sweeps an area and inspects what the lookout asks for, when virtual time comes to it."""

    def __init__(self, area, clock, inspector, *, poll_s, quiet_s, grain_ns, rng, most_wait_s):
        self.said = {}
        self.sweeps = self.inspections = 0
        self.truths = Truths()
        self._area, self._clock, self._inspector, self._rng = str(area), clock, inspector, rng
        self._most_wait_s = most_wait_s
        self._times = ServerTimes(clock, grain_ns)
        self._catalogue = Catalogue()
        watch = SimpleNamespace(quiet_s=quiet_s)
        site = SimpleNamespace(watch=watch, areas={"hutch": SimpleNamespace(host=None)})
        vault = SimpleNamespace(catalogue=self._catalogue, site=site, queue_in=self._catalogue.queue_in)
        self._lookout = lookout_module.Lookout(vault)
        self._pacer = AreaWatch(
            SimpleNamespace(name="hutch", path=self._area),
            SimpleNamespace(mount_source=""),
            load_all(),
            (),
            poll_s=poll_s,
            quiet_s=quiet_s,
            looks=queue.Queue(),
        )
        self._walker = Walker(self._area, load_all(), quiet_s=quiet_s, clock=clock.monotonic)
        self._due = []
        self._at(clock.monotonic() + rng.uniform(0.0, poll_s), None)

    def note(self, event):
        """Take an event of the truth log."""
        self._times.stamp(event.path)
        self._times.stamp(os.path.dirname(event.path))
        self.truths.add(event)

    def pass_time(self, seconds):
        """Let virtual time pass, with everything that falls into it."""
        end = self._clock.monotonic() + seconds
        while self._due[0][0] <= end:
            at, _, look = heapq.heappop(self._due)
            self._clock.sleep(at - self._clock.monotonic())
            if look is None:
                self._sweep()
            else:
                self._inspect(*look)
        self._clock.sleep(end - self._clock.monotonic())

    def _at(self, moment, look):
        heapq.heappush(self._due, (moment, self.sweeps + self.inspections + len(self._due), look))

    def _sweep(self, *, full=False):
        self.sweeps += 1
        self._times.stamp_all(self._area)
        sweep = self._walker.sweep(full=full)
        assert not sweep.stopped
        self._lookout.take("hutch", sweep, self._clock.now())
        now = self._clock.monotonic()
        for order in self._catalogue.orders:
            moment = now + (self._rng.uniform(0.0, self._most_wait_s) if self._most_wait_s else 0.0)
            for look in order["looks"]:
                self._at(moment, (look, now))
        self._catalogue.orders.clear()
        self._at(now + self._pacer._pause_after(Look("hutch", sweep), 0.0), None)

    def _inspect(self, look, asked):
        self.inspections += 1
        candidate = lookout_module.Candidate(**look["candidate"])
        settled = look["settled"] and _is_as_seen(candidate, look["snapshot"])
        reply = self._inspector.inspect(look["candidate"], settled)
        if not self._catalogue.note_inspected(candidate, look["snapshot"], settled, self._clock.now()):
            return
        now = self._clock.monotonic()
        for report in reply.get("reports", ()):
            if report["format"].startswith("volume"):  # a scan of its own, of which the truth log says nothing
                continue
            folder = os.path.normpath(os.path.join(report["root"], report["metadata"].get("folder", "")))
            place = (folder, report["entry"])
            verdict = report["certificate"]["verdict"]
            span = self.truths.open_span(place)
            final = verdict == Verdict.COMPLETE.value or (verdict in _FINAL and settled)
            right = not final or (span is not None and span.verdict == verdict)
            problems = tuple(report["certificate"]["problems"])
            self.said.setdefault(place, []).append(Said(now, now - asked, verdict, settled, right, problems))

    def sweep_fully(self):
        """One sweep that trusts no folder's date, and what it asks for."""
        self._sweep(full=True)
        self.pass_time(self._most_wait_s)


@dataclass
class Figures:
    """What one run came to; times in virtual seconds. `over_polls` is the largest detection after rest and quiet
    time, less what was injected, in polls: 2 are allowed.
    """

    scans: int = 0
    sweeps: int = 0
    inspections: int = 0
    false: int = 0
    missed: int = 0
    late: int = 0
    over_polls: float = 0.0
    delay_s: float = 0.0
    words: tuple[str, ...] = ()


#: (poll, quiet) in seconds; the first is the usual one. Pauses of an acquisition are longer than most.
PACES = ((5.0, 60.0), (1.0, 8.0), (10.0, 60.0), (2.0, 30.0), (30.0, 120.0), (5.0, 300.0), (3.0, 4.0))
#: Quiet times that the files of a variant need: images that nothing announces (those after the last projection)
#: come after a pause of 5 s with everything announced there, or become visible up to 60 s late.
LEAST_QUIET_S = {"edf-dark-first": 8.0, "edf-lagging": 60.0}
#: What a variant adds to the detection: an SWMR master can be read only once its writer cleared a flag in it, which
#: changes no date here, so the look that found it busy is made again after 30 s.
LOOKED_AT_AGAIN_S = {"bliss-swmr": 40.0}
#: Within so many polls of the sweep that asked for it an inspection is made.
WAITS = (0.0, 0.0, 2.0, 9.0)
GRAINS_NS = (1, 10_000_000, 1_000_000_000, 2_000_000_000)


@pytest.fixture
def virtual_watch(inspector, monkeypatch):
    """Called with an area, a clock and the numbers of the watch for a VirtualWatch."""
    monkeypatch.setattr(lookout_module, "record_vanished", lambda tx, area, candidate, now: tx.gone.append(candidate))

    def watch(area, clock, *, poll_s, quiet_s, grain_ns=1, rng=None, most_wait_s=0.0):
        numbers = {"poll_s": poll_s, "quiet_s": quiet_s, "grain_ns": grain_ns, "most_wait_s": most_wait_s}
        return VirtualWatch(area, clock, inspector, rng=rng or random.Random(0), **numbers)

    return watch


@pytest.fixture
def run_variant(virtual_watch, tmp_path, record_property):
    """Write one variant with one seed under a watch, and judge everything that was said: Figures."""

    def run(variant, seed):
        rng = random.Random(f"{variant.name}/{seed}")
        poll_s, quiet_s = PACES[0] if seed == 0 else rng.choice(PACES)
        if quiet_s < LEAST_QUIET_S.get(variant.name, 0.0):
            poll_s, quiet_s = PACES[0]
        most_wait_s = rng.choice(WAITS) * poll_s
        area = tmp_path / f"{variant.name}-{seed}"
        area.mkdir()
        clock = FakeClock(now=datetime.fromisoformat("2026-03-02T09:00:00.37+00:00"))
        watch = virtual_watch(
            area,
            clock,
            poll_s=poll_s,
            quiet_s=quiet_s,
            grain_ns=rng.choice(GRAINS_NS),
            rng=rng,
            most_wait_s=most_wait_s,
        )
        write = {"edf": write_edf_scan, "bliss": write_bliss_scan}.get(variant.writer, write_one_file_scan)
        with TruthLog(clock=clock, on_event=watch.note) as log:
            written = write(
                str(area),
                "night_",
                variant=variant,
                seed=seed,
                shape=(8, 8),
                projections=rng.randint(9, 14),
                flats=rng.randint(1, 3),
                darks=rng.randint(1, 3),
                fast=True,
                speed=1.0,
                clock=clock,
                sleep=watch.pass_time,
                log=log,
            )
        watch.pass_time(2 * quiet_s + 6 * poll_s + most_wait_s)
        clock.sleep(6 * 3600.0)
        watch.sweep_fully()
        where = f"{variant.name} seed {seed} poll {poll_s:g} quiet {quiet_s:g}"
        again_s = LOOKED_AT_AGAIN_S.get(variant.name, 0.0)
        figures = _judge(watch, written, poll_s, quiet_s, most_wait_s + again_s, again_s, where)
        record_property(_PROPERTY, [variant.name, {k: v for k, v in vars(figures).items() if k != "words"}])
        return figures

    return run


def _judge(watch, written, poll_s, quiet_s, most_wait_s, again_s, where):
    """Compare what was said with what was true, span by span."""
    assert watch.truths.spans
    for truth in written.scans:
        span = watch.truths.open_span((truth.folder, truth.entry))
        assert span is not None
        assert span.verdict == truth.verdict.value
    figures = Figures(sweeps=watch.sweeps, inspections=watch.inspections)
    words = []
    for place, sayings in watch.said.items():
        wrong = [said for said in sayings if not said.right]
        figures.false += len(wrong)
        words += [f"{where}: false {said.verdict} of {place} at {said.at:.1f}" for said in wrong]
    folders_of = {truth.folder: truth.metadata_folder for truth in written.scans}
    for span in watch.truths.spans:
        folder = span.place[0]
        folders = [f for f in (folder, folders_of.get(folder)) if f]
        # What changes again before an inspection that was put off is made has not come to rest.
        rest = watch.truths.rest_after(folders, span.since, quiet_s + 2 * poll_s + most_wait_s)
        due = rest + quiet_s + 2 * poll_s
        if span.until is not None and span.until <= due + most_wait_s:
            continue
        figures.scans += 1
        sayings = [s for s in watch.said.get(span.place, ()) if span.since <= s.at <= (span.until or math.inf)]
        found = [s for s in sayings if s.verdict == span.verdict and (s.settled or s.verdict in _FINAL)]
        if not found or (span.until is None and sayings[-1] not in found):
            figures.missed += 1
            words.append(f"{where}: {span} was missed; last said {sayings[-1] if sayings else None}")
            continue
        # Inspections are made in any order: the one that was asked for first may have waited longest.
        asked = min(s.at - s.waited_s for s in found)
        delay_s = max(0.0, asked - rest)
        figures.delay_s = max(figures.delay_s, delay_s)
        figures.over_polls = max(figures.over_polls, (delay_s - quiet_s) / poll_s)
        if asked > due + again_s + 1e-6:
            figures.late += 1
            words.append(f"{where}: {span} was found {delay_s:.1f} s after rest")
    figures.words = tuple(words)
    return figures


def pytest_terminal_summary(terminalreporter):
    """Add up what all runs came to, also those of other workers."""
    reports = [r for kind in ("passed", "failed") for r in terminalreporter.stats.get(kind, ())]
    rows = [value for r in reports for name, value in r.user_properties if name == _PROPERTY]
    if not rows:
        return
    variants = {name for name, _ in rows}
    total = {
        key: sum(row[key] for _, row in rows) for key in ("scans", "sweeps", "inspections", "false", "missed", "late")
    }
    over = max(row["over_polls"] for _, row in rows)
    words = ", ".join(f"{key} {value}" for key, value in total.items())
    terminalreporter.write_line(
        f"completion: {len(variants)} variants, {len(rows)} runs, {words}, latest at quiet + {over:.2f} polls"
    )
