import queue
from datetime import UTC, datetime

import pytest

from tomovault.daemon.areas import AreaWatch
from tomovault.watch.area import write_marker


@pytest.fixture
def watch(tmp_path, town):
    looks = queue.Queue()
    area = town.vault.site.areas["inhouse"]
    identity = write_marker(str(area.path), name="inhouse", simulated=True, now=datetime.now(UTC))
    made = AreaWatch(area, identity, [], [], poll_s=0.05, quiet_s=0.05, looks=looks)
    yield made, looks, town.area
    made.stop()


def test_an_area_is_swept_again_and_again(watch):
    made, looks, _ = watch
    made.start()
    for _ in range(3):
        look = looks.get(timeout=5)
        assert (look.area, look.absent) == ("inhouse", "")
        assert look.sweep is not None


def test_an_area_that_is_not_mounted_is_absent_and_comes_back(watch):
    made, looks, area = watch
    area.rename(area.with_name("unmounted"))
    area.mkdir()
    made.start()
    look = looks.get(timeout=5)
    assert look.sweep is None
    assert "marker" in look.absent
    area.rmdir()
    area.with_name("unmounted").rename(area)
    while looks.get(timeout=5).sweep is None:
        pass


def test_a_sweep_that_breaks_is_told_and_tried_again(watch, monkeypatch):
    made, looks, _ = watch
    answers = [RuntimeError("a defect"), OSError(5, "Input/output error")]
    real = made._walker.sweep

    def sweep(**more):
        if answers:
            raise answers.pop(0)
        return real(**more)

    monkeypatch.setattr(made._walker, "sweep", sweep)
    made.start()
    assert "a defect" in looks.get(timeout=5).absent
    assert "Input/output" in looks.get(timeout=5).absent
    assert looks.get(timeout=5).sweep is not None
