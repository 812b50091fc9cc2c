"""What rules want to be sent of a scan: where to, and how far each is. A person's transfers stand beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tomovault.core.errors import UserError
from tomovault.core.known import Job, JobStatus, KnownScan, export_standing, jobs_of_transfer, transfers_standing
from tomovault.core.life import Facts, Stage, Standing, Status, Wants
from tomovault.core.replica import Form, ProductKind, ReplicaState
from tomovault.core.transfer import Transfer, TransferState
from tomovault.policy.address import fill, unknown_fields
from tomovault.policy.matching import Export
from tomovault.vault.destinations import parse_destination
from tomovault.vault.site_settings import Site

#: What a person reads first of several exports.
_FIRST = (Status.DUE, Status.HELD, Status.WAITING)


@dataclass(frozen=True)
class WantedExport:
    """A product that a rule wants at a destination, once and for ever, and where that stands. `transfer` is the last
    one of that product to there, whoever asked for it; the destination is '' where it cannot be told.

    `holds`: whether the rule's sentence and dates want it now.
    """

    rule: str
    product: ProductKind
    collection: str
    path: str
    standing: Standing
    holds: bool
    transfer: Transfer | None = None

    @property
    def is_due(self) -> bool:
        """Whether it is to be asked for now."""
        return self.standing.status is Status.DUE


def wanted_exports(site: Site, scan: KnownScan, exports: Sequence[tuple[str, Export]]) -> tuple[WantedExport, ...]:
    """Where each export stands that the rules, cited with it, want of a scan; of one destination the first counts."""
    found: dict[tuple[ProductKind, str, str], WantedExport] = {}
    for cited, export in exports:
        one = _wanted(site, scan, cited, export)
        found.setdefault((one.product, one.collection, one.path or export.to), one)
    return tuple(found.values())


def with_exports(scan: KnownScan, facts: Facts, wants: Wants, exports: Sequence[WantedExport]) -> tuple[Facts, Wants]:
    """`exported` is done where everything that rules want was sent, and all that people asked for is over. Else the
    first thing that is not decides: it is wanted by its rule or by its person, and waits or is held as it stands.
    """
    asked = export_standing(scan, ProductKind.ORIGINAL)
    if Stage.EXPORTED not in wants.by:
        exports = ()
    open_ones = [one for status in _FIRST for one in exports if one.standing.status is status]
    if not open_ones and (asked is None or asked.status is Status.DONE):
        return replace(facts, exported=bool(exports) or asked is not None), wants
    if open_ones:
        by, standing = open_ones[0].rule, open_ones[0].standing
        begun = _is_under_way(open_ones[0].transfer)
    else:
        last = [t for t in scan.transfers if t.product is ProductKind.ORIGINAL][-1]
        by, standing, begun = last.asked_by, asked or Standing(Status.DONE), _is_under_way(last)
    held, later = dict(wants.held), dict(wants.later)
    forbidden = held.pop(Stage.EXPORTED, "") if Stage.EXPORTED in wants.by and not begun else ""
    held.pop(Stage.EXPORTED, None)
    later.pop(Stage.EXPORTED, None)
    if forbidden or standing.status is Status.HELD:
        held[Stage.EXPORTED] = forbidden or standing.reason
    elif standing.status is Status.WAITING:
        later[Stage.EXPORTED] = standing.reason
    return replace(facts, exported=False), Wants({**wants.by, Stage.EXPORTED: by}, held, later)


def _is_under_way(transfer: Transfer | None) -> bool:
    return transfer is not None and transfer.state in (TransferState.PLANNED, TransferState.SUBMITTED)


def _wanted(site: Site, scan: KnownScan, cited: str, export: Export) -> WantedExport:
    holds = bool(export.match.verdict.value)
    collection, path, problem = _destination(site, scan, export.to)
    if problem:
        return WantedExport(cited, export.product, "", "", Standing(Status.HELD, problem), holds)
    sent = [t for t in scan.transfers if (t.product, t.collection, t.path) == (export.product, collection, path)]
    standing = _standing(site, scan, cited, export, sent)
    return WantedExport(cited, export.product, collection, path, standing, holds, sent[-1] if sent else None)


def _destination(site: Site, scan: KnownScan, to: str) -> tuple[str, str, str]:
    """(collection, path, what is wrong with it)."""
    if site.globus is None:
        return "", "", "the site has no `globus` section in tomovault.yaml, so nothing can be sent"
    if unknown := unknown_fields(to, scan):
        return "", "", f"the {unknown[0]} of it is not known, and {to!r} needs it"
    try:
        return *parse_destination(fill(to, scan), site.globus), ""
    except UserError as problem:
        return "", "", problem.message


def _standing(site: Site, scan: KnownScan, cited: str, export: Export, sent: Sequence[Transfer]) -> Standing:
    if sent and not _is_to_ask_again(scan, sent[-1]):
        return transfers_standing(scan, sent)
    verdict = export.match.verdict
    if not verdict.value:
        return Standing(Status.WAITING, f"{cited} waits for: {verdict.explain(holding=False)}")
    packages = [r for r in scan.replicas_of(export.product, Form.PACKAGE) if r.state is ReplicaState.VERIFIED]
    if any(r.tier in site.areas for r in packages):
        return Standing(Status.DUE, cited)
    if packages:
        hint = f"tomovault restore {scan.id} --to DIR" + _of(export.product)
        return Standing(Status.HELD, f"no verified package of the {export.product} is on disk; bring it back: {hint}")
    return Standing(Status.WAITING, f"{cited} waits for a verified package of the {export.product}")


def _of(product: ProductKind) -> str:
    return "" if product is ProductKind.ORIGINAL else f" --product {product}"


def _is_to_ask_again(scan: KnownScan, transfer: Transfer) -> bool:
    """Whether nothing was submitted, and its job found that no rule wanted it any more: now one does."""
    jobs: Sequence[Job] = jobs_of_transfer(scan, transfer)
    return transfer.state is TransferState.ASKED and (not jobs or jobs[-1].status is JobStatus.SUCCEEDED)
