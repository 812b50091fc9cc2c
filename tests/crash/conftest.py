"""Whole lives of two small scans in processes of their own, ended with SIGKILL wherever a test likes."""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tomovault.testing.beamline import ScanOrder, run_beamline
from tomovault.vault.setting_up import set_up_site

#: One interpreter for several commands: each starts as in a process of its own, without importing everything again.
#: A shell in the background makes what it starts deaf to Ctrl-C; here it is always heard.
_COMMANDS = """
import json, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from tomovault.cli import main
for arguments in json.loads(sys.argv[1]):
    try:
        main(arguments)
    except SystemExit as end:
        print("exit", end.code, arguments[0], flush=True)
"""

# A name of its own, so that no other module of this name hides it.
_SPEC = importlib.util.spec_from_file_location("tomovault_tests_of_lives", Path(__file__).with_name("checks.py"))
assert _SPEC is not None
assert _SPEC.loader is not None
_CHECKS = importlib.util.module_from_spec(_SPEC)
sys.modules[_SPEC.name] = _CHECKS
_SPEC.loader.exec_module(_CHECKS)

SCANS = _CHECKS.SCANS
_ALPHA, _BETA = SCANS

#: Rules of the standard policy that a short life does without.
_COSTLY = ("preview", "reconstruct-small")
_PATIENCE_S = 240.0

#: On PostgreSQL the place of a daemon that was killed is free after so many seconds.
_LEASE_S = 2.0

#: In one area the quota is less than what can never go, so everything that may be pruned is, the package too; in the
#: other the originals going is enough and the package stays. So the end does not depend on who came first.
_AREAS = {
    "edf": {"prune": "on", "quota": "1kB", "high": "50%", "low": "20%"},
    "bliss": {"prune": "on", "quota": "400kB", "high": "70%", "low": "60%"},
}


# --- what is written ---------------------------------------------------------------------------------


def write_sources(folder: Path) -> None:
    """One EDF series in `edf`, one BLISS dataset in `bliss`, of known bytes and dates."""
    for kind, name in (("edf", "alpha"), ("bliss", "beta")):
        area = folder / kind
        area.mkdir(parents=True)
        order = ScanOrder(
            name, f"{kind}-plain", shape=(24, 32), projections=8, flats=2, darks=2, frame_s=0.01, wait_s=0.0
        )
        run_beamline(str(area), scans=[order], seed=7, speed=1e9, started_at=datetime(2026, 3, 1, tzinfo=UTC))


@contextmanager
def _once(place: Path) -> Iterator[Path | None]:
    """`place` to the one process that makes it, None to all that come later, when it is made."""
    with place.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield None if place.exists() else place


