from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from tomovault.catalog import leases
from tomovault.catalog.catalogue import Catalogue
from tomovault.core.errors import UserError


def test_a_lease_has_one_holder(catalogue):
    with catalogue.writing() as tx:
        assert catalogue.lease_holder(tx, "leader") is None
        assert catalogue.take_lease(tx, "leader", "a", 60)
        assert catalogue.take_lease(tx, "leader", "a", 60)
        assert not catalogue.take_lease(tx, "leader", "b", 60)
        assert not catalogue.renew_lease(tx, "leader", "b", 60)
        assert catalogue.renew_lease(tx, "leader", "a", 60)
        assert catalogue.take_lease(tx, "other", "b", 60)
        assert catalogue.lease_holder(tx, "leader") == "a"
        catalogue.drop_lease(tx, "leader", "b")
        assert catalogue.lease_holder(tx, "leader") == "a"
        catalogue.drop_lease(tx, "leader", "a")
        assert catalogue.take_lease(tx, "leader", "b", 60)


def test_a_lease_ends_by_the_databases_clock(catalogue):
    with catalogue.writing() as tx:
        assert catalogue.take_lease(tx, "leader", "a", 0.05)
    time.sleep(0.1)
    with catalogue.writing() as tx:
        assert catalogue.lease_holder(tx, "leader") is None
        assert catalogue.take_lease(tx, "leader", "b", 60)
        assert not catalogue.renew_lease(tx, "leader", "a", 60)


def test_of_many_who_try_one_gets_it(catalogue):
    got = []

    def work(name):
        with catalogue.writing() as tx:
            if catalogue.take_lease(tx, "leader", name, 60):
                got.append(name)

    threads = [threading.Thread(target=work, args=(f"h{i}",)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 1


_HOLDER = """
import sys, time
from tomovault.catalog.catalogue import Catalogue
catalogue = Catalogue.open(sys.argv[1], manifests="/nonexistent")
life = catalogue.hold_life("first")
with catalogue.writing() as tx:
    assert catalogue.take_lease(tx, "leader", "first", 3600)
print("held", flush=True)
time.sleep(300)
"""


def test_the_lease_of_a_killed_holder_is_free_at_once(new_url, tmp_path):
    url = new_url("sqlite")
    catalogue = Catalogue.open(url, manifests=str(tmp_path))
    holder = subprocess.Popen([sys.executable, "-c", _HOLDER, url], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline().strip() == "held"
        with catalogue.writing() as tx:
            assert not catalogue.take_lease(tx, "leader", "second", 60)
            assert not catalogue.holder_is_dead(tx, "first")
        assert catalogue.hold_life("first") is None
    finally:
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        holder.stdout.close()
    with catalogue.writing() as tx:
        assert catalogue.holder_is_dead(tx, "first")
        assert catalogue.lease_holder(tx, "leader") is None
        assert catalogue.take_lease(tx, "leader", "second", 60)
    catalogue.close()


def test_a_holder_without_a_life_lock_is_judged_by_the_clock(catalogue):
    with catalogue.writing() as tx:
        assert catalogue.take_lease(tx, "leader", "plain", 60)
        assert not catalogue.holder_is_dead(tx, "plain")
        assert not catalogue.take_lease(tx, "leader", "second", 60)


def test_a_life_lock_is_held_once_and_leaves_no_file(tmp_path):
    path = str(tmp_path / "life")
    with leases.hold_life_lock(path) as lock:
        assert lock is not None
        assert leases.hold_life_lock(path) is None
    assert not os.path.exists(path)
    again = leases.hold_life_lock(path)
    again.close()
    again.close()


@pytest.mark.parametrize("holder", ["", "../x", "a/b", "x" * 101, "a b"])
def test_a_holders_name_is_safe_in_a_path(holder):
    with pytest.raises(UserError):
        leases.life_path("/d/c.db", holder)
