"""The comparison of a night is a process of its own, one at a time."""

import os
import time

from tomovault.daemon.nightly import Nightly
from tomovault.vault.reconcile_state import read_state


def test_one_at_a_time_gives_way_and_leaves_what_it_found(town):
    town.vault.run_folder.mkdir(exist_ok=True)
    nightly = Nightly(town.vault)
    nightly.begin()
    first = nightly._comparison._process
    nightly.begin()
    assert nightly._comparison._process is first, "one is enough"
    nice, until = 0, time.monotonic() + 60
    while nightly.running:
        try:
            nice = max(nice, os.getpriority(os.PRIO_PROCESS, first.pid))
        except ProcessLookupError:
            break
        assert time.monotonic() < until
        time.sleep(0.02)
    assert first.wait() == 0, (town.vault.run_folder / "reconcile.out").read_text()
    assert nice > os.getpriority(os.PRIO_PROCESS, 0) or nice == 19
    assert read_state(town.vault)["area inhouse"]["at"]
    nightly.begin()
    again = nightly._comparison._process
    assert again is not first
    again.kill()
    again.wait()
