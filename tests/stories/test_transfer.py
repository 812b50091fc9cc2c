"""A scan is sent to another place by real commands, a real daemon and the SDK of Globus as it is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from tomovault.testing.globus_sim import GlobusSim, collection_id

TOKEN = "a-token-that-nobody-may-see"

#: Every point that an export passes. A test holds this list to what the processes tell.
POINTS = frozenset(
    """
    job.begin export.begin export.planned export.submit export.submitted export.seen export.judged export.done job.done
    job.written.export
    """.split()
)

#: Where the daemon dies in the normal run: with the id of the submission not yet recorded, with a task that only the
#: service knows, and with a result that nobody has recorded.
DEADLY = ("export.planned", "export.submitted", "daemon.reaped")


@pytest.fixture(scope="module")
def port(new_site, tmp_path_factory):
    """A site with a scan that is packed and archived, and a service that knows its vaults and somebody's home."""
    site = new_site("edf")
    home = tmp_path_factory.mktemp("home")
    with GlobusSim({"site": site.base, "home": home}) as sim:
        site.sim, site.home = sim, home
        site.change(
            globus={
                "collection": collection_id("site"),
                "paths": {str(site.base): "/"},
                "names": {"home": collection_id("home")},
                "service": sim.url,
            },
            retries={"attempts": 1, "after": "0.05s", "most": "0.05s"},
        )
        token = site.folder / "globus-token"
        token.touch(0o600)
        token.write_text(TOKEN)
        site.write("edf", "bone")
        site.age()
        site.live()
        yield site


@pytest.fixture
def site(port):
    """The port with nothing that goes wrong, and no task known."""
    port.sim.faults.clear()
    yield port
    port.sim.faults.clear()
    port.sim.tasks.stop()
    port.sim.tasks.by_id.clear()
    port.sim.tasks.by_submission.clear()


def assert_arrived(site, folder, digests):
    """The package is at the destination byte for byte, nothing of the transfer is left here; there was one task."""
    package = next(
        r for r in site.show("bone")["replicas"] if r["form"] == "package" and r["tier"] == "edf" and r["state"]
    )
    there = digests(site.home / folder / "bone")
    assert there.pop("bone.tomo.h5") == package["sha256"]
    assert list(there) == ["bone.tomo.h5.transfer.json"]
    told = json.loads((site.home / folder / "bone" / "bone.tomo.h5.transfer.json").read_text())
    assert [f["sha256"] for f in told["files"]] == [package["sha256"]]
    last = site.show("bone")["transfers"][-1]
    assert (last["state"], last["receipt"]["folder"]) == ("succeeded", f"/{folder}/bone")
    assert list((site.base / "edf.vault").rglob(f".{last['id']}*")) == []
    assert len(site.sim.tasks.by_id) == len(site.sim.tasks.by_submission) == 1


def stage(site):
    return next(s for s in site.ask("explain", "bone")["stages"] if s["stage"] == "exported")


def test_the_help_teaches(port):
    said = port.say("transfer", "--help").out
    example = "tomovault transfer SCAN --to COLLECTION:/PATH --wait"
    assert [w for w in (example, "--product", "globus-token", "Ctrl-C", "paths:") if w not in said] == []


def test_a_scan_is_sent_without_a_daemon_and_the_receipt_is_kept(site, digests):
    assert stage(site)["status"] == "off"
    page = site.ask("transfer", "bone", "--to", "home:/first", "--wait")
    (transfer,) = page["transfers"]
    assert (transfer["state"], transfer["to"]) == ("succeeded", f"{collection_id('home')}:/first")
    assert_arrived(site, "first", digests)
    shown = site.show("bone")
    (kept,) = shown["transfers"]
    assert kept["receipt"] == transfer["receipt"]
    assert kept["receipt"]["task_id"] in site.sim.tasks.by_id
    assert kept["receipt"]["digest"] == next(p["digest"] for p in shown["products"] if p["product"] == "original")
    assert (kept["receipt"]["files"], kept["receipt"]["folder"]) == (2, "/first/bone")
    assert kept["receipt"]["bytes"] == sum(p.stat().st_size for p in (site.home / "first" / "bone").iterdir())
    assert shown["stages"]["exported"] == stage(site)["status"] == "done"
    ops = [row["op"] for row in site.ask("audit", "show")["entries"]]
    assert ops[:4] == ["transfer received", "transfer submitted", "transfer planned", "transfer asked"]
    assert "receipt of" in site.say("scan", "show", "bone").out


def test_a_scan_is_queued_for_the_daemon_which_sends_it(site, digests, tmp_path):
    said = site.say("transfer", "bone", "--to", "home:/second")
    assert said.code == 0
    assert "queued as transfer" in said.out
    assert stage(site)["status"] == "waiting"
    assert "on its way already" in site.say("transfer", "bone", "--to", "home:/second").out
    journal = tmp_path / "points"
    site.live(env=site.environment | {"TOMOVAULT_CHECKPOINTS": str(journal)})
    told = {line.partition(":")[0] for line in journal.read_text().splitlines()}
    assert {name for name in told if not name.startswith("daemon.")} == POINTS
    assert_arrived(site, "second", digests)
    assert stage(site)["status"] == "done"


