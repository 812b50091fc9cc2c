"""What is particular to an archive in a bucket: restores, parts, somebody else's hands, and what its answers mean.

The service is moto's, which keeps the rules of Amazon's archive classes; nothing here was tried with Amazon.
"""

import base64
import dataclasses
import hashlib
import io
import json
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tomovault.core.errors import (
    IntegrityError,
    NoSpace,
    PlaceAbsent,
    Recalling,
    Refused,
    Transient,
    UserError,
)
from tomovault.core.ports import ColdTier, Parcel, SurveyedTier
from tomovault.core.replica import StoredFile
from tomovault.tiers.free import FREE
from tomovault.tiers.object_archive import Occupied
from tomovault.tiers.objects import NotThere
from tomovault.tiers.s3 import S3Tier
from tomovault.tiers.s3_upload import Window, sums_of

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
MIB = 1 << 20
MODEL = "s3::keyrestore"

pytestmark = pytest.mark.component("moto")


class Killed(BaseException):
    """What a kill -9 looks like from inside."""


@pytest.fixture
def s3():
    """A client of a service with one bucket, `far`."""
    import boto3
    from moto import mock_aws

    with mock_aws():
        client = boto3.client("s3", region_name="us-east-1")
        client.create_bucket(Bucket="far")
        yield client


@pytest.fixture
def slow_restores(s3, monkeypatch):
    """A restore is under way for so many looks at its object."""
    from moto.moto_api import state_manager
    from moto.s3.models import FakeKey

    begin = FakeKey.restore

    def restore(key, days):
        begin(key, days)
        if key._status is None:  # moto would say for some looks that it is over before it has begun
            key.status, key._tick = "IN_PROGRESS", 0

    monkeypatch.setattr(FakeKey, "restore", restore)
    state_manager.set_transition(model_name=MODEL, transition={"progression": "manual", "times": 8})
    yield
    state_manager.unset_transition(model_name=MODEL)


@pytest.fixture
def tier(tmp_path, s3):
    """Called for a tier on the bucket; again it is another process with the same site file."""

    def make(*, now=NOW, **more):
        (tmp_path / "spool").mkdir(exist_ok=True)
        given = {
            "path": str(tmp_path / "spool"),
            "own_record": str(tmp_path / "places" / "tier-far.json"),
            "bucket": "far",
            "region": "us-east-1",
            "part_size": "5MiB",
        }
        return S3Tier("far", given | more, now=lambda: now)

    return make


@pytest.fixture
def cold(tier):
    return lambda **more: tier(storage_class="GLACIER", **more)


@pytest.fixture
def parcel(tmp_path):
    def build(scan="one", content=b"frames" * 1000):
        path = tmp_path / f"{scan}.tomo.h5"
        path.write_bytes(content)
        file = StoredFile(str(path), len(content), hashlib.sha256(content).hexdigest())
        return Parcel(scan, f"{scan} of ID19", "original", file.sha256, (file,), '{"files": []}', "ID19")

    return build


@pytest.fixture
def large(parcel):
    """A parcel whose bundle goes in three parts."""
    return parcel("large", os.urandom(12 * MIB))


def put(tier, *parcels, job="j1"):
    return tier.put(parcels, tier.domains()[0], job=job, throttle=FREE, checkpoint=lambda _name: None)


def fetch(tier, placed, folder):
    folder.mkdir(exist_ok=True)
    files = tier.fetch(placed, str(folder), throttle=FREE, progress=lambda _done, _total: None)
    return [Path(f.location).read_bytes() for f in files]


def objects(s3):
    found = s3.list_objects_v2(Bucket="far").get("Contents", [])
    return [one["Key"] for one in found if one["Key"].endswith(".tar")]


def key_of(placed):
    return placed.location.removeprefix("s3://far/")


def asked(tier, operation):
    """A list that grows with each request of this kind that the tier makes from now on."""
    seen = []
    tier._bucket._client.meta.events.register(f"before-call.s3.{operation}", lambda **about: seen.append(about))
    return seen


