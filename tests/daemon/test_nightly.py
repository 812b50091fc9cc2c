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


def test_a_backup_and_a_drill_are_processes_beside_the_daemon(town, request):
    if town.vault.shared:
        town.change(catalogue_backup={"pg_dump": request.getfixturevalue("pg_dump")})
    nightly = Nightly(town.vault)
    nightly.back_up()
    assert nightly._backup._process.wait(120) == 0, (town.vault.run_folder / "backup.out").read_text()
    with town.vault.catalogue.reading() as tx:
        (backup,) = town.vault.catalogue.list_backups(tx)
        actors = {row.actor for row in town.vault.catalogue.list_audit(tx) if row.op.startswith("catalogue.")}
    assert backup.copies["tape"].verified_at is not None
    assert actors == {"daemon"}
    nightly.drill()
    assert nightly._drill._process.wait(120) == 0, (town.vault.run_folder / "drill.out").read_text()
    assert not nightly.running
    with town.vault.catalogue.reading() as tx:
        assert town.vault.catalogue.list_drills(tx) == [], "nothing is archived that could be drilled"
