from __future__ import annotations

import dataclasses
import hashlib
import json
import os

import h5py
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tomovault.core.errors import IntegrityError
from tomovault.core.layout import FrameKind
from tomovault.package import store as store_module
from tomovault.package.manifest import read_text
from tomovault.package.reader import PackageReader
from tomovault.package.verify import scrub_package, verify_package


def _flip(path, offset, bit=1):
    with open(path, "r+b") as out:
        out.seek(offset)
        byte = out.read(1)[0]
        out.seek(offset)
        out.write(bytes([byte ^ bit]))


def test_a_flipped_byte_of_a_frame_names_that_frame_and_no_other(series, quiet):
    written = series.pack()
    path = written.files[0].location
    contents = read_text(written.manifest).contents
    record = next(f for f in contents.frames if f.order == 4)
    chunk = contents.groups[record.group].chunks[record.position]
    _flip(path, chunk.offset + chunk.length // 2)
    for problem in (
        series.verify(written),
        scrub_package(written.files, throttle=quiet["throttle"], progress=quiet["progress"]),
    ):
        assert "frame 4 (projection) of scan_0002.edf" in problem
        assert "scan_0003" not in problem
    with PackageReader.open(path) as reader:
        with pytest.raises(IntegrityError, match=r"frame 4 \(projection\)"):
            reader.read(4)
        for order in (0, 1, 2, 3, 5, 6, 7):
            assert reader.read(order).tobytes() == series.frames[order].tobytes()


def test_a_flipped_byte_of_the_literal_store_names_the_files(series):
    written = series.pack()
    ((chunk, _),) = read_text(written.manifest).contents.literals
    _flip(written.files[0].location, chunk.offset + 5)
    problem = series.verify(written)
    assert "literal bytes of scan.info" in problem
    with PackageReader.open(written.files[0].location) as reader:
        assert reader.read(3).tobytes() == series.frames[3].tobytes()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_anywhere_is_found_and_most_frames_stay_readable(series, quiet, where, bit):
    if not (series.vault / "scan.tomo.h5").exists():
        series.kept = series.pack()
    written = series.kept
    path = written.files[0].location
    offset = int(where * written.bytes)
    _flip(path, offset, 1 << bit)
    try:
        assert series.verify(written) != ""
        with pytest.raises(IntegrityError):
            series.prove(written)
        assert scrub_package(written.files, throttle=quiet["throttle"], progress=quiet["progress"]) != ""
        with PackageReader.open(path) as reader:
            lost = 0
            for order, frame in series.frames.items():
                try:
                    assert reader.read(order).tobytes() == frame.tobytes()
                except IntegrityError:
                    lost += 1
        assert lost <= 1
    finally:
        _flip(path, offset, 1 << bit)


@pytest.mark.parametrize("part_bytes", [1 << 30, 6000])
def test_what_was_just_written_is_proven_and_then_known_by_its_digest(bench, part_bytes, meter):
    for i in range(20):
        bench.edf(f"p{i:02d}.edf", FrameKind.PROJECTION, i)
    packed = bench.pack(part_bytes=part_bytes)
    assert bench.prove(packed, meter) == packed.files
    assert meter.spent <= 1.1 * packed.bytes
    assert (len(packed.files) > 2) == (part_bytes == 6000)


def test_bytes_between_the_frames_that_changed_after_they_were_written_are_found(series):
    """Here an angle, of which no digest in the manifest speaks."""
    packed = series.pack()
    with h5py.File(packed.files[0].location, "r") as file:
        angles = file["/entry/sample/rotation_angle"].id.get_offset()
    _flip(packed.files[0].location, angles)
    with pytest.raises(IntegrityError, match="between the frames"):
        series.prove(packed)


def test_another_manifest_inside_is_found(series):
    packed = series.pack()
    other = dataclasses.replace(packed.written, manifest=packed.manifest.replace("bone", "bile"))
    with pytest.raises(IntegrityError, match="another manifest"):
        series.prove(dataclasses.replace(packed, written=other))


def test_a_truncated_lengthened_or_missing_package_is_found(series):
    written = series.pack()
    path = written.files[0].location
    os.truncate(path, written.bytes - 1)
    assert "bytes long" in series.verify(written)
    with open(path, "ab") as out:
        out.write(b"xx")
    assert "bytes long" in series.verify(written)
    os.unlink(path)
    assert "does not exist" in series.verify(written)


def test_a_wrong_manifest_beside_is_found_and_a_missing_one_is_not_needed(series):
    written = series.pack()
    beside = series.vault / "scan.manifest.json"
    beside.write_text(written.manifest.replace("bone", "bile"))
    assert "scan.manifest.json" in series.verify(written)
    beside.unlink()
    assert series.verify(written) == ""


def test_a_swapped_part_is_found(bench):
    for i in range(40):
        bench.edf(f"p{i:02d}.edf", FrameKind.PROJECTION, i)
    written = bench.pack(part_bytes=6000)
    one, two = written.files[1].location, written.files[2].location
    os.rename(one, one + "x")
    os.rename(two, one)
    os.rename(one + "x", two)
    assert bench.verify(written) != ""


def test_wrong_frames_with_right_chunk_digests_are_found(series):
    """A codec that was wrong when the package was made: the digests of the originals tell."""
    written = series.pack()
    path = written.files[0].location
    plain = json.loads(written.manifest)
    files = {f["path"]: f for f in plain["files"]}
    one, two = files["scan_0001.edf"]["segments"], files["scan_0002.edf"]["segments"]
    one[1], two[1] = two[1], one[1]
    swapped = json.dumps(plain, separators=(",", ":"))
    assert len(swapped) == len(written.manifest)
    with open(path, "r+b") as out:
        data = out.read()
        at = data.index(written.manifest.encode())
        out.seek(at)
        out.write(swapped.encode())
    (series.vault / "scan.manifest.json").unlink()
    with open(path, "rb") as source:
        sha = hashlib.sha256(source.read()).hexdigest()
    problem = series.verify(
        type(written)(**{**vars(written), "files": (dataclasses.replace(written.files[0], sha256=sha),)})
    )
    assert "scan_0001.edf does not come back as it was" in problem


def test_a_damaged_derived_frame_is_found(series):
    written = series.pack()
    chunk = read_text(written.manifest).contents.derived.group.chunks[0]
    _flip(written.files[0].location, chunk.offset + chunk.length // 2)
    assert "derived frame 0" in series.verify(written)


def test_the_pages_are_dropped_before_reading(series, monkeypatch):
    calls = []
    real = os.posix_fadvise

    def note(handle, offset, length, advice):
        calls.append(advice)
        return real(handle, offset, length, advice)

    written = series.pack()
    monkeypatch.setattr(os, "posix_fadvise", note)
    real_sync = os.fsync
    monkeypatch.setattr(store_module.os, "fsync", lambda handle: (calls.append("sync"), real_sync(handle)))
    series.verify(written)
    assert calls[:2] == ["sync", os.POSIX_FADV_DONTNEED]


def test_every_stored_byte_is_read_about_once(bench, meter, quiet):
    rng = __import__("numpy").random.default_rng(0)
    for i in range(10):
        bench.edf(f"p{i}.edf", FrameKind.PROJECTION, i, rng.poisson(3000, (512, 512)).astype("<u2"))
    written = bench.pack()
    seen = []
    assert verify_package(written.files, throttle=meter, progress=lambda d, t: seen.append((d, t))) == ""
    assert meter.spent <= 1.1 * written.bytes
    assert seen[-1] == (written.original_bytes, written.original_bytes)


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "null", '{"tomovault":1,"kind":"package"}', '{"tomovault":9,"kind":"package"}', "\x00"]
)
def test_a_manifest_that_is_none_is_an_integrity_error(text):
    with pytest.raises(IntegrityError):
        read_text(text)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_manifest_never_raises_anything_else(series, data):
    if not (series.vault / "scan.tomo.h5").exists():
        series.kept = series.pack()
    plain = json.loads(series.kept.manifest)
    node, key = plain, None
    for _ in range(data.draw(st.integers(1, 6))):
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        if not keys:
            break
        key = data.draw(st.sampled_from(keys))
        parent = node
        if not isinstance(node[key], (dict, list)) or not node[key]:
            break
        node = node[key]
    parent[key] = data.draw(st.sampled_from([None, -1, 10**12, "x", [], {}, [1], 0.5, True]))
    try:
        read_text(json.dumps(plain))
    except IntegrityError:
        pass
