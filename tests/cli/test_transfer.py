from __future__ import annotations

import contextlib
import io
import json
import re
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest

from tomovault.cli import main
from tomovault.testing.globus_sim import collection_id
from tomovault.testing.globus_tasks import FAULTS
from tomovault.transfer.credentials import Credentials
from tomovault.transfer.globus import GlobusTransfers
from tomovault.vault.site_file import parse_site

HOME = "31ce9ba0-176d-45a5-add3-f37d233ba47d"


def run(*arguments):
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(list(arguments))
        except SystemExit as end:
            code = int(end.code or 0)
    return SimpleNamespace(code=code, out=out.getvalue(), err=err.getvalue())


@pytest.fixture
def transfer(town):
    """`tomovault transfer` on a site that can, to a collection called home."""
    site = {"collection": collection_id("site"), "paths": {str(town.base): "/"}, "names": {"home": HOME}}
    town.change(globus=site)

    def said(*arguments):
        return run("--site", str(town.folder), "transfer", *arguments)

    return said


def test_what_is_queued_is_told_with_where_to_look(town, transfer):
    scan = town.scan("bone")
    said = transfer("bone", "--to", "home:/in")
    assert said.code == 0
    assert re.fullmatch(rf"bone: queued as transfer t\w+; `tomovault explain {scan}` says how far it is\.\n", said.out)
    again = transfer(scan, "--to", f"{HOME}:/in/")
    assert re.fullmatch(r"bone: on its way already, as transfer t\w+; it is asked\.\n", again.out)


def test_several_scans_are_several_transfers(town, transfer):
    first, second = town.scan("one"), town.scan("two")
    said = transfer("one", "two", first, "--to", "home:/in", "--json")
    rows = json.loads(said.out)["transfers"]
    assert [(r["scan"], r["name"], r["state"], r["joined"], r["receipt"]) for r in rows] == [
        (first, "one", "asked", False, None),
        (second, "two", "asked", False, None),
    ]
    assert {r["to"] for r in rows} == {f"{HOME}:/in"}
    assert len(town.jobs(first, "export")) == len(town.jobs(second, "export")) == 1


def test_what_can_be_sent_is_queued_beside_what_cannot(town, transfer):
    town.scan("one")
    lost = town.scan("lost")
    package = next(r for r in town.known(lost).replicas if r.form.value == "package" and r.tier == "inhouse")
    with town.vault.catalogue.writing() as tx:
        town.vault.catalogue.record_missing(tx, package.id, "not found", town.now)
    said = transfer("lost", "one", "--to", "home:/in")
    assert said.code == 2
    assert "no verified package of the original of lost" in said.err
    assert "one: queued as transfer" in said.out


def test_a_scan_that_is_not_known_queues_nothing(town, transfer):
    one = town.scan("one")
    said = transfer("one", "nobody", "--to", "home:/in", "--json")
    assert said.code == json.loads(said.out)["exit_code"] == 2
    assert town.known(one).transfers == ()


def test_a_site_that_cannot_says_what_to_write(town):
    town.scan("one")
    said = run("--site", str(town.folder), "transfer", "one", "--to", "home:/in")
    assert said.code == 2
    assert "globus: {collection: UUID" in said.err


def test_scan_show_and_explain_tell_of_it(town, transfer):
    town.scan("one")
    transfer("one", "--to", "home:/in")
    shown = run("--site", str(town.folder), "scan", "show", "one").out
    assert re.search(rf"transfer t\w+ of the original to {HOME}:/in: asked", shown)
    told = run("--site", str(town.folder), "explain", "one").out
    assert re.search(rf"exported +waiting +\S+ +transfer t\w+ to {HOME}:/in, asked by", told)


# --- the local service -------------------------------------------------------------------------------


def test_every_fault_is_listed():
    rows = json.loads(run("dev", "globus-sim", "--list", "--json").out)["faults"]
    assert {row["name"] for row in rows} == FAULTS.keys()
    assert all(row["name"] in run("dev", "globus-sim", "--list").out for row in rows)


@pytest.mark.parametrize(
    "arguments",
    [[], ["--collection", "a"], ["--collection", "a=/no/such/folder"], ["--collection", "a=/", "--fault", "x"]],
)
def test_a_service_of_nothing_is_refused(arguments):
    assert run("dev", "globus-sim", *arguments).code == 2


def test_the_service_prints_a_section_that_works_and_ends_with_ctrl_c(tmp_path):
    for name in ("data", "home"):
        (tmp_path / name).mkdir()
    words = [f"{name}={tmp_path / name}" for name in ("data", "home")]
    options = [option for word in words for option in ("--collection", word)]
    with subprocess.Popen(
        [sys.executable, "-m", "tomovault", "dev", "globus-sim", "--port", "0", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as sim:
        try:
            lines = []
            while not lines or (lines[-1] and "Ctrl-C" not in lines[-1]):
                lines.append(sim.stdout.readline())
            globus = parse_site("".join(lines), "tomovault.yaml", tmp_path).globus
            assert globus.paths == {str(tmp_path / "data"): "/"}
            with contextlib.closing(GlobusTransfers(Credentials("any"), service=globus.service)) as service:
                assert service.listing(globus.names["home"], "/") == {}
            sim.send_signal(signal.SIGINT)
            _, err = sim.communicate(timeout=60)
        finally:
            sim.kill()
    assert (sim.returncode, err) == (0, "")