@pytest.fixture(scope="session")
def shared(tmp_path_factory, worker_id) -> Path:
    """A folder of this test session that all its workers see."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "crash"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def sources(shared) -> Path:
    """The two scans as they were written."""
    with _once(shared / "sources") as place:
        if place is not None:
            write_sources(shared / "writing")
            (shared / "writing").rename(place)
    return shared / "sources"


# --- a life ------------------------------------------------------------------------------------------


@dataclass
class Ended:
    """A process that is over."""

    code: int
    output: str
    exits: list[str]


@dataclass
class Life(_CHECKS.Checks):
    """A site with two areas, and the processes that work on it."""

    base: Path
    sources: Path
    catalogue: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    kills: int = 0

    def begin(self, *, whole: bool = False, empty: bool = False) -> None:
        """The site stands, and the scans are there as if they had been written long ago, or none where it is `empty`.

        Unless `whole`, nothing is looked at or reconstructed, which takes most of the time and none of the care.
        """
        self.base.mkdir()
        (self.base / "tmp").mkdir()
        areas = {}
        for kind in SCANS.values():
            if empty:
                (self.base / kind).mkdir()
            else:
                shutil.copytree(self.sources / kind, self.base / kind)
            areas[kind] = str(self.base / kind)
        catalogue = {"catalogue": self.catalogue, "lease": f"{_LEASE_S}s"} if self.catalogue else None
        set_up_site(self.site, areas, simulated=True, settings=catalogue)
        self._configure()
        if not whole:
            policy = self.site / "policies" / "standard.yaml"
            rules = re.split(r"(?m)^(?=  - name: )", policy.read_text("utf-8"))
            kept = [rule for rule in rules if not rule.startswith(tuple(f"  - name: {name}\n" for name in _COSTLY))]
            assert len(kept) == len(rules) - len(_COSTLY)
            policy.write_text("".join(kept), "utf-8")

    def _configure(self) -> None:
        path = self.site / "tomovault.yaml"
        text = path.read_text("utf-8")
        areas = "".join(
            f"  {name}:\n    path: {self.base / name}\n" + "".join(f"    {k}: {v}\n" for k, v in conf.items())
            for name, conf in _AREAS.items()
        )
        text = re.sub(r"^areas:\n(?:  .*\n)+", f"areas:\n{areas}", text, flags=re.MULTILINE)
        text = text.replace("poll: 1s", "poll: 0.1s").replace("quiet: 2s", "quiet: 0.3s")
        text = text.replace("hold: 14d", "hold: 0s")
        text = re.sub(r"^retries: .*$", "retries: {attempts: 60, after: 0.1s, most: 0.5s}", text, flags=re.MULTILINE)
        path.write_text(text, "utf-8")

    @property
    def site(self) -> Path:
        return self.base / "site"

    # --- processes ---------------------------------------------------------------------------------

    def start(self, *commands: Sequence[str], **more: str) -> subprocess.Popen[str]:
        """The commands run one after the other in a process of its own."""
        arguments = json.dumps([["--site", str(self.site), *c] for c in commands])
        environment = {k: v for k, v in os.environ.items() if not k.startswith("TOMOVAULT_")}
        environment |= {"TMPDIR": str(self.base / "tmp"), **self.environment, **more}
        log = (self.base / "output").open("a", encoding="utf-8")
        with log:
            return subprocess.Popen(
                [sys.executable, "-c", _COMMANDS, arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                text=True,
                env=environment,
                start_new_session=True,
            )

    def output(self) -> str:
        return (self.base / "output").read_text("utf-8", "replace")

    def run(self, *commands: Sequence[str], **more: str) -> Ended:
        """The commands were run, or their process was killed, or all was killed after a long time."""
        before = len(self.output()) if (self.base / "output").exists() else 0
        process = self.start(*commands, **more)
        try:
            code = process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            pytest.fail(f"not idle after {_PATIENCE_S:.0f} s:\n{self.output()[-3000:]}")
        said = self.output()[before:]
        return Ended(code, said, re.findall(r"^exit (\S+) --site$", said, flags=re.MULTILINE))

    def run_well(self, *commands: Sequence[str], **more: str) -> str:
        """The commands were run, and every one of them ended with exit code 0."""
        ended = self.run(*commands, **more)
        assert (ended.code, ended.exits) == (0, ["0"] * len(commands)), self.told(ended.output)
        return ended.output

    def run_through(self, *commands: Sequence[str], after_kill: Callable[[], None] | None = None, **more: str) -> int:
        """The commands were run to their end, started again whenever they were killed; returns how often."""
        killed = 0
        while (ended := self.run(*commands, **more)).code == -signal.SIGKILL:
            killed += 1
            assert killed < 200, "killed again and again"
            self._wait_for_its_place()
            if after_kill is not None:
                after_kill()
        assert (ended.code, set(ended.exits)) == (0, {"0"}), self.told(ended.output)
        self.kills += killed
        return killed

    def run_through_kills_at(
        self, moments: Sequence[float], after_kill: Callable[[], None], *commands: Sequence[str]
    ) -> list[float]:
        """The commands were run to their end, killed after so many seconds of work in all; returns moments to come."""
        left, worked = sorted(moments), 0.0
        while True:
            process = self.start(*commands)
            begun = time.monotonic()
            try:
                code = process.wait(max(0.0, left[0] - worked) if left else _PATIENCE_S)
            except subprocess.TimeoutExpired:
                assert left, f"not idle after {_PATIENCE_S:.0f} s:\n{self.output()[-3000:]}"
                process.kill()
                code = process.wait()
            worked += time.monotonic() - begun
            if code != -signal.SIGKILL:
                assert code == 0, self.told(self.output())
                return [moment - worked for moment in left]
            left.pop(0)
            self.kills += 1
            self._wait_for_its_place()
            after_kill()

    def _wait_for_its_place(self) -> None:
        """The place of a daemon that was just killed is free: on SQLite at once."""
        if self.catalogue:
            time.sleep(_LEASE_S)

    def alive(self) -> list[int]:
        """Processes of this life that run."""
        place = f"TMPDIR={self.base / 'tmp'}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdecimal() and place in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
        return found

    def wait_for_quiet(self) -> None:
        """No process of this life runs: what was started ends with the one that started it."""
        end = time.monotonic() + 10
        while self.alive():
            assert time.monotonic() < end, [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in self.alive()]
            time.sleep(0.02)

    def assert_nothing_lost(self) -> None:
        """What must be true at any moment, and is looked at where everything was just killed."""
        self.wait_for_quiet()
        assert self.lost() == []
        assert self.lying(tape=False) == []

    def assert_nothing_lost_anywhere(self) -> None:
        """The same, the cartridges read too."""
        self.assert_nothing_lost()
        assert self.lying(tape=True) == []

    # --- the three parts of a life -------------------------------------------------------------------

    def first_part(self) -> list[list[str]]:
        return [["run", "--until-idle", "--quiet"]]

    def second_part(self) -> list[list[str]]:
        """Both scans are asked for: one from its package on disk, one from tape, into folders of their own."""
        return [
            ["restore", _BETA, "--to", str(self.base / "back" / _BETA)],
            ["restore", _ALPHA, "--from", "tape", "--to", str(self.base / "back" / _ALPHA)],
            ["run", "--until-idle", "--quiet"],
        ]

    def check(self) -> None:
        """Everything re-reads, the audit holds, the catalogue agrees with itself."""
        self.run_well(["verify", "--all"], ["audit", "verify"], ["catalogue", "check"])


@pytest.fixture
def new_life(tmp_path, sources, new_catalogue) -> Iterator[Callable[..., Life]]:
    """Called for a site with both scans written, and nothing done yet."""
    made = []

    def make(name: str = "life", **how: bool) -> Life:
        life = Life(tmp_path / name, sources, new_catalogue())
        made.append(life)
        life.begin(**how)
        return life

    yield make
    for life in made:
        for process in life.alive():
            os.kill(process, signal.SIGKILL)


@dataclass(frozen=True)
class Undisturbed:
    """The life that nothing disturbed: its final facts, how long its parts took, and each passed point with the
    number of its passes in one process, by part.
    """

    facts: dict[str, Any]
    seconds: tuple[float, float]
    points: tuple[dict[str, int], dict[str, int]]


@pytest.fixture(scope="session")
def undisturbed(shared, sources, new_catalogue) -> Undisturbed:
    """A short life, lived once in a test session."""
    return _lived_once(shared / "short", sources, new_catalogue, whole=False)


@pytest.fixture(scope="session")
def undisturbed_whole(shared, sources, new_catalogue) -> Undisturbed:
    """A whole life, lived once in a test session."""
    return _lived_once(shared / "whole", sources, new_catalogue, whole=True)


def _lived_once(base: Path, sources: Path, new_catalogue: Callable[[], str], *, whole: bool) -> Undisturbed:
    record = base.with_suffix(".json")
    with _once(record) as place:
        if place is not None:
            told = _live_undisturbed(Life(base, sources, new_catalogue()), whole=whole)
            place.with_suffix(".new").write_text(json.dumps(told))
            place.with_suffix(".new").rename(place)
    told = json.loads(record.read_text())
    return Undisturbed(told["facts"], tuple(told["seconds"]), tuple(told["points"]))


def _live_undisturbed(life: Life, *, whole: bool) -> dict[str, Any]:
    life.begin(whole=whole)
    seconds, points = [], []
    for part, commands in enumerate((life.first_part(), life.second_part())):
        passes = life.base / f"passes{part}"
        begun = time.monotonic()
        life.run_well(*commands, TOMOVAULT_CHECKPOINTS=str(passes))
        seconds.append(time.monotonic() - begun)
        most: dict[str, int] = {}
        for line in passes.read_text().split():
            name, _, number = line.partition(":")
            most[name] = max(most.get(name, 0), int(number))
        points.append(most)
    life.check()
    return {"facts": life.facts(), "seconds": seconds, "points": points}


@pytest.fixture
def dice(request) -> random.Random:
    """Random numbers that are the same for a test in every run."""
    return random.Random(request.node.name)
