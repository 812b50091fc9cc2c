import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tomovault.watch.listing import Descent, read_folder
from tomovault.watch.snapshot import digest_of

DEEP = "/".join(["d"] * 70)
FOLDERS = ["", "a", "a/b", "a/b/c", "a/e", "f", "f/b", "d", "d/d", DEEP[:119], DEEP]


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("tree")
    for relative in FOLDERS:
        (root / relative).mkdir(parents=True, exist_ok=True)
    (root / "link").symlink_to("a")
    return root


@settings(deadline=None)
@given(asked=st.lists(st.sampled_from([*FOLDERS, "a/none", "link", "link/b"])), twice=st.booleans())
def test_in_any_order_each_folder_is_the_one_that_was_asked_for(tree, asked, twice):
    before = len(os.listdir("/proc/self/fd"))
    with Descent(str(tree)) as first:
        descent = first.another() if twice else first
        for relative in asked:
            real = os.lstat(tree / relative) if relative in FOLDERS else None
            if real is None:
                with pytest.raises(OSError, match=r"none|link"):
                    descent.enter(relative)
                continue
            assert os.fstat(descent.enter(relative)).st_ino == real.st_ino == descent.own.st_ino
        if twice:
            descent.__exit__(None, None, None)
    assert len(os.listdir("/proc/self/fd")) == before


NAMES = st.binary(min_size=1, max_size=6).filter(
    lambda name: not {b"/"[0], 0} & set(name) and name not in (b".", b"..")
)


@settings(deadline=None, max_examples=40)
@given(first=st.dictionaries(NAMES, st.integers(0, 3)), second=st.dictionaries(NAMES, st.integers(0, 3)))
def test_a_digest_tells_two_listings_apart_by_names_sizes_and_links(tmp_path_factory, first, second):
    """Names are any bytes; content 3 is a link."""
    root = os.fsencode(tmp_path_factory.mktemp("d"))
    digests = []
    for content in (first, second, second):
        digests.append(_written(root, content))
        for name in os.listdir(root):
            os.unlink(os.path.join(root, name))
    assert (digests[0] == digests[1]) == (_looked_at(first) == _looked_at(second))
    assert digests[1] == digests[2]


def _looked_at(content):
    ignored = (b".tomovault", b"lost+found", b".snapshot")
    return {name: kind for name, kind in content.items() if name not in ignored}


def _written(root, content):
    for name, size in content.items():
        path = os.path.join(root, name)
        if size == 3:
            os.symlink(b"to " + name, path)
        else:
            with open(path, "wb") as stream:
                stream.write(b"x" * size)
    descriptor = os.open(root, os.O_RDONLY)
    try:
        listing, stats = read_folder(descriptor, os.fsdecode(root))
    finally:
        os.close(descriptor)
    order = dict(sorted(stats.items()))
    same = {name: os.stat_result((s.st_mode, 1, 1, 1, 0, 0, s.st_size, 0, 0, 0)) for name, s in order.items()}
    return digest_of(listing, same)
