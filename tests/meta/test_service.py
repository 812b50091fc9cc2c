"""The systemd unit, checked offline. The verifier exits 0 on unknown keys, so any output is a failure."""

import re
import subprocess

import pytest

pytestmark = pytest.mark.component("systemd-analyze")


@pytest.fixture
def unit(repository, tmp_path):
    """The unit as a file, its program replaced by one that is on this machine."""
    text = (repository / "systemd" / "tomovault.service").read_text(encoding="utf-8")
    program = tmp_path / "tomovault"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)

    def write(change=lambda text: text):
        replaced, count = re.subn(r"(?m)^(ExecStart=)\S+", rf"\g<1>{program}", text)
        assert count == 1
        path = tmp_path / "tomovault.service"
        path.write_text(change(replaced))
        return path

    return write


def analyze(*arguments):
    done = subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout + done.stderr


def test_the_unit_verifies_without_a_word(unit):
    assert analyze("verify", str(unit())) == (0, "")


def test_a_mistake_in_the_unit_would_be_seen(unit):
    _, output = analyze("verify", str(unit(lambda text: text.replace("KillMode=", "KilMode="))))
    assert "KilMode" in output


def test_the_unit_is_hardened(unit):
    code, output = analyze("security", "--offline=true", "--threshold=20", str(unit()))
    assert code == 0, output.splitlines()[-1]


def test_the_unit_runs_our_command_and_does_not_retry_a_wrong_site(repository):
    text = (repository / "systemd" / "tomovault.service").read_text(encoding="utf-8")
    assert re.search(r"(?m)^ExecStart=/\S+/tomovault --site /\S+ run$", text)
    assert "\nRestartPreventExitStatus=2\n" in text
