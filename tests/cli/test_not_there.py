"""What a scan has not is not given back, and what is not known of it is not shown."""

from __future__ import annotations

from tomovault.core.scan import Certificate, FrameCounts, Verdict


def test_frames_that_a_scan_has_not_are_refused_at_once(town, say, tmp_path):
    counts = FrameCounts(2, 0, 1)
    scan = town.scan("one", certificate=Certificate(Verdict.COMPLETE, counts, counts))
    said = say("restore", "one", "--to", str(tmp_path / "out"), "--flats")
    assert said.code == 2
    assert "one has no flats" in said.err
    assert town.known(scan).jobs == ()
    assert say("restore", "one", "--to", str(tmp_path / "out"), "--darks").code == 0


def test_the_volume_of_a_scan_that_is_one_is_its_original(town, say, tmp_path):
    town.scan("bone_volume", format="volume")
    said = say("restore", "bone_volume", "--to", str(tmp_path / "out"), "--product", "volume")
    assert said.code == 2
    assert "bone_volume is a volume itself" in said.err
    assert "leave out --product volume" in said.err


def test_counts_of_which_nothing_is_known_are_not_shown(town, say):
    town.scan("one", certificate=Certificate(Verdict.UNDECIDED, FrameCounts(), FrameCounts(9, 0, 0)))
    town.scan("two", certificate=Certificate(Verdict.COMPLETE, FrameCounts(), FrameCounts(0)), format="volume")
    shown = say("scan", "show", "one").out
    assert "found/expected  projections 9/not known\n" in shown
    assert "None" not in shown
    assert "found/expected" not in say("scan", "show", "two").out
