"""Orders of single steps: into which archive tiers copies go, and which of them are counted."""

from dataclasses import replace

import pytest

from tomovault.core.errors import Refused
from tomovault.core.life import Stage, Status
from tomovault.core.record import Stored
from tomovault.core.replica import Form, ProductKind
from tomovault.vault.orders import build_order
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
        area = town.vault.area_facts(tx, "inhouse")
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
