import hashlib
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tomovault.core.errors import IntegrityError
from tomovault.core.manifest import (
    ManifestFile,
    canonical_bytes,
    content_digest,
    manifest_digest,
    names_together,
    path_bytes,
)

SHA = hashlib.sha256(b"x").hexdigest()
RAW = st.binary(min_size=1, max_size=12)
FILES = st.lists(
    st.builds(
        ManifestFile,
        path=RAW.map(lambda raw: raw.decode("utf-8", "surrogateescape")),
        size=st.integers(0, 10**15),
        sha256=st.sampled_from([SHA, "0" * 64, ""]),
        link_target=st.none() | RAW.map(lambda raw: raw.decode("utf-8", "surrogateescape")),
    ),
    max_size=5,
    unique_by=lambda f: f.path,
).map(tuple)


def test_the_canonical_form_is_written_down():
    files = (
        ManifestFile("b/\udcff", 3, SHA),
        ManifestFile("a", 0, "", link_target="b/x"),
    )
    text = '{"tomovault":1,"files":[["61",0,"","622f78"],["622fff",3,"' + SHA + '",null]]}'
    assert canonical_bytes(files) == text.encode()
    assert manifest_digest(files) == hashlib.sha256(text.encode()).hexdigest()
    assert json.loads(text)["tomovault"] == 1


@given(FILES, st.randoms())
def test_the_order_of_the_files_does_not_matter(files, rng):
    mixed = list(files)
    rng.shuffle(mixed)
    assert manifest_digest(tuple(mixed)) == manifest_digest(files)


@given(FILES.filter(bool), st.integers(0, 2**31), st.text(max_size=5))
def test_what_stands_outside_the_digest(files, number, word):
    first = replace(
        files[0],
        mode=number,
        mtime_ns=number,
        uid=number,
        gid=number,
        owner=word,
        inode=number,
        ctime_ns=number,
        xattrs=((word, word),),
        role=word,
        hardlink_of=word,
        group=word,
        device=number,
    )
    assert manifest_digest((first, *files[1:])) == manifest_digest(files)


@given(FILES.filter(bool))
def test_what_stands_inside_the_digest(files):
    first = files[0]
    for change in (
        {"size": first.size + 1},
        {"sha256": "f" * 64},
        {"path": first.path + "x"},
        {"link_target": (first.link_target or "") + "x"},
    ):
        other = replace(first, **change)
        if other.path not in {f.path for f in files[1:]}:
            assert manifest_digest((other, *files[1:])) != manifest_digest(files)
    assert manifest_digest(files[1:]) != manifest_digest(files)


@given(FILES, FILES)
def test_two_lists_of_one_digest_are_the_same(one, other):
    def content(files):
        return {(f.path, f.size, f.sha256, f.link_target) for f in files}

    assert (manifest_digest(one) == manifest_digest(other)) is (content(one) == content(other))


def test_a_path_twice_is_refused():
    with pytest.raises(IntegrityError, match="twice"):
        canonical_bytes((ManifestFile("a", 1, SHA), ManifestFile("a", 2, SHA)))


@given(RAW)
def test_a_name_is_its_bytes(raw):
    assert path_bytes(raw.decode("utf-8", "surrogateescape")) == raw


def test_content_digest():
    text = '{"tomovault":1,"content":{"a":"1","b":"2"}}'
    assert content_digest({"b": "2", "a": "1"}) == hashlib.sha256(text.encode()).hexdigest()
    assert content_digest({"a": "1"}) != content_digest({"a": "2"})


@pytest.mark.parametrize(
    ("paths", "top", "names"),
    [
        (["a.edf", "sub/b"], "", ["a.edf", "sub/b"]),
        (["lbsram/s/a.edf", "s/s.xml"], "lbsram/s", ["a.edf", "s.xml"]),
        (["x/lbsram/s/a.edf", "x/lbsram/s/sub/b", "x/s/s.xml"], "x/lbsram/s", ["a.edf", "sub/b", "s.xml"]),
        (["lbsram/a.edf", "a.xml"], "lbsram", ["a.edf", "a.xml"]),
        (["lbsram/s/a.edf", "other/s.xml"], "", ["lbsram/s/a.edf", "other/s.xml"]),
        (["lbsram/s/a.edf", "s/a.edf"], "", ["lbsram/s/a.edf", "s/a.edf"]),
        (["lbsram2/s/a.edf", "s/s.xml"], "", ["lbsram2/s/a.edf", "s/s.xml"]),
        ([], "", []),
    ],
)
def test_a_split_scan_stands_together_in_one_folder(paths, top, names):
    found = names_together(paths)
    assert found == (top, dict(zip(paths, names, strict=True)))
