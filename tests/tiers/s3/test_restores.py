"""Classes of storage that are read at once, and those that are restored first."""

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest

from tomovault.core.errors import Recalling, UserError
from tomovault.core.ports import ColdTier, SurveyedTier
from tomovault.tiers.free import FREE

pytestmark = pytest.mark.component("moto")


@pytest.mark.parametrize("storage_class", ["STANDARD", "STANDARD_IA", "GLACIER_IR"])
def test_what_needs_no_restore_is_asked_for_none(tier, parcel, s3, tmp_path, storage_class, asked, fetch, objects, put):
    made = tier(storage_class=storage_class)
    restores = asked(made, "RestoreObject")
    (placed,) = put(made, parcel())
    (key,) = objects(s3)
    assert placed.location == f"s3://far/{key}"
    assert key.startswith("tomovault/one_of_ID19.")
    assert s3.head_object(Bucket="far", Key=key).get("StorageClass", "STANDARD") == storage_class
    assert made.verify([placed], throttle=FREE) == ("",)
    assert made.poll(made.stage([placed.location])) == {placed.location: "ready"}
    assert fetch(made, placed, tmp_path / "back") == [b"frames" * 1000]
    assert restores == []
    assert isinstance(made, ColdTier)
    assert isinstance(made, SurveyedTier)


@pytest.mark.parametrize("storage_class", ["GLACIER", "DEEP_ARCHIVE"])
def test_an_upload_counts_only_when_it_was_restored_and_read(tier, parcel, slow_restores, storage_class, asked, put):
    """The bucket's own checksum is there at once, and proves nothing of what can be read back (law 2)."""
    made = tier(storage_class=storage_class)
    (placed,) = put(made, parcel())
    restores = asked(made, "RestoreObject")
    with pytest.raises(Recalling, match="is being restored by the bucket"):
        made.verify([placed], throttle=FREE)
    assert len(restores) == 1
    assert b"<Tier>Bulk</Tier>" in restores[0]["params"]["body"]
    later = tier(storage_class=storage_class)
    for _ in range(40):
        try:
            assert later.verify([placed], throttle=FREE) == ("",)
            break
        except Recalling:
            continue
    else:
        pytest.fail("it was never restored")


def test_what_was_put_and_is_cold_is_known_before_its_source_is_brought(cold, parcel, slow_restores, asked, put):
    made, sent = cold(), parcel()
    assert made.cold_of([sent]) == [], "nothing was put, and nobody is asked"
    (placed,) = put(made, sent)
    restores = asked(made, "RestoreObject")
    moved = dataclasses.replace(sent, files=(dataclasses.replace(sent.files[0], location="A1#2/one.tomo.h5"),))
    assert made.cold_of([moved, parcel("other")]) == [placed.location]
    assert made.cold_of([moved]) == [placed.location]
    assert len(restores) == 1
    for _ in range(40):
        if not made.cold_of([moved]):
            break
    else:
        pytest.fail("it was never restored")


def test_a_put_tried_again_while_its_object_is_cold_sends_nothing_and_waits(
    cold, parcel, s3, slow_restores, asked, key_of, objects, put
):
    sent = parcel()
    (placed,) = put(cold(), sent)
    again = cold()
    puts, gets = asked(again, "PutObject"), asked(again, "GetObject")
    with pytest.raises(Recalling):
        put(again, sent, job="j2")
    for _ in range(40):
        try:
            found = put(again, sent, job="j2")
            break
        except Recalling:
            continue
    assert list(found) == [placed]
    assert len(objects(s3)) == 1
    assert puts == []
    read = len([one for one in gets if key_of(placed) in one["params"]["url_path"]])
    assert again.verify(found, throttle=FREE) == ("",)
    assert len([one for one in gets if key_of(placed) in one["params"]["url_path"]]) == read == 1
    other = dataclasses.replace(placed, files=(dataclasses.replace(placed.files[0], sha256="1" * 64),))
    assert again.verify([other], throttle=FREE) != ("",)


def test_a_recall_is_asked_for_once_and_polled(cold, parcel, slow_restores, tmp_path, asked, fetch, put):
    made = cold()
    placed = [put(made, parcel(scan))[0] for scan in ("one", "two")]
    where = [one.location for one in placed]
    restores = asked(made, "RestoreObject")
    ticket = made.stage(where)
    assert len(restores) == 2
    assert b"<Tier>Standard</Tier>" in restores[0]["params"]["body"]
    assert b"<Days>3</Days>" in restores[0]["params"]["body"]
    assert made.stage(where) == ticket
    with pytest.raises(Recalling):
        fetch(cold(), placed[0], tmp_path / "early")
    states = [made.poll(ticket) for _ in range(12)]
    assert states[-1] == dict.fromkeys(where, "ready")
    assert len(restores) == 2
    assert fetch(made, placed[0], tmp_path / "back") == [b"frames" * 1000]
    made.release(ticket)
    with pytest.raises(UserError):
        made.poll(ticket)


def test_what_was_restored_and_has_expired_is_asked_for_again(cold, parcel, tmp_path, asked, fetch, put):
    made = cold(restore_days=1)
    (placed,) = put(made, parcel())
    ticket = made.stage([placed.location])
    assert made.poll(ticket) == {placed.location: "ready"}
    late = cold(now=datetime.now(UTC) + timedelta(days=30))
    restores = asked(late, "RestoreObject")
    assert late.poll(ticket) == {placed.location: "pending"}
    assert len(restores) == 1
    with pytest.raises(Recalling):
        fetch(late, placed, tmp_path / "back")


def test_what_expires_just_before_it_is_read_is_no_damage(
    cold, parcel, tmp_path, unless_mark, client_error, fail, fetch, put
):
    made = cold()
    (placed,) = put(made, parcel())
    made.stage([placed.location])
    fail(made, "get_object", lambda call, about: unless_mark(call, about, client_error("InvalidObjectState", 403)))
    with pytest.raises(Recalling):
        fetch(made, placed, tmp_path / "back")
    with pytest.raises(Recalling):
        made.verify([placed], throttle=FREE)


@pytest.mark.parametrize("code", ["RestoreAlreadyInProgress", "ObjectAlreadyInActiveTierError"])
def test_a_restore_that_somebody_else_asked_for_is_waited_for(cold, parcel, code, client_error, fail, put):
    made = cold()
    (placed,) = put(made, parcel())
    fail(made, "restore_object", lambda _call, _about: client_error(code, 409))
    assert made.poll(made.stage([placed.location])) == {placed.location: "pending"}


def test_a_service_without_restores_is_told(cold, parcel, client_error, fail, put):
    made = cold()
    (placed,) = put(made, parcel())
    fail(made, "restore_object", lambda _call, _about: client_error("MethodNotAllowed", 405))
    with pytest.raises(UserError) as caught:
        made.verify([placed], throttle=FREE)
    assert "storage_class" in caught.value.hint
