"""A bucket of moto's, which keeps the rules of Amazon's archive classes; nothing here was tried with Amazon."""

import hashlib
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tomovault.core.errors import PlaceAbsent
from tomovault.core.ports import Parcel
from tomovault.core.replica import StoredFile
from tomovault.tiers.free import FREE
from tomovault.tiers.s3 import S3Tier

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
MIB = 1 << 20
MODEL = "s3::keyrestore"


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


def _put(tier, *parcels, job="j1"):
    return tier.put(parcels, tier.domains()[0], job=job, throttle=FREE, checkpoint=lambda _name: None)


def _fetch(tier, placed, folder):
    folder.mkdir(exist_ok=True)
    files = tier.fetch(placed, str(folder), throttle=FREE, progress=lambda _done, _total: None)
    return [Path(f.location).read_bytes() for f in files]


def _objects(s3):
    found = s3.list_objects_v2(Bucket="far").get("Contents", [])
    return [one["Key"] for one in found if one["Key"].endswith(".tar")]


def _key_of(placed):
    return placed.location.removeprefix("s3://far/")


def _asked(tier, operation):
    """A list that grows with each request of this kind that the tier makes from now on."""
    seen = []
    tier._bucket._client.meta.events.register(f"before-call.s3.{operation}", lambda **about: seen.append(about))
    return seen


def _fail(tier, operation, error):
    """From now on the service answers so to this kind of request."""
    call = getattr(tier._bucket._client, operation)

    def answer(**about):
        outcome = error(call, about)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    setattr(tier._bucket._client, operation, answer)


def _client_error(code, status=400, message="so it is"):
    from botocore.exceptions import ClientError

    response = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(response, "AnyOperation")


def _unless_mark(call, about, error):
    return call(**about) if about["Key"].endswith(".json") else error


def _nothing_is_said_of_the_copies(tier, placed, parcel, tmp_path, told):
    for call in (
        lambda: tier.verify([placed], throttle=FREE),
        lambda: tier.stage([placed.location]),
        lambda: _fetch(tier, placed, tmp_path / "back"),
        lambda: tier.remove(placed),
        lambda: list(tier.inventory()),
        lambda: _put(tier, parcel("two")),
    ):
        with pytest.raises(PlaceAbsent, match=told) as caught:
            call()
        assert caught.value.hint
    health = tier.health()
    assert not health.ok
    assert told in health.detail


@pytest.fixture
def put():
    return _put


@pytest.fixture
def fetch():
    return _fetch


@pytest.fixture
def objects():
    return _objects


@pytest.fixture
def key_of():
    return _key_of


@pytest.fixture
def asked():
    return _asked


@pytest.fixture
def fail():
    return _fail


@pytest.fixture
def client_error():
    return _client_error


@pytest.fixture
def unless_mark():
    return _unless_mark


@pytest.fixture
def nothing_is_said_of_the_copies():
    return _nothing_is_said_of_the_copies