def fail(tier, operation, error):
    """From now on the service answers so to this kind of request."""
    call = getattr(tier._bucket._client, operation)

    def answer(**about):
        outcome = error(call, about)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    setattr(tier._bucket._client, operation, answer)


def client_error(code, status=400, message="so it is"):
    from botocore.exceptions import ClientError

    response = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(response, "AnyOperation")


# --- classes that are read at once, and classes that are not ------------------------------------------


@pytest.mark.parametrize("storage_class", ["STANDARD", "STANDARD_IA", "GLACIER_IR"])
def test_what_needs_no_restore_is_asked_for_none(tier, parcel, s3, tmp_path, storage_class):
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
def test_an_upload_counts_only_when_it_was_restored_and_read(tier, parcel, slow_restores, storage_class):
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


def test_a_put_tried_again_while_its_object_is_cold_sends_nothing_and_waits(cold, parcel, s3, slow_restores):
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


def test_a_recall_is_asked_for_once_and_polled(cold, parcel, slow_restores, tmp_path):
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


def test_what_was_restored_and_has_expired_is_asked_for_again(cold, parcel, tmp_path):
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


def test_what_expires_just_before_it_is_read_is_no_damage(cold, parcel, tmp_path):
    made = cold()
    (placed,) = put(made, parcel())
    made.stage([placed.location])
    fail(made, "get_object", lambda call, about: _unless_mark(call, about, client_error("InvalidObjectState", 403)))
    with pytest.raises(Recalling):
        fetch(made, placed, tmp_path / "back")
    with pytest.raises(Recalling):
        made.verify([placed], throttle=FREE)


def _unless_mark(call, about, error):
    return call(**about) if about["Key"].endswith(".json") else error


@pytest.mark.parametrize("code", ["RestoreAlreadyInProgress", "ObjectAlreadyInActiveTierError"])
def test_a_restore_that_somebody_else_asked_for_is_waited_for(cold, parcel, code):
    made = cold()
    (placed,) = put(made, parcel())
    fail(made, "restore_object", lambda _call, _about: client_error(code, 409))
    assert made.poll(made.stage([placed.location])) == {placed.location: "pending"}


def test_a_service_without_restores_is_told(cold, parcel):
    made = cold()
    (placed,) = put(made, parcel())
    fail(made, "restore_object", lambda _call, _about: client_error("MethodNotAllowed", 405))
    with pytest.raises(UserError) as caught:
        made.verify([placed], throttle=FREE)
    assert "storage_class" in caught.value.hint


# --- on the way there --------------------------------------------------------------------------------


def test_the_service_is_given_the_sha256_of_what_it_gets(tier, parcel, large, s3):
    made = tier()
    small, big = put(made, parcel())[0], put(made, large)[0]
    for placed, parts in ((small, 1), (big, 3)):
        body = s3.get_object(Bucket="far", Key=key_of(placed))["Body"].read()
        head = s3.head_object(Bucket="far", Key=key_of(placed), ChecksumMode="ENABLED")
        assert head["Metadata"]["tomovault-sha256"] == hashlib.sha256(body).hexdigest()
        digests = [hashlib.sha256(body[at : at + 5 * MIB]).digest() for at in range(0, len(body), 5 * MIB)]
        assert len(digests) == parts
        if parts == 1:
            assert head["ChecksumSHA256"] == base64.b64encode(digests[0]).decode()
        else:
            told = base64.b64encode(hashlib.sha256(b"".join(digests)).digest()).decode()
            assert head["ChecksumSHA256"] in (told, f"{told}-{parts}"), "moto leaves the number out"
    assert made.verify([small, big], throttle=FREE) == ("", "")


