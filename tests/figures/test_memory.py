"""The daemon at rest is small, whatever it has done before."""

from __future__ import annotations

import time

import psutil

from tomovault.testing.bliss_scan import write_bliss_scan
from tomovault.testing.edf_scan import write_edf_scan

LIMIT = 150 * 10**6

#: Libraries that only job processes need: each would stay in the daemon for ever once loaded.
NOT_OURS = ("numpy", "h5py", "hdf5plugin", "blosc2", "finufft", "zstandard")


def test_the_daemon_at_rest_holds_less_than_150_mb(new_site):
    site = new_site()
    daemon = site.start()
    for number in range(2):
        write_edf_scan(str(site.area), f"edf{number}_", seed=number, projections=60)
    write_bliss_scan(str(site.area), "bliss", projections=60)
    site.wait_for_rest(3, timeout_s=120)
    time.sleep(1.0)
    rss = [daemon.memory_info().rss for _ in range(5) if not time.sleep(0.2)]
    print(f"the daemon at rest: {max(rss) / 1e6:.1f} MB")
    assert max(rss) < LIMIT

    mapped = {m.path for m in daemon.memory_maps()}
    assert any("python" in path for path in mapped)
    assert not [path for path in mapped if any(f"/{name}" in path for name in NOT_OURS)]
    site.stop()
    assert not psutil.pid_exists(daemon.pid)
