import dataclasses
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import tarfile
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tomovault.core.errors import IntegrityError, UserError
from tomovault.core.ports import Parcel
from tomovault.core.replica import StoredFile
from tomovault.core.wire import to_plain
from tomovault.tiers.bundle import (
    MANIFEST,
    TRAILER,
    bundle_size,
    check_bundle,
    next_member,
    parcel_key,
    plan_bundle,
    read_manifest,
    write_bundle,
)
from tomovault.tiers.cartridge import RECORD


class Stream:
    """A tape file in memory."""

    def __init__(self, data):
        self.data, self.position = data, 0

    def read(self, count):
        part = self.data[self.position : self.position + count]
        self.position += len(part)
        return part

    def skip_to(self, position):
        self.position = position


@pytest.fixture
def bundled(now, bucket):
    def build(*parcels):
        plan = plan_bundle(parcels, bundle="b" * 32, job="j", tier="tape", pool="A", copy=1, now=now)
        out = bytearray()
        write_bundle(plan, parcels, out.extend, bucket, lambda _name: None)
        return plan, bytes(out)

    return build


def test_the_manifest_says_where_every_byte_is(bundled, parcel, bucket):
    one, two = parcel("one", os.urandom(1000), b""), parcel("two", os.urandom(600_000))
    plan, data = bundled(one, two)
    assert read_manifest(Stream(data)) == plan
    assert check_bundle(Stream(data + bytes(RECORD)), bucket) == plan
    for package, sent in zip(plan.packages, (one, two), strict=True):
        assert data[package.manifest.offset :].startswith(sent.manifest.encode())
        for file in package.files:
            stored = data[file.offset : file.offset + file.size]
            assert hashlib.sha256(stored).hexdigest() == file.sha256
    assert plan.packages[0].manifest.offset > RECORD - 1
    assert len(data) <= bundle_size(plan)


def test_the_standard_library_reads_it(bundled, parcel):
    plan, data = bundled(parcel("one", b"abc"), parcel("two", b"de", b"f"))
    with tarfile.open(fileobj=io.BytesIO(data + bytes(RECORD)), mode="r|") as tar:
        found = [(m.name, tar.extractfile(m).read()) for m in tar]
    assert found[0][0] == MANIFEST
    assert [name for name, _ in found[1:-1]] == [f.member for f in plan.members()]
    trailer = json.loads(found[-1][1])
    assert found[-1][0] == TRAILER
    assert trailer["sha256"] == hashlib.sha256(data[: trailer["bytes"]]).hexdigest()


@pytest.mark.skipif(shutil.which("tar") is None, reason="no tar program here")
def test_the_tar_program_reads_it(bundled, parcel, tmp_path):
    odd = os.fsdecode(b"n\xc3\xa9\nw'\xff.h5")
    path = tmp_path / odd
    path.write_bytes(b"odd")
    stored = StoredFile(str(path), 3, hashlib.sha256(b"odd").hexdigest())
    _, data = bundled(dataclasses.replace(parcel("one", b"abc"), files=(stored,)))
    out = tmp_path / "out"
    out.mkdir()
    subprocess.run(["tar", "-x", "-b", "512", "-f", "-", "-C", out], input=data + bytes(RECORD), check=True, timeout=60)
    assert (out / "packages" / "0001" / odd).read_bytes() == b"odd"
    assert json.loads((out / "MANIFEST.json").read_bytes())["bundle"] == "b" * 32


@pytest.mark.parametrize("where", ["manifest", "header", "content", "padding", "trailer"])
def test_a_flipped_byte_anywhere_is_found(bundled, parcel, bucket, where):
    plan, data = bundled(parcel("one", b"abc" * 1000))
    file = plan.packages[0].files[0]
    at = {
        "manifest": 600,
        "header": file.offset - 500,
        "content": file.offset + 5,
        "padding": file.offset + file.size + 1,
        "trailer": data.index(b'"sha256": "', plan.trailer) + 12,
    }[where]
    damaged = bytearray(data)
    damaged[at] ^= 1
    with pytest.raises(IntegrityError):
        check_bundle(Stream(bytes(damaged)), bucket)


def test_a_bundle_cut_short_anywhere_does_not_exist(bundled, parcel, bucket):
    plan, data = bundled(parcel("one", b"abc" * 1000))
    for size in (0, 100, RECORD, plan.packages[0].files[0].offset + 3, plan.trailer, plan.trailer + 512):
        with pytest.raises(IntegrityError):
            check_bundle(Stream(data[:size]), bucket)
        with pytest.raises(IntegrityError):
            check_bundle(Stream(data[:size].ljust(len(data), b"\0")), bucket)


@given(st.integers(0, 1 << 45), st.text(max_size=300).filter(lambda t: t and "\0" not in t and t.strip("/")))
def test_any_size_and_name_is_read_back(size, name):
    name = "p/" + name.replace("/", "_").encode("utf-8", "surrogatepass").decode("utf-8", "surrogateescape")
    info = tarfile.TarInfo(name)
    info.size = size
    header = info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
    assert next_member(Stream(header).read) == (name, size)