@pytest.mark.parametrize("cut", ["upload_part", "complete_multipart_upload"])
def test_an_upload_that_was_killed_leaves_no_object_and_its_parts_are_given_up(tier, large, s3, cut):
    made, calls = tier(), []

    def die(call, about):
        calls.append(about)
        return Killed() if cut == "complete_multipart_upload" or len(calls) == 2 else call(**about)

    fail(made, cut, die)
    with pytest.raises(Killed):
        put(made, large)
    assert objects(s3) == []
    assert len(s3.list_multipart_uploads(Bucket="far")["Uploads"]) == 1
    fellow = s3.create_multipart_upload(Bucket="far", Key="tomovault/somebody-else.tar")["UploadId"]
    (placed,) = put(tier(), large)
    assert objects(s3) == [key_of(placed)]
    assert [one["UploadId"] for one in s3.list_multipart_uploads(Bucket="far")["Uploads"]] == [fellow]
    assert tier().verify([placed], throttle=FREE) == ("",)


def test_an_upload_that_fails_is_given_up_at_once(tier, large, s3):
    made = tier()
    fail(made, "complete_multipart_upload", lambda _call, _about: client_error("InternalError", 500))
    with pytest.raises(Transient):
        put(made, large)
    assert s3.list_multipart_uploads(Bucket="far").get("Uploads", []) == []


@pytest.mark.parametrize("operation", ["put_object", "complete_multipart_upload"])
def test_an_answer_that_was_lost_makes_no_second_object(tier, parcel, large, s3, operation):
    made, sent = tier(), parcel() if operation == "put_object" else large
    put(made, parcel("before"))

    def lose(call, about):
        call(**about)
        return client_error("RequestTimeout", 500)

    fail(made, operation, lose)
    with pytest.raises(Transient):
        put(made, sent)
    assert len(objects(s3)) == 2
    (placed,) = put(tier(), sent, job="j2")
    assert len(objects(s3)) == 2
    assert tier().verify([placed], throttle=FREE) == ("",)


@pytest.mark.parametrize("code", ["BadDigest", "XAmzContentChecksumMismatch"])
def test_bytes_that_change_on_the_way_are_refused_and_sent_again(tier, parcel, s3, code):
    made, sent = tier(), parcel()
    put(made, parcel("before"))
    fail(made, "put_object", lambda _call, _about: client_error(code))
    with pytest.raises(Transient) as caught:
        put(made, sent)
    assert "sent again" in caught.value.hint
    assert len(objects(s3)) == 1
    assert put(tier(), sent)


def test_a_service_that_tells_another_checksum_is_not_believed(tier, parcel, s3):
    made = tier()
    put(made, parcel("before"))

    def other(call, about):
        told = call(**about)
        return told | {"ChecksumSHA256": base64.b64encode(b"x" * 32).decode()}

    fail(made, "head_object", other)
    with pytest.raises(IntegrityError, match="is not of what was just put there"):
        put(made, parcel())
    assert len(objects(s3)) == 2


def test_an_object_of_somebody_else_is_not_written_over(tier, parcel, s3):
    made, sent = tier(), parcel()
    (placed,) = put(made, sent)
    made.remove(placed)
    s3.put_object(Bucket="far", Key=key_of(placed), Body=b"somebody else's")
    (other,) = put(tier(), sent)
    assert other.location != placed.location
    assert other.location.endswith(".2.tar")
    assert s3.get_object(Bucket="far", Key=key_of(placed))["Body"].read() == b"somebody else's"
    assert tier().verify([other], throttle=FREE) == ("",)


def test_one_that_appears_while_ours_is_sent_is_not_written_over(tier, parcel, large, s3):
    """The look before is no promise: the put itself is conditional, of one request and of many."""
    for sent, operation in ((parcel(), "put_object"), (large, "complete_multipart_upload")):
        made = tier()
        put(made, parcel("before"))

        def race(call, about):
            if not about["Key"].endswith(".2.tar"):
                s3.put_object(Bucket="far", Key=about["Key"], Body=b"somebody else's")
            return call(**about)

        fail(made, operation, race)
        (placed,) = put(made, sent)
        first = key_of(placed).replace(".2.tar", ".tar")
        assert placed.location.endswith(".2.tar")
        assert s3.get_object(Bucket="far", Key=first)["Body"].read() == b"somebody else's"


