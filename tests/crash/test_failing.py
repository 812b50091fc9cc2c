"""A removal that cannot be made is not tried again and again."""

from __future__ import annotations


def test_removal_that_fails_is_not_repeated(new_life):
    life = new_life()
    (life.base / "edf" / ".tomovault" / "quarantine").write_text("in the way")
    life.run_well(*life.first_part())
    with life.vault() as vault, vault.catalogue.reading() as tx:
        jobs = vault.catalogue.list_jobs(tx, limit=1000)
    tried = [j for j in jobs if j.action == "prune" and j.status == "failed"]
    assert len(tried) == 1
    assert life.lost() == []
