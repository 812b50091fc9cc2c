"""Uploads: cut off, aborted, changed on the way; and what somebody else's hands do to a bucket."""

import base64
import dataclasses
import hashlib
import json
import os
from datetime import UTC, datetime

import pytest

from tomovault.core.errors import IntegrityError, PlaceAbsent, Recalling, Refused, Transient, UserError
from tomovault.tiers.free import FREE

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
MIB = 1 << 20
pytestmark = pytest.mark.component("moto")


class Killed(BaseException):
    """What a kill -9 looks like from inside."""


def test_the_service_is_given_the_sha256_of_what_it_gets(tier, parcel, large, s3, key_of, put):
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
def test_an_upload_that_was_killed_leaves_no_object_and_its_parts_are_given_up(
    tier, large, s3, cut, fail, key_of, objects, put
):
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


def test_an_upload_that_fails_is_given_up_at_once(tier, large, s3, client_error, fail, put):
    made = tier()
    fail(made, "complete_multipart_upload", lambda _call, _about: client_error("InternalError", 500))
    with pytest.raises(Transient):
        put(made, large)
    assert s3.list_multipart_uploads(Bucket="far").get("Uploads", []) == []


@pytest.mark.parametrize("operation", ["put_object", "complete_multipart_upload"])
def test_an_answer_that_was_lost_makes_no_second_object(
    tier, parcel, large, s3, operation, client_error, fail, objects, put
):
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
def test_bytes_that_change_on_the_way_are_refused_and_sent_again(
    tier, parcel, s3, code, client_error, fail, objects, put
):
    made, sent = tier(), parcel()
    put(made, parcel("before"))
    fail(made, "put_object", lambda _call, _about: client_error(code))
    with pytest.raises(Transient) as caught:
        put(made, sent)
    assert "sent again" in caught.value.hint
    assert len(objects(s3)) == 1
    assert put(tier(), sent)


def test_a_service_that_tells_another_checksum_is_not_believed(tier, parcel, s3, fail, objects, put):
    made = tier()
    put(made, parcel("before"))

    def other(call, about):
        told = call(**about)
        return told | {"ChecksumSHA256": base64.b64encode(b"x" * 32).decode()}

    fail(made, "head_object", other)
    with pytest.raises(IntegrityError, match="is not of what was just put there"):
        put(made, parcel())
    assert len(objects(s3)) == 2


def test_an_object_of_somebody_else_is_not_written_over(tier, parcel, s3, key_of, put):
    made, sent = tier(), parcel()
    (placed,) = put(made, sent)
    made.remove(placed)
    s3.put_object(Bucket="far", Key=key_of(placed), Body=b"somebody else's")
    (other,) = put(tier(), sent)
    assert other.location != placed.location
    assert other.location.endswith(".2.tar")
    assert s3.get_object(Bucket="far", Key=key_of(placed))["Body"].read() == b"somebody else's"
    assert tier().verify([other], throttle=FREE) == ("",)


def test_one_that_appears_while_ours_is_sent_is_not_written_over(tier, parcel, large, s3, fail, key_of, put):
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


def test_an_object_that_somebody_changed_is_found_and_not_removed(tier, parcel, s3, key_of, objects, put):
    made = tier()
    (placed,) = put(made, parcel())
    s3.put_object(Bucket="far", Key=key_of(placed), Body=b"something else")
    assert "manifest" in made.verify([placed], throttle=FREE)[0]
    with pytest.raises(IntegrityError, match="another object"):
        made.remove(placed)
    assert objects(s3) == [key_of(placed)]
    made.remove(placed, as_it_is=True)
    assert objects(s3) == []


def test_an_object_that_somebody_removed_is_missed_and_made_anew(tier, parcel, s3, key_of, put):
    made, sent = tier(), parcel()
    (placed,) = put(made, sent)
    s3.delete_object(Bucket="far", Key=key_of(placed))
    assert "is not there" in made.verify([placed], throttle=FREE)[0]
    assert made.poll(made.stage([placed.location]))[placed.location].startswith("failed: ")
    (again,) = put(tier(), sent)
    assert tier().verify([again], throttle=FREE) == ("",)
    made.remove(placed)