# --- other hands -------------------------------------------------------------------------------------


def test_an_object_that_somebody_changed_is_found_and_not_removed(tier, parcel, s3):
    made = tier()
    (placed,) = put(made, parcel())
    s3.put_object(Bucket="far", Key=key_of(placed), Body=b"something else")
    assert "manifest" in made.verify([placed], throttle=FREE)[0]
    with pytest.raises(IntegrityError, match="another object"):
        made.remove(placed)
    assert objects(s3) == [key_of(placed)]
    made.remove(placed, as_it_is=True)
    assert objects(s3) == []


def test_an_object_that_somebody_removed_is_missed_and_made_anew(tier, parcel, s3):
    made, sent = tier(), parcel()
    (placed,) = put(made, sent)
    s3.delete_object(Bucket="far", Key=key_of(placed))
    assert "is not there" in made.verify([placed], throttle=FREE)[0]
    assert made.poll(made.stage([placed.location]))[placed.location].startswith("failed: ")
    (again,) = put(tier(), sent)
    assert tier().verify([again], throttle=FREE) == ("",)
    made.remove(placed)


def test_an_emptied_bucket_is_no_empty_archive(tier, parcel, s3, tmp_path):
    made = tier()
    (placed,) = put(made, parcel())
    for one in s3.list_objects_v2(Bucket="far")["Contents"]:
        s3.delete_object(Bucket="far", Key=one["Key"])
    _nothing_is_said_of_the_copies(made, placed, parcel, tmp_path, "its mark is missing")


def test_a_bucket_that_is_gone_is_no_empty_archive(tier, parcel, s3, tmp_path):
    made = tier()
    (placed,) = put(made, parcel())
    for one in s3.list_objects_v2(Bucket="far")["Contents"]:
        s3.delete_object(Bucket="far", Key=one["Key"])
    s3.delete_bucket(Bucket="far")
    _nothing_is_said_of_the_copies(made, placed, parcel, tmp_path, "NoSuchBucket")


def test_another_bucket_is_not_taken_for_ours(tier, parcel, s3, tmp_path):
    made = tier()
    (placed,) = put(made, parcel())
    mark = {"uuid": "7d444840-9dc0-11d1-b245-5ffdce74fad2"}
    s3.put_object(Bucket="far", Key="tomovault/tomovault-place.json", Body=json.dumps(mark).encode())
    _nothing_is_said_of_the_copies(made, placed, parcel, tmp_path, "another mark than was recorded")


def _nothing_is_said_of_the_copies(tier, placed, parcel, tmp_path, told):
    for call in (
        lambda: tier.verify([placed], throttle=FREE),
        lambda: tier.stage([placed.location]),
        lambda: fetch(tier, placed, tmp_path / "back"),
        lambda: tier.remove(placed),
        lambda: list(tier.inventory()),
        lambda: put(tier, parcel("two")),
    ):
        with pytest.raises(PlaceAbsent, match=told) as caught:
            call()
        assert caught.value.hint
    health = tier.health()
    assert not health.ok
    assert told in health.detail


def test_a_bucket_in_use_gets_no_mark_and_an_empty_one_does(tier, parcel, s3, tmp_path):
    s3.put_object(Bucket="far", Key="tomovault/notes.txt", Body=b"mine")
    made = tier()
    assert not made.health().ok
    with pytest.raises(PlaceAbsent, match="objects were put there before"):
        put(made, parcel())
    own = tier(prefix="tomo/id19/")
    assert own.health().ok
    assert "no mark" in own.health().detail
    (placed,) = put(own, parcel())
    assert key_of(placed).startswith("tomo/id19/one_of_ID19.")
    assert own.health() == dataclasses.replace(own.health(), ok=True, detail="bucket far, STANDARD")
    recorded = (tmp_path / "places" / "tier-far.json").read_bytes()
    assert s3.get_object(Bucket="far", Key="tomo/id19/tomovault-place.json")["Body"].read() == recorded


