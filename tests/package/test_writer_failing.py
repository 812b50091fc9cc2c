from __future__ import annotations

import os

import hdf5plugin  # noqa: F401
import pytest

from tomovault.core.errors import NoRoomYet, NoSpace, SourceChanged, Transient, UserError
from tomovault.core.layout import FileLayout, FrameKind, FrameSegment, Layout
from tomovault.package import container

# --- a source that changes ---


def _fails(bench, kind, match=".", **changes):
    with pytest.raises(kind, match=match):
        bench.pack(**changes)
    assert not bench.vault.exists() or os.listdir(bench.vault) == []


def test_a_file_changed_since_it_was_seen_is_not_packed(series):
    files = series.files()
    with open(series.path("scan_0003.edf"), "r+b") as out:
        out.write(b"{")
    _fails(series, SourceChanged, "scan_0003.edf", files=files)


def test_a_file_changed_while_it_is_read_is_not_packed(series):
    def disturb(name):
        if name == "pack.frame":
            with open(series.path("scan_0005.edf"), "ab") as out:
                out.write(b"more")

    _fails(series, SourceChanged, "scan_0005.edf", checkpoint=disturb)


def test_a_file_that_is_written_between_its_first_and_last_byte_is_noticed(bench):
    bench.stack("big.h5", FrameKind.PROJECTION, 0, 30)

    def disturb(name):
        if name == "pack.frame":
            with open(bench.path("big.h5"), "r+b") as out:
                out.seek(0)
                out.write(b"\x89")

    _fails(bench, SourceChanged, "big.h5", checkpoint=disturb)


def test_a_file_that_shrinks_while_it_is_read_is_noticed(bench):
    bench.stack("big.h5", FrameKind.PROJECTION, 0, 40)

    def disturb(name):
        if name == "pack.frame":
            os.truncate(bench.path("big.h5"), 2000)

    _fails(bench, SourceChanged, "big.h5", checkpoint=disturb)


def test_a_removed_file_a_link_in_its_place_and_a_replaced_folder_are_named(series, tmp_path):
    files = series.files()
    os.unlink(series.path("scan.info"))
    _fails(series, SourceChanged, "scan.info", files=files)
    outside = tmp_path / "outside"
    outside.write_bytes(b"not of this scan")
    os.symlink(outside, series.path("scan.info"))
    _fails(series, SourceChanged, "scan.info", files=files)
    assert outside.read_bytes() == b"not of this scan"
    os.unlink(series.path("scan.info"))
    series.side("scan.info", b"again")
    os.rename(series.path("notes"), tmp_path / "moved")
    os.symlink(tmp_path / "moved", series.path("notes"))
    _fails(series, SourceChanged, "notes", files=[f for f in files if f.state.path != "scan.info"])


def test_a_root_replaced_by_a_link_is_refused(series, tmp_path):
    files = series.files()
    os.rename(series.root, tmp_path / "moved")
    os.symlink(tmp_path / "moved", series.root)
    _fails(series, SourceChanged, "link", files=files)


def test_a_pipe_in_the_place_of_a_file_does_not_hang(series):
    files = series.files()
    os.unlink(series.path("scan.info"))
    os.mkfifo(series.path("scan.info"))
    _fails(series, SourceChanged, "scan.info", files=files)


def test_an_unreadable_file_is_named(series, monkeypatch):
    real = os.open

    def refuse(path, *args, **kwargs):
        if path == "scan.info":
            raise PermissionError(13, "Permission denied")
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", refuse)
    _fails(series, UserError, "scan.info")


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a//b", "a/../b", "", "."])
def test_paths_that_leave_the_root_are_refused(bench, path):
    bench.side("a", b"x")
    (file,) = bench.files()
    bad = type(file)(
        type(file.state)(
            path, *[getattr(file.state, n) for n in ("size", "mtime_ns", "ctime_ns", "inode", "device", "mode")]
        ),
        file.role,
    )
    _fails(bench, UserError, files=[bad])


@pytest.mark.parametrize(
    "segment",
    [
        FrameSegment(0, 8, "<u2", (2, 3), FrameKind.PROJECTION, 0),
        FrameSegment(90, 12, "<u2", (2, 3), FrameKind.PROJECTION, 0),
        FrameSegment(0, 12, "<c8", (2, 3), FrameKind.PROJECTION, 0),
        FrameSegment(0, 0, "<u2", (0, 3), FrameKind.PROJECTION, 0),
        FrameSegment(-1, 12, "<u2", (2, 3), FrameKind.PROJECTION, 0),
    ],
)
def test_a_layout_that_contradicts_itself_is_refused(bench, segment):
    bench.side("a", bytes(100))
    _fails(bench, UserError, layout=Layout((FileLayout("a", 100, (segment,)),)))


def test_a_layout_made_for_another_size_or_file_is_refused(bench):
    bench.side("a", bytes(100))
    _fails(bench, SourceChanged, layout=Layout((FileLayout("a", 99),)))
    _fails(bench, UserError, layout=Layout((FileLayout("b", 99),)))


# --- space ---


def test_the_floor_is_kept(series):
    state = os.statvfs(series.root)
    _fails(series, NoRoomYet, floor_bytes=state.f_bavail * state.f_frsize)


def test_a_disk_that_fills_up_leaves_nothing_behind(series, monkeypatch):
    calls = []

    def full(self, name, place, data, mask, after):
        calls.append(name)
        if len(calls) > 3:
            raise OSError("[Errno 28] Can't write data (file write failed: errno = 28, error message = 'No space')")
        return real(self, name, place, data, mask, after)

    real = container.PartFile._write
    monkeypatch.setattr(container.PartFile, "_write", full)
    _fails(series, NoSpace)
    assert len(calls) == 4


def test_other_write_errors_are_transient(series, monkeypatch):
    def broken(self, name, place, data, mask, after):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(container.PartFile, "_write", broken)
    _fails(series, Transient)
