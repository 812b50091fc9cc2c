"""What of the Transfer API we rely on, asked of the local service by the SDK of Globus as it is."""

from __future__ import annotations

import json
import logging
import socket
from datetime import UTC, datetime, timedelta

import globus_sdk
import pytest

from tomovault.core.errors import Refused, TomovaultError, Transient, UserError
from tomovault.core.transfer import Item, Sending, TaskStatus
from tomovault.testing.globus_sim import GlobusSim, collection_id
from tomovault.transfer.credentials import Credentials

SITE, HOME = collection_id("site"), collection_id("home")


@pytest.fixture
def client(sim):
    made = globus_sdk.TransferClient(authorizer=globus_sdk.AccessTokenAuthorizer("any"), base_url=sim.url)
    yield made
    made.close()


def sending(submission, **more):
    item = Item("/a.h5", "/in/a.h5", 5, "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824")
    plain = {
        "submission_id": submission,
        "source_collection": SITE,
        "collection": HOME,
        "items": (item,),
        "label": "a label",
        "deadline": datetime.now(UTC) + timedelta(hours=1),
    }
    return Sending(**(plain | more))


@pytest.fixture
def sent(sim, service, collections):
    """The id of a task that is over."""
    (collections["site"] / "a.h5").write_text("hello")
    task_id = service.submit(sending(service.new_submission()))
    sim.tasks._threads[-1].join()
    return task_id


# --- the service as the SDK sees it ------------------------------------------------------------------


def test_a_submission_id_is_given_and_the_same_one_twice_is_one_task(client, collections):
    (collections["site"] / "a.h5").write_text("hello")
    data = globus_sdk.TransferData(SITE, HOME, submission_id=client.get_submission_id()["value"])
    data.add_item("/a.h5", "/b.h5")
    first, second = client.submit_transfer(data), client.submit_transfer(data)
    assert (first["code"], second["code"]) == ("Accepted", "Duplicate")
    assert first["task_id"] == second["task_id"]
    assert client.task_list()["total"] == 1


def test_a_task_tells_of_itself(client, sent):
    task = client.get_task(sent)
    assert (task["status"], task["files"], task["files_transferred"], task["bytes_transferred"]) == (
        "SUCCEEDED",
        1,
        1,
        5,
    )
    assert [e["code"] for e in client.task_event_list(sent)] == ["SUCCEEDED", "STARTED"]
    assert [e["destination_path"] for e in client.paginated.task_successful_transfers(sent).items()] == ["/in/a.h5"]
    assert list(client.task_skipped_errors(sent)) == []
    assert client.task_pause_info(sent)["pause_rules"] == []
    assert client.cancel_task(sent)["code"] == "TaskComplete"


def test_folders_are_listed_made_and_looked_at(client, collections):
    client.operation_mkdir(HOME, "/new")
    assert (collections["home"] / "new").is_dir()
    with pytest.raises(globus_sdk.TransferAPIError) as told:
        client.operation_mkdir(HOME, "/new")
    assert "Exists" in told.value.code
    (collections["home"] / "new" / "x").write_text("abc")
    assert [(e["name"], e["size"], e["type"]) for e in client.operation_ls(HOME, path="/new")] == [("x", 3, "file")]
    assert client.operation_stat(HOME, "/new/x")["size"] == 3
    assert client.get_endpoint(HOME)["display_name"] == "home"


@pytest.mark.parametrize("path", ["/../secret", "secret", "/a/../../b"])
def test_nothing_outside_of_a_collection_is_reached(client, path):
    with pytest.raises(globus_sdk.TransferAPIError) as told:
        client.operation_ls(HOME, path=path)
    assert told.value.http_status == 403


def test_what_a_running_task_delivered_is_not_told(client, sim, service, collections):
    (collections["site"] / "a.h5").write_text("hello")
    sim.faults.add("paused")
    task_id = service.submit(sending(service.new_submission()))
    with pytest.raises(globus_sdk.TransferAPIError) as told:
        client.task_successful_transfers(task_id)
    assert told.value.http_status == 400