def test_a_site_without_a_record_takes_the_mark_that_is_there(tier, parcel, tmp_path):
    (placed,) = put(tier(), parcel())
    record = tmp_path / "places" / "tier-far.json"
    before = record.read_bytes()
    record.unlink()
    assert tier().verify([placed], throttle=FREE) == ("",)
    assert record.read_bytes() == before


@pytest.mark.parametrize("damage", [b"", b"[]", b'{"uuid": "x"}'])
def test_a_mark_that_is_damaged_is_told(tier, parcel, s3, tmp_path, damage):
    (placed,) = put(tier(), parcel())
    record = tmp_path / "places" / "tier-far.json"
    right = record.read_bytes()
    record.write_bytes(damage)
    with pytest.raises(PlaceAbsent, match="is damaged"):
        tier().verify([placed], throttle=FREE)
    record.write_bytes(right)
    s3.put_object(Bucket="far", Key="tomovault/tomovault-place.json", Body=damage)
    with pytest.raises(PlaceAbsent, match="is damaged"):
        tier().verify([placed], throttle=FREE)


def test_a_folder_of_ours_that_was_lost_costs_no_data(tier, parcel, s3, tmp_path):
    """By its place an object is got and re-read as ever; it is not removed before it is known again."""
    (placed,) = put(tier(), parcel())
    s3.put_object(Bucket="far", Key="tomovault/foreign.tar", Body=b"somebody else's")
    s3.put_object(Bucket="far", Key="tomovault/below/not.tar", Body=b"not looked at")
    os.rename(tmp_path / "spool", tmp_path / "lost")
    made = tier()
    assert made.verify([placed], throttle=FREE) == ("",)
    with pytest.raises(Refused):
        made.remove(placed)
    found = {one.location: one for one in made.survey(lambda _done, _total: None)}
    assert set(found) == {placed.location, "s3://far/tomovault/foreign.tar"}
    assert found[placed.location].placed == placed
    assert found[placed.location].written_at == NOW
    assert "manifest" in found["s3://far/tomovault/foreign.tar"].problem
    made.remove(placed)
    assert objects(s3) == ["tomovault/below/not.tar", "tomovault/foreign.tar"]


def test_a_survey_of_cold_objects_asks_for_all_of_them_first(cold, parcel, slow_restores):
    put(cold(), parcel("one"), parcel("two"))
    made = cold()
    restores = asked(made, "RestoreObject")
    with pytest.raises(Recalling, match="and 1 more"):
        list(made.survey(lambda _done, _total: None))
    assert len(restores) == 2


def test_a_survey_ends_where_the_bucket_cannot_be_reached_and_calls_nothing_damaged(tier, parcel):
    put(tier(), parcel())
    made = tier()
    fail(made, "get_object", lambda call, about: _unless_mark(call, about, client_error("SlowDown", 503)))
    with pytest.raises(Transient):
        list(made.survey(lambda _done, _total: None))


def test_a_listing_of_many_pages_is_whole(tier, parcel, s3):
    made = tier()
    placed = [put(made, parcel(f"scan{n}"))[0] for n in range(5)]
    fail(made, "list_objects_v2", lambda call, about: call(**about, MaxKeys=2))
    assert sorted(made._list()) == sorted(one.location for one in placed)


def test_a_copy_elsewhere_is_not_looked_for_in_this_bucket(tier, parcel):
    made = tier()
    (placed,) = put(made, parcel())
    for location in ("s3://near/tomovault/x.tar", "s3://far/other/x.tar"):
        with pytest.raises(UserError, match="is not in its bucket"):
            made.verify([dataclasses.replace(placed, location=location)], throttle=FREE)


