"""The action, with the SDK of Globus as it is, against the local service that really copies."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from tomovault.actions import export
from tomovault.core.errors import Refused, SourceChanged, Transient
from tomovault.core.record import Outcome
from tomovault.core.transfer import TransferFailed, TransferPlanned, TransferReceived


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(export, "_WATCH_S", 0.4)
    monkeypatch.setattr(export, "_FIRST_LOOK_S", 0.05)


def failure(result):
    return next(r for r in result.records if isinstance(r, TransferFailed))


def test_what_is_sent_arrives_byte_for_byte_with_a_list_of_it(shipment):
    assert shipment.go().outcome is Outcome.SUCCEEDED
    received = shipment.received()
    told = json.loads(received.pop("bone.tomo.h5.transfer.json"))
    assert received == shipment.content
    assert told["digest"] == "d" * 64
    assert [f["name"] for f in told["files"]] == list(shipment.content)
    assert [f["sha256"] for f in told["files"]] == [f["sha256"] for f in shipment.order["files"]]
    assert [p.name for p in shipment.vault.iterdir() if p.name not in shipment.content] == []


def test_the_receipt_says_what_was_proved(shipment):
    record = next(r for r in shipment.go().records if isinstance(r, TransferReceived))
    assert record.submission_id == shipment.order["submission_id"]
    receipt = record.receipt
    assert receipt.task_id == shipment.task_ids[0]
    assert (receipt.digest, receipt.folder, receipt.faults) == ("d" * 64, "/in/bone", 0)
    assert receipt.names == (*shipment.content, "bone.tomo.h5.transfer.json")
    assert receipt.bytes == sum(len(raw) for raw in shipment.received().values())
    assert receipt.requested_at <= receipt.completed_at <= receipt.judged_at


def test_nothing_is_submitted_before_the_id_of_the_submission_was_brought_back(shipment):
    planned = shipment.step()
    assert (planned.outcome, planned.at_once) == (Outcome.WAITING, True)
    assert [type(r) for r in planned.records] == [TransferPlanned]
    assert shipment.posts("/v0.10/transfer") == 0
    assert shipment.bench.points == ["export.begin", "export.planned"]
    shipment.go()
    assert shipment.sim.tasks.by_submission.keys() == {planned.records[0].submission_id}


def test_the_submission_asks_for_every_check_there_is(shipment):
    shipment.go()
    (task,) = shipment.sim.tasks.by_id.values()
    asked = dict(task.submission)
    assert asked["verify_checksum"] is True
    assert asked["fail_on_quota_errors"] is True
    assert asked["skip_source_errors"] is False
    assert "sync_level" not in asked
    assert asked["label"] == "tomovault bone"
    assert asked["deadline"].startswith(shipment.order["deadline"][:19].replace("T", asked["deadline"][10]))
    assert {item["checksum_algorithm"] for item in asked["DATA"]} == {"SHA256"}
    assert [item["external_checksum"] for item in asked["DATA"]][:2] == [f["sha256"] for f in shipment.order["files"]]


def test_a_connection_that_breaks_after_the_submission_makes_no_second_task(shipment):
    shipment.sim.faults.add("drop")
    assert shipment.go().outcome is Outcome.SUCCEEDED
    assert len(shipment.task_ids) == 1
    assert shipment.posts("/v0.10/transfer") == 2


def test_an_attempt_killed_after_the_submission_is_followed_by_one_that_finds_the_same_task(shipment):
    shipment.step()
    known = dict(shipment.order)
    shipment.step()
    shipment.order = known
    assert shipment.go().outcome is Outcome.SUCCEEDED
    assert len(shipment.task_ids) == 1


def test_a_slow_transfer_is_left_alone_and_looked_at_again(shipment):
    shipment.sim.faults.add("slow")
    assert shipment.go().outcome is Outcome.SUCCEEDED
    outcomes = [r.outcome for r in shipment.results]
    assert outcomes.count(Outcome.WAITING) >= 2
    assert shipment.posts("/v0.10/transfer") == 1
    done = [told[0] for told in shipment.bench.told]
    assert done == sorted(done)
    assert 0 < done[len(done) // 2] < done[-1] == shipment.bench.told[-1][1]


@pytest.mark.parametrize(("fault", "text"), [("missing", "no such file"), ("permission", "permission denied")])
def test_what_can_never_come_right_is_cancelled_and_refused(shipment, fault, text):
    shipment.sim.faults.add(fault)
    result = shipment.go()
    assert result.outcome is Outcome.REFUSED
    assert text in result.error
    assert text in failure(result).reason
    (task,) = shipment.sim.tasks.by_id.values()
    assert task.cancelled.is_set()
    assert list(shipment.vault.glob(".*")) == []


def test_what_the_task_says_of_itself_is_enough_to_give_it_up(shipment, monkeypatch):
    monkeypatch.setattr(shipment.bench.service, "faults", lambda _task: [])
    shipment.sim.faults.add("permission")
    result = shipment.go()
    assert result.outcome is Outcome.REFUSED
    assert "PERMISSION_DENIED" in result.error


def test_a_paused_task_is_waited_for_and_goes_on(shipment):
    shipment.sim.faults.add("paused")
    shipment.step()
    waiting = [shipment.step() for _ in range(3)]
    assert {r.outcome for r in waiting} == {Outcome.WAITING}
    assert "is paused: PAUSED_BY_ADMIN" in waiting[-1].error
    shipment.sim.faults.clear()
    assert shipment.go().outcome is Outcome.SUCCEEDED
    assert len(shipment.task_ids) == 1


@pytest.mark.parametrize(("fault", "text"), [("expire", "deadline"), ("forget", "not know the task any more")])
def test_a_task_that_came_to_nothing_is_followed_by_a_new_submission(shipment, fault, text):
    shipment.sim.faults.add(fault)
    result = shipment.go()
    assert result.outcome is Outcome.TRANSIENT
    assert text in result.error
    first = failure(result).submission_id
    shipment.sim.faults.clear()
    shipment.order["overwrite"] = True
    assert shipment.go().outcome is Outcome.SUCCEEDED
    assert len(shipment.task_ids) == 2
    assert shipment.order["submission_id"] != first


def test_a_byte_that_is_wrong_on_the_way_is_sent_again(shipment):
    shipment.sim.faults.add("corrupt")
    result = shipment.go()
    assert result.outcome is Outcome.SUCCEEDED
    assert result.records[-1].receipt.faults == 1
    assert {name: shipment.received()[name] for name in shipment.content} == shipment.content


@pytest.mark.parametrize(
    ("fault", "text"),
    [("rot", "bytes instead of"), ("lose", "is not there"), ("skip", "skipped 1 files")],
)
def test_a_task_that_says_it_succeeded_is_not_believed_alone(shipment, fault, text):
    shipment.sim.faults.add(fault)
    result = shipment.go()
    assert result.outcome is Outcome.DAMAGED
    assert "says that it succeeded, but" in result.error
    assert text in result.error
    assert not any(isinstance(r, TransferReceived) for r in result.records)
    assert text in failure(result).reason


def test_bytes_that_are_not_those_that_were_verified_are_not_sent(shipment):
    path = shipment.vault / "bone.tomo.h5"
    path.write_bytes(bytes(len(path.read_bytes())))
    result = shipment.go()
    assert result.outcome is Outcome.TRANSIENT
    assert "has not the checksum" in result.error


def test_a_file_of_another_size_is_seen_before_anything_is_asked(shipment):
    with (shipment.vault / "bone.tomo.h5").open("ab") as file:
        file.write(b"more")
    with pytest.raises(SourceChanged, match="40004 bytes"):
        shipment.step()
    assert shipment.sim.requests == []


def test_another_file_of_the_same_name_is_not_overwritten_unasked(shipment):
    folder = shipment.home / "in" / "bone"
    folder.mkdir(parents=True)
    (folder / "bone.tomo.h5").write_text("somebody's")
    with pytest.raises(Refused, match="is there already, with 10 bytes"):
        shipment.step()
    assert (folder / "bone.tomo.h5").read_text() == "somebody's"
    shipment.order["overwrite"] = True
    assert shipment.go().outcome is Outcome.SUCCEEDED
    assert shipment.received()["bone.tomo.h5"] == shipment.content["bone.tomo.h5"]


@pytest.mark.parametrize(("fault", "kind"), [("busy", Transient), ("login", Refused), ("denied", Refused)])
def test_trouble_before_the_submission_is_told(shipment, fault, kind):
    shipment.sim.faults.add(fault)
    with pytest.raises(kind):
        shipment.step()
    assert shipment.task_ids == []


def test_a_consent_that_is_missing_is_named(shipment):
    shipment.sim.faults.add("consent")
    with pytest.raises(Refused) as told:
        shipment.go()
    assert "data_access" in told.value.hint
    assert shipment.task_ids == []


@pytest.mark.parametrize("fault", ["busy", "login"])
def test_a_task_outlives_every_trouble_on_the_way_to_it(shipment, fault):
    shipment.sim.faults.add("slow")
    shipment.step()
    shipment.step()
    shipment.sim.faults.add(fault)
    waiting = shipment.step()
    assert waiting.outcome is Outcome.WAITING
    assert f"task {shipment.task_ids[0]} goes on unseen" in waiting.error
    shipment.sim.faults.clear()
    assert shipment.go().outcome is Outcome.SUCCEEDED
    assert len(shipment.task_ids) == 1


def test_a_listing_that_is_denied_at_the_end_gives_no_receipt_yet(shipment):
    shipment.step()
    shipment.sim.faults.add("denied")
    waiting = [shipment.step() for _ in range(3)]
    assert {r.outcome for r in waiting} == {Outcome.WAITING}
    assert "cannot be listed" in waiting[-1].error
    shipment.sim.faults.clear()
    assert shipment.go().outcome is Outcome.SUCCEEDED


def test_a_task_of_which_nothing_is_heard_long_after_its_deadline_is_given_up(shipment):
    shipment.sim.faults.add("slow")
    shipment.step()
    shipment.step()
    shipment.sim.faults.add("login")
    shipment.bench.later = timedelta(days=1, hours=2)
    result = shipment.step()
    assert result.outcome is Outcome.TRANSIENT
    assert "nothing was heard" in failure(result).reason
