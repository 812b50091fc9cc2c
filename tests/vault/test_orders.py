"""Orders of single steps: into which archive tiers copies go, and which of them are counted."""

from dataclasses import replace

import pytest

from tomovault.core.errors import Refused, UserError
from tomovault.core.life import Stage, Status
from tomovault.core.record import Checked, Stored
from tomovault.core.replica import Form, ProductKind
from tomovault.vault.orders import build_order
from tomovault.vault.removals import grant
from tomovault.vault.requests import Moot, Request


@pytest.fixture
def archives(town):
    """Two more archive tiers, each with a failure domain of its own."""
    for name in ("east", "west"):
        folder = town.base / name
        folder.mkdir()
        town.change(tiers={name: {"kind": "posix", "class": "archive", "path": str(folder), "domain": name}})
    return town


def _ask(town, scan, action="archive", **wish):
    catalogue = town.vault.catalogue
    with catalogue.reading() as tx:
        return build_order(action, Request(town.vault, tx, catalogue.known(tx, scan), wish, town.now, "rule"))


def _put(town, scan, tier):
    """The scan has a copy on an archive tier that was re-read just now."""
    package = town.replica(scan, Form.PACKAGE)
    catalogue = town.vault.catalogue
    with catalogue.writing() as tx:
        town.vault.record_tiers(tx)
        copy = Stored(
            *(ProductKind.ORIGINAL, package.digest, Form.PACKAGE, tier, tier, f"{tier}/one", (), 200),
            *(package.sha256, town.now, town.now),
        )
        catalogue.apply_records(tx, [copy], town.now, scan_id=scan)


def _standing(town, scan, stage=Stage.ARCHIVED):
    with town.vault.catalogue.reading() as tx:
        area = town.vault.area_facts(tx, "inhouse", town.now)
    return town.vault.view(town.known(scan), area, town.now).standings[stage].status


def test_copies_go_to_every_archive_tier_that_the_rule_names(archives):
    town = archives
    town.policy(("with: {copies: 2}", "with: {copies: 2, tiers: [east, west]}"))
    scan = town.scan("one")
    assert _standing(town, scan) is Status.DUE
    order = _ask(town, scan)
    assert (order["tier"], order["domains"]) == ("east", ["east"])
    _put(town, scan, "east")
    assert _standing(town, scan) is Status.DUE
    order = _ask(town, scan)
    assert (order["tier"], order["domains"]) == ("west", ["west"])
    _put(town, scan, "west")
    assert _standing(town, scan) is Status.DONE
    with pytest.raises(Moot):
        _ask(town, scan)


def test_emulated_copies_of_a_real_site_are_not_counted_beside_a_real_archive(archives):
    town = archives
    scan = town.scan("one")
    assert _standing(town, scan) is Status.DONE
    town.vault.site = replace(town.vault.site, simulated=False)
    assert _standing(town, scan) is Status.DUE
    assert _ask(town, scan)["tier"] == "east"
    _put(town, scan, "east")
    assert _ask(town, scan)["tier"] == "west"


def test_the_only_archive_tier_archives_even_if_its_copies_count_for_no_removal(town):
    scan = town.scan("one")
    town.vault.site = replace(town.vault.site, simulated=False)
    assert _standing(town, scan) is Status.DONE


def test_too_few_failure_domains_in_all_are_refused(archives):
    archives.policy(("with: {copies: 2}", "with: {copies: 3, tiers: [east, west]}"))
    with pytest.raises(Refused, match="2 failure domains left, 3 more"):
        _ask(archives, archives.scan("one"))


def test_what_a_rule_asks_for_other_scans_is_not_asked_of_this_one(town):
    town.policy(
        (
            "rules:\n",
            "rules:\n"
            "  - {name: vip, do: archive, when: proposal = 'vip', with: {copies: 3}}\n"
            "  - {name: far, do: replicate, when: proposal = 'vip', with: {tiers: [tape]}}\n"
            "  - {name: other, do: reconstruct, when: proposal = 'vip', with: {preset: hann}}\n",
        ),
        ("  quick: {}\n", "  quick: {}\n  hann: {filter: hann}\n"),
    )
    scan = town.scan("one")
    assert _standing(town, scan) is Status.DONE
    assert _standing(town, scan, Stage.REPLICATED) is Status.OFF
    assert _ask(town, scan, "reconstruct")["parameters"] == {}
    with pytest.raises(Moot, match="every wanted tier"):
        _ask(town, scan, "replicate")


def test_the_preset_of_the_preview_rule_is_what_it_is_made_with(town):
    town.policy(
        ("with: {preset: quick}", "with: {preset: hann}"),
        ("  quick: {}\n", "  quick: {}\n  hann: {filter: hann}\n"),
    )
    assert _ask(town, town.scan("one"), "preview")["parameters"] == {"filter": "hann"}


def test_a_volume_is_stored_as_the_rule_that_holds_says(town):
    scan = town.scan("one")
    assert _ask(town, scan, "reconstruct")["dtype"] == "float32"
    town.policy(("rules:\n", "rules:\n  - {name: counts, do: reconstruct, with: {dtype: uint16}}\n"))
    assert _ask(town, scan, "reconstruct")["dtype"] == "uint16"


def test_a_removal_asks_for_the_copies_of_the_rules_that_hold(town):
    town.room()
    town.policy(("rules:\n", "rules:\n  - {name: vip, do: archive, when: proposal = 'vip', with: {copies: 3}}\n"))
    scan = town.scan("one")
    rule = next(r for r in town.vault.policy_of("inhouse").rules if r.name == "prune-files")
    catalogue = town.vault.catalogue
    with catalogue.writing() as tx:
        known = catalogue.known(tx, scan)
        assert grant(town.vault, tx, known, town.replica(scan, Form.FILES).id, rule=rule, now=town.now).rule


def test_what_is_made_or_given_back_leaves_the_floor_of_the_area(town):
    town.change(areas={"inhouse": {"floor": "12kB"}})
    scan = town.scan("one")
    assert _ask(town, scan, "reconstruct")["floor_bytes"] == 12_000
    assert _ask(town, scan, "preview")["floor_bytes"] == 12_000
    assert _ask(town, scan, "restore", to=str(town.base / "new" / "deep"))["floor_bytes"] == 12_000
    assert _ask(town, scan, "restore", to="/proc")["floor_bytes"] == 0


def test_without_a_package_one_is_told_where_the_files_are(town):
    scan = town.scan("one")
    _spoil(town, scan)
    with pytest.raises(UserError, match="its files are in") as caught:
        _ask(town, scan, "restore", to=str(town.base / "new"), **{"from": "inhouse"})
    assert "nearest good copy" in caught.value.hint


def _spoil(town, scan):
    bad = Checked(town.replica(scan, Form.PACKAGE).id, ok=False, at=town.now, reason="other bytes")
    with town.vault.catalogue.writing() as tx:
        town.vault.catalogue.apply_records(tx, [bad], town.now, scan_id=scan)