# --- what answers mean -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "family", "hint"),
    [
        ("AccessDenied", Refused, "rights"),
        ("403", Refused, "rights"),
        ("ExpiredToken", Refused, "renew"),
        ("InvalidAccessKeyId", Refused, "renew"),
        ("SignatureDoesNotMatch", Refused, "renew"),
        ("NoSuchBucket", PlaceAbsent, "right bucket"),
        ("QuotaExceeded", NoSpace, "room"),
        ("EntityTooLarge", UserError, "part_size"),
        ("InvalidStorageClass", UserError, "storage_class"),
        ("NotImplemented", UserError, "storage_class"),
        ("PermanentRedirect", UserError, "region"),
        ("RequestTimeTooSkewed", Transient, "clock"),
        ("ConditionalRequestConflict", Transient, "tried again"),
        ("SlowDown", Transient, "tried again"),
        ("InternalError", Transient, "tried again"),
        ("SomethingNew", Transient, "tried again"),
    ],
)
def test_every_answer_has_its_family_and_a_hint(tier, parcel, code, family, hint):
    made = tier()
    put(made, parcel("before"))
    fail(made, "put_object", lambda _call, _about: client_error(code, message="said\nso"))
    with pytest.raises(family) as caught:
        put(made, parcel())
    assert hint in caught.value.hint
    assert code in caught.value.message
    assert "\n" not in caught.value.message
    assert made.verify(put(tier(), parcel()), throttle=FREE) == ("",)


@pytest.mark.parametrize(
    ("name", "about", "family"),
    [
        ("EndpointConnectionError", {"endpoint_url": "https://s3"}, Transient),
        ("ReadTimeoutError", {"endpoint_url": "https://s3"}, Transient),
        ("IncompleteReadError", {"actual_bytes": 1, "expected_bytes": 2}, Transient),
        ("SSLError", {"endpoint_url": "https://s3", "error": "bad"}, Transient),
        ("NoCredentialsError", {}, UserError),
        ("ProfileNotFound", {"profile": "tomo"}, UserError),
        ("NoRegionError", {}, UserError),
        ("ParamValidationError", {"report": "odd"}, UserError),
    ],
)
def test_every_trouble_of_the_sdk_has_its_family_and_a_hint(tier, parcel, tmp_path, name, about, family):
    from botocore import exceptions as sdk

    made = tier()
    (placed,) = put(made, parcel())
    fail(made, "get_object", lambda _call, _about: getattr(sdk, name)(**about))
    for call in (lambda: made.verify([placed], throttle=FREE), lambda: fetch(made, placed, tmp_path / "back")):
        with pytest.raises(family) as caught:
            call()
        assert caught.value.hint
    assert not made.health().ok


def test_a_copy_that_we_may_not_read_is_not_damaged(tier, parcel):
    made = tier()
    (placed,) = put(made, parcel())
    fail(made, "head_object", lambda _call, _about: client_error("403", 403, "Forbidden"))
    with pytest.raises(Refused) as caught:
        made.verify([placed], throttle=FREE)
    assert caught.value.by == "bucket far"
    with pytest.raises(Refused):
        made.poll(made.stage([placed.location]))


