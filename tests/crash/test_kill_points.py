"""Killed at any named point or at any moment, a life ends with the facts that it would have had undisturbed."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

#: Every named point of a whole life. `test_every_point_is_known` holds this list to what the processes tell.
POINTS = frozenset(
    """
    daemon.claimed daemon.ordered daemon.started daemon.reaped daemon.recorded
    job.begin job.done job.written.inspect job.written.pack job.written.archive job.written.prune
    job.written.empty_quarantine job.written.restore
    pack.begin pack.frame pack.written pack.synced pack.renamed pack.manifest pack.verify
    archive.mounted archive.labelled archive.manifest archive.member archive.trailer archive.synced
    deliver.placed deliver.verified
    prune.begin prune.planned prune.file prune.renamed prune.moved prune.readme prune.done
    remove.begin remove.file remove.done
    recall.staged recall.fetched recall.placed restore.begin restore.file restore.synced restore.done
    """.split()
)

#: Those of what a short life does without.
WHOLE_POINTS = frozenset(
    """
    preview.reconstructed preview.written preview.named job.written.preview
    volume.written volume.named job.written.reconstruct
    """.split()
)

#: Where the daemon dies in the normal run: before, between and after the side effects of each kind.
REPRESENTATIVE = (
    "daemon.claimed:2",
    "job.written.pack",
    "pack.renamed",
    "archive.synced",
    "prune.file:3",
    "job.written.prune",
    "remove.file:3",
    "recall.placed",
)


def test_every_point_is_known(undisturbed):
    first, second = undisturbed.points
    assert first.keys() | second.keys() == POINTS


@pytest.mark.soak
def test_every_point_of_a_whole_life_is_known(undisturbed_whole):
    first, second = undisturbed_whole.points
    assert first.keys() | second.keys() == POINTS | WHOLE_POINTS


def live(life, undisturbed, kill_at, folder: Path, *, daemon: bool, look) -> set[str]:
    """A life killed at these points, its end compared with the undisturbed one; returns the points that killed."""
    folder.mkdir()
    settings = {"TOMOVAULT_KILL_AT": ",".join(sorted(kill_at)), "TOMOVAULT_KILL_ONCE": str(folder)}
    if daemon:
        settings["TOMOVAULT_KILL_DAEMON"] = "1"
    life.run_through(*life.first_part(), after_kill=look, **settings)
    life.run_through(*life.second_part(), after_kill=look, **settings)
    life.check()
    life.assert_same_as(undisturbed.facts)
    return {path.name for path in folder.iterdir()}


def test_job_killed_at_every_point_once(new_life, undisturbed, tmp_path):
    life = new_life()
    points = {point for point in POINTS if not point.startswith("daemon.")}
    assert live(life, undisturbed, points, tmp_path / "once", daemon=False, look=None) == points
    assert life.kills == 0


def test_daemon_killed_at_many_points(new_life, undisturbed, tmp_path):
    life = new_life()
    look = life.assert_nothing_lost
    killed = live(life, undisturbed, REPRESENTATIVE, tmp_path / "once", daemon=True, look=look)
    assert killed == set(REPRESENTATIVE)
    assert life.kills == len(killed)


# --- all of it ---------------------------------------------------------------------------------------


def passes(points, name: str) -> list[str]:
    """The first, the middle and the last pass of a point in the part of the life that passes it most often."""
    most = max(part.get(name, 0) for part in points)
    return [f"{name}:{number}" for number in sorted({1, (most + 1) // 2, most})]


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("daemon", [False, True], ids=["job", "daemon"])
@pytest.mark.parametrize("name", sorted(POINTS | WHOLE_POINTS))
def test_killed_at_one_point(name, daemon, request, new_life, tmp_path):
    if name.startswith("daemon.") and not daemon:
        pytest.skip("it is the daemon's own point")
    whole = name in WHOLE_POINTS
    undisturbed = request.getfixturevalue("undisturbed_whole" if whole else "undisturbed")
    for point in passes(undisturbed.points, name):
        life = new_life(point.replace(":", "-"), whole=whole)
        look = life.assert_nothing_lost_anywhere
        assert live(life, undisturbed, {point}, tmp_path / f"once-{point}", daemon=daemon, look=look) == {point}


def live_randomly(new_life, undisturbed, dice, kills: int) -> None:
    """Lives were lived until so many kills at random moments were met: one that goes faster than the undisturbed one
    did is over before the last of its moments.
    """
    seconds = 0.95 * sum(undisturbed.seconds)
    for number in itertools.count(1):
        life = new_life(f"random{number}", whole=True)
        moments = [dice.uniform(0, seconds) for _ in range(kills)]
        left = life.run_through_kills_at(moments, life.assert_nothing_lost_anywhere, *life.first_part())
        life.run_through_kills_at(left, life.assert_nothing_lost_anywhere, *life.second_part())
        life.check()
        life.assert_same_as(undisturbed.facts)
        kills -= life.kills
        if not kills:
            return
        seconds *= 0.7


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(25))
def test_killed_at_a_hundred_random_moments(seed, new_life, undisturbed_whole, dice):
    live_randomly(new_life, undisturbed_whole, dice, 4)
