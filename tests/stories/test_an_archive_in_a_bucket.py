"""A site with a bucket whose objects have to be restored before they are read: scans go there and come back.

The service is moto's, on this machine; the jobs are processes of their own and speak to it as to any other.
"""

import contextlib
import urllib.request

import pytest

pytestmark = pytest.mark.component("moto")

_KEYS = {
    "AWS_ACCESS_KEY_ID": "AKIDSTORY",
    "AWS_SECRET_ACCESS_KEY": "storys-own-secret",
    "AWS_EC2_METADATA_DISABLED": "true",
    "NO_PROXY": "127.0.0.1",
    "no_proxy": "127.0.0.1",
}
_MODEL = "s3::keyrestore"


@pytest.fixture
def service(monkeypatch):
    """Where a service listens."""
    from moto.server import ThreadedMotoServer

    for name, value in _KEYS.items():
        monkeypatch.setenv(name, value)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    urllib.request.urlopen(urllib.request.Request(f"{address}/moto-api/reset", method="POST")).close()
    yield address
    server.stop()


@pytest.fixture
def s3(service):
    import boto3

    client = boto3.client("s3", endpoint_url=service, region_name="us-east-1")
    client.create_bucket(Bucket="vault")
    with contextlib.closing(client):
        yield client


@pytest.fixture
def site(new_site, service, s3):
    """Two copies on the library, and a third in the bucket."""
    bucket = {
        "kind": "s3",
        "path": "cloud",
        "bucket": "vault",
        "endpoint_url": service,
        "region": "us-east-1",
        "storage_class": "GLACIER",
    }
    made = new_site("edf", settings={"tiers": {"cloud": bucket}})
    (made.folder / "cloud").mkdir()
    policy = made.folder / "policies" / "standard.yaml"
    policy.write_text(policy.read_text("utf-8").replace("copies: 2", "copies: 3"), "utf-8")
    made.write("edf", "bone_")
    return made


def _objects(s3):
    found = s3.list_objects_v2(Bucket="vault").get("Contents", [])
    return [one["Key"] for one in found if one["Key"].endswith(".tar")]


def _copies(site, state="verified"):
    return [r for r in site.show("bone_")["replicas"] if r["tier"] == "cloud" and r["state"] == state]


def test_a_scan_goes_there_and_comes_back(site, s3, digests, tmp_path):
    before = digests(site.areas["edf"] / "bone_")
    environment = {**site.environment, **_KEYS}
    assert "bucket vault has no mark" in site.say("doctor").out
    site.live(env=environment)
    (copy,) = _copies(site)
    (key,) = _objects(s3)
    assert copy["location"] == f"s3://vault/{key}"
    assert copy["domain"] == "s3:vault"
    assert s3.head_object(Bucket="vault", Key=key)["StorageClass"] == "GLACIER"
    assert "bucket vault, GLACIER" in site.say("doctor").out

    page = site.ask("restore", "bone_", "--to", str(tmp_path / "back"), "--from", "cloud", "--wait")
    assert (page["tier"], page["cartridge"]) == ("cloud", None)
    assert digests(tmp_path / "back") == before

    s3.delete_object(Bucket="vault", Key=key)
    site.ask("verify", "bone_", code=4)
    assert len(_copies(site, "suspect")) == 1
    site.live(env=environment)
    assert len(_copies(site)) == 1, "another was made in its place"
    assert len(_objects(s3)) == 1

    for path in site.folder.rglob("*"):
        if path.is_file():
            assert _KEYS["AWS_SECRET_ACCESS_KEY"].encode() not in path.read_bytes(), path
    assert _KEYS["AWS_SECRET_ACCESS_KEY"] not in site.told()


@pytest.fixture
def slow_restores(monkeypatch):
    """A restore goes on for as long as this is; called, it is over."""
    from moto.moto_api import state_manager
    from moto.s3.models import FakeKey

    begin = FakeKey.restore

    def restore(key, days):
        begin(key, days)
        if key._status is None:
            key.status = "IN_PROGRESS"

    monkeypatch.setattr(FakeKey, "restore", restore)
    state_manager.set_transition(model_name=_MODEL, transition={"progression": "manual", "times": 1_000_000})
    yield lambda: state_manager.unset_transition(model_name=_MODEL)
    state_manager.unset_transition(model_name=_MODEL)


def test_a_copy_that_was_not_restored_yet_counts_for_nothing(site, s3, slow_restores):
    environment = {**site.environment, **_KEYS}
    site.live(env=environment)
    (key,) = _objects(s3)
    assert 'ongoing-request="true"' in s3.head_object(Bucket="vault", Key=key)["Restore"]
    assert [r for r in site.show("bone_")["replicas"] if r["tier"] == "cloud"] == []
    assert site.show("bone_")["stages"]["archived"] != "done"
    (waiting,) = [job for job in site.ask("status")["waiting"] if "restored by the bucket" in job["error"]]

    slow_restores()
    site.ask("retry", waiting["id"])
    site.live(env=environment)
    assert len(_copies(site)) == 1
    assert _objects(s3) == [key], "nothing was sent twice"


def test_a_backup_of_the_catalogue_waits_for_the_bucket_and_is_sent_once(site, s3, slow_restores, tmp_path):
    made = site.ask("catalogue", "backup", code=75)
    assert list(made["placed"]) == ["tape"]
    assert "cloud" in made["waiting"]
    assert made["problems"] == {}
    (key,) = _objects(s3)
    again = site.ask("catalogue", "backup", "--nightly", code=75)
    assert (again["sha256"], list(again["waiting"])) == (made["sha256"], ["cloud"])
    assert _objects(s3) == [key]

    slow_restores()
    s3.restore_object(Bucket="vault", Key=key, RestoreRequest={"Days": 1})
    done = site.ask("catalogue", "backup", "--nightly")
    assert done["placed"]["cloud"] == f"s3://vault/{key}"
    assert _objects(s3) == [key], "nothing was sent twice"
    page = site.ask("catalogue", "fetch", str(tmp_path / "back.db"), "--from", "cloud")
    assert page["sha256"] == made["sha256"]
