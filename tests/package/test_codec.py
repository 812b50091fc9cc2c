import ctypes
from types import SimpleNamespace

import pytest

from tomovault.package import codec

MMAP, TRIM = -3, -1


@pytest.mark.parametrize(
    ("most", "asked"),
    [(100, [(MMAP, 64), (TRIM, 64)]), (40, [(MMAP, 64), (MMAP, 32), (TRIM, 32)]), (10, [(MMAP, 64), (MMAP, 32)])],
)
def test_the_c_library_keeps_what_it_accepts_and_is_left_alone_where_it_accepts_nothing(monkeypatch, most, asked):
    seen = []

    def mallopt(option, count):
        seen.append((option, count))
        return int(count <= most)

    monkeypatch.setattr(ctypes, "CDLL", lambda _name: SimpleNamespace(mallopt=mallopt))
    codec._keep_freed_memory((64, 32))
    assert seen == asked


def test_a_c_library_without_the_option_is_left_as_it_is(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: SimpleNamespace())
    codec._keep_freed_memory((64, 32))
