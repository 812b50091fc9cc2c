"""Areas are measured where a file server that hangs keeps nobody waiting."""

import os
import threading
import time

import pytest

from tomovault.daemon import gauges as module
from tomovault.daemon.gauges import Gauges


@pytest.fixture
def hung(town, monkeypatch):
    """The area's file server does not answer until this is set."""
    let_go, real, path = threading.Event(), os.statvfs, str(town.area)

    def statvfs(asked):
        if str(asked) == path:
            let_go.wait(30)
        return real(asked)

    monkeypatch.setattr(module, "_FIRST_S", 0.05)
    monkeypatch.setattr(os, "statvfs", statvfs)
    yield let_go
    let_go.set()


@pytest.fixture
def gauges(town):
    made = Gauges()
    yield made
    made.stop()


def wait_for(true):
    until = time.monotonic() + 5
    while not true():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_the_first_figures_are_there_at_once(town, gauges):
    area = town.vault.site.areas["inhouse"]
    gauges.start([area])
    measured, now = gauges.space_of(area), town.vault.space_of(area)
    assert measured.total == now.total
    assert abs(measured.free - now.free) < measured.total / 10, "others write to that disk meanwhile"
    assert gauges.is_fresh("inhouse")
    assert gauges.silent(1.0) == frozenset()


def test_what_is_asked_for_is_measured_anew(town, gauges):
    gauges.start(town.vault.site.areas.values())
    gauges.ask()
    wait_for(lambda: gauges.is_fresh("inhouse"))


def test_a_file_server_that_hangs_keeps_nobody_waiting(town, gauges, hung):
    area = town.vault.site.areas["inhouse"]
    began = time.monotonic()
    gauges.start([area])
    gauges.ask()
    assert gauges.space_of(area) is None
    assert time.monotonic() - began < 5
    wait_for(lambda: gauges.silent(0.1) == {"inhouse"})
    assert not gauges.is_fresh("inhouse")
    hung.set()
    wait_for(lambda: gauges.is_fresh("inhouse"))
    assert gauges.silent(0.0) == frozenset()
    assert gauges.space_of(area) is not None
