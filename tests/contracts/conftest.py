"""What a kind of tier needs from its site before the contract can be asked of it."""

import os

import pytest

from tomovault.testing import mtx_stand
from tomovault.testing.tape_stand import TapeStand, make_stand
from tomovault.tiers import changer, st

#: An archive behind commands, as a site would write them: objects are files in a folder, of which `{}` is the place.
_COMMANDS = {
    "put": ["/bin/sh", "-c", 'cp "$1" "{}/$2.new" && mv "{}/$2.new" "{}/$2" && echo "far:$2"', "put"],
    "get": ["/bin/sh", "-c", 'test -e "{}/${{1#far:}}" || exit 66; cp "{}/${{1#far:}}" "$2"', "get"],
    "query": ["/bin/sh", "-c", 'test -e "{}/${{1#far:}}" || exit 66', "query"],
    "remove": ["/bin/sh", "-c", 'test -e "{}/${{1#far:}}" || exit 66; rm "{}/${{1#far:}}"', "remove"],
    "list": ["/bin/sh", "-c", 'cd "{}" && for o in *.tar; do test -e "$o" && echo "far:$o"; done; true'],
}
_ABOUT = {"put": ["{file}", "{name}"], "get": ["{uri}", "{file}"], "query": ["{uri}"], "remove": ["{uri}"], "list": []}


_ACCOUNT, _PARTITION = "123456789012", "aws"


@pytest.fixture
def needed(plugin, place, request):
    """Options without which a kind cannot be."""
    kind = plugin.__module__.rpartition(".")[2]
    if kind == "s3":
        return request.getfixturevalue("bucket")
    if kind == "tape_library":
        return request.getfixturevalue("tape")
    if kind != "command":
        return {}
    store = place / "store"
    store.mkdir()
    return {verb: [w.format(*[store] * 3) for w in words] + _ABOUT[verb] for verb, words in _COMMANDS.items()}


@pytest.fixture
def tape(tmp_path, place, monkeypatch):
    """Two drives and a changer that are none: the calls of the driver and the program mtx are stood in for."""
    folder = place / "behind"
    make_stand(str(folder), {1: "TA0001L9", 2: "TB0001L9", 3: "TA0002L9"})
    monkeypatch.setattr(st, "SYSTEM", TapeStand(str(folder), capacity=64_000_000))
    monkeypatch.setattr(changer.Changer, "_run", lambda self, *words: mtx_stand.answer(["-f", self.device, *words])[1])
    return {
        "sg_logs": str(tmp_path / "none"),
        "changer": str(folder / "state.json"),
        "devices": [str(folder / "nst0"), str(folder / "nst1")],
        "pools": {"A": "TA*", "B": "TB*"},
        "ready_s": 0,
    }


@pytest.fixture
def bucket():
    """A bucket of moto's, of whose objects nothing can be read before it was restored, which takes no time there."""
    import boto3
    from moto import mock_aws

    with mock_aws():
        boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="far")
        yield {"bucket": "far", "region": "us-east-1", "storage_class": "GLACIER", "part_size": "5MiB"}


@pytest.fixture
def flip_a_byte(plugin, place):
    """Damage the stored bytes of `content`, wherever on the medium they are; how many copies were damaged."""

    def in_files(content):
        needle, damaged = content[:64], 0
        for path in (os.path.join(folder, name) for folder, _, names in os.walk(place) for name in names):
            with open(path, "r+b") as stream:
                at = stream.read().find(needle)
                if at >= 0:
                    stream.seek(at + 7)
                    stream.write(bytes([needle[7] ^ 1]))
                    damaged += 1
        return damaged

    def in_bucket(content):
        """As it rots: size, checksum and times stay."""
        from moto.s3.models import s3_backends

        needle, damaged = content[:64], 0
        for key in s3_backends[_ACCOUNT][_PARTITION].buckets["far"].keys.values():
            stored = bytearray(key.value)
            at = stored.find(needle)
            if at >= 0:
                stored[at + 7] ^= 1
                key.value = bytes(stored)
                damaged += 1
        return damaged

    return in_bucket if plugin.__module__.endswith(".s3") else in_files
