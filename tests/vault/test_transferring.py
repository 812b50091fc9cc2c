from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest

from tomovault.core.errors import Refused, UserError
from tomovault.core.known import JobStatus
from tomovault.core.life import Stage, Status
from tomovault.core.record import Outcome, Result
from tomovault.core.replica import Form, ProductKind
from tomovault.core.transfer import Receipt, TransferFailed, TransferPlanned, TransferReceived, TransferSubmitted
from tomovault.testing.globus_sim import GlobusSim, collection_id
from tomovault.vault.checking import run_doctor
from tomovault.vault.destinations import parse_destination
from tomovault.vault.orders import build_order
from tomovault.vault.requests import Moot, Request
from tomovault.vault.site_file import parse_site
from tomovault.vault.site_settings import GlobusSettings
from tomovault.vault.transfer_orders import source_path
from tomovault.vault.transferring import ask_transfer, words_of
from tomovault.vault.workbench import open_transfers

SITE, HOME = "6c54cade-bde5-45c1-bdea-f4bd71dba2cc", "31ce9ba0-176d-45a5-add3-f37d233ba47d"
GLOBUS = GlobusSettings(SITE, {"/data": "/"}, {"home": HOME}, None, "token", "client", 3600.0)


# --- the section of the site's file ------------------------------------------------------------------


def section(text, tmp_path):
    return parse_site(f"globus: {{{text}}}", "tomovault.yaml", tmp_path).globus


def test_a_section_of_two_lines_is_enough(tmp_path):
    conf = section(f"collection: {SITE.upper()}, paths: {{/data/id19/: /id19}}", tmp_path)
    assert (conf.collection, conf.paths, conf.names, conf.service) == (SITE, {"/data/id19": "/id19"}, {}, None)
    assert conf.token_file == str(tmp_path / "globus-token")
    assert conf.client_file == str(tmp_path / "globus-client")
    assert conf.deadline_s == 2 * 86400
    assert parse_site("", "tomovault.yaml", tmp_path).globus is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("collection: mine, paths: {/a: /b}", "'mine' is not the UUID of a collection"),
        ("collection: 5, paths: {/a: /b}", "is not the UUID of a collection"),
        (f"collection: {SITE}, paths: {{}}", "at least 1"),
        (f"collection: {SITE}, paths: {{a: /b}}", "'a' is not a path from the root"),
        (f"collection: {SITE}, paths: {{/a: b}}", "'b' is not a path from the root"),
        (f"collection: {SITE}, paths: {{/a: /b}}, names: {{home: x}}", "'x' is not the UUID"),
        (f"collection: {SITE}, paths: {{/a: /b}}, service: 'http://globus.example'", "in the clear"),
        (f"collection: {SITE}, paths: {{/a: /b}}, service: 'ftp://127.0.0.1'", "is not a URL"),
        (f"collection: {SITE}, paths: {{/a: /b}}, deadline: 0s", "before it begins"),
        (f"collection: {SITE}, paths: {{/a: /b}}, tokn: x", "did you mean 'token'"),
    ],
)
def test_a_wrong_section_is_told_with_its_place(text, problem, tmp_path):
    with pytest.raises(UserError) as told:
        section(text, tmp_path)
    assert problem in told.value.message
    assert told.value.message.startswith("tomovault.yaml:1:")


@pytest.mark.parametrize("url", ["http://127.0.0.1:8900/", "http://localhost:1", "https://transfer.example/"])
def test_a_service_of_this_machine_or_with_tls_is_taken(url, tmp_path):
    found = section(f"collection: {SITE}, paths: {{/a: /b}}, service: '{url}'", tmp_path)
    assert found.service == url.rstrip("/")


# --- destinations and places -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{HOME}:/in", (HOME, "/in")),
        (f"{HOME.upper()}://in/", (HOME, "/in")),
        ("home:/~/a b", (HOME, "/~/a b")),
        ("home:/", (HOME, "/")),
    ],
)
def test_a_destination_is_read(text, expected):
    assert parse_destination(text, GLOBUS) == expected


@pytest.mark.parametrize("text", ["home", "home:", "home:in", "/in", "home:/../x", "home:/a/..", "away:/in", ":/in"])
def test_what_is_no_destination_is_refused(text):
    with pytest.raises(UserError) as told:
        parse_destination(text, GLOBUS)
    assert told.value.hint


def test_the_nearest_folder_that_the_collection_exposes_counts(tmp_path):
    (tmp_path / "data" / "vault").mkdir(parents=True)
    os.symlink(tmp_path / "data", tmp_path / "link")
    paths = {str(tmp_path / "data"): "/all", str(tmp_path / "link" / "vault"): "/v"}
    conf = GlobusSettings(SITE, paths, {}, None, "", "", 1.0)
    assert source_path(str(tmp_path / "data" / "a.h5"), conf) == "/all/a.h5"
    assert source_path(str(tmp_path / "link" / "a.h5"), conf) == "/all/a.h5"
    assert source_path(str(tmp_path / "data" / "vault" / "b" / "a.h5"), conf) == "/v/b/a.h5"
    for name in ("elsewhere/a.h5", "data2/a.h5"):
        with pytest.raises(UserError, match="exposes") as told:
            source_path(str(tmp_path / name), conf)
        assert "paths" in told.value.hint


