from __future__ import annotations

import hashlib
import os

from hypothesis import given, settings
from hypothesis import strategies as st

from tomovault.core.manifest import ManifestFile
from tomovault.package.between import Between, hash_between
from tomovault.package.manifest import Contents, FrameGroup, PackedFile, StoredChunk


def contents(spans, part=0):
    """A package whose frames lie at these places of a part, one of another part at 0, and one that no file needs."""
    group = FrameGroup("frames/g0", "<u2", (2, 2), "blosc2")
    group.chunks = [StoredChunk(part, begin, end - begin, "") for begin, end in spans]
    group.chunks += [StoredChunk(part + 1, 0, 5, ""), StoredChunk(part, 3, 4, "")]
    meta = ManifestFile(path="a", size=1, sha256="", mode=0, mtime_ns=0)
    segments = tuple(("F", 0, index) for index in reversed(range(len(spans) + 1)))
    return Contents(groups=[group], files=[PackedFile(meta, (("L", 0, 5), *segments))])


@st.composite
def places(draw):
    cuts = sorted(draw(st.sets(st.integers(0, 300), max_size=12)))
    spans = list(zip(cuts[::2], cuts[1::2], strict=False))
    return [span for span in spans if span[0] < span[1]], draw(st.integers(cuts[-1] if cuts else 0, 320))


@settings(deadline=None)
@given(places(), st.integers(1, 70), st.binary(min_size=320, max_size=320))
def test_it_is_the_digest_of_all_bytes_but_those_of_the_frames(tmp_path_factory, where, step, data):
    spans, size = where
    inside = {at for begin, end in spans for at in range(begin, end)}
    wanted = hashlib.sha256(bytes(data[at] for at in range(size) if at not in inside)).hexdigest()
    between = Between(contents(spans), 0)
    for at in range(0, size, step):
        between.take(at, data[at : min(size, at + step)])
    assert between.hexdigest() == wanted
    path = tmp_path_factory.mktemp("a") / "a"
    path.write_bytes(data[:size])
    handle = os.open(path, os.O_RDONLY)
    try:
        assert hash_between(handle, contents(spans), 0) == wanted
    finally:
        os.close(handle)
