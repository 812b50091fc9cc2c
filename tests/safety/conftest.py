"""Histories of a site: the package that they are made of, and the fixtures that play them."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import itertools
import logging
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
import structlog

import tomovault
from tomovault.testing.ground import Clock
from tomovault.vault import job_folder

# A package under a name of its own, so that no other hides it: what is beside the tests is on no path.
_SPEC = importlib.util.spec_from_file_location(
    "tomovault_tests_histories", Path(__file__).with_name("histories") / "__init__.py"
)
assert _SPEC is not None
assert _SPEC.loader is not None
sys.modules[_SPEC.name] = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(sys.modules[_SPEC.name])

_events, _laws, _play, _stand_ins, _two = (
    importlib.import_module(f"{_SPEC.name}.{name}") for name in ("events", "laws", "play", "stand_ins", "two_machines")
)


def _load_clocks() -> None:
    """Every module that may ask what time it is is loaded: one that was loaded later would have the real clock."""
    package = Path(tomovault.__file__).parent
    for path in sorted(package.rglob("*.py")):
        if re.search(r"^from datetime import .*\bdatetime\b", path.read_text("utf-8"), re.MULTILINE):
            importlib.import_module(".".join(path.relative_to(package.parent).with_suffix("").parts))


def _wall_time(clocks: list[Clock]) -> type[datetime]:
    """What the clock of the newest history says, in place of `datetime`."""

    class Told(type(datetime)):
        def __instancecheck__(cls, one: object) -> bool:
            return isinstance(one, datetime)

    class WallTime(datetime, metaclass=Told):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return clocks[-1].wall

    return WallTime


def _start_timers(upkeep: Any, *, leads: bool) -> SimpleNamespace:
    """The timers of a daemon begin: nothing comes of itself, the history says when something is due."""
    if leads:
        upkeep.ask("overdue")
    return SimpleNamespace(shutdown=lambda wait: None)


@pytest.fixture
def begin(tmp_path, empty_catalogue, monkeypatch) -> Iterator[Callable[..., contextlib.AbstractContextManager[Any]]]:
    """Called for a site at the beginning of its history, on an empty disk each time: one with a daemon or, on `hosts`,
    several, and with a `url` on that database.
    """
    _load_clocks()
    clocks: list[Clock] = []
    histories: list[Any] = []
    count = itertools.count()
    luck = Random()
    wall_time = _wall_time(clocks)
    for name, module in list(sys.modules.items()):
        # What is pure asks for no time, and its types are looked up once for all tests of a process.
        pure = name.startswith(("tomovault.core.", "tomovault.policy."))
        if name.startswith("tomovault.") and not pure and getattr(module, "datetime", None) is datetime:
            monkeypatch.setattr(module, "datetime", wall_time)
    plain = job_folder.write_json
    steady = SimpleNamespace(monotonic=lambda: clocks[-1].running_s, time=lambda: 2e9)
    ids = SimpleNamespace(uuid4=lambda: UUID(int=luck.getrandbits(128), version=4))
    for place, what in {
        "catalog.leases._clock": lambda _tx: clocks[-1].running_s,
        "catalog.transaction.uuid": ids,
        "daemon.clerk.tell": lambda *_told: None,
        "daemon.courier.Courier.start": lambda _courier: None,
        "daemon.courier.open_channel": lambda _conf: histories[-1],
        "daemon.lead.time": steady,
        "daemon.policies.time": steady,
        "daemon.presence.open_watch": lambda vault, area, *_more: histories[-1].watch(vault, area.name),
        "daemon.upkeep.Upkeep.start": _start_timers,
        "vault.foreman.checkpoint": lambda name: histories[-1].point(name),
        "vault.foreman.start_job": lambda folder: _stand_ins.Process(folder, histories[-1], histories[-1].clerk),
        "vault.foreman.write_json": lambda path, value: plain(path, value, durable=False),
    }.items():
        monkeypatch.setattr(f"tomovault.{place}", what)
    configured = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))

    @contextlib.contextmanager
    def make(url: str = "", hosts: tuple[str, ...] = ("",)) -> Iterator[Any]:
        luck.seed(0)  # the same history is the same each time
        base = tmp_path / f"history-{next(count)}"
        base.mkdir()
        clocks.append(Clock())
        kind = _two.TwoMachines if len(hosts) > 1 else _events.History
        history = kind(base, empty_catalogue, clocks[-1], url, hosts)
        histories.append(history)
        try:
            history.begin()
            yield history
        finally:
            history.close()
            shutil.rmtree(base, ignore_errors=True)

    yield make
    structlog.configure(**configured)


@pytest.fixture
def life(begin):
    """Called with what happens; the laws looked on, and the history is at its end."""

    def live(*happenings, **how):
        with begin(**how) as history:
            return _play.play(history, happenings)

    return live


@pytest.fixture
def by_chance(begin):
    """Called with a number of histories by chance; returns how often each law was asked. `machines` are one or two."""

    def live(count, *, machines=1, **how):
        often = _events.EVENTS if machines == 1 else _two.MOVES
        if machines == 2:
            how["hosts"] = lambda: ("one", "two")
        return _play.live_through(begin, count, often, **how)

    return live


@pytest.fixture
def watched(begin):
    """Called with what happens for a history that is at rest, with its laws."""

    @contextlib.contextmanager
    def live(*happenings):
        with begin() as history:
            yield history, _play.play(history, happenings)

    return live


@pytest.fixture
def broken():
    """What is raised where a law does not hold."""
    return partial(pytest.raises, _laws.Broken)
