"""The volume of a scan that others made, where we made none."""

from __future__ import annotations

from tomovault.catalog.foreign_volumes import volumes_of
from tomovault.catalog.transaction import Tx
from tomovault.core.errors import UserError
from tomovault.core.known import KnownScan
from tomovault.core.replica import ProductKind


def foreign_volume(tx: Tx, scan: KnownScan) -> KnownScan | None:
    """The one scan that is the volume of this one; None where there is none, or where we have one of our own.

    Raises UserError, listing them, where there are several.
    """
    if scan.product(ProductKind.VOLUME) is not None:
        return None
    found = volumes_of(tx, scan)
    if len(found) > 1:
        several = "\n".join(f"    {volume.id}  {volume.name}  {volume.root}" for volume in found)
        raise UserError(
            f"others made {len(found)} volumes of {scan.name}; restore one by its id", hint="one of:\n" + several
        )
    return found[0] if found else None