@pytest.mark.parametrize("name", ["a\nb", "a\udcff"])
def test_a_name_that_globus_cannot_be_told_is_refused(tmp_path, name):
    conf = GlobusSettings(SITE, {str(tmp_path): "/"}, {}, None, "", "", 1.0)
    with pytest.raises(UserError, match="cannot be named"):
        source_path(str(tmp_path / name), conf)


# --- asking ------------------------------------------------------------------------------------------


@pytest.fixture
def port(town):
    """A site from which all below its folder can be transferred, with one scan; its id."""
    town.change(globus={"collection": SITE, "paths": {str(town.base): "/"}, "names": {"home": HOME}})
    return town.scan("bone")


def ask(town, scan, to="home:/in", **more):
    return ask_transfer(town.vault, scan, **({"to": to, "product": "original", "overwrite": False, "by": "ann"} | more))


def order_of(town, scan, asked, **more):
    with town.vault.catalogue.reading() as tx:
        known = town.vault.catalogue.known(tx, scan)
        wish = next(j.order for j in known.jobs if j.id == asked.job)
        return build_order("export", Request(town.vault, tx, known, {**wish, **more}, town.now, "ann"))


def tell(town, scan, *records):
    with town.vault.catalogue.writing() as tx:
        town.vault.catalogue.apply_records(tx, records, town.now, scan_id=scan)


def view(town, scan):
    with town.vault.catalogue.reading() as tx:
        return town.vault.view(town.known(scan), town.vault.area_facts(tx, "inhouse", town.now), town.now)


def test_what_is_asked_is_queued_with_its_wish_on_record(town, port):
    asked = ask(town, port)
    (job,) = town.jobs(port, "export")
    (transfer,) = town.known(port).transfers
    assert (asked.job, asked.transfer, asked.joined) == (job.id, transfer.id, False)
    assert (transfer.collection, transfer.path, transfer.asked_by) == (HOME, "/in", "ann")
    standing = view(town, port).standings[Stage.EXPORTED]
    assert standing.status is Status.WAITING
    assert f"transfer {transfer.id}" in standing.reason


def test_the_order_names_each_file_in_the_collection_and_holds_no_secret(town, port):
    Path(town.folder, "globus-token").write_text("a-secret")
    asked = ask(town, port, to=f"{HOME}:/in/")
    order = order_of(town, port, asked)
    package = town.replica(port, Form.PACKAGE)
    (file,) = order["files"]
    assert (file["location"], file["size"], file["sha256"]) == (package.location, package.bytes, package.sha256)
    assert file["source"] == "/" + os.path.relpath(package.location, town.base)
    assert (order["source_collection"], order["collection"], order["folder"]) == (SITE, HOME, "/in/bone")
    assert (order["submission_id"], order["task_id"], order["transfer"]) == (None, None, asked.transfer)
    assert "a-secret" not in repr(order)


def test_an_order_goes_on_under_the_submission_that_is_recorded_while_it_is_under_way(town, port):
    asked = ask(town, port)
    planned = TransferPlanned(asked.transfer, "u1", town.now + timedelta(days=1))
    tell(town, port, planned)
    assert (order_of(town, port, asked)["submission_id"], order_of(town, port, asked)["task_id"]) == ("u1", None)
    tell(town, port, TransferSubmitted(asked.transfer, "u1", "t1", town.now))
    assert (order_of(town, port, asked)["submission_id"], order_of(town, port, asked)["task_id"]) == ("u1", "t1")
    tell(town, port, TransferFailed(asked.transfer, "u1", "t1", "expired", town.now))
    order = order_of(town, port, asked)
    assert (order["submission_id"], order["task_id"], order["deadline"], order["overwrite"]) == (None, None, None, True)
    tell(town, port, TransferPlanned(asked.transfer, "u2", town.now))
    receipt = Receipt("t2", SITE, HOME, "/in/bone", "d", ("x",), 1, 0, None, None, town.now)
    tell(town, port, TransferReceived(asked.transfer, "u2", receipt))
    with pytest.raises(Moot, match="receipt"):
        order_of(town, port, asked)


def test_the_same_request_twice_is_one_transfer(town, port):
    first, second = ask(town, port), ask(town, port)
    assert (second.transfer, second.job, second.joined) == (first.transfer, first.job, True)
    other = ask(town, port, to="home:/other")
    assert not other.joined
    assert len(town.known(port).transfers) == 2


def give_up(town, asked, *records):
    catalogue = town.vault.catalogue
    with catalogue.writing() as tx:
        job = catalogue.claim_job(tx, "me", now=town.now + timedelta(days=9), only=asked.job)
        result = Result(Outcome.TRANSIENT, records, error="no network")
        catalogue.finish_job(tx, job.id, job.token, result, town.now, retry_after_s=1.0, max_attempts=1)


