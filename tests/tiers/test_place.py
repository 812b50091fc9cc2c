import os
import threading
from datetime import UTC, datetime

import pytest

from tomovault.tiers import place as places
from tomovault.tiers.place import MARKER, Place, check_place, is_marked, mark_place

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def place(tmp_path):
    (tmp_path / "vault").mkdir()
    return Place("the vault of inhouse", str(tmp_path / "vault"), str(tmp_path / "site" / "places" / "inhouse.json"))


def _files(place):
    folders = (os.path.dirname(os.path.join(place.folder, MARKER)), os.path.dirname(place.record))
    return [sorted(os.listdir(folder)) for folder in folders]


@pytest.mark.parametrize("at", ["write", "link", "linked", "record"])
def test_nothing_is_left_of_a_process_that_was_killed_while_it_marked(place, monkeypatch, at):
    class Killed(BaseException):
        pass

    def killed(*_arguments, **_more):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", lambda *_a, **_k: None)  # a dead process tidies nothing up
        if at == "write":
            patch.setattr(os, "fsync", killed)
        elif at == "link":
            patch.setattr(os, "link", killed)
        elif at == "linked":
            link = os.link
            patch.setattr(os, "link", lambda *names: (link(*names), killed()))
        else:
            patch.setattr(os, "rename", killed)
        with pytest.raises(Killed):
            mark_place(place, NOW)
    assert not is_marked(place)
    mark_place(place, NOW)
    assert _files(place) == [["place.json"], ["inhouse.json"]]
    check_place(place)


def test_several_who_mark_a_place_at_once_agree(place, monkeypatch):
    waiting, failed = threading.Barrier(4), []

    def mark():
        waiting.wait()
        try:
            mark_place(place, NOW)
            check_place(place)
        except Exception as problem:  # noqa: BLE001 - told below, in the thread of the test
            failed.append(problem)

    for _ in range(20):
        os.makedirs(os.path.dirname(place.record), exist_ok=True)
        threads = [threading.Thread(target=mark) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failed == []
        assert _files(place) == [["place.json"], ["inhouse.json"]]
        os.unlink(os.path.join(place.folder, MARKER))
        os.unlink(place.record)


def test_one_whose_work_is_taken_for_left_over_writes_it_again(place, monkeypatch):
    put, times = places._put, []

    def taken_away(path, text, *, keep):
        times.append(path)
        if times.count(path) < 3:
            raise FileNotFoundError(path)
        return put(path, text, keep=keep)

    monkeypatch.setattr(places, "_put", taken_away)
    mark_place(place, NOW)
    check_place(place)
    assert len(times) == 6