def test_an_emptied_bucket_is_no_empty_archive(tier, parcel, s3, tmp_path, nothing_is_said_of_the_copies, put):
    made = tier()
    (placed,) = put(made, parcel())
    for one in s3.list_objects_v2(Bucket="far")["Contents"]:
        s3.delete_object(Bucket="far", Key=one["Key"])
    nothing_is_said_of_the_copies(made, placed, parcel, tmp_path, "its mark is missing")


def test_a_bucket_that_is_gone_is_no_empty_archive(tier, parcel, s3, tmp_path, nothing_is_said_of_the_copies, put):
    made = tier()
    (placed,) = put(made, parcel())
    for one in s3.list_objects_v2(Bucket="far")["Contents"]:
        s3.delete_object(Bucket="far", Key=one["Key"])
    s3.delete_bucket(Bucket="far")
    nothing_is_said_of_the_copies(made, placed, parcel, tmp_path, "NoSuchBucket")


def test_another_bucket_is_not_taken_for_ours(tier, parcel, s3, tmp_path, nothing_is_said_of_the_copies, put):
    made = tier()
    (placed,) = put(made, parcel())
    mark = {"uuid": "7d444840-9dc0-11d1-b245-5ffdce74fad2"}
    s3.put_object(Bucket="far", Key="tomovault/tomovault-place.json", Body=json.dumps(mark).encode())
    nothing_is_said_of_the_copies(made, placed, parcel, tmp_path, "another mark than was recorded")


def test_a_bucket_in_use_gets_no_mark_and_an_empty_one_does(tier, parcel, s3, tmp_path, key_of, put):
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


def test_a_site_without_a_record_takes_the_mark_that_is_there(tier, parcel, tmp_path, put):
    (placed,) = put(tier(), parcel())
    record = tmp_path / "places" / "tier-far.json"
    before = record.read_bytes()
    record.unlink()
    assert tier().verify([placed], throttle=FREE) == ("",)
    assert record.read_bytes() == before


@pytest.mark.parametrize("damage", [b"", b"[]", b'{"uuid": "x"}'])
def test_a_mark_that_is_damaged_is_told(tier, parcel, s3, tmp_path, damage, put):
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


def test_a_folder_of_ours_that_was_lost_costs_no_data(tier, parcel, s3, tmp_path, objects, put):
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


def test_a_survey_of_cold_objects_asks_for_all_of_them_first(cold, parcel, slow_restores, asked, put):
    put(cold(), parcel("one"), parcel("two"))
    made = cold()
    restores = asked(made, "RestoreObject")
    with pytest.raises(Recalling, match="and 1 more"):
        list(made.survey(lambda _done, _total: None))
    assert len(restores) == 2


def test_a_survey_ends_where_the_bucket_cannot_be_reached_and_calls_nothing_damaged(
    tier, parcel, unless_mark, client_error, fail, put
):
    put(tier(), parcel())
    made = tier()
    fail(made, "get_object", lambda call, about: unless_mark(call, about, client_error("SlowDown", 503)))
    with pytest.raises(Transient):
        list(made.survey(lambda _done, _total: None))


def test_a_listing_of_many_pages_is_whole(tier, parcel, s3, fail, put):
    made = tier()
    placed = [put(made, parcel(f"scan{n}"))[0] for n in range(5)]
    fail(made, "list_objects_v2", lambda call, about: call(**about, MaxKeys=2))
    assert sorted(made._list()) == sorted(one.location for one in placed)


def test_a_copy_elsewhere_is_not_looked_for_in_this_bucket(tier, parcel, put):
    made = tier()
    (placed,) = put(made, parcel())
    for location in ("s3://near/tomovault/x.tar", "s3://far/other/x.tar"):
        with pytest.raises(UserError, match="is not in its bucket"):
            made.verify([dataclasses.replace(placed, location=location)], throttle=FREE)
