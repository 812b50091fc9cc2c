from tomovault.vault.telling import last_told, tell


def word(holder, at, **more):
    return {"state": "running", "holder": holder, "at": at, "absent": {}, "running": [], **more}


def test_what_several_daemons_told_is_put_together(town, backend):
    assert last_told(town.vault) == {}
    tell(town.vault, word("a", "2026-01-01", absent={"one": "gone"}, running=[{"job": "j1"}]))
    assert last_told(town.vault, {"a"})["absent"] == {"one": "gone"}
    town.vault.__dict__.update(host="other/machine")
    town.vault.__dict__.pop("daemon_name", None)
    tell(town.vault, word("b", "2026-01-02", absent={"two": "away"}, running=[{"job": "j2"}]))
    together = last_told(town.vault, {"a", "b"})
    alone = last_told(town.vault, {"b"})
    if backend == "sqlite":
        assert together == alone, "one daemon, one file"
        return
    assert together["absent"] == {"one": "gone", "two": "away"}
    assert together["running"] == [{"job": "j1"}, {"job": "j2"}]
    assert together["at"] == "2026-01-02"
    assert alone["running"] == [{"job": "j2"}], "the other is not there any more"
    assert last_told(town.vault) == alone
    assert {p.name for p in town.vault.run_folder.glob("*other*")} == {"daemon-other-machine.json"}
