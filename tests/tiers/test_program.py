"""A site's program: its words, its exit codes, and that nothing of it is left running."""

import os
import stat
import time

import pytest

from tomovault.core.errors import NoSpace, NotYet, Transient, UserError
from tomovault.tiers.objects import NotThere
from tomovault.tiers.program import Program, lines_of, program_option

KNOWN, NEEDED = frozenset({"uri", "file"}), frozenset({"uri"})


@pytest.fixture
def script(tmp_path):
    """Called with the body of a shell script for a program that takes a URI."""

    def write(body: str, *, timeout_s: float = 20.0) -> Program:
        path = tmp_path / "get"
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return Program("far", "get", (str(path), "--uri={uri}", "{file}"), timeout_s)

    return write


ABOUT = {"uri": "x:1; rm -rf /", "file": "-f $(no shell)"}


def test_its_words_reach_it_one_by_one_whatever_is_in_them(script):
    assert list(lines_of(script('echo "$1"; echo; echo " $2 "').run(ABOUT))) == [
        "--uri=x:1; rm -rf /",
        "-f $(no shell)",
    ]


@pytest.mark.parametrize(
    ("code", "error"), [(66, NotThere), (75, NotYet), (73, NoSpace), (1, Transient), (8, Transient), (127, Transient)]
)
def test_its_exit_code_says_what_happened(script, code, error):
    with pytest.raises(error, match=rf"far: get \(get\) ended with {code}: no such luck") as caught:
        script(f"echo first >&2; echo ' no such luck' >&2; exit {code}").run(ABOUT)
    assert type(caught.value) is error


def test_one_that_takes_too_long_is_ended_with_all_that_it_started(script, tmp_path):
    pids = tmp_path / "pids"
    with pytest.raises(Transient, match=r"did not end within 0\.5 s"):
        script(f"sleep 60 & echo $! > {pids}; trap '' TERM; sleep 60", timeout_s=0.5).run(ABOUT)
    until = time.monotonic() + 5
    while os.path.exists(f"/proc/{pids.read_text().strip()}/fd"):
        assert time.monotonic() < until
        time.sleep(0.02)


def test_one_that_cannot_be_started_is_told(tmp_path):
    with pytest.raises(UserError, match="cannot be started"):
        Program("far", "get", (str(tmp_path / "absent"),), 1.0).run({})


def test_what_it_complains_of_is_one_short_line(script):
    with pytest.raises(Transient) as caught:
        script("printf 'a\\033[31mb%01000d' 1 >&2; exit 1").run(ABOUT)
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 2000


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("get {uri}", "must be a list of words"),
        ([], "must be a list of words"),
        (["/bin/get", 5], "must be a list of words"),
        (["get", "{uri}"], "is not a path from the root"),
        (["/bin/get", "{url}"], r"knows no \{url\}"),
        (["/bin/get", "{}"], r"knows no \{\}"),
        (["/bin/get", "{file}"], r"needs \{uri\}"),
    ],
)
def test_words_that_cannot_be_right_are_told(words, told):
    with pytest.raises(UserError, match=told):
        program_option("far", {"get": words}, "get", KNOWN, NEEDED, 1.0)


def test_a_verb_that_the_site_does_not_name_is_none():
    assert program_option("far", {}, "get", KNOWN, NEEDED, 1.0) is None
