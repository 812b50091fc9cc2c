"""A second disk that holds copies fills up: by the laws, what a rule names goes from it, and is not brought again."""

import shutil
from pathlib import Path

import pytest

from tomovault.core.errors import UserError

_REPLICATE = """
  - name: mirror
    when: packed
    do: replicate
    with: {tiers: [mirror]}
"""
_PRUNE = """
  - name: prune-mirror
    when: archived and usage > high
    do: prune
    with: {tiers: [mirror]}
"""


def _add(site, *rules):
    path = site.folder / "policies" / "standard.yaml"
    path.write_text(path.read_text("utf-8") + "".join(rules), "utf-8")


def _mirror(site, **more):
    """Room on the mirror for one of two packages."""
    sizes = [r["bytes"] for s in site.scans().values() for r in _on_mirror(site, s["id"])]
    site.change(tiers={"mirror": {"quota": sum(sizes), "high": "90%", "low": "60%", **more}})


def _on_mirror(site, scan):
    return [r for r in site.show(scan)["replicas"] if r["tier"] == "mirror" and r["state"] != "gone"]


def _tier(site):
    (line,) = site.ask("status")["tiers"]
    return line


def _copies(found):
    return {path: digest for path, digest in found.items() if not path.startswith(".tomovault/")}


@pytest.fixture
def site(new_site):
    """A site whose packages stand on a mirror, too; it holds two of them."""
    made = new_site("edf", settings={"tiers": {"mirror": {"kind": "posix", "path": "mirror"}}})
    (made.folder / "mirror").mkdir()
    _add(made, _REPLICATE)
    for n, name in enumerate(("one_", "two_")):
        made.write("edf", name, seed=n)
    made.live()
    assert all(len(_on_mirror(made, name)) == 1 for name in ("one_", "two_"))
    return made


def test_a_mirror_over_its_mark_goes_down_to_the_low_one_and_is_not_filled_again(site, digests, tmp_path):
    _mirror(site)
    site.live()
    assert "`prune` is off for this tier" in _tier(site)["alarms"][0]
    _mirror(site, prune="on")
    site.live()
    (told,) = _tier(site)["alarms"]
    assert "no rule names it" in told
    assert "with: {tiers: [mirror]}" in told

    _add(site, _PRUNE)
    site.live()
    left = [name for name in ("one_", "two_") if _on_mirror(site, name)]
    assert len(left) == 1, "one is enough, and the other stays"
    (gone,) = {"one_", "two_"} - set(left)
    page = site.show(gone)
    (permit,) = page["permits"]
    assert (permit["phase"], permit["rule"]) == ("gone", "prune-mirror@standard:1")
    assert len({copy["domain"] for copy in permit["relied_on"] if copy["tier"] == "tape"}) == 2
    assert {p.parent.name.rpartition("-")[0] for p in (site.folder / "mirror").rglob("*.tomo.h5")} == set(left)
    assert page["stages"]["packed"] == "done", "the area keeps its own"
    assert _tier(site)["alarms"] == []

    jobs = site.actions()
    site.live()
    assert [a for a in site.actions()[len(jobs) :] if a[0] == "replicate"] == [], "no rule undoes what another did"
    assert len(_on_mirror(site, gone)) == 0
    rows = {row["tier"]: row for row in site.ask("quota", "--by", "tier")["rows"]}
    assert (rows["mirror"]["high"], rows["mirror"]["low"]) == (0.9, 0.6)
    assert 0 < rows["mirror"]["full_fraction"] <= 0.6
    assert site.ask("verify", "--all")["bad"] == []
    assert site.ask("catalogue", "check") == {"ok": True, "problems": []}
    assert site.ask("audit", "verify")["ok"] is True


def test_what_left_the_mirror_rests_in_its_quarantine_and_is_taken_back(site, digests):
    before = _copies(digests(site.folder / "mirror"))
    site.change(quarantine={"hold": "1d", "limit": "1GB"})
    _mirror(site, prune="on")
    _add(site, _PRUNE)
    site.live()
    (row,) = site.ask("prune", "list")["quarantine"]
    assert (row["tier"], row["phase"]) == ("mirror", "quarantined")
    assert _tier(site)["quarantine_bytes"] == row["bytes"]
    assert list((site.folder / "mirror" / ".tomovault" / "quarantine").rglob("*.tomo.h5"))
    back = site.ask("prune", "undo", row["scan"])
    assert {p["phase"] for p in back["permits"]} == {"undone"}
    assert _copies(digests(site.folder / "mirror")) == before
    site.live()
    assert len(_on_mirror(site, row["scan"])) == 1, "an undo pins"


def test_nothing_goes_from_a_mirror_that_is_not_there_or_is_another_disk(site):
    _mirror(site, prune="on")
    _add(site, _PRUNE)
    mirror = site.folder / "mirror"
    away = mirror.rename(site.folder / "away")
    site.live(failed_ok=True)
    mirror.mkdir()
    (mirror / ".tomovault").mkdir()
    (mirror / ".tomovault" / "place.json").write_text('{"uuid": "another"}')
    site.live(failed_ok=True)
    shutil.rmtree(mirror)
    away.rename(mirror)
    assert all(len(_on_mirror(site, name)) == 1 for name in ("one_", "two_"))
    assert len(list(Path(mirror).rglob("*.tomo.h5"))) == 2


def test_nothing_goes_from_a_mirror_without_enough_copies_on_tape(new_site):
    site = new_site(
        "edf",
        without=("preview", "reconstruct-small", "archive"),
        settings={"tiers": {"mirror": {"kind": "posix", "path": "mirror"}}},
    )
    (site.folder / "mirror").mkdir()
    _add(site, _REPLICATE, _PRUNE.replace("archived and ", ""))
    site.write("edf", "one_")
    site.live()
    site.change(tiers={"mirror": {"quota": "1kB", "prune": "on"}})
    site.live()
    assert len(_on_mirror(site, "one_")) == 1
    assert "without enough verified copies" in _tier(site)["alarms"][0]


def test_an_archive_over_its_mark_is_told_and_loses_nothing(new_site):
    site = new_site("edf", settings={"tiers": {"tape": {"quota": "1kB", "high": "90%"}}})
    site.write("edf", "one_")
    site.live()
    line = _tier(site)
    assert (line["class"], line["low"]) == ("archive", None)
    assert "nothing is removed there by a mark" in line["alarms"][0]
    assert site.show("one_")["permits"] == []
    assert site.ask("policy", "check")["ok"] is True
    with pytest.raises(UserError, match="never removes anything from a tier of class archive"):
        site.change(tiers={"tape": {"low": "10%"}})
