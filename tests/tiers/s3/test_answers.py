"""What the answers of a service mean, and options of the tier."""

import hashlib
import io
import os
import sys

import pytest

from tomovault.core.errors import IntegrityError, NoSpace, PlaceAbsent, Refused, Transient, UserError
from tomovault.tiers.free import FREE
from tomovault.tiers.object_archive import Occupied
from tomovault.tiers.objects import NotThere
from tomovault.tiers.s3_upload import Window, sums_of

MIB = 1 << 20
pytestmark = pytest.mark.component("moto")


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
def test_every_answer_has_its_family_and_a_hint(tier, parcel, code, family, hint, client_error, fail, put):
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
def test_every_trouble_of_the_sdk_has_its_family_and_a_hint(
    tier, parcel, tmp_path, name, about, family, fail, fetch, put
):
    from botocore import exceptions as sdk

    made = tier()
    (placed,) = put(made, parcel())
    fail(made, "get_object", lambda _call, _about: getattr(sdk, name)(**about))
    for call in (lambda: made.verify([placed], throttle=FREE), lambda: fetch(made, placed, tmp_path / "back")):
        with pytest.raises(family) as caught:
            call()
        assert caught.value.hint
    assert not made.health().ok


def test_a_copy_that_we_may_not_read_is_not_damaged(tier, parcel, client_error, fail, put):
    made = tier()
    (placed,) = put(made, parcel())
    fail(made, "head_object", lambda _call, _about: client_error("403", 403, "Forbidden"))
    with pytest.raises(Refused) as caught:
        made.verify([placed], throttle=FREE)
    assert caught.value.by == "bucket far"
    with pytest.raises(Refused):
        made.poll(made.stage([placed.location]))


def test_without_credentials_nothing_is_told_of_them_but_that(tier, parcel, tmp_path, monkeypatch, put):
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


def test_no_secret_is_in_what_is_written_or_said(tier, parcel, tmp_path, monkeypatch, capfd, client_error, fail, put):
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


def test_without_the_sdk_it_is_said_what_to_install(tier, parcel, monkeypatch, put):
    monkeypatch.setitem(sys.modules, "boto3", None)
    made = tier()
    with pytest.raises(UserError, match="boto3") as caught:
        put(made, parcel())
    assert "tomovault[s3]" in caught.value.hint
    assert not made.health().ok


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
