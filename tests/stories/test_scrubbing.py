"""Cartridges are read whole beside a daemon that writes to them."""

import signal
import time

import pytest


@pytest.fixture(scope="module")
def site(new_site):
    site = new_site("edf")
    site.write("edf", "bone_")
    site.live()
    return site


def test_beside_a_daemon_everything_is_right_and_the_daemon_goes_on(site):
    daemon = site.start()
    try:
        site.write("edf", "foam_")
        until = time.monotonic() + 120
        rounds = 0
        while site.scans().get("foam_", {"stages": {"archived": ""}})["stages"]["archived"] != "done" or rounds < 2:
            assert time.monotonic() < until, site.told()[-2000:]
            page = site.ask("tape", "scrub")
            assert page["bad"] == []
            rounds += 1
        assert site.ask("tape", "scrub")["checked"] >= 4
        page = site.ask("restore", "bone_", "--to", str(site.base / "back"), "--from", "tape", "--wait")
        assert page["expected_at"] is not None
    finally:
        daemon.send_signal(signal.SIGINT)
        daemon.wait(60)
    assert site.ask("status")["failed"] == []
