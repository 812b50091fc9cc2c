"""The real BLISS scan arriving write by write: complete when all of it is there, and not a moment before."""

import pytest

from tomovault.core.scan import Verdict
from tomovault.testing.clock import FakeClock

_SCAN = "bliss/RAW_DATA/TestEwoksTomo/TestEwoksTomo_0010"
_MASTER = "TestEwoksTomo_0010.h5"
#: Parts of the master's bytes that are there before the rest comes.
_PARTS = (0.0, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 0.9999)
_POLL_S, _QUIET_S = 15.0, 60.0


def _master_writes(source):
    whole = (source / _MASTER).read_bytes()
    return [(_MASTER, whole[: int(len(whole) * part)]) for part in (*_PARTS, 1.0)]


def _camera_writes(source):
    writes = []
    for path in sorted(source.glob("scan*/*.h5")):
        content = path.read_bytes()
        name = str(path.relative_to(source))
        writes += [(name, content[: len(content) // 2]), (name, content)]
    return writes


@pytest.mark.parametrize("pause_s", [2.0, _QUIET_S + 3 * _POLL_S])
@pytest.mark.parametrize("order", ["camera first", "master first"])
def test_the_real_scan_is_complete_with_its_last_byte(virtual_watch, real_file, tmp_path, order, pause_s):
    source = real_file(f"{_SCAN}/{_MASTER}").parent
    parts = [_camera_writes(source), _master_writes(source)]
    writes = [write for part in (parts if order == "camera first" else parts[::-1]) for write in part]
    area = tmp_path / "area"
    folder = area / "RAW_DATA" / "sample" / source.name
    folder.mkdir(parents=True)
    clock = FakeClock()
    watch = virtual_watch(area, clock, poll_s=_POLL_S, quiet_s=_QUIET_S)
    for name, content in writes:
        assert _said(watch, Verdict.COMPLETE) == []
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
        written_at = clock.monotonic()
        watch.pass_time(pause_s)
    early = [s for s in _said(watch, Verdict.COMPLETE) if s.at < written_at]
    assert early == []
    watch.pass_time(_QUIET_S + 2 * _POLL_S)
    assert [place for place in watch.said if watch.said[place][-1].verdict == "complete"] == [(str(folder), "1.1")]
    (first, *_) = _said(watch, Verdict.COMPLETE)
    assert first.at - written_at <= _QUIET_S + 2 * _POLL_S
    if pause_s > _QUIET_S:
        assert _said(watch, Verdict.INCOMPLETE) or _said(watch, Verdict.UNREADABLE)


def _said(watch, verdict):
    return [said for sayings in watch.said.values() for said in sayings if said.verdict == verdict.value]
