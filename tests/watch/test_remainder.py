"""What no scan explains, added up by folder and owner, and every file counted once."""

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tomovault.watch.remainder import Walked, walk_remainder


def write(root, *paths, size=10):
    for path in paths:
        place = root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(b"x" * size)


def walk(root, explains=lambda _folder, _state: False, levels=2, inside=lambda _folder: False):
    walked = Walked()
    return list(walk_remainder(str(root), explains, inside, levels=levels, walked=walked)), walked


def test_deep_folders_are_told_of_at_their_level(tmp_path):
    write(tmp_path, "top", "a/1", "a/b/2", "a/b/c/3", "a/b/c/d/4", "e/5")
    found, walked = walk(tmp_path)
    by_folder = {}
    for one in found:
        by_folder[os.path.relpath(one.folder, tmp_path)] = by_folder.get(one.folder, 0) + one.files
    assert by_folder == {".": 1, "a": 1, "a/b": 3, "e": 1}
    assert (walked.files, walked.bytes, walked.folders) == (6, 60, 6)


def test_what_is_explained_is_counted_and_not_told(tmp_path):
    write(tmp_path, "scan/0001.edf", "scan/notes.txt")
    found, walked = walk(
        tmp_path, lambda _folder, state: state.path.endswith(".edf"), inside=lambda folder: folder.endswith("scan")
    )
    assert [(one.files, one.beside_scans) for one in found] == [(1, True)]
    assert walked.files == 2


def test_links_are_counted_and_not_followed(tmp_path):
    write(tmp_path, "real/1")
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "loop").symlink_to(".")
    found, walked = walk(tmp_path)
    assert walked.files == 3
    assert sum(one.files for one in found) == 3


def test_our_own_are_not_there(tmp_path):
    write(tmp_path, ".tomovault/area.json", "a/TOMOVAULT-README.txt")
    assert walk(tmp_path)[0] == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_folder_that_cannot_be_read_is_told(tmp_path):
    write(tmp_path, "shut/1", "open/2")
    (tmp_path / "shut").chmod(0)
    found, walked = walk(tmp_path)
    (tmp_path / "shut").chmod(0o700)
    assert [path for path, _ in walked.unreadable] == [str(tmp_path / "shut")]
    assert sum(one.files for one in found) == 1


def test_a_root_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(OSError, match="nowhere"):
        walk(tmp_path / "nowhere")


NAMES = st.text("ab.é", min_size=1, max_size=3).filter(lambda name: name.strip("."))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(NAMES, min_size=1, max_size=5), max_size=12), st.integers(0, 4), st.data())
def test_every_file_is_explained_or_told_once(tmp_path_factory, paths, levels, data):
    root = tmp_path_factory.mktemp("tree")
    files = set()
    for parts in paths:
        place = root.joinpath(*parts)
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            if not place.exists():
                place.write_bytes(b"y" * len(parts))
                files.add(str(place))
        except (FileExistsError, NotADirectoryError):
            continue
    explained = {f for f in sorted(files) if data.draw(st.booleans())}
    found, walked = walk(root, lambda folder, state: f"{folder}/{state.path}" in explained, levels=levels)
    assert walked.files == len(files)
    assert sum(one.files for one in found) == len(files) - len(explained)
    assert sum(one.bytes for one in found) == sum(os.path.getsize(f) for f in files - explained)
    depths = [os.path.relpath(one.folder, root).count("/") + 1 for one in found if one.folder != str(root)]
    assert max(depths, default=0) <= levels


@pytest.mark.parametrize("stop_after", range(1, 9))
def test_a_walk_that_was_left_is_gone_on_with_and_finds_the_same(tmp_path, stop_after):
    write(tmp_path, "top", "a/1", "a-b/2", "a/b/3", "a/b/c/4", "a/b/c/d/5", "e/6", "e/f/7")
    whole, all_of_it = walk(tmp_path)
    walked, found, left = Walked(), [], [stop_after]

    def stop():
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt

    def go(progress, begin_at=""):
        unexplained = walk_remainder(
            str(tmp_path),
            lambda *_: False,
            lambda _: False,
            levels=2,
            walked=walked,
            progress=progress,
            begin_at=begin_at,
        )
        found.extend(unexplained)

    try:
        go(stop)
    except KeyboardInterrupt:
        walked.folders, walked.files, walked.bytes = walked.before
        go(lambda: None, walked.at)
    assert sorted(found, key=repr) == sorted(whole, key=repr)
    assert (walked.folders, walked.files, walked.bytes) == (all_of_it.folders, all_of_it.files, all_of_it.bytes)
