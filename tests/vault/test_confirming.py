"""What a person is asked to confirm as gone."""

from tomovault.catalog.work import list_taken_away
from tomovault.core.record import Inspected
from tomovault.core.replica import Form
from tomovault.core.scan import Candidate
from tomovault.vault.confirming import confirm_absence
from tomovault.vault.removals import grant


def test_only_what_we_did_not_take_away_is_missing(town):
    pruned, lost = town.scan("pruned"), town.scan("lost")
    town.room()
    catalogue = town.vault.catalogue
    rule = next(r for r in town.vault.policy_of("inhouse").rules if r.name == "prune-files")
    with catalogue.writing() as tx:
        known = catalogue.known(tx, pruned)
        grant(town.vault, tx, known, town.replica(pruned, Form.FILES).id, rule=rule, now=town.now)
    town.quarantine(pruned)
    assert confirm_absence(town.vault, "inhouse", by="ann", do_it=True) == [str(town.area / "lost") + "/"]
    with catalogue.reading() as tx:
        assert [c.folder for c in list_taken_away(tx, "inhouse")] == [str(town.area / "pruned")]
    assert town.replica(lost, Form.FILES).state.value == "suspect"


def test_a_file_that_was_no_scan_needs_no_word(town):
    look = Candidate("nxtomo", str(town.area), "volume.h5")
    with town.vault.catalogue.writing() as tx:
        town.vault.catalogue.note_candidate(tx, "inhouse", look, "snap", True, town.now)
        told = Inspected(look, "snap", True, no_scan="a volume")
        town.vault.catalogue.record_inspected(tx, "inhouse", told, town.now)
    assert confirm_absence(town.vault, "inhouse", by="ann", do_it=False) == []
