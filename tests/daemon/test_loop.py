import gc
import threading
import time
from pathlib import Path

import pytest

from tomovault.core.errors import Transient
from tomovault.daemon.clerk import Clerk
from tomovault.daemon.loop import Daemon
from tomovault.vault.workbench import guard_folder
from tomovault.watch.guard import read_share, share_path


class Watched:
    """An area's watch, as far as the loop looks at one."""

    def __init__(self, writing, mount_source="server:/data"):
        self.writing = writing
        self.mount_source = mount_source


@pytest.fixture
def hanging(monkeypatch):
    """A clerk that hangs in the catalogue until it is let go."""
    let_go = threading.Event()
    monkeypatch.setattr(Clerk, "run", lambda _self, **_more: 7 if let_go.wait(20) else 0)
    yield let_go
    let_go.set()


def wait_for(true, seconds=5.0):
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.fixture
def run(town):
    """Runs a daemon in a thread; gives it, its turns so far and what `run` came to."""
    threads = []

    def start(site=None):
        vault = town.vault if site is None else site
        turns, outcome = [], []
        daemon = Daemon(vault, tell=lambda what, _facts: turns.append(what))

        def work():
            try:
                outcome.append(daemon.run())
            except Exception as problem:  # noqa: BLE001 - told to the test
                outcome.append(problem)

        thread = threading.Thread(target=work)
        thread.start()
        threads.append((daemon, thread))
        return daemon, turns, outcome

    yield start
    for daemon, thread in threads:
        daemon.stop()
        thread.join(20)
        assert not thread.is_alive()


def test_the_loop_turns_while_the_catalogue_hangs(run, hanging):
    _, turns, outcome = run()
    wait_for(lambda: turns.count("tick") >= 3)
    assert not outcome
    hanging.set()
    wait_for(lambda: outcome)
    assert outcome == [7]


def test_our_traffic_shrinks_while_the_catalogue_hangs(town, run, hanging):
    daemon, _, _ = run()
    share = share_path(str(guard_folder(town.vault.site)), "inhouse")

    daemon._clerk.presence.watches = {"inhouse": Watched(False)}
    wait_for(lambda: Path(share).exists() and read_share(share) is None)
    daemon._clerk.presence.watches = {"inhouse": Watched(True)}
    wait_for(lambda: read_share(share) == town.vault.site.guard.shrunk_bps)


def test_a_scan_written_in_one_area_shrinks_our_traffic_on_its_server(town, run, hanging):
    daemon, _, _ = run()
    folder = str(guard_folder(town.vault.site))
    daemon._clerk.presence.watches = {
        "a": Watched(True, "server:/a"),
        "b": Watched(False, "server:/b"),
        "c": Watched(False, "other:/c"),
    }
    paths = {name: share_path(folder, name) for name in "abc"}
    wait_for(lambda: all(Path(path).exists() for path in paths.values()))
    shrunk = town.vault.site.guard.shrunk_bps
    assert {name: read_share(path) for name, path in paths.items()} == {"a": shrunk, "b": shrunk, "c": None}


def test_what_ends_the_clerk_ends_the_daemon(run, monkeypatch):
    def fail(_self, **_more):
        raise Transient("the catalogue is gone")

    monkeypatch.setattr(Clerk, "run", fail)
    _, _, outcome = run()
    wait_for(lambda: outcome)
    assert isinstance(outcome[0], Transient)


def test_a_daemon_that_is_stopped_ends(run):
    daemon, turns, outcome = run()
    wait_for(lambda: turns)
    daemon.stop()
    wait_for(lambda: outcome)
    assert outcome == [0]


def test_what_is_loaded_is_not_looked_at_by_collections_while_it_runs(run, hanging):
    loaded = len(gc.get_objects())
    _, turns, _ = run()
    wait_for(lambda: len(turns) > 1)
    assert gc.get_freeze_count() > loaded // 2
    assert len(gc.get_objects()) < loaded // 2
    hanging.set()
    wait_for(lambda: gc.get_freeze_count() == 0)
