"""The order of an export: which verified files go, where the source collection has them, and how far it is."""

from __future__ import annotations

import os
import re
from pathlib import PurePosixPath
from typing import Any

from tomovault.core.errors import Refused, UserError
from tomovault.core.known import KnownScan
from tomovault.core.life import Stage
from tomovault.core.replica import ProductKind, Replica
from tomovault.core.transfer import Transfer, TransferState
from tomovault.core.wire import to_plain
from tomovault.policy.decide import forbidden
from tomovault.vault.places import require_place
from tomovault.vault.requests import Moot, Request, disk_package, stored_files
from tomovault.vault.site_settings import GlobusSettings
from tomovault.vault.stems import stem_of
from tomovault.vault.vault import Vault

#: The key of a wish by which a rule asked, and no person.
BY_RULE = "by_rule"

#: Of a label Globus takes so many characters, and of these only.
_LABEL_LENGTH, _NOT_IN_A_LABEL = 128, re.compile(r"[^A-Za-z0-9 _.,-]")


def globus_of(vault: Vault) -> GlobusSettings:
    """The site's settings of Globus. Raises UserError where it has none."""
    if vault.site.globus is None:
        raise UserError(
            "the site has no `globus` section, so nothing can be transferred",
            hint="add `globus: {collection: UUID, paths: {/local/folder: /path/in/the/collection}}` to tomovault.yaml",
        )
    return vault.site.globus


def source_path(location: str, globus: GlobusSettings) -> str:
    """The path of a local file in the source collection. Raises UserError where the collection does not expose it."""
    real = os.path.realpath(location)
    roots = {os.path.realpath(local): path for local, path in globus.paths.items()}
    above = [local for local in roots if os.path.commonpath([local, real]) == local]
    if not above:
        raise UserError(
            f"{location} lies nowhere that the collection {globus.collection} exposes",
            hint="name its folder, and its path in the collection, under `globus: paths:` in tomovault.yaml",
        )
    nearest = max(above, key=len)
    path = str(PurePosixPath(roots[nearest], os.path.relpath(real, nearest)))
    if not path.isprintable():
        raise UserError(f"{path!r} has characters that cannot be named to Globus")
    return path


def order_export(request: Request) -> dict[str, Any]:
    """What to send, and how far it is. Moot once the receipt is in."""
    vault, scan, wish = request.vault, request.scan, request.wish
    globus = globus_of(vault)
    kind = ProductKind(wish["product"])
    transfer = find_transfer(scan, wish.get("transfer"))
    if transfer is not None and transfer.state is TransferState.SUCCEEDED:
        raise Moot("its receipt is in")
    under_way = transfer is not None and transfer.state in (TransferState.PLANNED, TransferState.SUBMITTED)
    if not under_way:
        _require_wanted(request)
    package = package_to_send(vault, scan, kind)
    if not under_way:
        require_place(vault, request.tx, package.tier)
    label = f"tomovault {scan.name} {kind}"
    folder = PurePosixPath(str(wish["path"]), _folder_name(request))
    if not str(folder).isprintable():
        raise UserError(f"{str(folder)!r} has characters that cannot be named to Globus")
    return {
        "transfer": transfer.id if transfer is not None else "",
        "scan": scan.id,
        "scan_name": scan.name,
        "product": kind.value,
        "digest": package.digest,
        "files": [
            {
                "location": file.location,
                "source": source_path(file.location, globus),
                "size": file.size,
                "sha256": file.sha256,
            }
            for file in stored_files(request, package)
        ],
        "source_collection": globus.collection,
        "collection": str(wish["collection"]),
        "folder": str(folder),
        "label": _NOT_IN_A_LABEL.sub("_", label)[:_LABEL_LENGTH],
        "deadline_s": globus.deadline_s,
        "overwrite": bool(wish.get("overwrite", False)) or (transfer is not None and bool(transfer.error)),
        "submission_id": transfer.submission_id if transfer is not None and under_way else None,
        "task_id": transfer.task_id if transfer is not None and under_way else None,
        "deadline": to_plain(transfer.deadline) if transfer is not None and under_way else None,
    }


def _require_wanted(request: Request) -> None:
    """Raises Refused where a rule forbids that anything of the scan is sent, and Moot where that, or something else,
    ended the want of the rule which asked. What is under way is seen through.
    """
    vault, scan, wish = request.vault, request.scan, request.wish
    area = vault.area_facts(request.tx, scan.area, request.now)
    reason = forbidden(scan, vault.policy_of(scan.area), area, request.now).get(Stage.EXPORTED)
    if BY_RULE not in wish:
        if reason:
            raise Refused(f"{scan.name} may not be sent", by=reason)
        return
    place = (ProductKind(wish["product"]), wish["collection"], wish["path"])
    wanted = vault.view(scan, area, request.now).exports
    if reason or not any((one.product, one.collection, one.path) == place and one.holds for one in wanted):
        raise Moot(reason or "no rule wants it to be sent there now")


def _folder_name(request: Request) -> str:
    """The scan's name; and its id where another scan of that name was sent to the same folder before."""
    vault, scan, wish = request.vault, request.scan, request.wish
    stem = stem_of(scan, vault, request.tx)
    first = vault.catalogue.first_namesake_sent(request.tx, scan.name, str(wish["collection"]), str(wish["path"]))
    return stem if first in (None, scan.id) else f"{stem}-{scan.id}"


def find_transfer(scan: KnownScan, transfer_id: object) -> Transfer | None:
    """A transfer of a scan by its id."""
    return next((t for t in scan.transfers if t.id == transfer_id), None)


def package_to_send(vault: Vault, scan: KnownScan, kind: ProductKind) -> Replica:
    """The verified package of a product on disk. Raises UserError, with what to do, where there is none."""
    package = disk_package(vault, scan, kind)
    if package is not None:
        return package
    if scan.product(kind) is None:
        raise UserError(
            f"{scan.name} has no {kind} yet that could be sent",
            hint=f"`tomovault explain {scan.id}` says what it waits for",
        )
    raise UserError(
        f"no verified package of the {kind} of {scan.name} is on disk",
        hint=f"bring it back first: tomovault restore {scan.id} --to DIR"
        + ("" if kind is ProductKind.ORIGINAL else f" --product {kind}"),
    )
