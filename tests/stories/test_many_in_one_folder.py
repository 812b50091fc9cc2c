"""Many scans of one file each in one folder, as acquisition with Data Exchange leaves them: their files go, and nothing
is missed, told of as no scan, or without a word of where it is.
"""

import re

import pytest

from tomovault.testing.one_file_scan import write_one_file_scan

_ROOM = {"prune": "on", "quota": "1kB", "high": "50%", "low": "20%"}
_SMALL = {"shape": (24, 32), "projections": 8, "flats": 2, "darks": 2}
_NAMES = [f"tooth_{number}" for number in range(4)]
_README = "TOMOVAULT-README.txt"


@pytest.fixture(scope="module", params=["standard", "mover"])
def emptied(new_site, request):
    """A site where every scan of one folder went, by that policy."""
    if request.param == "mover":
        areas = {"hutch": {"class": "fast", "policy": "mover"}, "inhouse": {"high": "99%", "low": "98%"}}
        site = new_site("hutch", "inhouse", settings={"areas": areas})
    else:
        site = new_site("hutch")
    shelf = site.areas["hutch"] / "2026-03"
    shelf.mkdir()
    for seed, name in enumerate(_NAMES):
        write_one_file_scan(str(site.base), name, variant="dataexchange-plain", seed=seed, **_SMALL)
        (site.base / name / f"{name}.h5").rename(shelf / f"{name}.h5")
    site.age()
    site.live()
    assert set(site.scans()) == set(_NAMES)
    site.change(areas={"hutch": _ROOM})
    site.live()
    assert [path.name for path in shelf.iterdir()] == [_README]
    return site


def test_nothing_is_missed_after_a_restart(emptied):
    said = emptied.live()
    assert "missing" not in said
    for area in emptied.areas:
        status = emptied.area_status(area)
        assert (status["trouble"], status["problems"]) == ("", [])


def test_what_went_is_not_told_of_as_no_scan(emptied):
    assert emptied.ask("area", "unclaimed")["unclaimed"] == []
    assert {emptied.area_status(area)["unclaimed"] for area in emptied.areas} == {0}


def test_the_note_names_every_scan(emptied):
    shelf = emptied.areas["hutch"] / "2026-03"
    text = (shelf / _README).read_text()
    ids = {scan["id"] for scan in emptied.scans().values()}
    assert set(re.findall(r"tomovault restore (\S+) --to", text)) == ids
    assert all(name in text for name in _NAMES)
