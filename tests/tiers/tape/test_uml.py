"""The tape library on the kernel's own tape driver, in a user-mode Linux with tgt's drives and changer."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[2]
#: A boot and the whole story take about 15 s on two idle cores.
ALLOWED_S = 420

pytestmark = [pytest.mark.component("uml"), pytest.mark.timeout(ALLOWED_S + 60)]


def boot(work, story):
    """The guest has run the story and is off; what its console said."""
    shim = work / "whole_state.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", shim, HERE / "whole_state.c", "-ldl"], check=True)
    init = work / "init"
    init.write_bytes((HERE / "guest.sh").read_bytes())
    init.chmod(0o755)
    words = {"PYTHON": sys.executable, "STORY": str(story), "PYTHONPATH": str(REPOSITORY), "TMPDIR": str(work)}
    lines = (f"export {name}={shlex.quote(value)}\n" for name, value in words.items())
    (work / "environment").write_text("".join(lines) + "export PYTHONDONTWRITEBYTECODE=1 HOME=/run\n")
    argv = ["linux.uml", "mem=384M", "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", f"init={init}"]
    argv += [f"work={work}", "con=null", "con0=null,fd:1", "con1=null,fd:1", "quiet"]
    with open(work / "console", "wb") as console:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            env=os.environ | {"LD_PRELOAD": str(shim), "TMPDIR": str(work)},
            start_new_session=True,
        )
        try:
            process.wait(ALLOWED_S)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, 9)
                process.wait()
    return (work / "console").read_text("utf-8", "replace")


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What the story told. Skipped with the console's last words where no guest came up, unless that is required."""
    work = tmp_path_factory.mktemp("uml")
    console = boot(work, HERE / "story.py")
    log = work / "guest.log"
    if not log.exists() or "GUEST-IS-UP" not in log.read_text("utf-8", "replace"):
        wanted = os.environ.get("TOMOVAULT_REQUIRE", "").split(",")
        reason = f"no user-mode Linux came up here: {console.strip().splitlines()[-3:]}"
        if {"all", "uml"} & set(wanted):
            pytest.fail(reason)
        pytest.skip(reason)
    said = log.read_text("utf-8", "replace")
    assert (work / "result.json").exists(), said[-4000:]
    result = json.loads((work / "result.json").read_text())
    assert "failed" not in result, result["failed"] + said[-3000:]
    assert "STORY-ENDED 0" in said
    return result


def test_a_bundle_that_meets_the_end_of_the_medium_goes_to_the_next_cartridge(told):
    cartridges = [location.partition("#")[0] for location in told["locations"]]
    assert cartridges == ["TA0001L9"] * 3 + ["TA0002L9", "TB0001L9"]
    assert told["states"] == {"TA0001L9": "full", "TA0002L9": "filling", "TB0001L9": "filling", "TB0002L9": "blank"}


def test_every_copy_is_right_after_a_remount_and_comes_back_as_it_went(told):
    assert told["verified"] == [""] * 5
    assert told["staged"] == ["ready"]
    assert told["fetched"] == [True] * 5
    assert told["again"]


def test_the_cartridges_alone_tell_what_is_on_them(told):
    assert told["found"] == sorted(told["locations"])
    assert told["surveyed"] == sorted(told["locations"])
    assert told["read"]["answers"] == ["", ""]
    assert told["read"]["bytes"] > 4_000_000


def test_what_is_write_protected_is_read_and_written_again_when_it_may_be(told):
    message, health = told["protected"]
    assert "no cartridge of pool B has room" in message
    assert "write-protected: TB0001L9, TB0002L9" in health
    assert told["still_right"] == [""]
    assert told["late"] == ["TB0001L9#2", ""]


def test_mt_and_tar_alone_read_a_bundle(told):
    assert told["by_hand"]


def test_mounts_and_the_serial_numbers_of_the_drives_are_logged(told):
    assert told["serials"] == ["SERIAL0", "SERIAL1"]
    assert told["mounts"] >= 5
    assert told["no_tape_alert"] >= 1