def test_a_transfer_of_nothing_and_one_to_nowhere_are_refused(client):
    data = globus_sdk.TransferData(SITE, HOME)
    with pytest.raises(globus_sdk.TransferAPIError) as told:
        client.submit_transfer(data)
    assert "NoTransferItems" in told.value.code
    with pytest.raises(globus_sdk.TransferAPIError) as told:
        client.get_endpoint("00000000-0000-0000-0000-000000000000")
    assert (told.value.http_status, told.value.code) == (404, "EndpointNotFound")


def test_an_unknown_fault_is_refused(collections):
    with pytest.raises(ValueError, match="no fault 'nonsense'"):
        GlobusSim(collections, faults={"nonsense"})


# --- the service as we see it ------------------------------------------------------------------------


def test_a_task_is_read_whole(service, sent):
    task = service.task(sent)
    assert (task.status, task.files, task.files_transferred, task.files_skipped) == (TaskStatus.SUCCEEDED, 1, 1, 0)
    assert (task.bytes_transferred, task.faults, task.paused, task.reason) == (5, 0, False, "")
    assert task.requested_at <= task.completed_at
    assert service.delivered(sent) == ["/in/a.h5"]
    assert service.listing(HOME, "/in") == {"a.h5": 5}


def test_what_is_not_there_is_none(service):
    assert service.task("00000000-0000-0000-0000-000000000000") is None
    assert service.listing(HOME, "/nowhere") is None
    service.cancel("00000000-0000-0000-0000-000000000000")


def test_faults_are_told_newest_first_and_nothing_else(sim, service, collections):
    (collections["site"] / "a.h5").write_text("hello")
    sim.faults.add("permission")
    task_id = service.submit(sending(service.new_submission()))
    while not service.faults(task_id):
        pass
    assert {f.code for f in service.faults(task_id)} == {"PERMISSION_DENIED"}
    service.cancel(task_id)
    sim.tasks._threads[-1].join()
    task = service.task(task_id)
    assert (task.status, task.reason) == (TaskStatus.FAILED, "cancelled by the owner of the task")


def test_a_collection_that_does_not_exist_is_the_request_being_wrong(service):
    other = "00000000-0000-0000-0000-000000000000"
    with pytest.raises(UserError, match="EndpointNotFound"):
        service.listing(other, "/")
    with pytest.raises(UserError, match="EndpointNotFound"):
        service.submit(sending(service.new_submission(), collection=other))


def test_a_service_that_is_not_there_may_come_back(connect):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(Transient, match="cannot be reached"):
        connect(f"http://127.0.0.1:{port}").new_submission()


@pytest.mark.parametrize(("fault", "kind"), [("busy", Transient), ("login", Refused)])
def test_failures_are_of_the_family_that_they_belong_to(sim, service, fault, kind):
    sim.faults.add(fault)
    with pytest.raises(kind):
        service.new_submission()


# --- secrets -----------------------------------------------------------------------------------------


def _use(service):
    service.listing(HOME, "/")
    service.submit(sending(service.new_submission()))


@pytest.mark.parametrize("fault", ["busy", "login", "denied", "consent"])
def test_no_failure_tells_the_token(sim, service, fault, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    sim.faults.add(fault)
    with pytest.raises(TomovaultError) as told:
        _use(service)
    out, err = capfd.readouterr()
    seen = [str(told.value), told.value.hint, repr(told.value.__cause__), caplog.text, out, err]
    assert not any("a-token-that-nobody-may-see" in text for text in seen)


def test_credentials_do_not_show_themselves():
    assert repr(Credentials("token", "id", "secret")) == "Credentials(client_id='id')"


def test_a_client_fetches_its_own_token(sim, connect, monkeypatch):
    monkeypatch.setenv("GLOBUS_SDK_SERVICE_URL_AUTH", sim.url)
    service = connect(sim.url, Credentials(None, "00000000-0000-0000-0000-000000000001", "secret"))
    assert service.new_submission()
    assert ("POST", "/v2/oauth2/token") in sim.requests


def test_a_client_that_is_not_known_is_refused(sim, connect, monkeypatch):
    monkeypatch.setenv("GLOBUS_SDK_SERVICE_URL_AUTH", sim.url)
    sim.faults.add("login")
    with pytest.raises(Refused, match="gets no token") as told:
        connect(sim.url, Credentials(None, "00000000-0000-0000-0000-000000000001", "the-secret"))
    assert "the-secret" not in json.dumps([told.value.message, told.value.hint])