def test_one_whose_job_gave_up_after_its_id_was_committed_goes_on_under_that_id(town, port):
    first = ask(town, port)
    give_up(town, first, TransferPlanned(first.transfer, "u1", town.now + timedelta(days=1)))
    assert view(town, port).standings[Stage.EXPORTED].status is Status.HELD
    again = ask(town, port)
    assert (again.transfer, again.job, again.joined) == (first.transfer, first.job, True)
    assert order_of(town, port, again)["submission_id"] == "u1"
    assert town.jobs(port, "export")[0].status is JobStatus.TODO


def test_one_that_never_began_is_asked_anew(town, port):
    first = ask(town, port)
    give_up(town, first)
    again = ask(town, port)
    assert not again.joined
    assert again.transfer != first.transfer


def test_without_a_section_it_is_said_what_to_write(town):
    scan = town.scan("bone")
    with pytest.raises(UserError, match="no `globus` section") as told:
        ask(town, scan)
    assert "collection: UUID" in told.value.hint


def test_what_the_collection_does_not_expose_is_refused_at_once(town):
    town.change(globus={"collection": SITE, "paths": {"/somewhere/else": "/"}})
    port = town.scan("bone")
    with pytest.raises(UserError, match="exposes"):
        ask(town, port, to=f"{HOME}:/in")
    assert town.known(port).transfers == ()


def test_a_product_that_is_not_there_is_refused_with_what_to_do(town, port):
    with pytest.raises(UserError, match="has no volume yet"):
        ask(town, port, product="volume")
    catalogue = town.vault.catalogue
    with catalogue.writing() as tx:
        catalogue.record_missing(tx, town.replica(port, Form.PACKAGE).id, "not found", town.now)
    with pytest.raises(UserError, match="no verified package") as told:
        ask(town, port)
    assert "tomovault restore" in told.value.hint
    assert town.jobs(port, "export") == []


def test_without_the_sdk_it_is_said_what_to_install(town, port, monkeypatch):
    monkeypatch.setattr("tomovault.vault.transferring.find_spec", lambda _name: None)
    with pytest.raises(UserError, match="not installed") as told:
        ask(town, port)
    assert "tomovault[globus]" in told.value.hint


def test_a_service_is_opened_only_with_something_to_prove_who_we_are(town, port):
    with pytest.raises(UserError, match="who we are") as told:
        open_transfers(town.vault.site)
    assert "globus-token" in told.value.hint


def test_what_a_rule_forbids_is_refused_and_what_is_under_way_is_seen_through(town, port):
    asked = ask(town, port)
    rule = "rules:\n  - {name: stay, when: 'complete', do: forbid, with: {actions: [export]}}\n"
    town.policy(("rules:\n", rule))
    with pytest.raises(Refused) as told:
        ask(town, port, to="home:/other")
    assert told.value.by.startswith("forbidden by stay@standard:")
    with pytest.raises(Refused):
        order_of(town, port, asked)
    tell(town, port, TransferPlanned(asked.transfer, "u1", town.now + timedelta(days=1)))
    assert order_of(town, port, asked)["submission_id"] == "u1"


def test_how_far_it_is_is_told_in_words(town, port):
    asked = ask(town, port)
    assert words_of(town.vault, asked) == "asked"
    give_up(town, asked, TransferPlanned(asked.transfer, "u1", town.now + timedelta(days=1)))
    assert words_of(town.vault, asked) == "planned: no network"


# --- the doctor --------------------------------------------------------------------------------------


def transfer_checks(town):
    return {c.name: c for c in run_doctor(town.folder) if c.name.startswith("transfer")}


def test_the_doctor_tries_the_service_with_each_vault(town):
    assert transfer_checks(town) == {}
    site = collection_id("site")
    with GlobusSim({"site": town.base}) as sim:
        paths = {str(town.base): "/"}
        town.change(globus={"collection": site, "paths": paths, "service": sim.url})
        check = transfer_checks(town)["transfer"]
        assert (check.ok, check.needed) == (False, False)
        assert "globus-token" in check.hint
        token = town.folder / "globus-token"
        token.touch(0o600)
        token.write_text("any")
        check = transfer_checks(town)["transfer from inhouse"]
        assert (check.ok, check.detail) == (
            True,
            f"{town.vault.site.areas['inhouse'].vault} is /inhouse.vault of {site}",
        )
        sim.faults.add("denied")
        assert "permission denied" in transfer_checks(town)["transfer from inhouse"].detail
        sim.faults.clear()
        town.change(globus={"paths": {str(town.base): "/wrong"}})
        check = transfer_checks(town)["transfer from inhouse"]
        assert (check.ok, check.detail) == (False, f"/wrong/inhouse.vault is not in {site}")


def test_the_products_tell_of_their_own_transfers(town, port):
    from tomovault.vault.scan_pages import scan_page

    ask(town, port)
    page = scan_page(view(town, port), town.now)
    (product,) = page["products"]
    assert product["stages"]["exported"] == page["stages"]["exported"] == "waiting"
    (line,) = page["transfers"]
    assert (line["to"], line["state"], line["receipt"]) == (f"{HOME}:/in", "asked", None)
    assert ProductKind(line["product"]) is ProductKind.ORIGINAL