@pytest.mark.parametrize(
    ("fault", "code", "said"),
    [
        ("login", 3, "the token is not accepted"),
        ("permission", 3, "permission denied"),
        ("consent", 3, "consent"),
        ("rot", 4, "says that it succeeded, but"),
        ("expire", 75, "deadline"),
    ],
)
def test_a_command_that_waits_exits_with_the_outcome(site, fault, code, said):
    site.sim.faults.add(fault)
    told = site.refuse("transfer", "bone", "--to", f"home:/{fault}", "--wait", code=code)
    assert said in told
    last = site.show("bone")["transfers"][-1]
    assert last["state"] == ("planned" if fault == "consent" else "asked" if fault == "login" else "failed")
    assert last["receipt"] is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--to", "home"], "is no destination"),
        (["--to", "away:/x"], "neither the UUID of a collection nor a name"),
        (["--to", "home:/x", "--product", "volume"], "has no volume yet"),
    ],
)
def test_a_request_that_is_wrong_exits_2_at_once(site, arguments, said):
    assert said in site.refuse("transfer", "bone", *arguments, "--wait", code=2)
    assert site.sim.tasks.by_id == {}


def test_ctrl_c_leaves_the_transfer_going(site, digests):
    site.sim.faults.add("slow")
    words = ["--site", str(site.folder), "transfer", "bone", "--to", "home:/c", "--wait"]
    # A shell in the background makes what it starts deaf to Ctrl-C; here it is always heard.
    waiting = subprocess.Popen(
        [sys.executable, "-m", "tomovault", *words],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=site.environment,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    until = time.monotonic() + 60
    while not site.sim.tasks.by_id:
        assert time.monotonic() < until
        assert waiting.poll() is None, waiting.stderr.read()
        time.sleep(0.02)
    waiting.send_signal(signal.SIGINT)
    _, err = waiting.communicate(timeout=60)
    assert waiting.returncode == 130
    assert "goes on" in err
    (task,) = site.sim.tasks.by_id.values()
    assert not task.cancelled.is_set()
    assert site.show("bone")["transfers"][-1]["state"] in ("planned", "submitted")
    site.sim.faults.clear()
    (joined,) = site.ask("transfer", "bone", "--to", "home:/c", "--wait")["transfers"]
    assert (joined["joined"], joined["receipt"]["task_id"]) == (True, task.id)
    assert_arrived(site, "c", digests)


# --- killed ------------------------------------------------------------------------------------------


def test_killed_at_every_point_there_is_one_task(site, tmp_path, digests):
    site.change(retries={"attempts": 30, "after": "0.05s"})
    site.ask("transfer", "bone", "--to", "home:/killed")
    settings = {"TOMOVAULT_KILL_AT": ",".join(sorted(POINTS)), "TOMOVAULT_KILL_ONCE": str(tmp_path)}
    site.live(env=site.environment | settings, failed_ok=True)
    assert {path.name for path in tmp_path.iterdir()} == POINTS
    assert_arrived(site, "killed", digests)
    assert stage(site)["status"] == "done"


def kill_the_daemon_at(points, site, folder, once):
    once.mkdir()
    site.ask("transfer", "bone", "--to", f"home:/{folder}")
    settings = {
        "TOMOVAULT_KILL_AT": ",".join(points),
        "TOMOVAULT_KILL_ONCE": str(once),
        "TOMOVAULT_KILL_DAEMON": "1",
    }
    ends = []
    while not ends or ends[-1] == -signal.SIGKILL:
        assert len(ends) <= len(points)
        ends.append(site.start("--until-idle", env=site.environment | settings).wait(100))
        site.wait_for_its_place()
    assert ends == [-signal.SIGKILL] * len(points) + [0]


def test_with_the_daemon_killed_there_is_one_task(site, tmp_path, digests):
    kill_the_daemon_at(DEADLY, site, "deadly", tmp_path / "once")
    assert_arrived(site, "deadly", digests)
    assert stage(site)["status"] == "done"


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_with_the_daemon_killed_at_every_point_there_is_one_task(site, tmp_path, digests):
    # A result whose daemon died with it reaped is recorded by the next one: it reaps no other.
    points = POINTS | {"daemon.claimed", "daemon.ordered", "daemon.started", "daemon.reaped"}
    site.change(retries={"attempts": 30, "after": "0.05s"})
    kill_the_daemon_at(sorted(points), site, "soaked", tmp_path / "once")
    assert_arrived(site, "soaked", digests)


def test_no_secret_is_anywhere_in_the_site(port):
    for folder, _, names in os.walk(port.base):
        for name in names:
            if name != "globus-token":
                with open(os.path.join(folder, name), "rb") as file:
                    assert TOKEN.encode() not in file.read(), name
