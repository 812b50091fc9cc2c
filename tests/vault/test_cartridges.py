"""What `tomovault tape list` takes for a place on a cartridge."""

from tomovault.core.record import Stored
from tomovault.core.replica import Form, ProductKind, StoredFile
from tomovault.vault.cartridges import list_cartridges


def test_a_sign_in_the_path_of_a_disk_is_no_cartridge(town):
    town.change(tiers={"tape": {"kind": "emulated_library", "path": "tape"}, "disk": {"kind": "posix", "path": "b#3"}})
    with town.vault.catalogue.writing() as tx:
        town.vault.record_tiers(tx)
    scan = town.scan("bone", copies=0)
    digest, location = town.known(scan).products[0].digest, f"{town.folder}/b#3/bone"
    files = (StoredFile(f"{location}/bone.tomo.h5", 5, digest),)
    known = (ProductKind.ORIGINAL, digest, Form.PACKAGE, "disk", "disk", location, files, 5, digest)
    with town.vault.catalogue.writing() as tx:
        town.vault.catalogue.apply_records(tx, [Stored(*known, town.now, town.now)], town.now, scan_id=scan)
    assert list_cartridges(town.vault) == []