@pytest.mark.parametrize("body", [b"9" * 5000 + b" size=1\n", b"-5 size=1\n", b"1 \n"])
def test_a_pax_header_that_cannot_be_is_damage(body):
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, len(body)
    with pytest.raises(IntegrityError):
        next_member(Stream(info.tobuf(tarfile.USTAR_FORMAT) + body.ljust(512 * 20, b"\0")).read)


def test_a_member_of_less_than_no_bytes_is_damage():
    record = b"12 size=-5\n"
    record = b"%d size=-5\n" % len(record)
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, len(record)
    member = tarfile.TarInfo("y").tobuf(tarfile.USTAR_FORMAT)
    with pytest.raises(IntegrityError):
        next_member(Stream(info.tobuf(tarfile.USTAR_FORMAT) + record.ljust(512, b"\0") + member).read)


def test_a_file_that_would_not_fit_a_name_is_refused(bundled, parcel):
    sent = parcel("one", b"x")
    for location in ("/x/" + "é" * 130, "/x/..", "/x/"):
        wrong = dataclasses.replace(sent, files=(StoredFile(location, 1, "0"),))
        with pytest.raises(UserError):
            bundled(wrong)


def test_a_key_depends_on_content_and_not_on_place(parcel):
    sent = parcel("one", b"x")
    (file,) = sent.files
    moved = dataclasses.replace(sent, files=(dataclasses.replace(file, location="/a/one.0.h5"),), group="elsewhere")
    assert parcel_key(moved) == parcel_key(sent)
    for other in (
        dataclasses.replace(sent, scan="two"),
        dataclasses.replace(sent, product="volume"),
        dataclasses.replace(sent, digest="0"),
        dataclasses.replace(sent, manifest="0"),
        dataclasses.replace(sent, files=(dataclasses.replace(file, size=2),)),
        dataclasses.replace(sent, files=(dataclasses.replace(file, location="/a/two.h5"),)),
    ):
        assert parcel_key(other) != parcel_key(sent)
    assert isinstance(sent, Parcel)


def forged(plan, *, package=None, manifest=None, file=None, **bundle):
    """A plan of one package of one file, that says something else of one of its parts."""
    (own,) = plan.packages
    parts = {
        "manifest": dataclasses.replace(own.manifest, **(manifest or {})),
        "files": tuple(dataclasses.replace(f, **(file or {})) for f in own.files),
    }
    return dataclasses.replace(plan, packages=(dataclasses.replace(own, **{**parts, **(package or {})}),), **bundle)


def text_of(plan):
    """A tape file that begins with the manifest of a plan and has nothing else."""
    text = json.dumps({"tomovault-bundle": 1, **to_plain(plan)}).encode("ascii")
    info = tarfile.TarInfo(MANIFEST)
    info.size = len(text)
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape") + text.ljust(-(-len(text) // 512) * 512, b"\0")


def named(name):
    return {"file": {"name": name, "member": f"packages/0001/{name}"}}


@pytest.mark.parametrize(
    ("lie", "told"),
    [
        (named("../../../escaped"), "no file's name"),
        (named("/etc/escaped"), "no file's name"),
        (named(".."), "no file's name"),
        (named(""), "no file's name"),
        (named("a\0b"), "no file's name"),
        (named("\ud800"), "no file's name"),
        (named("x" * 256), "no file's name"),
        ({"file": {"member": "packages/0002/s.0.h5"}}, "packages/0001/s.0.h5"),
        ({"file": {"name": "t.h5"}}, "packages/0001/t.h5"),
        ({"manifest": {"member": "manifests/0002.json"}}, "manifests/0001.json"),
        ({"manifest": {"name": "x"}}, "manifests/0001.json"),
        ({"manifest": {"offset": 0}}, "begins at 0"),
        ({"manifest": {"offset": -512}}, "begins at -512"),
        ({"manifest": {"size": -1}}, "-1 bytes"),
        ({"file": {"size": -1}}, "-1 bytes"),
        ({"file": {"offset": 600}}, "begins at 600"),
        ({"file": {"size": True}}, "size"),
        ({"trailer": 0}, "trailer"),
        ({"package": {"files": ()}}, "no files"),
        ({"written_at": datetime(2030, 1, 1, tzinfo=UTC).replace(tzinfo=None)}, "zone"),
    ],
)
def test_a_manifest_that_cannot_be_is_damage(bundled, parcel, lie, told):
    plan, _ = bundled(parcel("s", b"abc"))
    assert read_manifest(Stream(text_of(plan))) == plan
    with pytest.raises(IntegrityError, match=re.escape(told)):
        read_manifest(Stream(text_of(forged(plan, **lie))))


def test_a_manifest_without_a_trailer_or_with_one_name_twice_is_damage(bundled, parcel):
    plan, _ = bundled(parcel("s", b"abc", b"de"))
    one, two = plan.packages[0].files
    twice = dataclasses.replace(two, name=one.name, member=one.member)
    package = dataclasses.replace(plan.packages[0], files=(one, twice))
    with pytest.raises(IntegrityError, match="one name"):
        read_manifest(Stream(text_of(dataclasses.replace(plan, packages=(package,)))))
    with pytest.raises(IntegrityError, match="trailer"):
        read_manifest(Stream(text_of(plan).replace(b'"trailer": ', b'"copy":    ')))