def test_without_credentials_nothing_is_told_of_them_but_that(tier, parcel, tmp_path, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    made = tier()
    with pytest.raises(UserError, match="Unable to locate credentials") as caught:
        put(made, parcel())
    assert "credentials" in caught.value.hint
    assert not made.health().ok


def test_no_secret_is_in_what_is_written_or_said(tier, parcel, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI")
    made = tier()
    (placed,) = put(made, parcel())
    made.verify([placed], throttle=FREE)
    fail(made, "get_object", lambda _call, _about: client_error("SignatureDoesNotMatch", 403))
    with pytest.raises(Refused) as caught:
        made.verify([placed], throttle=FREE)
    kept = [p.read_bytes() for folder in ("spool", "places") for p in (tmp_path / folder).rglob("*") if p.is_file()]
    said = "".join(capfd.readouterr()) + caught.value.message + caught.value.hint + repr(vars(made))
    assert not [text for text in (*kept, said.encode()) if b"wJalrXUtnFEMI" in text]


def test_without_the_sdk_it_is_said_what_to_install(tier, parcel, monkeypatch):
    monkeypatch.setitem(sys.modules, "boto3", None)
    made = tier()
    with pytest.raises(UserError, match="boto3") as caught:
        put(made, parcel())
    assert "tomovault[s3]" in caught.value.hint
    assert not made.health().ok


# --- options and parts -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"bucket": ""}, "bucket cannot be"),
        ({"bucket": "a/b"}, "bucket cannot be"),
        ({"prefix": "/tomo"}, "prefix cannot be"),
        ({"prefix": "tomo"}, "prefix cannot be"),
        ({"endpoint_url": "s3.example.org"}, "no address"),
        ({"endpoint_url": "https://[s3"}, "no address"),
        ({"endpoint_url": "https://key:secret@s3.example.org"}, "a name or a password in it"),
        ({"storage_class": "glacier"}, "storage_class cannot be"),
        ({"storage_class": "INTELLIGENT_TIERING"}, "cannot be read at times"),
        ({"restore_tier": "Quick"}, "restore_tier cannot be"),
        ({"storage_class": "DEEP_ARCHIVE", "verify_tier": "Expedited"}, "verify_tier cannot be"),
        ({"restore_days": 0}, "restore_days must be"),
        ({"part_size": "1MiB"}, "part_size must be"),
    ],
)
def test_options_that_cannot_be_are_told_without_a_secret(tier, options, told):
    with pytest.raises(UserError, match=told) as caught:
        tier(**options)
    assert "secret" not in caught.value.message


def test_copies_in_one_bucket_are_lost_together(tier):
    one, two = tier(prefix="a/"), tier(prefix="b/", storage_class="GLACIER")
    assert one.domains() == two.domains() == ("s3:far",)
    assert tier(bucket="near").domains() != one.domains()
    there = tier(endpoint_url="https://S3.example.org:9000/")
    assert there.domains() == ("s3:far",), "a service may be named in many ways"
    assert tier(domain="vendor").domains() == ("vendor",)


@pytest.mark.parametrize(
    ("size", "parts"), [(0, 1), (1, 1), (5 * MIB, 1), (5 * MIB + 1, 2), (10 * MIB, 2), (10 * MIB + 7, 3)]
)
def test_sums_of_a_file_are_those_of_its_parts(tmp_path, size, parts):
    content = os.urandom(size)
    path = tmp_path / "file"
    path.write_bytes(content)
    sums = sums_of(str(path), 5 * MIB)
    assert (sums.size, sums.sha256, len(sums.parts)) == (size, hashlib.sha256(content).hexdigest(), parts)
    for number, digest in enumerate(sums.parts):
        with Window(str(path), number * sums.part, sums.part) as window:
            assert hashlib.sha256(window.read()).digest() == digest
            assert window.seek(0, io.SEEK_END) == len(window)
            assert (window.seek(0), window.read(3)) == (0, content[number * sums.part :][:3])


def test_no_file_has_more_parts_than_a_service_takes(tmp_path, monkeypatch):
    monkeypatch.setattr("tomovault.tiers.s3_upload._MOST_PARTS", 3)
    path = tmp_path / "file"
    path.write_bytes(bytes(17 * MIB))
    assert len(sums_of(str(path), 5 * MIB).parts) == 3


def test_what_is_raised_inside_is_no_answer_for_a_user():
    """Each of these is caught where it can happen."""
    assert not issubclass(Occupied, (UserError, Transient))
    assert issubclass(NotThere, IntegrityError)
